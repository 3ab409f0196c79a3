"""The whole recipe on tiny episodes: each stage learns, resumes and hands over to the next."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, write_episodes
from worldmodel.config import ConfigError, SamplerConfig, to_toml
from worldmodel.training.autoencoder import AutoencoderStage, AutoencoderTraining
from worldmodel.training.consistency import StudentTraining
from worldmodel.training.decoder import DecoderTraining, OwnPlay
from worldmodel.training.export import WorldExport
from worldmodel.training.loop import STATE, DivergedError, LoopConfig, UnfinishedError, train
from worldmodel.training.run import run_stage
from worldmodel.training.runs import load_autoencoder
from worldmodel.training.teacher_forcing import ClipTraining, TeacherTraining
from worldmodel.world import step
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.settings import Settings

LOOP = LoopConfig(
    steps=60,
    learning_rate=3e-3,
    warmup_steps=5,
    dtype="float32",
    log_every=5,
    save_every=20,
    sample_every=60,
    ema_decay=0.9,
)
SAMPLER = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)
CLIPS = ClipTraining(batch=8, frames=6, copies=2, noisy_history=0.3, own_history=0.3)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all stages once; the tests look at what they left."""
    root = tmp_path_factory.mktemp("recipe")
    data = write_episodes(root / "data")
    unseen = write_episodes(root / "unseen", count=4, first=100)
    configs = {
        "autoencoder": AutoencoderTraining(
            stage="autoencoder",
            data=data,
            heldout=unseen,
            model=AUTOENCODER,
            loop=replace(LOOP, steps=240),
            batch=16,
            frame_stride=2,
        ),
        "teacher": TeacherTraining(
            stage="teacher",
            data=data,
            heldout=unseen,
            autoencoder=root / "runs" / "autoencoder",
            actions=SPEC,
            model=MODEL,
            clips=CLIPS,
            loop=replace(LOOP, steps=120, muon_learning_rate=0.02),
        ),
        "student": StudentTraining(
            stage="student",
            data=data,
            heldout=unseen,
            autoencoder=root / "runs" / "autoencoder",
            teacher=root / "runs" / "teacher",
            actions=SPEC,
            model=MODEL,
            clips=CLIPS,
            loop=replace(LOOP, steps=20),
            levels=4,
        ),
        "decoder": DecoderTraining(
            stage="decoder",
            data=data,
            heldout=unseen,
            autoencoder=root / "runs" / "autoencoder",
            loop=replace(LOOP, steps=100, learning_rate=1e-3, sample_every=100),
            batch=16,
            critic_weight=0.01,  # on frames as small as these the critic soon wins
            own_play=OwnPlay(student=root / "runs" / "student", sampler=SAMPLER, clips=8, frames=4),
        ),
        "world": WorldExport(
            stage="world",
            name="tiny",
            title="A bar",
            licence="none",
            notice=root / "NOTICE",
            student=root / "runs" / "student",
            decoder=root / "runs" / "decoder",
            sampler=SAMPLER,
            frames_per_second=10.0,
            starts={f"{data}/000.safetensors@3": "the bar"},
            start_frames=6,
            game={},
            made_by="a test",
        ),
    }
    (root / "NOTICE").write_text("nothing to say")
    for name, config in configs.items():
        (root / f"{name}.toml").write_text(to_toml(config), encoding="utf-8")
        folder = root / "world" if name == "world" else root / "runs" / name
        run_stage(root / f"{name}.toml", folder, threads=1)
    return root


def metrics(folder: Path, key: str) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line[key] for line in lines if key in line]


def test_every_stage_learns(recipe: Path) -> None:
    for stage, factor in (("autoencoder", 0.7), ("teacher", 0.8)):
        losses = metrics(recipe / "runs" / stage, "loss")
        assert sum(losses[-3:]) < factor * sum(losses[:3]), stage
    for figure in ("l1", "detail", "critic"):  # both players of the decoder's stage
        values = metrics(recipe / "runs" / "decoder", figure)
        assert sum(values[-3:]) < 0.95 * sum(values[:3]), figure


