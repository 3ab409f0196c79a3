"""Ways of the real game to a start, on disk and in a world's folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from tests.worlds.make_world import make_world
from worldmodel.action import IDLE, Action
from worldmodel.config import UserError, to_toml
from worldmodel.reference.game import ReferenceTrajectory
from worldmodel.reference.trajectory import (
    FORMAT,
    TrajectoryError,
    load_trajectory,
    save_trajectory,
)
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import load_episode
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.starts import read_origin
from worldmodel.worlds.world_folder import WORLD_FILE, read_world_file, sha256_of

BUTTONS = ("KeyW", "KeyS", "KeyA", "KeyD")
ACTIONS = [Action(frozenset({"KeyW", "KeyD"}), (2.5, -1.0)), IDLE, Action(mouse=(-20.0, 0.0))]


@pytest.fixture
def clip() -> Episode:
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 16, 3), np.uint8)
    return Episode(frames=frames, actions=[IDLE] * 3, frames_per_second=10.0, buttons=BUTTONS)


@pytest.mark.parametrize("actions", [ACTIONS, []])
def test_a_way_is_read_as_it_was_written(
    tmp_path: Path, clip: Episode, actions: list[Action]
) -> None:
    path = tmp_path / "start.safetensors"
    save_trajectory(
        path, ReferenceTrajectory(seed=900_000, actions=actions, frame=clip.frames[-1]), BUTTONS
    )
    trajectory = load_trajectory(path, clip)
    assert (trajectory.seed, trajectory.actions) == (900_000, actions)
    np.testing.assert_array_equal(trajectory.frame, clip.frames[-1])


GOOD: dict[str, NDArray[Any]] = {
    "buttons": np.zeros((2, 4), np.uint8),
    "mouse": np.zeros((2, 2), np.float32),
}
HEADER = {"format": FORMAT, "seed": "1", "buttons": '["KeyW", "KeyS", "KeyA", "KeyD"]'}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no way",
        b"\xff" * 100,
        save(GOOD),
        save(GOOD, metadata={**HEADER, "format": "worldmodel way 99"}),
        save(GOOD, metadata={**HEADER, "seed": "-1"}),
        save(GOOD, metadata={**HEADER, "seed": "x"}),
        save(GOOD, metadata={**HEADER, "seed": str(2**40)}),
        save(GOOD, metadata={**HEADER, "buttons": "[1"}),
        save(GOOD, metadata={**HEADER, "buttons": '["KeyW"]'}),
        save({"buttons": GOOD["buttons"]}, metadata=HEADER),
        save({**GOOD, "mouse": np.zeros((3, 2), np.float32)}, metadata=HEADER),
        save({**GOOD, "mouse": np.full((2, 2), np.nan, np.float32)}, metadata=HEADER),
        save({**GOOD, "buttons": np.zeros(2, np.uint8)}, metadata=HEADER),
        save({**GOOD, "buttons": np.array(1, np.uint8)}, metadata=HEADER),
        save({"buttons": np.zeros((2**19, 4), np.uint8)}, metadata=HEADER),
    ],
)
def test_a_broken_way_is_one_sentence(tmp_path: Path, clip: Episode, content: bytes) -> None:
    path = tmp_path / "start.way"
    path.write_bytes(content)
    with pytest.raises(TrajectoryError, match=r"start\.way") as found:
        load_trajectory(path.with_suffix(".safetensors"), clip)
    assert "\n" not in str(found.value)


def give_trajectory(folder: Path, name: str) -> Path:
    """A trajectory to a start of a test's world, named in its file."""
    path = folder / "starts" / f"{name}.safetensors"
    clip = load_episode(path)
    save_trajectory(
        path, ReferenceTrajectory(seed=3, actions=ACTIONS, frame=clip.frames[-1]), BUTTONS
    )
    file = read_world_file(folder)
    trajectory = path.with_suffix(".way")
    sums = {**file.sha256, f"starts/{trajectory.name}": sha256_of(trajectory)}
    (folder / WORLD_FILE).write_text(to_toml(replace(file, sha256=sums)), encoding="utf-8")
    return trajectory


def test_a_world_knows_the_ways_to_its_starts_and_one_that_was_changed_is_refused(
    tmp_path: Path,
) -> None:
    folder = make_world(tmp_path / "doom", is_doom=True)
    before = NativeWorld.load(folder, RunSettings(engine="torch", threads=1))
    trajectory = give_trajectory(folder, "0")
    world = NativeWorld.load(folder, RunSettings(engine="torch", threads=1))
    assert world.origin.trajectory_to(0).actions == ACTIONS
    assert world.origin.source == {
        "level": "my_way_home",
        "tics_per_frame": 2,
        "frame_height": 48,
        "frame_width": 64,
    }
    assert world.identity == before.identity, "old recordings and moments stay its own"
    with pytest.raises(UserError, match="doom does not say how the real game comes to place 1"):
        world.origin.trajectory_to(1)
    trajectory.write_bytes(trajectory.read_bytes()[:-1] + b"x")
    changed = NativeWorld.load(folder, RunSettings(engine="torch", threads=1))
    with pytest.raises(UserError, match=r"0\.way: its sha256 is"):
        changed.origin.trajectory_to(0)
    trajectory.unlink()
    with pytest.raises(UserError, match=r"0\.way: missing"):
        read_origin(folder, read_world_file(folder), None).trajectory_to(0)


def test_a_start_of_the_users_own_comes_first_with_its_own_way_or_none(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "doom", is_doom=True)
    give_trajectory(folder, "1")
    file, own = read_world_file(folder), folder / "starts" / "1.safetensors"
    origin = read_origin(folder, file, str(own))
    assert origin.trajectory_to(0).seed == origin.trajectory_to(2).seed == 3
    elsewhere = tmp_path / "copy.safetensors"
    elsewhere.write_bytes(own.read_bytes())
    with pytest.raises(UserError, match=r"no copy\.way says how the real game comes to copy"):
        read_origin(folder, file, str(elsewhere)).trajectory_to(0)


def test_a_world_without_a_game_says_so(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "bar")
    with pytest.raises(UserError, match="bar names no real game"):
        read_origin(folder, read_world_file(folder), None).trajectory_to(0)
