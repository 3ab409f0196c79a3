"""A world in which things happen: numbers that are drawn, told, shown, saved and gone on from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.worlds.make_world import AMONG_OBJECTS, EVENTS, NUMBERS, OBJECTS, make_world
from worldmodel.action import Action
from worldmodel.config import ConfigError, UserError
from worldmodel.gym_env import WorldEnv, WorldVectorEnv
from worldmodel.storage.episodes import load_episode, save_episode
from worldmodel.world import SavedState, StateError, step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_folder import WorldError, check_weights, read_world_file

PLAY = [Action(frozenset({"KeyD"} if i % 3 else {"KeyA"}), (float(i % 5), 0.0)) for i in range(12)]
TORCH = RunSettings(threads=1, engine="torch", dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("w") / "numbered", is_numbered=True)


@pytest.fixture(scope="module")
def world(folder: Path) -> NativeWorld:
    return NativeWorld.load(folder, TORCH)


def play(world: NativeWorld) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames and states of all of `PLAY`."""
    frames, states = [], []
    for action in PLAY:
        frames.append(step(world, action))
        assert world.state is not None
        states.append(world.state)
    return np.stack(frames), np.stack(states)


def test_numbers_move_and_stay_in_their_range(world: NativeWorld) -> None:
    world.reset(0, 1)
    _, states = play(world)
    assert (np.ptp(states, axis=0) > 0).all()
    for column, number in zip(states.T, NUMBERS.numbers.values(), strict=True):
        assert number.low <= column.min() <= column.max() <= number.high


def test_the_same_seed_draws_the_same_another_something_else(world: NativeWorld) -> None:
    world.reset(0, 1)
    frames, states = play(world)
    world.reset(0, 1)
    again, same = play(world)
    np.testing.assert_array_equal(states, same)
    np.testing.assert_array_equal(frames, again)
    world.reset(0, 2)
    assert not np.array_equal(states, play(world)[1])


def test_play_goes_on_from_a_saved_state_bit_for_bit(world: NativeWorld) -> None:
    world.reset(1, 7)
    play(world)
    kept = world.save_state()
    frames, states = play(world)
    world.reset(0, 0)
    world.load_state(kept)
    again, same = play(world)
    np.testing.assert_array_equal(frames, again)
    np.testing.assert_array_equal(states, same)


def test_what_a_number_is_decides_the_frame(world: NativeWorld) -> None:
    """The transformer is told: other health, another picture."""
    world.reset(0, 1)
    kept = world.save_state()
    shown = step(world, PLAY[0])
    hurt = kept.arrays["happened.states"].copy()
    hurt[:, :, 1] = 3.0
    world.load_state(SavedState(kept.identity, {**kept.arrays, "happened.states": hurt}))
    assert not np.array_equal(step(world, PLAY[0]), shown)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("happened.states", None, "happened.states is nothing"),
        ("happened.latents", np.zeros((1, 2, 1), np.float32), "needs float32"),
        ("happened.actions", np.full((1, 4, 4), np.nan, np.float32), "not numbers"),
        ("happened.chance", np.array([[-1, 0]]), "out of range"),
    ],
)
def test_a_saved_state_without_what_happened_is_refused(
    world: NativeWorld, name: str, array: object, message: str
) -> None:
    world.reset(0, 0)
    before = world.save_state()
    arrays = {key: value for key, value in before.arrays.items() if key != name}
    if array is not None:
        arrays[name] = array  # type: ignore[assignment]  # on purpose
    with pytest.raises(StateError, match=message):
        world.load_state(SavedState(before.identity, arrays))
    step(world, PLAY[0])  # play goes on as it was


def test_engines_draw_the_same_numbers_of_the_same_frames(world: NativeWorld, folder: Path) -> None:
    compiled = NativeWorld.load(folder, replace(TORCH, engine="openvino"))
    compiled.reset(1, 3), world.reset(1, 3)
    for action in PLAY[:4]:
        assert np.abs(step(world, action).astype(int) - step(compiled, action)).mean() < 1.5
    assert world.state is not None
    assert compiled.state is not None
    np.testing.assert_array_equal(world.state, compiled.state)


def test_an_environment_has_the_learned_reward_and_end(folder: Path) -> None:
    env = WorldEnv(folder, engine="torch", dtype="float32", threads=1)
    env.reset(seed=3)
    rewards, ends = set(), set()
    for _ in range(30):
        _, reward, terminated, _, info = env.step(env.action_space.sample())
        assert reward == info["state"]["reward"]
        assert terminated == (info["state"]["dead"] > 0.5)
        rewards.add(reward)
        ends.add(terminated)
    assert rewards >= {-0.5, 1.0}
    assert ends == {True, False}


def test_a_session_of_a_batch_is_as_if_it_were_alone(folder: Path) -> None:
    alone = WorldEnv(folder, engine="torch", dtype="float32", threads=1)
    many = WorldVectorEnv(2, folder, engine="torch", dtype="float32", threads=1)
    alone.reset(seed=5)
    many.reset(seed=5)
    actions = [alone.action_space.sample() for _ in range(6)]
    for action in actions:
        _, reward, terminated, _, info = alone.step(action)
        _, rewards, ends, _, infos = many.step(np.stack([action, action]))
        assert rewards[0] == reward
        assert ends[0] == terminated
        for name in NUMBERS.names:
            assert infos["state"][name][0] == pytest.approx(info["state"][name])


