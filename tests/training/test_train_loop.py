"""A run that is killed, diverges or finds the disk full, in every stage."""

import errno
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.tiny_recipe import STAGES, KillAfter, autoencoder_training, metrics
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.files import FileWriteError
from worldmodel.training.autoencoder import AutoencoderStage
from worldmodel.training.dmd import DmdTraining
from worldmodel.training.metrics_log import MetricsLog
from worldmodel.training.run_stage import Training, make_stage, read_stage
from worldmodel.training.stage import Stage
from worldmodel.training.teacher_forcing import TeacherTraining
from worldmodel.training.train_loop import STATE, DivergedError, train


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


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_state(tmp_path: Path) -> None:
    config = autoencoder_training(tmp_path, steps=20, save_every=5, sample_every=100)

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


def test_a_log_that_cannot_be_written_names_the_last_good_state_too(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_stage(recipe / "teacher.toml")
    assert isinstance(config, TeacherTraining)
    loop = replace(config.loop, steps=12, save_every=5, log_every=1, sample_every=100)
    real = MetricsLog.write

    def write(log: MetricsLog, step: int, figures: dict[str, float]) -> None:
        if step == 7:
            raise FileWriteError("metrics.jsonl: cannot be written: No space left on device")
        real(log, step, figures)

    monkeypatch.setattr(MetricsLog, "write", write)
    with pytest.raises(FileWriteError, match=r"metrics.* last good state is that of step 5"):
        train(make_stage(config, tmp_path / "run"), loop, tmp_path / "run")


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


def test_a_log_says_how_long_it_will_take_and_how_fast_data_comes(recipe: Path) -> None:
    for stage in STAGES:
        assert metrics(recipe / "runs" / stage, "minutes_left")[-1] == 0, stage
        assert metrics(recipe / "runs" / stage, "loader_frames_per_second")[-1] > 0, stage
