from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from tests.worlds.wan.wan_tiny import make_wan_world
from worldmodel.action import IDLE, Action, Prompt
from worldmodel.game.timeline import Timeline, first_past
from worldmodel.players import RandomPlayer
from worldmodel.storage.action_history import History
from worldmodel.wan.stream_cache import StreamCache
from worldmodel.world import SavedState, StateError, step
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.world import WanWorld

FORWARD = Action(frozenset({"KeyW"}), (0.3, 0.1))


@pytest.fixture(scope="module", params=["text", "cameras", "bfloat16", "chunks"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WanWorld:
    folder = tmp_path_factory.mktemp(request.param) / "world"
    recipe = {"cameras": None, "chunks": "chunkwise-4step"}.get(request.param, "framewise-2step")
    make_wan_world(folder, recipe, cameras=request.param == "cameras")
    settings = RunSettings(device="cpu", dtype="float32", threads=1)
    if request.param == "bfloat16":
        settings = replace(settings, dtype="bfloat16")
    return WanWorld.load(folder, settings)


def around(world: WanWorld) -> int:
    """Frames after which the window is full and some of its slots have been written twice."""
    window = world.file.window
    return world.actions.frames * (window.slots // window.chunk_frames + 2)


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
    for _ in range(2 * world.actions.frames):
        step(world, IDLE)
    before = world.save_state().arrays
    for _ in range(world.actions.frames):
        step(world, IDLE)
    after = world.save_state().arrays
    slots = [name for name in before if name.startswith("cache.slot")]
    assert all(np.shares_memory(before[name], after[name]) for name in slots)
    assert len(after) > len(before)
    step(world, IDLE)  # a frame of a latent that is decoded already: the decoder is where it was
    later = world.save_state().arrays
    step(world, IDLE)
    latest = world.save_state().arrays
    decoder = [name for name in later if name.startswith("decoder.")]
    assert len(decoder) == len(world.session.stream.state()) > 0
    assert all(np.shares_memory(later[name], latest[name]) for name in decoder)


def test_going_back_is_exact_before_and_after_the_window_is_full(world: WanWorld) -> None:
    """Also through states that share slots, some of which have been overwritten since."""
    timeline, seen = Timeline(world), [world.reset(0, seed=5)]
    timeline.begin(first_past(0, IDLE, seen[0], world.save_state()), History())
    player = RandomPlayer(world.actions, seed=2)
    frames = max(around(world), 100) + 1
    for i in range(1, frames):
        seen.append(step(world, player.act(i)))
        timeline.add(player.act(i), seen[i])
    assert timeline.oldest == 0
    for index in (frames - 2, 97, 60, 13, 2, 0):
        assert np.array_equal(timeline.go_to(index), seen[index])
        for i in range(index + 1, min(index + 9, frames)):
            assert np.array_equal(step(world, player.act(i)), seen[i])


def test_nothing_is_copied_for_states_that_nobody_holds_any_more(
    world: WanWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []
    copy_of = StreamCache.copy_of

    def note(cache: StreamCache, slot: int) -> Tensor:
        copied.append(slot)
        return copy_of(cache, slot)

    monkeypatch.setattr(StreamCache, "copy_of", note)
    held = world.save_state()  # of whatever was played before
    del held
    world.reset(0, seed=0)
    copied.clear()
    frames = around(world)
    for _ in range(frames):
        step(world, IDLE)
        newest = world.save_state()
    assert copied == []  # the window went round, and only the newest state was ever held
    slots = [name for name in newest.arrays if name.startswith("cache.slot")]
    expected = {name: array.copy() for name, array in newest.arrays.items()}
    assert sorted(copied) == sorted(int(name.rpartition(".")[2]) for name in slots)
    world.reset(0, seed=0)
    older = world.save_state()
    for _ in range(frames):
        step(world, IDLE)
    assert all(np.array_equal(newest.arrays[name], expected[name]) for name in expected)
    assert len(older.arrays) < len(newest.arrays)


def test_a_state_can_be_read_in_another_thread_while_play_goes_on(world: WanWorld) -> None:
    """As the save_worker does, which writes what is saved."""
    world.reset(0, seed=0)
    for _ in range(around(world)):
        step(world, IDLE)
    cache = world.session.rollout.cache
    for _ in range(3):
        expected = {name: array.copy() for name, array in world.save_state().arrays.items()}
        cache.frames.lent.clear()  # what was copied just now is not used again
        read: dict[str, NDArray[Any]] = {}
        thread = Thread(target=read.update, args=(world.save_state().arrays,))
        thread.start()
        for _ in range(3 * world.actions.frames):
            step(world, FORWARD)
        thread.join()
        assert all(np.array_equal(read[name], expected[name]) for name in expected)


def test_one_cache_serves_a_session_after_the_other(world: WanWorld) -> None:
    """Two of them would not fit into 16 GB."""
    cache = world.session.rollout.cache
    world.reset(0, seed=1)
    step(world, Action(prompt=Prompt("a desert", renew=True)))
    world.load_state(world.save_state())
    assert world.session.rollout.cache is cache


@pytest.mark.parametrize("name", ["session", "cache.slot.0", "pose", "noise", "history.0.latents"])
def test_a_broken_state_changes_nothing(world: WanWorld, name: str) -> None:
    world.reset(0, seed=0)
    step(world, IDLE)
    session, saved = world.session, world.save_state()
    for broken in ({}, {name: saved.arrays[name][:0]}, {name: np.full((2, 2), np.nan)}):
        arrays = {k: v for k, v in saved.arrays.items() if k != name} | broken
        with pytest.raises(StateError, match="broken or of another world"):
            world.load_state(SavedState(saved.identity, arrays))
        assert world.session is session


def test_a_state_of_another_world_is_refused(world: WanWorld, tmp_path: Path) -> None:
    wide = make_wan_world(tmp_path / "other", "framewise-1step")
    text = (wide / "world.toml").read_text().replace("rows = 4", "rows = 6")
    (wide / "world.toml").write_text(text)
    other = WanWorld.load(wide, RunSettings(device="cpu", dtype="float32", threads=1))
    other.reset(0, seed=0)
    world.reset(0, seed=0)
    with pytest.raises(StateError, match="it was made"):
        world.load_state(other.save_state())
    arrays = other.save_state().arrays
    with pytest.raises(StateError, match="broken or of another world"):
        world.load_state(SavedState(world.save_state().identity, arrays))
