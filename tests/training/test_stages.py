"""The whole recipe on tiny episodes: each stage learns and hands over to the next."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.tiny_recipe import STAGES, metrics
from worldmodel.config import ConfigError, to_toml
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.training.dmd import DmdStage, DmdTraining
from worldmodel.training.run_stage import Training, make_stage, read_stage, run_stage
from worldmodel.training.runs import lineage, load_autoencoder, load_transformer
from worldmodel.training.stage import Stage
from worldmodel.training.teacher_forcing import TeacherTraining
from worldmodel.training.torch_streams import torch_stream
from worldmodel.training.train_loop import STATE, UnfinishedError, resume
from worldmodel.training.train_state import TrainState
from worldmodel.world import step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_folder import TEACHER, read_world_file


def figures_of(stage: Stage) -> dict[str, float]:
    """Means over batches that are always the same: what they are otherwise is mostly chance."""
    found: dict[str, list[float]] = {}
    for batch in range(16):
        with torch.no_grad():
            loss, figures = stage.loss(0, torch_stream("cpu", "test", batch))
        for name, value in {"loss": loss, **figures}.items():
            found.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in found.items()}


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("autoencoder", {"loss": 0.5}),
        ("teacher", {"loss": 0.85}),
        ("bidirectional", {"loss": 0.8}),
        ("ode", {"loss": 0.5}),
        ("decoder", {"l1": 0.98, "detail": 0.92, "discriminator": 0.5}),  # both players
    ],
)
def test_every_stage_learns(
    name: str, factors: dict[str, float], recipe: Path, tmp_path: Path
) -> None:
    config = read_stage(recipe / f"{name}.toml")
    assert isinstance(config, Training)
    stage = make_stage(config, tmp_path / "run")
    before = figures_of(stage)
    resume(stage, config.loop, recipe / "runs" / name)
    after = figures_of(stage)
    for figure, factor in factors.items():
        assert after[figure] < factor * before[figure], (figure, before, after)


def test_a_run_leaves_its_config_its_cost_and_pictures(recipe: Path) -> None:
    for stage in STAGES:
        folder = recipe / "runs" / stage
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["petaflops"] >= 0
        assert summary["teraflops_per_step"] >= 0
        assert summary["parameters"] > 0
        assert (folder / "config.toml").is_file()
        assert list((folder / "samples").glob("*.png"))
    assert list((recipe / "runs" / "student" / "samples").glob("*.mp4"))
    assert metrics(recipe / "runs" / "student", "next_2")
    assert metrics(recipe / "runs" / "decoder", "played_sharpness")


def test_the_exported_world_plays_what_was_trained(recipe: Path) -> None:
    world = NativeWorld.load(recipe / "world", RunSettings(threads=1, dtype="float32"))
    first = world.reset(start=0, seed=0)
    assert first.shape == (8, 16, 3)
    assert first.std() > 10  # a bar on a ground, not a grey field
    from worldmodel.action import Action

    frames = [step(world, Action(frozenset({"KeyD"}))) for _ in range(10)]
    assert all(frame.shape == first.shape for frame in frames)


def test_the_truth_of_a_clip_of_play_is_what_followed_its_start(
    recipe: Path, tmp_path: Path
) -> None:
    config = read_stage(recipe / "dmd.toml")
    assert isinstance(config, DmdTraining)
    stage = make_stage(config, tmp_path / "run")
    assert isinstance(stage, DmdStage)
    ages = set()
    for number in range(8):
        clip = stage.play(number, torch.Generator().manual_seed(number))
        assert clip.truth is not None
        known, weight = int(clip.known[0]), clip.truth.weight
        assert torch.equal(clip.truth.latents[:, :known], clip.latents[:, :known])
        assert not torch.equal(clip.truth.latents[:, known:], clip.latents[:, known:])
        assert not weight[0].any(), "who lets go leaves what really happened"
        assert torch.allclose(weight[1:, 1:] / weight[1:, :-1], torch.tensor(0.5**0.25))
        if known:
            assert torch.allclose(weight[1:, known], torch.tensor(config.truth))
        ages.add(known)
    assert len(ages) > 1


def test_a_world_says_what_all_the_runs_behind_it_took(recipe: Path) -> None:
    world = read_world_file(recipe / "world")
    assert {"autoencoder", "teacher", "bidirectional", "student", "dmd"} <= world.training.keys()
    assert TEACHER in world.sha256
    assert lineage(recipe / "runs" / "dmd").teacher == recipe / "runs" / "teacher"
    assert lineage(recipe / "runs" / "ode").runs[-2:] == (
        recipe / "runs" / "ode_trajectories",
        recipe / "runs" / "ode",
    )
    with pytest.raises(ConfigError, match="trains no transformer"):
        lineage(recipe / "runs" / "autoencoder")
    with pytest.raises(ConfigError, match="train it first"):
        lineage(recipe / "runs" / "nothing")


def test_a_chunk_wise_teacher_begins_with_the_weights_of_a_frame_wise_one(
    recipe: Path, tmp_path: Path
) -> None:
    config = read_stage(recipe / "teacher.toml")
    assert isinstance(config, TeacherTraining)
    chunks = replace(config.model, chunk_frames=2, sink_frames=2, context_frames=4)
    clips = replace(config.clips, frames=8)
    begun = recipe / "runs" / "teacher"
    config = replace(config, model=chunks, clips=clips, start=begun)
    stage = make_stage(config, tmp_path / "runs" / "chunks")
    before = load_transformer(begun, chunks).state_dict()
    for name, value in stage.student.state_dict().items():
        assert torch.equal(value, before[name]), name
    path = tmp_path / "chunks.toml"
    path.write_text(to_toml(replace(config, loop=replace(config.loop, steps=2))))
    run_stage(path, tmp_path / "runs" / "chunks")
    assert lineage(tmp_path / "runs" / "chunks").teacher == tmp_path / "runs" / "chunks"


def test_the_decoder_stage_leaves_the_latents_as_they_are(recipe: Path) -> None:
    before = load_autoencoder(recipe / "runs" / "autoencoder")
    after = load_autoencoder(recipe / "runs" / "decoder")
    for name, tensor in before.state_dict().items():
        same = torch.equal(tensor, after.state_dict()[name])
        assert same or name.startswith("decoder."), name
    assert any(
        not torch.equal(tensor, after.state_dict()[name])
        for name, tensor in before.state_dict().items()
    )


def test_a_run_that_is_not_finished_feeds_no_later_stage(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    text = (recipe / "runs" / "autoencoder" / "config.toml").read_text(encoding="utf-8")
    longer = text.replace("steps = 240", "steps = 9999")
    (run / "config.toml").write_text(longer, encoding="utf-8")
    (run / STATE).write_bytes((recipe / "runs" / "autoencoder" / STATE).read_bytes())
    with pytest.raises(UnfinishedError, match="is at step 240 of 9999"):
        load_autoencoder(run)


def test_a_decoder_run_that_began_with_a_critic_is_read(recipe: Path, tmp_path: Path) -> None:
    """The discriminator had that name in states that older versions wrote."""
    config = read_stage(recipe / "decoder.toml")
    assert isinstance(config, Training)
    stage = make_stage(config, tmp_path / "run")
    tensors, header = load_tensors(recipe / "runs" / "decoder" / STATE)
    old = {key.replace(".discriminator.", ".critic."): value for key, value in tensors.items()}
    assert old.keys() != tensors.keys()
    save_tensors(tmp_path / STATE, old, header)
    TrainState(stage, config.loop).load(tmp_path / STATE)
    weights = stage.student.state_dict()
    assert all(torch.equal(weights[key], tensors[f"student.{key}"]) for key in weights)
