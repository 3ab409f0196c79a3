"""How well the stage `events` knows what happens, on unseen play.

Calibration: how often each number changes, how often the network expects it, what it knows beyond
rates. Then how far a number is off after some frames of its own draws, beside the number that stays
what it was, and how many objects are there.

Letters of its own: i numbers that are drawn, q bins.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.model.events import Events
from worldmodel.model.objects import Objects
from worldmodel.random_streams import arrays
from worldmodel.training.event_play import EventsPlay
from worldmodel.training.object_transitions import nats_by_rates, transitions_of
from worldmodel.training.row_files import ReadSpeed

HORIZONS = (16, 64, 256)  # frames after which the error of a number is measured
WALKS = 128  # stretches of unseen play


@torch.no_grad()
def measure_calibration(
    model: Events, play: EventsPlay, bins: Tensor, taught: Tensor
) -> dict[str, float]:
    """How often each number changes and is expected to; what the network knows beyond rates.

    `taught`: the bins f i of the training data, whose rates are what a coin would know.
    """
    spread = play.spread
    cost, plain = 0.0, 0.0
    expected = torch.zeros(len(model.drawn), model.config.bins)
    happened = bins[spread + 1]
    rates = _rates(taught, model.config.bins)
    for index in spread.split(1024):
        recent = play.recent(index, model.config, ReadSpeed())
        actions = play.states.actions[index + 1]
        hidden = model.hidden(recent, actions, model.around(recent, actions))
        expected += model.probabilities(hidden, bins[index + 1]).sum(dim=0)
        cost += float(model.loss(hidden, bins[index + 1]).sum()) * len(index)
        true = bins[index + 1].clamp(min=0)
        plain -= float(rates.gather(1, true.T).clamp(min=1e-6).log().sum())
    figures = {"bits": cost / len(spread) / math.log(2), "gained": 1 - cost / plain}
    for row, i in enumerate(model.drawn):
        name = model.spec.names[i]
        figures[f"{name}_rate"] = float((happened[:, row] > 0).float().mean())
        figures[f"{name}_expected"] = float(1 - expected[row, 0] / len(spread))
    return figures


@torch.no_grad()
def measure_transitions(model: Events, play: EventsPlay, rates: Tensor) -> dict[str, float]:
    """What the network knows of objects beyond the `rates` of their transitions, kinds 2 q."""
    assert model.objects is not None
    transitions = transitions_of(model.objects, play.states.states, play.states.starts)
    cost, plain = 0.0, 0.0
    for index in play.spread.split(1024):
        recent = play.recent(index, model.config, ReadSpeed())
        actions, true = play.states.actions[index + 1], transitions[index + 1]
        around = model.around(recent, actions)
        assert around is not None
        hidden = model.hidden(recent, actions, around)
        logits = model.objects.logits(around, hidden, recent.states).flatten(0, 1)
        cost += float(F.cross_entropy(logits, true.flatten(), ignore_index=-1, reduction="sum"))
        plain += nats_by_rates(model.objects, rates, recent.states[:, -1], true)
    return {"transitions_gained": 1 - cost / plain if plain else math.nan}


def _rates(bins: Tensor, count: int) -> Tensor:
    """How often each bin of each number happens, i q."""
    columns = [torch.bincount(column[column >= 0], minlength=count) for column in bins.T]
    rates = torch.stack(columns).float()
    return rates / rates.sum(dim=1, keepdim=True).clamp(min=1)


@torch.no_grad()
def measure_numbers(model: Events, play: EventsPlay) -> dict[str, float]:
    """Mean error of every number after some frames of its own draws, seeing the game's frames.

    Beside it, as NAME_F_still, the error of the number that stays what it was.
    """
    figures: dict[str, float] = {}
    spec, config, reading = play.states.spec, model.config, ReadSpeed()
    for horizon in HORIZONS:
        ends = play.begins + horizon
        inside = ends < play.states.starts[-1]
        episode = torch.searchsorted(play.states.starts, play.begins, right=True)
        inside &= torch.searchsorted(play.states.starts, ends, right=True) == episode
        chosen = play.begins[inside]
        if not len(chosen):
            continue
        chosen = chosen[torch.linspace(0, len(chosen) - 1, min(WALKS, len(chosen))).long()]
        recent, first = play.recent(chosen, config, reading), play.states.states[chosen]
        for f in range(1, horizon + 1):
            chance = arrays("events", "measured", horizon, f).random((len(chosen), model.chances))
            actions = play.states.actions[chosen + f]
            last = recent.states[:, -1]
            states = model(recent, last, actions, torch.from_numpy(chance).float())
            recent = recent.after(states, actions)
            recent = recent.seeing(reading.gather(play.latents, chosen + f, "cpu").float())
        true = play.states.states[chosen + horizon]
        off, still = (model.wrapped(x - true).abs() for x in (recent.states[:, -1], first))
        for i in model.drawn:
            figures[f"{spec.names[i]}_{horizon}"] = float(off[:, i].nanmean())
            figures[f"{spec.names[i]}_{horizon}_still"] = float(still[:, i].nanmean())
        if model.objects is not None:
            figures |= _objects_there(model.objects, recent.states[:, -1], true, horizon)
    return figures


def _objects_there(objects: Objects, drawn: Tensor, true: Tensor, horizon: int) -> dict[str, float]:
    """How many objects of each kind are there after some frames: drawn, and in the game."""
    figures = {}
    for kind, name in enumerate(objects.config.kinds):
        own = [number for number, k in enumerate(objects.kinds) if k == kind]
        for suffix, states in (("", drawn), ("_game", true)):
            there = torch.isfinite(objects.places(states)[:, own]).all(dim=-1)
            figures[f"{name}s_{horizon}{suffix}"] = float(there.float().sum(dim=1).mean())
    return figures
