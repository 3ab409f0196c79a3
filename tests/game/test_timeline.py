"""Going back, branching, saving and loading in play, on the drawn world and on a learned one."""

import numpy as np
import pytest

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.game.timeline import Timeline, first_past
from worldmodel.players import RandomPlayer
from worldmodel.storage.action_history import History
from worldmodel.world import Frame, World, step

RIGHT = Action(frozenset({"KeyD"}), (3.0, 0.0))


def timeline_of(world: World, frames: int, megabytes: float = 256) -> tuple[Timeline, list[Frame]]:
    timeline = Timeline(world, megabytes)
    seen = [world.reset(0, 7)]
    timeline.begin(first_past(0, IDLE, seen[0], world.save_state()), History())
    player = RandomPlayer(world.actions, seed=2)
    for i in range(1, frames + 1):
        seen.append(step(world, player.act(i)))
        timeline.add(player.act(i), seen[i])
    return timeline, seen


def test_a_branch_equals_a_walk_that_never_took_the_other_way(world: World) -> None:
    timeline, seen = timeline_of(world, 30)
    np.testing.assert_array_equal(timeline.go_to(11), seen[11])
    branch = [step(world, RIGHT) for _ in range(8)]
    player = RandomPlayer(world.actions, seed=2)
    world.reset(0, 7)
    for i in range(1, 12):
        step(world, player.act(i))
    np.testing.assert_array_equal(branch, [step(world, RIGHT) for _ in range(8)])
    assert len(timeline.history) == 11


@pytest.mark.parametrize("index", [0, 3, 29])
def test_what_has_left_the_ring_is_played_again(world: World, index: int) -> None:
    timeline, seen = timeline_of(world, 30, megabytes=0.04)
    assert timeline.oldest > 3
    np.testing.assert_array_equal(timeline.go_to(index), seen[index])
    assert timeline.newest.index == len(timeline.history) == index
    player = RandomPlayer(world.actions, seed=2)
    for i in range(index + 1, 31):
        np.testing.assert_array_equal(step(world, player.act(i)), seen[i])


def test_the_ring_keeps_to_its_memory(world: World) -> None:
    timeline, _ = timeline_of(world, 200, megabytes=0.5)
    assert timeline.megabytes <= 0.5
    assert timeline.newest.index - timeline.oldest >= 20
    with pytest.raises(UserError, match="frame 201 cannot be gone back to"):
        timeline.go_to(201)
