"""A world with a palette shows its colours alone: on every engine, in a batch, and says so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.worlds.make_world import PALETTE, make_world
from worldmodel.action import Action
from worldmodel.world import Frame, step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.native_batch import NativeBatch
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_batch import WorldBatch

TORCH = RunSettings(threads=1, engine="torch", dtype="float32")
WALK = [Action(frozenset({"KeyD"} if i % 3 else ()), (float(i % 5), 0.0)) for i in range(6)]
KINDS: dict[str, dict[str, Any]] = {
    "nothing seen": {},
    "plan": {"is_placed": True},
    "scene": {"is_numbered": True, "has_objects": True, "has_scene": True},
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("w") / "a"
    return make_world(folder, **KINDS[request.param], palette=PALETTE)


@pytest.fixture(scope="module")
def world(folder: Path) -> NativeWorld:
    return NativeWorld.load(folder, TORCH)


def play(world: NativeWorld) -> Frame:
    first = world.reset(1, 3)
    return np.stack([first, *(step(world, action) for action in WALK)])


def colours(frames: Frame) -> set[str]:
    return {bytes(pixel).hex() for pixel in frames.reshape(-1, 3)}


def test_every_engine_shows_the_same_colours(folder: Path, world: NativeWorld) -> None:
    expected = play(world)
    assert len(colours(expected)) > 2
    for engine in ("torch", "openvino", "torch-compiled"):
        other = NativeWorld.load(folder, replace(TORCH, engine=engine))
        frames = play(other)
        assert other.engine.name == engine
        assert colours(frames) <= set(PALETTE)
        assert (frames != expected).any(axis=-1).mean() < 0.01, "between two colours: either"


def test_players_of_a_batch_see_them_too(folder: Path) -> None:
    world = NativeWorld.load(folder, replace(TORCH, engine="openvino"))
    batch = NativeBatch(world, 2)
    batch.begin([1, 0], [3, 4])
    assert colours(batch.step(WALK[:2])) <= set(PALETTE)
    rows = WorldBatch(world, 2)
    mine, other = rows.join(), rows.join()
    mine.reset(1, 3), other.reset(0, 4)
    frames = rows.generate([mine, other], WALK[:2])
    assert all(isinstance(frame, np.ndarray) for frame in frames)
    assert colours(np.stack([f for f in frames if isinstance(f, np.ndarray)])) <= set(PALETTE)


def test_a_replay_is_told_of_the_palette_and_states_are_read_without_it(tmp_path: Path) -> None:
    world = NativeWorld.load(make_world(tmp_path / "a", palette=PALETTE), TORCH)
    plain = NativeWorld.load(make_world(tmp_path / "b"), TORCH)
    world.reset(0, 1)
    state = world.save_state()
    assert len(state.identity["palette"]) == 64
    assert "palette" not in plain.identity, "older sessions tell of none"
    plain.load_state(state)
    frame = torch.from_numpy(step(plain, WALK[0]))
    assert world.autoencoder.palette is not None
    assert np.array_equal(step(world, WALK[0]), world.autoencoder.palette(frame).numpy())
