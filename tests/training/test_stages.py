"""The whole recipe on tiny episodes: each stage learns, resumes and hands over to the next."""

import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, write_episodes
from worldmodel.checkpoint import load_tensors
from worldmodel.config import ConfigError, SamplerConfig, to_toml
from worldmodel.files import FileWriteError
from worldmodel.training.autoencoder import AutoencoderStage, AutoencoderTraining
from worldmodel.training.bidirectional import BidirectionalTraining, WholeClips
from worldmodel.training.consistency import StudentTraining
from worldmodel.training.decoder import DecoderTraining, OwnPlay
from worldmodel.training.dmd import DmdStage, DmdTraining, OwnRollouts
from worldmodel.training.export import WorldExport
from worldmodel.training.loop import (
    STATE,
    CriticisedStage,
    DivergedError,
    LoopConfig,
    Stage,
    UnfinishedError,
    train,
)
from worldmodel.training.ode import OdeTraining
from worldmodel.training.run import Training, make_stage, read_stage, run_stage
from worldmodel.training.runs import lineage, load_autoencoder, load_transformer
from worldmodel.training.state import TrainState
from worldmodel.training.teacher_forcing import ClipTraining, TeacherTraining
from worldmodel.training.trajectories import OdeTrajectories
from worldmodel.world import step
from worldmodel.worlds.folder import TEACHER, read_world_file
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


