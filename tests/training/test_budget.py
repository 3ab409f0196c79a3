"""Minutes become a number of steps, once, and stay one."""

from pathlib import Path

import pytest
import torch

from tests.training.tiny_recipe import KillAfter, autoencoder_training
from worldmodel.config import ConfigError, to_toml
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.training import budget, train_loop
from worldmodel.training.autoencoder import AutoencoderStage, AutoencoderTraining
from worldmodel.training.budget import StepTime, steps_that_fit
from worldmodel.training.run_stage import run_stage
from worldmodel.training.runs import load_autoencoder
from worldmodel.training.stage import LoopConfig
from worldmodel.training.train_loop import STATE, UnfinishedError, train

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AutoencoderTraining:
    """A stage that has six seconds."""
    monkeypatch.setattr(budget, "LEAST_SECONDS", 0.5)
    torch.set_num_threads(1)
    times = {"save_every": 1000, "sample_every": 1000}
    return autoencoder_training(tmp_path, steps=0, minutes=0.1, **times)


def stage_of(config: AutoencoderTraining, kill: int) -> KillAfter:
    return KillAfter(AutoencoderStage(config, config.data.parent / "run" / "stage"), kill)


def test_the_time_that_is_left_is_divided_by_the_time_of_a_step() -> None:
    steps = steps_that_fit(minutes=10, spent=90, pace=0.5, ending=10, done=8)
    assert steps == 8 + int(0.97 * 500 / 0.5)


def test_too_few_steps_are_an_error_that_says_what_a_step_takes() -> None:
    with pytest.raises(ConfigError, match=r"30 s went by .* a step takes 5 s .* 9 steps would fit"):
        steps_that_fit(minutes=1, spent=30, pace=5, ending=0, done=4)
    with pytest.raises(ConfigError, match="fewer than 31 teach nothing"):
        steps_that_fit(minutes=1, spent=100, pace=0.1, ending=0, done=30)


def test_a_pace_leaves_out_the_first_steps_and_counts_whole_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter([100.0, 107.0, 112.0, 200.0])
    monkeypatch.setattr(budget, "clock", lambda _: next(seconds))
    pace = StepTime(CPU, period=3)
    answers = [pace.after_step() for _ in range(12)]
    assert answers[:8] == [None] * 8  # 3 that warm up; 4 must be timed, and 6 are two turns
    assert answers[8] == 7.0 / 6
    assert answers[9:11] == [None, None]


def test_a_config_has_steps_or_minutes() -> None:
    for steps, minutes in ((0, 0.0), (5, 1.0), (0, -1.0)):
        with pytest.raises(ConfigError, match="expected one of the two"):
            LoopConfig(learning_rate=1e-3, steps=steps, minutes=minutes)


def test_the_rates_fall_to_zero_at_the_step_that_was_found() -> None:
    given = LoopConfig(minutes=3.0, learning_rate=1e-3, warmup_steps=10, decay_fraction=0.5)
    assert given.rate(500) == 1.0
    found = given.of_steps(200)
    assert (found.rate(4), found.rate(100), found.rate(150), found.rate(200)) == (0.5, 1.0, 0.5, 0)


def test_a_run_of_minutes_ends_in_time_and_says_how_many_steps_it_had(
    config: AutoencoderTraining,
) -> None:
    folder = config.data.parent / "run" / "stage"
    state = train(stage_of(config, 10**6), config.loop, folder)
    assert state.step == state.steps > 20
    assert 1 < state.seconds < 9  # of six; other programs come and go
    assert load_tensors(folder / STATE)[1]["steps"] == state.steps


def test_a_killed_run_of_minutes_goes_on_to_the_same_step_and_the_same_weights(
    config: AutoencoderTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what it measures is fixed here; that a resumed run measures nothing is what is shown."""
    monkeypatch.setattr(budget, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(train_loop, "steps_that_fit", lambda *_: 30)
    folder = config.data.parent / "run"
    train(stage_of(config, 99), config.loop, folder / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(stage_of(config, 17), config.loop, folder / "broken")

    def asked_again(*_: float) -> int:
        raise AssertionError("the number of steps was fixed already")

    monkeypatch.setattr(train_loop, "steps_that_fit", asked_again)
    assert train(stage_of(config, 99), config.loop, folder / "broken").step == 30
    whole, broken = (load_tensors(folder / run / STATE)[0] for run in ("whole", "broken"))
    for key, tensor in whole.items():
        assert torch.equal(tensor, broken[key]), key


def test_a_run_that_was_killed_before_its_steps_were_known_feeds_nobody(
    config: AutoencoderTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = config.data.parent / "run" / "autoencoder"
    path = config.data.parent / "autoencoder.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    summary = run_stage(path, folder, threads=1)
    assert summary["steps"] > 20
    load_autoencoder(folder)
    tensors, header = load_tensors(folder / STATE)
    from worldmodel.storage.save_tensors import save_tensors

    save_tensors(folder / STATE, tensors, {**header, "steps": 0, "step": 3})
    with pytest.raises(UnfinishedError, match="step 3 of a number not known yet"):
        load_autoencoder(folder)
    monkeypatch.setattr(train_loop.Run, "is_over", True)  # as if it was asked to stop at once
    with pytest.raises(UnfinishedError, match="the same command goes on"):
        run_stage(path, folder, threads=1)
