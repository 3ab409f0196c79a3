"""Ways of objects as they are read from play: a walker, a ball, a door where they come out."""

import math

import torch

from worldmodel.model.objects import COME, GO_ON, GONE, MOVE, Objects
from worldmodel.model.state_configs import ObjectsConfig
from worldmodel.state_spec import StateNumber, StateSpec
from worldmodel.training.object_transitions import (
    nats_by_rates,
    set_transitions,
    transition_rates,
    transitions_of,
)

CONFIG = ObjectsConfig(names=("walker.1", "ball.1"))
PLACE = StateNumber(kind="object", low=0.0, high=200.0)
SPEC = StateSpec(
    {
        "x": StateNumber(kind="position"),
        "y": StateNumber(kind="position"),
        "heading": StateNumber(kind="heading"),
        **dict.fromkeys(CONFIG.numbers, PLACE),
    }
)
LENGTH = 40


def play() -> tuple[torch.Tensor, torch.Tensor]:
    """Two episodes; the walker takes a step of 10 up or down, the ball flies for ten frames."""
    rows = []
    for episode in range(2):
        x, y = 100.0, 50.0
        for f in range(LENGTH):
            y += 10.0 * (1 if f % 4 < 2 else -1)
            flies = f % 20 >= 10
            ball = (20.0 + 7 * (f % 20 - 10), 30.0 + episode) if flies else (math.nan, math.nan)
            rows.append([0.0, 0.0, 0.0, x, y, *ball])
    return torch.tensor(rows), torch.tensor([0, LENGTH, 2 * LENGTH])


def learned() -> tuple[Objects, torch.Tensor, torch.Tensor]:
    states, starts = play()
    objects = Objects(CONFIG, SPEC, 8, 8)
    set_transitions(objects, states, starts)
    return objects, states, starts


def test_the_ways_that_occur_are_found() -> None:
    objects, _, _ = learned()
    walker, ball = objects.sorts.tolist()
    steps = {tuple(v.tolist()) for v, s in zip(objects.values[0], walker, strict=True) if s == MOVE}
    assert steps == {(0.0, 10.0), (0.0, -10.0)}
    places = [v.tolist() for v, s in zip(objects.values[1], ball, strict=True) if s == COME]
    assert len(places) == 1
    assert places[0][0] == 20.0
    assert 30.0 <= places[0][1] <= 31.0


def test_every_frame_is_explained_by_a_way_that_leads_there() -> None:
    objects, states, starts = learned()
    transitions = transitions_of(objects, states, starts)
    assert (transitions[:2] == -1).all()
    assert (transitions[LENGTH : LENGTH + 2] == -1).all()
    inside = torch.nonzero(transitions[:, 0] >= 0)[:, 0]
    past = torch.stack((states[inside - 2], states[inside - 1]), dim=1)
    led = objects.candidates(past).gather(
        2, transitions[inside][..., None, None].expand(-1, -1, 1, 2)
    )
    true = objects.places(states[inside])
    off = (led[:, :, 0] - true).abs().nan_to_num(0.0)
    assert off.max() <= 2.0
    assert torch.equal(led[:, :, 0].isnan(), true.isnan())
    sorts = objects.sorts[objects.kinds].gather(1, transitions[inside].T).T
    assert (sorts[:, 1] == GONE).any()
    assert (sorts[:, 1] == GO_ON).float().mean() > 0.3, "a ball flies on by itself"


def test_rates_cost_what_they_leave_open() -> None:
    objects, states, starts = learned()
    transitions = transitions_of(objects, states, starts)
    rates = transition_rates(objects, states, transitions)
    walker, ball = rates[0, 1], rates[1]
    assert torch.allclose(rates[0, 1].sum(), torch.ones(()))
    assert rates[0, 0].sum() == 0, "the walker is always there"
    assert ball[1, objects.sorts[1] == GONE].sum() < ball[0, objects.sorts[1] == GONE].sum()
    known = torch.nonzero(transitions[:, 0] >= 0)[:, 0]
    cost = nats_by_rates(objects, rates, states[known - 1], transitions[known])
    expected = -float(walker[walker > 0].mul(walker[walker > 0].log()).sum()) * len(known)
    for here in (0, 1):
        rate = ball[here][ball[here] > 0]
        there = torch.isfinite(objects.places(states[known - 1])[:, 1]).all(dim=-1)
        count = int((there == bool(here)).sum())
        expected -= float((rate * rate.log()).sum()) * count
    assert math.isclose(cost, expected, rel_tol=1e-4)