STAGES = ("autoencoder", "decoder", "bidirectional", "teacher", "student", "ode", "dmd")


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
        "bidirectional": BidirectionalTraining(
            stage="bidirectional",
            data=data,
            heldout=unseen,
            autoencoder=root / "runs" / "autoencoder",
            actions=SPEC,
            model=MODEL,
            clips=WholeClips(batch=8, frames=6, known=2),
            loop=replace(LOOP, steps=120, muon_learning_rate=0.02),
            start=root / "runs" / "teacher",
        ),
        "ode_trajectories": OdeTrajectories(
            stage="ode_trajectories",
            data=data,
            autoencoder=root / "runs" / "autoencoder",
            teacher=root / "runs" / "teacher",
            actions=SPEC,
            model=MODEL,
            clips=20,
            frames=6,
            sigmas=(1.0, 0.5),
            steps=4,
            shard=8,
            batch=5,
        ),
        "ode": OdeTraining(
            stage="ode",
            heldout=unseen,
            autoencoder=root / "runs" / "autoencoder",
            teacher=root / "runs" / "teacher",
            trajectories=root / "runs" / "ode_trajectories",
            actions=SPEC,
            model=MODEL,
            batch=8,
            loop=replace(LOOP, steps=60),
        ),
        "dmd": DmdTraining(
            stage="dmd",
            data=data,
            heldout=unseen,
            autoencoder=root / "runs" / "autoencoder",
            student=root / "runs" / "student",
            real=root / "runs" / "bidirectional",
            actions=SPEC,
            model=MODEL,
            rollouts=OwnRollouts(batch=4, frames=8, sampler=SAMPLER, idle=0.25, nearness=2.0),
            truth=0.5,
            loop=replace(LOOP, steps=24, learning_rate=1e-3, betas=(0.0, 0.999)),
            critic_learning_rate=1e-3,
            critic_updates=2,
        ),
        "decoder": DecoderTraining(
            stage="decoder",
            data=data,
            heldout=unseen,
            autoencoder=root / "runs" / "autoencoder",
            loop=replace(LOOP, steps=100, learning_rate=1e-3, sample_every=100),
            batch=16,
            critic_weight=0.01,  # on frames as small as these the critic soon wins
            own_play=OwnPlay(student=root / "runs" / "ode", sampler=SAMPLER, clips=8, frames=4),
        ),
        "world": WorldExport(
            stage="world",
            name="tiny",
            title="A bar",
            licence="none",
            notice=root / "NOTICE",
            student=root / "runs" / "dmd",
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
    factors = {"autoencoder": 0.8, "teacher": 0.9, "bidirectional": 0.95, "ode": 0.9}
    for stage, factor in factors.items():
        losses = metrics(recipe / "runs" / stage, "loss")
        quarter = len(losses) // 4
        assert sum(losses[-quarter:]) < factor * sum(losses[:quarter]), stage
    for figure in ("l1", "detail", "critic"):  # both players of the decoder's stage
        values = metrics(recipe / "runs" / "decoder", figure)
        assert sum(values[-3:]) < 0.95 * sum(values[:3]), figure


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
    world = NativeWorld.load(recipe / "world", Settings(threads=1, dtype="float32"))
    first = world.reset(start=0, seed=0)
    assert first.shape == (8, 16, 3)
    assert first.std() > 10  # a bar on a ground, not a grey field
    from worldmodel.action import Action

    frames = [step(world, Action(frozenset({"KeyD"}))) for _ in range(10)]
    assert all(frame.shape == first.shape for frame in frames)


@pytest.mark.parametrize("name", STAGES)
def test_a_resumed_run_ends_in_the_same_weights_as_an_unbroken_one(
    name: str, recipe: Path, tmp_path: Path
) -> None:
    """Killed in the middle of a step, after the save at step 5; every stage, both players."""
    config = read_stage(recipe / f"{name}.toml")
    assert isinstance(config, Training)
    loop = replace(config.loop, steps=12, save_every=5, sample_every=100)
    config = replace(config, loop=loop)

    def fresh() -> Stage:
        return make_stage(config, tmp_path / "run")

    KillAfter(fresh(), 99).train(loop, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        KillAfter(fresh(), 7).train(loop, tmp_path / "broken")
    resumed = KillAfter(fresh(), 99)
    assert resumed.train(loop, tmp_path / "broken").step == 12
    saved = [load_tensors(tmp_path / run / STATE)[0] for run in ("whole", "broken")]
    assert saved[0].keys() == saved[1].keys()
    for key, tensor in saved[0].items():
        assert torch.equal(tensor, saved[1][key]), key
    kinds = {key.partition(".")[0] for key in saved[0]}
    assert kinds == {"student", "ema", "optimizer"} | (
        {"critic", "critic_optimizer"} if name == "dmd" else set()
    )
    raw, average = ({k: v for k, v in saved[0].items() if k.startswith(p)} for p in ("stu", "ema"))
    assert any(not torch.equal(v, average[f"ema{k[7:]}"]) for k, v in raw.items())


class KillAfter:
    """A stage that dies in the middle of a step."""

    def __init__(self, stage: Stage, steps: int) -> None:
        self.stage, self.steps = stage, steps
        self.student, self.ema = stage.student, stage.ema
        if isinstance(stage, CriticisedStage):
            self.critic = stage.critic

    def train(self, loop: LoopConfig, folder: Path) -> TrainState:
        return train(self, loop, folder)

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
        train(
            Diverges(AutoencoderStage(config, tmp_path / "run"), 7), config.loop, tmp_path / "run"
        )
    again = AutoencoderStage(config, tmp_path / "run")
    state = train(again, replace(config.loop, steps=5), tmp_path / "run")
    assert state.step == 5
    assert all(parameter.isfinite().all() for parameter in again.student.parameters())


def test_a_full_disk_stops_the_run_and_names_the_last_good_state(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_stage(recipe / "teacher.toml")
    assert isinstance(config, TeacherTraining)
    loop = replace(config.loop, steps=12, save_every=5, sample_every=100)
    stage, real = make_stage(config, tmp_path / "run"), os.fsync

    def full(descriptor: int) -> None:
        if (tmp_path / "run" / STATE).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileWriteError, match=r"No space left .* last good state is that of step 5"):
        train(stage, loop, tmp_path / "run")
    assert load_tensors(tmp_path / "run" / STATE)[1]["step"] == 5


@pytest.mark.parametrize("failures", [1, 2])
def test_a_compiler_that_fails_is_asked_once_more(
    failures: int,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = failures

    def compile_badly(function: Callable[..., object]) -> Callable[..., object]:
        """What torch does where a file of its cache vanishes under it; else no compiling at all."""

        def compiled(*args: object) -> object:
            nonlocal left
            if left:
                left -= 1
                raise BackendCompilerFailed("inductor", OSError("no such file\nand more"), None)
            return function(*args)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_badly)
    text = (recipe / "teacher.toml").read_text(encoding="utf-8")
    path = tmp_path / "teacher.toml"
    assert text.count("\ncompile = false\n") == 1
    text = text.replace("\ncompile = false\n", "\ncompile = true\n")
    path.write_text(text, encoding="utf-8")
    if failures == 1:
        assert run_stage(path, tmp_path / "run")["steps"] > 0
        told = capsys.readouterr().err
        assert "torch failed to compile (OSError: no such file); once more" in told
    else:
        with pytest.raises(ConfigError, match=r"OSError: no such file\); set compile = false"):
            run_stage(path, tmp_path / "run")


def test_sigterm_saves_before_it_stops(recipe: Path, tmp_path: Path) -> None:
    config = read_stage(recipe / "dmd.toml")
    assert isinstance(config, DmdTraining)
    stage = make_stage(config, tmp_path / "run")

    class Asked(KillAfter):
        def loss(
            self, step: int, generator: torch.Generator
        ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            if step == self.steps:
                # What the signal would call; `test_processes` sends real ones to real runs.
                handler = signal.getsignal(signal.SIGTERM)
                assert callable(handler)
                handler(signal.SIGTERM, None)
            return self.stage.loss(step, generator)

    Asked(stage, 3).train(replace(config.loop, save_every=1000), tmp_path / "run")
    assert load_tensors(tmp_path / "run" / STATE)[1]["step"] == 4


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


def test_a_log_says_how_long_it_will_take_and_how_fast_data_comes(recipe: Path) -> None:
    for stage in STAGES:
        assert metrics(recipe / "runs" / stage, "minutes_left")[-1] == 0, stage
        assert metrics(recipe / "runs" / stage, "loader_frames_per_second")[-1] > 0, stage


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
