from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.worlds.wan_tiny import make_wan_world
from worldmodel.action import IDLE, Action, Prompt
from worldmodel.world import State, StateError, step
from worldmodel.worlds.settings import Settings
from worldmodel.worlds.wan import WanWorld

FORWARD = Action(frozenset({"KeyW"}), (0.3, 0.1))


@pytest.fixture(scope="module", params=["text", "cameras", "bfloat16", "chunks"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WanWorld:
    folder = tmp_path_factory.mktemp(request.param) / "world"
    recipe = {"cameras": None, "chunks": "chunkwise-4step"}.get(request.param, "framewise-2step")
    make_wan_world(folder, recipe, cameras=request.param == "cameras")
    settings = Settings(device="cpu", dtype="float32", threads=1)
    if request.param == "bfloat16":
        settings = replace(settings, dtype="bfloat16")
    return WanWorld.load(folder, settings)


@pytest.mark.parametrize("frames", [0, 3, 8, 101])
def test_a_session_goes_on_bit_for_bit_from_a_saved_state(world: WanWorld, frames: int) -> None:
    world.reset(1, seed=3)
    for i in range(frames):
        step(world, Action(FORWARD.buttons, FORWARD.mouse, Prompt("a forest") if i == 2 else None))
    saved = world.save_state()
    expected = [step(world, FORWARD) for _ in range(9)]
    world.reset(0, seed=9)
    step(world, IDLE)
    world.load_state(saved)
    assert all(np.array_equal(step(world, FORWARD), frame) for frame in expected)
    world.load_state(saved)  # a state can be gone on from again
    assert all(np.array_equal(step(world, FORWARD), frame) for frame in expected)


def test_neighbouring_states_share_what_did_not_change(world: WanWorld) -> None:
    world.reset(0, seed=0)
    for _ in range(3 * world.actions.frames):
        step(world, IDLE)
    before = world.save_state().arrays
    for _ in range(world.actions.frames):
        step(world, IDLE)
    after = world.save_state().arrays
    slots = [name for name in before if name.startswith("cache.slot")]
    assert all(np.shares_memory(before[name], after[name]) for name in slots)
    assert len(after) > len(before)


@pytest.mark.parametrize("name", ["session", "cache.slot.0", "pose", "noise", "history.0.latents"])
def test_a_broken_state_changes_nothing(world: WanWorld, name: str) -> None:
    world.reset(0, seed=0)
    step(world, IDLE)
    session, saved = world.session, world.save_state()
    for broken in ({}, {name: saved.arrays[name][:0]}, {name: np.full((2, 2), np.nan)}):
        arrays = {k: v for k, v in saved.arrays.items() if k != name} | broken
        with pytest.raises(StateError, match="broken or of another world"):
            world.load_state(State(saved.identity, arrays))
        assert world.session is session


def test_a_state_of_another_world_is_refused(world: WanWorld, tmp_path: Path) -> None:
    wide = make_wan_world(tmp_path / "other", "framewise-1step")
    text = (wide / "world.toml").read_text().replace("rows = 4", "rows = 6")
    (wide / "world.toml").write_text(text)
    other = WanWorld.load(wide, Settings(device="cpu", dtype="float32", threads=1))
    other.reset(0, seed=0)
    world.reset(0, seed=0)
    with pytest.raises(StateError, match="it was made"):
        world.load_state(other.save_state())
    arrays = other.save_state().arrays
    with pytest.raises(StateError, match="broken or of another world"):
        world.load_state(State(world.save_state().identity, arrays))
