"""What is remembered is pulled to what floor plan or scene show: on every engine, in every play."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.worlds.make_world import make_world
from worldmodel.action import Action
from worldmodel.config import ConfigError
from worldmodel.evaluation.evaluation_streams import noise_seeds
from worldmodel.evaluation.played import play_out
from worldmodel.evaluation.reference_clips import Clips
from worldmodel.evaluation.subject import load_subjects
from worldmodel.storage.episodes import load_episode
from worldmodel.world import Frame, step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.native_batch import NativeBatch
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_batch import WorldBatch
from worldmodel.worlds.world_folder import read_world_file

PULL = 0.5
TORCH = RunSettings(threads=1, engine="torch", dtype="float32")
WALK = [Action(frozenset({"KeyD"} if i % 3 else ()), (float(i % 5), 0.0)) for i in range(8)]
KINDS: dict[str, dict[str, Any]] = {
    "plan": {"is_placed": True},
    "scene": {"is_numbered": True, "has_objects": True, "has_scene": True},
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("w") / "a", **KINDS[request.param], view_pull=PULL)


@pytest.fixture(scope="module")
def world(folder: Path) -> NativeWorld:
    return NativeWorld.load(folder, TORCH)


def play(world: NativeWorld, seed: int = 3) -> Frame:
    world.reset(1, seed)
    return np.stack([step(world, action) for action in WALK])


def test_every_engine_pulls_alike(world: NativeWorld, folder: Path) -> None:
    expected = play(world).astype(int)
    for engine in ("openvino", "torch-compiled"):
        other = NativeWorld.load(folder, replace(TORCH, engine=engine))
        assert np.abs(play(other) - expected).mean() < 1.5


def test_without_the_pull_another_world_is_played(world: NativeWorld, tmp_path: Path) -> None:
    kind = "plan" if world.motion is not None else "scene"
    other = NativeWorld.load(make_world(tmp_path / "a", **KINDS[kind]), TORCH)
    free, pulled = play(other), play(world)
    assert np.array_equal(free[0], pulled[0])  # nothing has been pulled yet
    assert np.abs(free[-1].astype(int) - pulled[-1]).mean() > 1.5


def test_every_second_frame_is_remembered_between_itself_and_what_is_seen(
    world: NativeWorld,
) -> None:
    world.reset(1, 3)  # six frames: the next one has the time 6
    for number, action in enumerate(WALK[:4]):
        condition, sight = world.condition(action)
        assert sight is not None
        latent = world.playing.denoise(condition)
        seen = world.engine.encode_view(sight)
        world.saw(latent, sight, world.split)
        world.remember()
        remembered = world.playing.cache.save()["last"]
        expected = latent if number % 2 else (latent + seen) / 2
        torch.testing.assert_close(remembered, expected)


def test_players_of_a_batch_are_pulled_each_to_what_he_sees(folder: Path) -> None:
    world = NativeWorld.load(folder, replace(TORCH, engine="openvino"))
    alone = play(world)
    batch = WorldBatch(world, players=2)
    mine, other = batch.join(), batch.join()
    mine.reset(1, 3), other.reset(0, 4)
    for number, action in enumerate(WALK):
        frame, _ = batch.generate([mine, other], [action, WALK[-1 - number]])
        assert isinstance(frame, np.ndarray)
        assert np.array_equal(frame, alone[number])
        other.remember()  # in another order than they were seen
        mine.remember()


def test_sessions_of_a_batch_are_pulled_as_if_each_were_alone(world: NativeWorld) -> None:
    alone, batch = play(world), NativeBatch(world, 2)
    batch.begin([1, 0], [3, 4])
    for action, expected in zip(WALK, alone, strict=True):
        frames = batch.step([action, WALK[0]])
        assert np.abs(frames[0].astype(int) - expected).max() <= 1


def test_evaluation_plays_what_is_played(world: NativeWorld, folder: Path) -> None:
    (seed,) = noise_seeds(1, "pull")
    world.reset(1, seed)
    expected = []
    for action in WALK:
        condition, sight = world.condition(action)
        expected.append(world.playing.denoise(condition))
        world.saw(expected[-1], sight, world.split)
        world.remember()
    subjects = load_subjects(folder, TORCH, teacher_steps=1)
    start = load_episode(folder / "starts" / "1.safetensors")
    assert start.state is not None
    known, ahead = len(start), len(WALK)
    frames = np.concatenate((start.frames, np.repeat(start.frames[-1:], ahead, axis=0)))
    states = np.concatenate((start.state.values, np.repeat(start.state.values[-1:], ahead, axis=0)))
    clips = Clips.of(world.actions, frames, [*start.actions, *WALK], states)
    played = play_out(subjects, subjects.student, clips, known, "play", "pull")
    torch.testing.assert_close(played.latents, torch.cat(expected, dim=1), atol=1e-4, rtol=1e-4)


def test_sessions_without_a_pull_are_known_again_by_older_ones(folder: Path) -> None:
    file = read_world_file(folder)
    world = NativeWorld.load(folder, TORCH)
    assert world.identity["sampler"]["view_pull"] == PULL
    world.sampler = replace(file.sampler, view_pull=0.0)
    known = {*world.identity["sampler"]}  # as before there was such a thing
    assert not known & {"view_pull", "view_pull_every"}


def test_a_pull_to_nothing_is_refused(tmp_path: Path) -> None:
    file = read_world_file(make_world(tmp_path / "plain"))
    with pytest.raises(ConfigError, match="needs an autoencoder with a floor plan or a scene"):
        replace(file, sampler=replace(file.sampler, view_pull=0.1))
    for pull in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="view_pull"):
            replace(file.sampler, view_pull=pull)
    with pytest.raises(ConfigError, match="view_pull_every"):
        replace(file.sampler, view_pull=0.1, view_pull_every=0)
    with pytest.raises(ConfigError, match="no pass that could use view_pull"):
        replace(file.sampler, view_pull=0.1, cache_from_last_step=True)
