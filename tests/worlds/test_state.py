"""A state taken anywhere in play goes on bit for bit: on every engine, in every process."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from tests.worlds.make_world import make_world
from worldmodel.action import Action
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.storage.recording import hash_frame
from worldmodel.world import Frame, SavedState, StateError, WorldFaultError, step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_folder import (
    TRANSFORMER,
    read_world_file,
    save_world_folder,
    sha256_of_bytes,
)

KINDS = [
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("openvino", "float32"),
    ("torch-compiled", "bfloat16"),
]
WALK = [Action(frozenset({"KeyD"} if i % 3 else {"KeyA"}), (float(i % 5), 0.0)) for i in range(40)]
EARLY, WRAPPED = 1, 25  # frames: the ring has 5 slots and the starts hold 6

Open = Callable[[str, str], NativeWorld]


@pytest.fixture(scope="module", params=["plain", "placed"])
def folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    path = tmp_path_factory.mktemp("w") / "tiny"
    return make_world(path, is_placed=request.param == "placed")


@pytest.fixture(scope="module")
def open_world(folder: Path) -> Open:
    worlds: dict[tuple[str, str], NativeWorld] = {}

    def opened(engine: str, dtype: str) -> NativeWorld:
        if (engine, dtype) not in worlds:
            settings = RunSettings(threads=1, engine=engine, dtype=dtype)  # type: ignore[arg-type]  # any of them
            worlds[engine, dtype] = NativeWorld.load(folder, settings)
        return worlds[engine, dtype]

    return opened


def play(world: NativeWorld, frames: int) -> list[Frame]:
    return [world.reset(1, 3), *(step(world, action) for action in WALK[:frames])]


def play_on(world: NativeWorld, since: int) -> list[Frame]:
    return [step(world, action) for action in WALK[since:]]


def same(one: list[Frame], other: list[Frame]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("engine", "dtype"), KINDS)
@pytest.mark.parametrize("frames", [0, EARLY, WRAPPED])
def test_a_state_goes_on_bit_for_bit(
    open_world: Open, engine: str, dtype: str, frames: int
) -> None:
    world = open_world(engine, dtype)
    play(world, frames)
    state = world.save_state()
    expected = play_on(world, frames)
    play(world, 7)
    world.load_state(state)
    assert same(play_on(world, frames), expected)
    world.load_state(state)
    assert same(play_on(world, frames), expected), "a state can be gone on from again"


@pytest.mark.parametrize(("engine", "dtype"), KINDS)
def test_every_frame_of_a_walk_can_be_gone_back_to(
    open_world: Open, engine: str, dtype: str
) -> None:
    world = open_world(engine, dtype)
    world.reset(0, 5)
    states, frames = [world.save_state()], []
    for action in WALK:
        frames.append(step(world, action))
        states.append(world.save_state())
    for since in (30, 12, 3, 0, 39):
        world.load_state(states[since])
        assert same(play_on(world, since), frames[since:])


def test_states_of_neighbouring_frames_share_what_did_not_change(open_world: Open) -> None:
    world = open_world("torch", "float32")
    play(world, 10)
    one = world.save_state()
    step(world, WALK[10])
    other = world.save_state()
    shared = [n for n, a in other.arrays.items() if np.shares_memory(a, one.arrays[n])]
    slots = {name for name in one.arrays if name.startswith("slot")}
    assert set(shared) < slots
    assert len(shared) == len(slots) - 1, "the frame between them wrote one slot"


GO_ON = """
import json, sys
import numpy as np
from pathlib import Path
from tests.worlds.test_state import play_on
from worldmodel.storage.recording import hash_frame
from worldmodel.world import SavedState
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
folder, file, engine, dtype, since = sys.argv[1:]
world = NativeWorld.load(Path(folder), RunSettings(threads=1, engine=engine, dtype=dtype))
arrays = dict(np.load(file))
world.load_state(SavedState(json.loads(Path(file).with_suffix(".json").read_text()), arrays))
print(json.dumps([hash_frame(frame) for frame in play_on(world, int(since))]))
"""


@pytest.mark.parametrize(("engine", "dtype"), KINDS)
@pytest.mark.parametrize("frames", [EARLY, WRAPPED])
def test_another_process_goes_on_bit_for_bit(
    open_world: Open, folder: Path, tmp_path: Path, engine: str, dtype: str, frames: int
) -> None:
    world = open_world(engine, dtype)
    play(world, frames)
    state = world.save_state()
    np.savez(tmp_path / "state.npz", **state.arrays)  # type: ignore[arg-type]  # its stub is narrow
    (tmp_path / "state.json").write_text(json.dumps(state.identity), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-c", GO_ON, str(folder)]
    command += [str(tmp_path / "state.npz"), engine, dtype, str(frames)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [hash_frame(frame) for frame in play_on(world, frames)]


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        (("torch-compiled", "float32"), ("openvino", "float32")),
        (("openvino", "float32"), ("torch-compiled", "float32")),
        (("torch", "bfloat16"), ("torch", "float32")),
    ],
)
def test_another_engine_goes_on_from_the_same_numbers(
    open_world: Open, saved: tuple[str, str], loaded: tuple[str, str]
) -> None:
    one, other = open_world(*saved), open_world(*loaded)
    play(one, WRAPPED)
    play(other, 2)
    state = one.save_state()
    other.load_state(state)
    again = other.save_state()
    assert state.arrays["now"] == again.arrays["now"]
    last = "last" if "last" in state.arrays else "finished"
    for name in ("slot.0", "slot.3", last):
        numbers = [torch.from_numpy(np.array(s.arrays[name])) for s in (state, again)]
        if saved[1] == "bfloat16" and name != last:
            numbers[0] = numbers[0].view(torch.bfloat16)
        assert torch.equal(numbers[0].float(), numbers[1].float())
    frames = [np.stack(play_on(world, WRAPPED)).astype(int) for world in (one, other)]
    assert np.abs(frames[0] - frames[1]).mean() < 3, "the same play, up to rounding"


@pytest.mark.parametrize("engines", [("torch", "openvino"), ("openvino", "torch")])
def test_an_engine_that_remembers_otherwise_refuses_and_says_so(
    open_world: Open, engines: tuple[str, str]
) -> None:
    one, other = (open_world(engine, "float32") for engine in engines)
    play(one, 5)
    with pytest.raises(StateError, match="another kind of engine"):
        other.load_state(one.save_state())


def test_numbers_that_do_not_fit_are_refused_with_the_reason(open_world: Open) -> None:
    one, other = open_world("torch", "float32"), open_world("torch", "bfloat16")
    play(one, 5)
    frames = play(other, 5)
    with pytest.raises(StateError, match="kept in float32 and its numbers do not fit into bfloat"):
        other.load_state(one.save_state())
    assert same([*frames, *play_on(other, 5)], play(other, 40)), "the refused one changed nothing"


def test_another_world_or_sampler_is_refused_with_the_reason(
    open_world: Open, folder: Path
) -> None:
    world = open_world("torch", "float32")
    play(world, 5)
    state = world.save_state()
    sha256 = {**world.identity["sha256"], TRANSFORMER: "0" * 64}
    with pytest.raises(StateError, match=r"made in .tiny. with transformer\.safetensors 0000"):
        world.load_state(replace(state, identity={**state.identity, "sha256": sha256}))
    settings = RunSettings(threads=1, engine="torch", dtype="float32", steps=5)
    other = NativeWorld.load(folder, settings)
    with pytest.raises(StateError, match="--steps"):
        other.load_state(state)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("slot.1", None, "1 of [0-9]+ arrays are missing, first slot.1"),
        ("slot.1", np.zeros((2, 2), np.float32), r"slot.1 is float32 \[2, 2\], this world needs"),
        ("slot.1", np.zeros(1, np.float64), "slot.1 is float64"),
        ("last", np.full((1, 1, 3, 2, 2), np.nan, np.float32), "values that are not numbers|last"),
        ("more", np.zeros(1), "mean nothing here, first more"),
        ("now", np.array(-1), "its time is"),
        ("now", np.array(2**62), "its time is"),
        ("now", np.array(1.5), "its time is"),
        ("now", np.zeros(3, np.int64), "its time is"),
        ("now", np.array(1), "arrays mean nothing here"),
        ("bits", np.array([9, 0], np.uint8), "dtypes"),
        ("noise", np.zeros((1, 5056), np.uint8), "no state of a generator"),
        ("noise", np.zeros((2, 5056), np.uint8), r"noise is uint8 \[2, 5056\], expected"),
    ],
)
def test_a_broken_state_is_refused_and_changes_nothing(
    open_world: Open,
    name: str,
    array: NDArray[Any] | None,
    message: str,
) -> None:
    world = open_world("torch", "float32")
    play(world, 10)
    state = world.save_state()
    arrays = {**state.arrays, name: array}
    if array is None:
        del arrays[name]
    with pytest.raises(StateError, match=message):
        world.load_state(SavedState(state.identity, arrays))  # type: ignore[arg-type]  # wrong on purpose
    world.load_state(state)


@pytest.mark.parametrize("part", ["latents", "keys"])
def test_values_that_are_no_numbers_are_found_at_their_frame_and_the_weight_is_named(
    folder: Path, part: str
) -> None:
    settings = RunSettings(threads=1, engine="torch", dtype="float32")
    world = NativeWorld.load(folder, settings)
    expected = play(world, 12)
    play(world, 5)
    state = world.save_state()
    model = world.engine.model  # type: ignore[attr-defined]  # torch's
    weight = model.unembed.bias if part == "latents" else model.blocks[0].attention.v.weight
    kept = weight.clone()
    if part == "latents":
        weight[0] = torch.nan
        with pytest.raises(WorldFaultError, match=r"its latents .* the weight unembed.bias"):
            world.generate(WALK[5])
    else:
        world.generate(WALK[5])
        weight[0] = torch.inf
        with pytest.raises(
            WorldFaultError, match=r"its keys and values .* blocks.0.attention.v.weight"
        ):
            world.remember()
    weight.copy_(kept)
    world.load_state(state)
    assert same([step(world, action) for action in WALK[5:12]], expected[6:])


def test_weights_that_hold_no_numbers_are_refused_at_the_start(tmp_path: Path) -> None:
    folder = make_world(tmp_path / "tiny")
    file = read_world_file(folder)
    weights = load_file(folder / TRANSFORMER)
    weights["unembed.bias"][1] = torch.inf
    files = {n: (folder / n).read_bytes() for n in file.sha256} | {TRANSFORMER: save(weights)}
    sha256 = {name: sha256_of_bytes(content) for name, content in files.items()}
    save_world_folder(folder, replace(file, sha256=sha256), files)
    with pytest.raises(CheckpointError, match=r"unembed\.bias holds values that are not numbers"):
        NativeWorld.load(folder, RunSettings(threads=1))


@pytest.mark.parametrize(("engine", "dtype"), KINDS)
def test_a_state_of_an_early_frame_heals_a_cache_that_broke_later(
    open_world: Open, engine: str, dtype: str
) -> None:
    world = open_world(engine, dtype)
    world.reset(0, 5)
    early = world.save_state()
    expected = play_on(world, 20)
    world.reset(0, 5)
    play_on(world, 20)
    cache: Any = world._rollout.cache  # type: ignore[union-attr]  # it plays
    kept = getattr(cache, "inputs", cache)  # a graph's cache holds them among its inputs
    kept.k.fill_(torch.nan)
    kept.v.fill_(torch.nan)
    world.load_state(early)
    assert same(play_on(world, 20), expected)