def test_a_run_leaves_its_config_its_cost_and_pictures(recipe: Path) -> None:
    for stage in ("autoencoder", "decoder", "teacher", "student"):
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
    world = NativeWorld.load(recipe / "world", Settings(threads=1, dtype="float32"))
    first = world.reset(start=0, seed=0)
    assert first.shape == (8, 16, 3)
    assert first.std() > 10  # a bar on a ground, not a grey field
    from worldmodel.action import Action

    frames = [step(world, Action(frozenset({"KeyD"}))) for _ in range(10)]
    assert all(frame.shape == first.shape for frame in frames)


def test_a_resumed_run_ends_in_the_same_weights_as_an_unbroken_one(tmp_path: Path) -> None:
    data = write_episodes(tmp_path / "data", count=3)
    config = AutoencoderTraining(
        stage="autoencoder",
        data=data,
        heldout=data,
        model=AUTOENCODER,
        loop=replace(LOOP, steps=12, save_every=5, sample_every=100),
        batch=8,
    )
    whole = AutoencoderStage(config)
    train(whole, config.loop, tmp_path / "whole")

    broken = AutoencoderStage(config)
    killed = KillAfter(broken, 7)
    with pytest.raises(KeyboardInterrupt):
        train(killed, config.loop, tmp_path / "broken")
    resumed = AutoencoderStage(config)
    state = train(resumed, config.loop, tmp_path / "broken")
    assert state.step == 12
    for name, tensor in whole.student.state_dict().items():
        assert torch.equal(tensor, resumed.student.state_dict()[name]), name
    for name, tensor in whole.ema.state_dict().items():
        assert torch.equal(tensor, resumed.ema.state_dict()[name]), name


class KillAfter:
    """A stage that dies in the middle of a step, after the save at step 5."""

    def __init__(self, stage: AutoencoderStage, steps: int) -> None:
        self.stage, self.steps = stage, steps
        self.student, self.ema = stage.student, stage.ema

    def compile(self) -> None:
        self.stage.compile()

    def loss(
        self, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if step == self.steps:
            raise KeyboardInterrupt
        return self.stage.loss(step, generator)

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        return self.stage.sample(folder, step)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_state(tmp_path: Path) -> None:
    data = write_episodes(tmp_path / "data", count=2)
    config = AutoencoderTraining(
        stage="autoencoder",
        data=data,
        heldout=data,
        model=AUTOENCODER,
        loop=replace(LOOP, steps=20, save_every=5, sample_every=100),
        batch=8,
    )

    class Diverges(KillAfter):
        def loss(
            self, step: int, generator: torch.Generator
        ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            loss, figures = self.stage.loss(step, generator)
            return (loss * torch.nan if step == self.steps else loss), figures

    with pytest.raises(DivergedError, match="step 7: the gradient is not finite"):
        train(Diverges(AutoencoderStage(config), 7), config.loop, tmp_path / "run")
    again = AutoencoderStage(config)
    state = train(again, replace(config.loop, steps=5), tmp_path / "run")
    assert state.step == 5
    assert all(parameter.isfinite().all() for parameter in again.student.parameters())


def test_a_state_of_another_model_is_refused(recipe: Path, tmp_path: Path) -> None:
    text = (recipe / "autoencoder.toml").read_text().replace("blocks = 1", "blocks = 2")
    (tmp_path / "autoencoder.toml").write_text(text)
    run = tmp_path / "run"
    run.mkdir()
    for name in (STATE, "config.toml"):
        (run / name).write_bytes((recipe / "runs" / "autoencoder" / name).read_bytes())
    before = (run / "config.toml").read_bytes()
    with pytest.raises(ConfigError, match="another model than this config describes"):
        run_stage(tmp_path / "autoencoder.toml", run, threads=1)
    assert (run / "config.toml").read_bytes() == before


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