def test_a_place_and_numbers_go_together(tmp_path: Path) -> None:
    both = make_world(tmp_path / "both", is_placed=True, is_numbered=True)
    world = NativeWorld.load(both, TORCH)
    world.reset(0, 0)
    _, states = play(world)
    assert world.state_spec is not None
    health, place = states[:, world.state_spec.index("health")], states[:, :2]
    assert np.ptp(place, axis=0).max() > 0
    assert np.ptp(health) > 0


def test_half_a_world_with_numbers_is_refused(folder: Path) -> None:
    file = read_world_file(folder)
    with pytest.raises(ConfigError, match=r"needs \[state\] and \[events\]"):
        replace(file, events=None)
    with pytest.raises(ConfigError, match=r"needs \[state\] and \[events\]"):
        replace(file, state=None)
    with pytest.raises(ConfigError, match="events was made for 7"):
        replace(file, events=replace(EVENTS, buttons=7))
    with pytest.raises(ConfigError, match="no number 'mana'"):
        replace(file, events=replace(EVENTS, moved=("mana",)))


def test_the_network_is_one_of_the_files_that_are_checked(tmp_path: Path) -> None:
    copy = make_world(tmp_path / "broken", is_numbered=True)
    (copy / "events.safetensors").write_bytes(b"something else")
    with pytest.raises(WorldError, match=r"events\.safetensors"):
        check_weights(copy, read_world_file(copy))


def test_a_start_without_its_numbers_is_refused(folder: Path, tmp_path: Path) -> None:
    clip = load_episode(folder / "starts" / "0.safetensors")
    save_episode(tmp_path / "mine.safetensors", replace(clip, state=None))
    with pytest.raises(UserError, match="the state heading, health"):
        NativeWorld.load(folder, replace(TORCH, start=str(tmp_path / "mine.safetensors")))


def test_state_features_are_digits_and_directions() -> None:
    from worldmodel.model.state_numbers import choose_state_numbers, encode_state_numbers

    state_numbers = choose_state_numbers(NUMBERS, ("health", "heading"))
    facts = encode_state_numbers(
        state_numbers, NUMBERS.names, torch.tensor([[90.0, 37.0, 0.0, 0.0]])
    )[0]
    digits = facts[1:31].view(3, 10).argmax(dim=1)
    assert digits.tolist() == [7, 3, 0]
    assert facts[31:35] == pytest.approx([0, -1, 1, 1], abs=1e-6)  # cosines of 1, 2, 4, 8 turns


@pytest.fixture(scope="module", params=[False, True], ids=["told", "told and drawn"])
def crowded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("w") / "crowded"
    return make_world(folder, is_numbered=True, has_objects=True, has_scene=request.param)


def test_objects_come_move_and_go_and_play_goes_on_among_them(crowded: Path) -> None:
    world = NativeWorld.load(crowded, TORCH)
    world.reset(0, 3)
    play(world)
    saved = world.save_state()
    frames, states = play(world)
    places = states[:, AMONG_OBJECTS.index("imp.1.x") :]
    assert 0.1 < np.isfinite(places).mean() < 0.9
    assert np.array_equal(np.isfinite(places[:, ::2]), np.isfinite(places[:, 1::2]))
    world.load_state(saved)
    again, same = play(world)
    np.testing.assert_array_equal(again, frames)
    np.testing.assert_array_equal(same, states)


def test_the_picture_follows_where_objects_are(crowded: Path) -> None:
    world = NativeWorld.load(crowded, TORCH)
    world.reset(0, 3)
    saved = world.save_state()
    frames = []
    for shift in (0.0, 40.0):
        arrays = {name: np.array(array) for name, array in saved.arrays.items()}
        columns = [AMONG_OBJECTS.index(name) for name in OBJECTS.numbers[1::2]]
        arrays["happened.states"][..., columns] += shift
        world.load_state(SavedState(saved.identity, arrays))
        frames.append(step(world, PLAY[0]))
    assert not np.array_equal(frames[0], frames[1])


def test_openvino_plays_among_objects_as_torch_does(crowded: Path) -> None:
    pytest.importorskip("openvino")
    played = []
    for engine in ("torch", "openvino"):
        world = NativeWorld.load(crowded, replace(TORCH, engine=engine))
        world.reset(0, 3)
        played.append(play(world))
    np.testing.assert_allclose(played[0][1], played[1][1], rtol=1e-4)
    assert np.abs(played[0][0].astype(int) - played[1][0]).max() <= 2


def test_a_world_whose_parts_know_other_objects_is_refused(crowded: Path) -> None:
    file = read_world_file(crowded)
    assert file.events is not None
    with pytest.raises(ConfigError, match="must name the same objects"):
        replace(file, events=replace(file.events, objects=None))
