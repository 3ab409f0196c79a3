"""A world that knows its place: the same play alone, in a batch, on every engine."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worlds.make_world import MOTION, STATE, make_motion, make_world
from worldmodel.action import Action
from worldmodel.config import ConfigError, UserError
from worldmodel.gym_env import WorldEnv, WorldVectorEnv
from worldmodel.state_spec import StateNumber, StateSpec, StateTrack
from worldmodel.storage.episodes import episode_bytes, load_episode, save_episode
from worldmodel.world import SavedState, StateError, step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_folder import (
    WorldError,
    check_weights,
    read_world_file,
    save_world_folder,
    sha256_of_bytes,
)

WALK = [Action(frozenset({"KeyD"} if i % 3 else {"KeyA"}), (float(i % 5), 0.0)) for i in range(20)]
TORCH = RunSettings(threads=1, engine="torch", dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("w") / "placed", is_placed=True)


@pytest.fixture(scope="module")
def world(folder: Path) -> NativeWorld:
    return NativeWorld.load(folder, TORCH)


def test_the_state_moves_as_the_motion_says(world: NativeWorld) -> None:
    world.reset(1, 0)
    expected = torch.from_numpy(load_start(world))[None]
    motion = make_motion()
    for action in WALK:
        step(world, action)
        done = torch.from_numpy(world.actions.encode([action]))
        expected = motion(expected, done)
    assert world.state_spec == STATE
    assert world.state is not None
    np.testing.assert_allclose(world.state, expected[0].numpy(), rtol=1e-6)


@pytest.fixture(scope="module")
def rewarded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The placed world with a reward, 100 in its starts, that nothing predicts."""
    file = read_world_file(folder)
    copy = tmp_path_factory.mktemp("w") / "rewarded"
    numbers = {n: v for n, v in STATE.numbers.items() if n != "health"}
    spec = StateSpec({**numbers, "reward": StateNumber(kind="number", low=0.0, high=100.0)})
    files = {name: (folder / name).read_bytes() for name in ("NOTICE", *file.sha256)}
    for name in file.starts:
        clip = load_episode(folder / "starts" / name)
        assert clip.state is not None
        clip = replace(clip, state=StateTrack(spec, clip.state.values))
        files[f"starts/{name}"] = episode_bytes(clip)
    hashes = {name: sha256_of_bytes(files[name]) for name in file.sha256}
    save_world_folder(copy, replace(file, state=spec, sha256=hashes), files)
    return copy


def test_a_number_that_changes_and_that_nobody_predicts_is_not_known(rewarded: Path) -> None:
    world = NativeWorld.load(rewarded, TORCH)
    world.reset(0, 0)
    assert world.state is not None
    assert world.state[-1] == 100.0, "the start says it"
    for _ in range(2):
        step(world, WALK[0])
        assert np.isnan(world.state[-1])
        assert np.isfinite(world.state[:-1]).all()
    kept = world.save_state()
    shown = step(world, WALK[1])
    world.load_state(kept)
    np.testing.assert_array_equal(step(world, WALK[1]), shown)


def test_a_reward_that_nobody_predicts_is_0(rewarded: Path) -> None:
    env = WorldEnv(rewarded, engine="torch", dtype="float32", threads=1)
    many = WorldVectorEnv(2, rewarded, engine="torch", dtype="float32", threads=1)
    env.reset(seed=0)
    many.reset(seed=0)
    action = env.action_space.sample()
    assert env.step(action)[1:4] == (0.0, False, False)
    assert many.step(np.stack([action, action]))[1].tolist() == [0.0, 0.0]


def load_start(world: NativeWorld) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    state = world.past(1).state
    assert state is not None
    return state[0].numpy()


def test_where_one_stands_decides_what_one_sees(world: NativeWorld) -> None:
    """The same latents from another place are another picture: the plan is read."""
    world.reset(0, 0)
    sight = world.where.look()
    assert sight is not None
    latents = world.past(0).latents[:, -1:]
    here = world.engine.decode(latents, sight)
    world.where.begin(torch.from_numpy(load_start(world))[None])
    there = world.engine.decode(latents, world.where.look())
    assert not np.array_equal(here, there)


def test_openvino_and_torch_show_the_same(world: NativeWorld, folder: Path) -> None:
    compiled = NativeWorld.load(folder, replace(TORCH, engine="openvino"))
    compiled.reset(1, 3), world.reset(1, 3)
    for action in WALK[:8]:
        one, other = step(world, action), step(compiled, action)
        assert np.abs(one.astype(int) - other).mean() < 1.5
    assert world.state is not None
    assert compiled.state is not None
    np.testing.assert_array_equal(world.state, compiled.state)  # places are no engine's matter


def test_a_session_of_a_batch_is_as_if_it_were_alone(world: NativeWorld) -> None:
    where, playing = world.whereabouts(), world.engine.begin([3, 5])
    pasts = [world.past(start) for start in (1, 0)]
    playing.prime(torch.cat([p.latents for p in pasts]), torch.cat([p.conditions for p in pasts]))
    where.begin(torch.cat([p.state for p in pasts if p.state is not None]))
    world.reset(1, 3)
    for i, action in enumerate(WALK[:6]):
        done = world.actions.encode([action])
        other = world.actions.encode([WALK[-1 - i]])
        conditions, sight = where.step(torch.from_numpy(np.stack((done, other))))
        frames = world.engine.decode(playing.denoise(conditions), sight)
        playing.remember()
        assert np.abs(frames[0].astype(int) - step(world, action)).max() <= 1


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (None, "place is nothing"),
        (np.zeros((2, 8), np.float32), "needs float32"),
        (np.full((1, 8), np.nan, np.float32), "not numbers"),
    ],
)
def test_a_saved_state_without_its_place_is_refused(
    world: NativeWorld, place: object, message: str
) -> None:
    world.reset(0, 0)
    before = world.save_state()
    arrays = {**before.arrays, "place": place} if place is not None else dict(before.arrays)
    if place is None:
        del arrays["place"]
    with pytest.raises(StateError, match=message):
        world.load_state(SavedState(before.identity, arrays))  # type: ignore[arg-type]  # on purpose
    assert np.array_equal(world.save_state().arrays["place"], before.arrays["place"])


def test_a_start_that_does_not_say_where_it_is_is_refused(folder: Path, tmp_path: Path) -> None:
    clip = load_episode(folder / "starts" / "0.safetensors")
    save_episode(tmp_path / "mine.safetensors", replace(clip, state=None))
    with pytest.raises(UserError, match="must say where it is"):
        NativeWorld.load(folder, replace(TORCH, start=str(tmp_path / "mine.safetensors")))


def test_half_a_place_is_refused(folder: Path) -> None:
    file = read_world_file(folder)
    with pytest.raises(ConfigError, match="needs all of"):
        replace(file, motion=None)
    with pytest.raises(ConfigError, match="is given 0 rays"):
        replace(file, transformer=replace(file.transformer, rays=0, ray_features=0))
    with pytest.raises(ConfigError, match="motion was made for 5"):
        replace(file, motion=replace(MOTION, buttons=5))


def test_motion_is_one_of_the_files_that_are_checked(tmp_path: Path) -> None:
    copy = make_world(tmp_path / "broken", is_placed=True)
    (copy / "motion.safetensors").write_bytes(b"something else")
    with pytest.raises(WorldError, match=r"motion\.safetensors"):
        check_weights(copy, read_world_file(copy))
