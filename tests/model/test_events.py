"""What happens to a state's numbers is possible in the game that they were read from."""

from dataclasses import replace

import pytest
import torch

from tests.worlds.make_world import EVENTS, NUMBERS, make_events
from worldmodel.config import ConfigError
from worldmodel.model.events import CHANGE, SET, Events, Recent
from worldmodel.state_spec import StateTrack
from worldmodel.training.event_bins import bins_of
from worldmodel.training.state_episodes import StateEpisodes

HEALTH = NUMBERS.index("health")


def states(*health: float) -> torch.Tensor:
    """Frames f v with these healths."""
    rows = torch.zeros(len(health), NUMBERS.width)
    rows[:, HEALTH] = torch.tensor(health)
    return rows


def next_states(events: Events, past: torch.Tensor) -> torch.Tensor:
    """The numbers b v that follow a past b f v of players who stand still."""
    latents = torch.zeros(len(past), EVENTS.seen, *EVENTS.latent_shape)
    actions = torch.zeros(len(past), EVENTS.buttons + 2)
    recent = Recent(past, actions[:, None].expand(-1, EVENTS.frames, -1), latents)
    chance = torch.rand(len(past), events.chances, generator=torch.Generator().manual_seed(0))
    after: torch.Tensor = events(recent, past[:, -1], actions, chance)
    return after


def long(health: float) -> torch.Tensor:
    """A past b f v of 300 players who have had this health."""
    return states(health)[:, None].expand(300, EVENTS.frames, -1).clone()


def test_a_hit_that_health_cannot_bear_is_not_drawn_as_that_hit() -> None:
    events = make_events()
    after = next_states(events, long(3.0))
    assert set(after[:, HEALTH].tolist()) == {3.0, 100.0}, "7 less would be below the least"
    after = next_states(events, long(50.0))
    assert set(after[:, HEALTH].tolist()) == {50.0, 43.0, 100.0}


def test_dead_is_who_has_no_health_in_a_world_that_says_so() -> None:
    events = make_events(replace(EVENTS, follows={"dead": "health"}))
    row = events.drawn.index(HEALTH)
    events.kinds[row, 1], events.values[row, 1] = SET, 0.0  # at any time
    dead = NUMBERS.index("dead")
    after = next_states(events, long(50.0))
    assert 0 < after[:, dead].mean() < 1
    assert torch.equal(after[:, dead] == 1, after[:, HEALTH] == 0)
    again = make_events(replace(EVENTS, follows={"dead": "health"}, lasts={"dead": 2}))
    past = long(0.0)
    past[:, -2:, dead] = 1.0
    assert (next_states(again, past)[:, HEALTH] == 100).all(), "two frames are the most"
    past[:, -2, dead] = 0.0
    assert set(next_states(again, past)[:, HEALTH].tolist()) == {0.0, 100.0}
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
