"""What every world promises, whatever plays it: native, placed, random, Wan, Gymnasium."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data_sources.test_gym import SQUARES
from tests.worlds.make_world import make_world
from tests.worlds.wan.wan_tiny import make_wan_world
from worldmodel.action import IDLE, Action
from worldmodel.data_sources.gym import open_game
from worldmodel.data_sources.playable import PlayableGame
from worldmodel.evaluation.random_world import parse_size, random_world
from worldmodel.world import Ending, Frame, StateError, World
from worldmodel.worlds.find import BACKENDS, open_world
from worldmodel.worlds.run_settings import RunSettings

SETTINGS = RunSettings(device="cpu", dtype="float32", engine="torch", threads=1)
FRAMES = 4
WORLDS: dict[str, Callable[[Path], World]] = {
    "native": lambda folder: open_world(str(make_world(folder)), SETTINGS),
    "placed": lambda folder: open_world(str(make_world(folder, is_placed=True)), SETTINGS),
    "random": lambda _: random_world(
        parse_size("width=64,layers=1,head_width=32,context=3"), SETTINGS
    ),
    "wan": lambda folder: open_world(str(make_wan_world(folder)), SETTINGS),
    "gymnasium": lambda _: PlayableGame(open_game(SQUARES)),
}


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return WORLDS[request.param](tmp_path_factory.mktemp("worlds") / "w")


def play(world: World, action: Action, seed: int = 0) -> list[Frame]:
    frames = [world.reset(0, seed)]
    for _ in range(FRAMES):
        frames.append(world.generate(action))
        world.remember()
    return [frame.copy() for frame in frames]


def test_frames_are_pictures_of_one_size_and_the_split_is_theirs(world: World) -> None:
    frames = play(world, IDLE)
    assert {(frame.shape, frame.dtype) for frame in frames} == {
        ((*world.frame_size, 3), np.dtype(np.uint8))
    }
    assert min(world.split.denoise, world.split.decode, world.split.clean) >= 0
    assert world.frames_per_second > 0
    assert world.starts
    assert all(caption.isprintable() for caption in world.starts)


def test_the_same_seed_and_actions_give_the_same_frames_again(world: World) -> None:
    """So `reset` forgets whatever was played before."""
    action = Action(frozenset(world.actions.buttons[:1]))
    first = play(world, action)
    play(world, IDLE, seed=5)
    assert np.array_equal(first, play(world, action))


def test_a_saved_state_goes_on_as_the_world_would_have(world: World) -> None:
    action = Action(frozenset(world.actions.buttons[:1]))
    play(world, action)
    state = world.save_state()
    ahead = [world.generate(action).copy()]
    world.remember()
    ahead.append(world.generate(action).copy())
    world.remember()
    play(world, IDLE, seed=3)
    if isinstance(world, Ending):
        with pytest.raises(StateError, match="a real game"):
            world.load_state(state)
        return
    world.load_state(state)
    for expected in ahead:
        assert np.array_equal(world.generate(action), expected)
        world.remember()


def test_another_action_gives_other_frames(world: World) -> None:
    pressed = [play(world, Action(frozenset({button}))) for button in world.actions.buttons]
    assert any(not np.array_equal(play(world, IDLE), frames) for frames in pressed)


def test_every_backend_is_held_to_this() -> None:
    assert BACKENDS.keys() <= WORLDS.keys()


def test_an_action_stays_as_it_was(world: World) -> None:
    action = Action(frozenset(world.actions.buttons), (3.0, -2.0))
    play(world, action)
    assert action == Action(frozenset(world.actions.buttons), (3.0, -2.0))
