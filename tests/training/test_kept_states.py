"""A run keeps two states: what breaks one costs the minutes since the other, not the run."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.tiny_data import AUTOENCODER
from tests.training.tiny_recipe import autoencoder_training
from worldmodel.config import ConfigError
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.training.autoencoder import AutoencoderStage, AutoencoderTraining
from worldmodel.training.kept_states import BrokenStateError, before, keep_before
from worldmodel.training.train_loop import STATE, resume, train

Header = dict[str, Any]
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[AutoencoderTraining, bytes, bytes]:
    """A config, and the states of steps 6 and 3 that its run left."""
    root = tmp_path_factory.mktemp("keeping")
    config = autoencoder_training(root, steps=6, save_every=3, sample_every=100)
    train(AutoencoderStage(config, root / "run"), config.loop, root / "run")
    path = root / "run" / STATE
    return config, path.read_bytes(), before(path).read_bytes()


@pytest.fixture
def run(trained: tuple[AutoencoderTraining, bytes, bytes], tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / STATE
    path.write_bytes(trained[1])
    before(path).write_bytes(trained[2])
    return path


def resumed(trained: tuple[AutoencoderTraining, bytes, bytes], path: Path) -> int:
    config = trained[0]
    stage = AutoencoderStage(config, path.parent)
    state = resume(stage, config.loop, path.parent)
    assert all(bool(p.isfinite().all()) for p in stage.student.parameters())
    return state.step


def test_the_last_two_are_there_and_the_newest_counts(
    trained: tuple[AutoencoderTraining, bytes, bytes], run: Path
) -> None:
    steps = [load_tensors(path)[1]["step"] for path in (run, before(run))]
    assert steps == [6, 3], "the end writes step 6 twice, and pushes out none for it"
    assert resumed(trained, run) == 6


def rename(tensors: Tensors, old: str, new: str) -> None:
    for name in [name for name in tensors if name.startswith(old)]:
        tensor = tensors.pop(name)
        if new:
            tensors[new + name.removeprefix(old)] = tensor


def spoil(tensors: Tensors, prefix: str) -> None:
    name = next(n for n, t in tensors.items() if n.startswith(prefix) and t.ndim > 1)
    tensors[name].view(-1)[0] = torch.nan


BROKEN: dict[str, Callable[[Tensors, Header], object]] = {
    "a negative step": lambda _, header: header.update(step=-5),
    "a step that no run comes to": lambda _, header: header.update(step=10**12),
    "a step that is a word": lambda _, header: header.update(step="x"),
    "half a step": lambda _, header: header.update(step=2.5),
    "no step": lambda _, header: header.pop("step"),
    "a time that is none": lambda _, header: header.update(seconds=float("nan")),
    "steps that are a word": lambda _, header: header.update(steps="many"),
    "no optimizer": lambda tensors, _: rename(tensors, "optimizer.", ""),
    "an optimizer of no weight": lambda tensors, _: rename(
        tensors, "optimizer.0.", "optimizer.0.9"
    ),
    "half an optimizer": lambda tensors, _: tensors.pop(
        next(name for name in tensors if name.endswith(".exp_avg"))
    ),
    "an optimizer without second moments": lambda tensors, _: [
        tensors.pop(name) for name in list(tensors) if name.endswith(".exp_avg_sq")
    ],
    "second moments below 0": lambda tensors, _: [
        tensors[name].fill_(-1) for name in tensors if name.endswith(".exp_avg_sq")
    ],
    "moments of another shape": lambda tensors, _: tensors.update(
        {name: tensors[name].sum() for name in tensors if name.endswith(".exp_avg")}
    ),
    "no average": lambda tensors, _: rename(tensors, "ema.", ""),
    "no weights": lambda tensors, _: rename(tensors, "student.", ""),
    "whole numbers for weights": lambda tensors, _: tensors.update(
        {name: tensors[name].int() for name in tensors if name.startswith("student.")}
    ),
    "an average of no numbers": lambda tensors, _: spoil(tensors, "ema."),
    "weights of no numbers": lambda tensors, _: spoil(tensors, "student."),
    "an optimizer of no numbers": lambda tensors, _: spoil(tensors, "optimizer."),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_state_that_no_training_leaves_is_told_and_the_one_before_goes_on(
    what: str,
    trained: tuple[AutoencoderTraining, bytes, bytes],
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tensors, header = load_tensors(run)
    BROKEN[what](tensors, header)
    save_tensors(run, tensors, header)
    assert resumed(trained, run) == 3
    assert "going on from step 3" in capsys.readouterr().err
    before(run).unlink()
    with pytest.raises(BrokenStateError, match="no other state is whole: remove"):
        resumed(trained, run)


@pytest.mark.parametrize("left", [0, 100, 5000])
def test_a_state_that_was_cut_off_is_none(
    left: int, trained: tuple[AutoencoderTraining, bytes, bytes], run: Path
) -> None:
    os.truncate(run, left)
    assert resumed(trained, run) == 3
    run.unlink()
    assert resumed(trained, run) == 3


def test_a_state_that_is_a_link_to_a_disk_that_is_away_is_not_begun_anew(
    trained: tuple[AutoencoderTraining, bytes, bytes], run: Path, tmp_path: Path
) -> None:
    run.unlink()
    run.symlink_to(tmp_path / "away" / STATE)
    assert resumed(trained, run) == 3
    before(run).unlink()
    with pytest.raises(BrokenStateError, match=f"{STATE}.*no other state is whole"):
        resumed(trained, run)
    assert run.is_symlink()


def test_a_state_of_another_model_is_not_taken_for_a_broken_one(
    trained: tuple[AutoencoderTraining, bytes, bytes], run: Path
) -> None:
    config = replace(trained[0], model=replace(AUTOENCODER, blocks=2))
    with pytest.raises(ConfigError, match="another model"):
        resume(AutoencoderStage(config, run.parent), config.loop, run.parent)


def test_half_a_line_of_the_log_breaks_no_later_start(
    trained: tuple[AutoencoderTraining, bytes, bytes], run: Path
) -> None:
    """What a disk that fills up leaves: half a line, in the middle of a letter."""
    config = trained[0]
    log = run.parent / "metrics.jsonl"
    log.write_bytes(b'{"step": 3, "loss": 1.5}\n{"step": 6, "lo\xc3')
    loop = replace(config.loop, steps=9)
    assert train(AutoencoderStage(config, run.parent), loop, run.parent).step == 9
    lines = log.read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"step": 3, "loss": 1.5}'
    assert all(line.endswith("}") for line in lines)


def test_where_no_links_are_the_old_state_is_renamed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    path = tmp_path / STATE
    keep_before(path)
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "link", refuse)
    keep_before(path)
    assert before(path).read_bytes() == b"old"
