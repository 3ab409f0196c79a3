"""The contract of every backend, on a world of random weights."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.worlds.make_world import make_world
from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.world import Frame, step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings

RIGHT = Action(frozenset({"KeyD"}), (4.0, 0.0))
SETTINGS = RunSettings(threads=1, dtype="float32")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> NativeWorld:
    return NativeWorld.load(make_world(tmp_path_factory.mktemp("w") / "tiny"), SETTINGS)


def play(world: NativeWorld, seed: int, actions: list[Action], start: int = 0) -> list[Frame]:
    return [world.reset(start, seed), *(step(world, action) for action in actions)]


def same(one: list[Frame], other: list[Frame]) -> list[bool]:
    return [np.array_equal(a, b) for a, b in zip(one, other, strict=True)]


def test_frames_are_rgb_bytes_of_the_size_that_the_world_states(world: NativeWorld) -> None:
    for frame in play(world, 0, [IDLE, RIGHT]):
        assert frame.dtype == np.uint8
        assert frame.shape == (*world.frame_size, 3)


def test_same_seed_and_actions_same_frames_and_reset_forgets(world: NativeWorld) -> None:
    first = play(world, 0, [RIGHT] * 12)
    play(world, 7, [IDLE] * 3, start=1)
    assert all(same(play(world, 0, [RIGHT] * 12), first))


def test_another_action_seed_or_start_gives_other_frames(world: NativeWorld) -> None:
    first = play(world, 0, [RIGHT] * 4)
    assert same(play(world, 0, [RIGHT, IDLE, RIGHT, RIGHT]), first)[:2] == [True, True]
    assert not all(same(play(world, 0, [RIGHT, IDLE, RIGHT, RIGHT]), first))
    assert not all(same(play(world, 1, [RIGHT] * 4), first))
    assert not same(play(world, 0, [RIGHT] * 4, start=1), first)[0]


def test_the_time_of_a_frame_is_split_into_its_parts(world: NativeWorld) -> None:
    play(world, 0, [IDLE])
    assert min(world.split.denoise, world.split.decode, world.split.clean) > 0


def test_more_steps_are_taken_when_asked_for(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    four = NativeWorld.load(folder, RunSettings(threads=1, steps=4))
    assert four.sampler.sigmas == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert four.identity["sampler"]["sigmas"] == (1.0, 0.75, 0.5, 0.25, 0.0)


def test_an_image_of_ones_own_can_be_a_start(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    picture = np.zeros((80, 160, 3), np.uint8)
    picture[:, :80] = 255
    cv2.imwrite(str(tmp_path / "mine.png"), picture)
    settings = RunSettings(threads=1, dtype="float32", start=str(tmp_path / "mine.png"))
    world = NativeWorld.load(folder, settings)
    assert world.starts == ["mine.png", "place 0", "place 1"]
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"text\.png: not an image"):
        NativeWorld.load(folder, RunSettings(start=str(tmp_path / "text.png")))
    with pytest.raises(UserError, match=r"none\.png: cannot be read"):
        NativeWorld.load(folder, RunSettings(start=str(tmp_path / "none.png")))


def test_a_device_that_is_not_here_is_refused(tmp_path: Path) -> None:
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(UserError, match="--device mps"):
        NativeWorld.load(make_world(tmp_path / "tiny"), RunSettings(device="mps"))
