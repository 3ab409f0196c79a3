"""What happens to a state's numbers is possible in the game that they were read from."""

from dataclasses import replace

import pytest
import torch

from tests.worlds.make_world import EVENTS, NUMBERS, make_events
from worldmodel.config import ConfigError
from worldmodel.model.events import CHANGE, SET, Recent
from worldmodel.state_spec import StateTrack
from worldmodel.training.event_bins import bins_of
from worldmodel.training.state_episodes import StateEpisodes

HEALTH = NUMBERS.index("health")


def states(*health: float) -> torch.Tensor:
    """Frames f v with these healths."""
    rows = torch.zeros(len(health), NUMBERS.width)
    rows[:, HEALTH] = torch.tensor(health)
    return rows


def test_a_hit_that_health_cannot_bear_is_not_drawn_as_that_hit() -> None:
    events, players = make_events(), 300
    past = states(3.0)[:, None].expand(players, EVENTS.frames, -1)
    latents = torch.zeros(players, EVENTS.seen, *EVENTS.latent_shape)
    actions = torch.zeros(players, EVENTS.buttons + 2)
    recent = Recent(past, actions[:, None].expand(-1, EVENTS.frames, -1), latents)
    chance = torch.rand(players, events.chances, generator=torch.Generator().manual_seed(0))
    after = events(recent, past[:, -1], actions, chance)
    assert set(after[:, HEALTH].tolist()) == {3.0, 100.0}, "7 less would be below the least"
    healthy = states(50.0)[:, None].expand_as(past)
    recent = Recent(healthy, recent.actions, latents)
    after = events(recent, healthy[:, -1], actions, chance)
    assert set(after[:, HEALTH].tolist()) == {50.0, 43.0, 100.0}


def test_dead_is_who_has_no_health_in_a_world_that_says_so() -> None:
    events = make_events(replace(EVENTS, follows={"dead": "health"}))
    row = events.drawn.index(HEALTH)
    events.kinds[row, 1], events.values[row, 1] = SET, 0.0  # at any time
    players, dead = 300, NUMBERS.index("dead")
    past = states(50.0)[:, None].expand(players, EVENTS.frames, -1)
    latents = torch.zeros(players, EVENTS.seen, *EVENTS.latent_shape)
    actions = torch.zeros(players, EVENTS.buttons + 2)
    recent = Recent(past, actions[:, None].expand(-1, EVENTS.frames, -1), latents)
    chance = torch.rand(players, events.chances, generator=torch.Generator().manual_seed(0))
    after = events(recent, past[:, -1], actions, chance)
    assert 0 < after[:, dead].mean() < 1
    assert torch.equal(after[:, dead] == 1, after[:, HEALTH] == 0)
    again = make_events(replace(EVENTS, follows={"dead": "health"}, lasts={"dead": 2}))
    past = states(0.0)[:, None].expand(players, EVENTS.frames, -1).clone()
    past[:, -2:, dead] = 1.0
    recent = Recent(past, recent.actions, latents)
    after = again(recent, past[:, -1], actions, chance)
    assert (after[:, HEALTH] == 100).all(), "two frames are the most"
    past[:, -2, dead] = 0.0
    after = again(recent, past[:, -1], actions, chance)
    assert set(after[:, HEALTH].tolist()) == {0.0, 100.0}
    with pytest.raises(ConfigError, match="from 1 to 4"):
        replace(EVENTS, follows={"dead": "health"}, lasts={"dead": 5})
    with pytest.raises(ConfigError, match="a flag and a count"):
        make_events(replace(EVENTS, follows={"health": "dead"}))


def test_a_deadly_hit_is_read_as_the_health_that_it_sets() -> None:
    events = make_events()
    row = events.drawn.index(HEALTH)
    for column, (kind, value) in enumerate([(CHANGE, 0.0), (CHANGE, -7.0), (SET, 0.0)]):
        events.kinds[row, column], events.values[row, column] = kind, value
    values = states(50.0, 43.0, 43.0, 4.0, 0.0)
    actions = torch.zeros(len(values), EVENTS.buttons + 2)
    track = StateTrack(NUMBERS, values.numpy())
    play = StateEpisodes(track.spec, values, actions, torch.tensor([0, len(values)]))
    found = bins_of(events, play)[:, row].tolist()
    assert found[1:3] == [1, 0], "a hit, and none"
    assert found[4] == 2, "7 less is not what brought 4 to 0"
