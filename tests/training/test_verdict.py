"""A run that failed says so, stops what would follow, and shows a picture of it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, draw, write_episodes
from worldmodel.action import IDLE
from worldmodel.config import to_toml
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.storage.checkpoint import CheckpointError, load_tensors
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import save_episode
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.training.autoencoder import AutoencoderTraining
from worldmodel.training.probe import Marks, Probe
from worldmodel.training.run_stage import SUMMARY, read_stage, run_stage
from worldmodel.training.runs import load_autoencoder, load_transformer
from worldmodel.training.teacher_forcing import TeacherTraining
from worldmodel.training.train_loop import STATE
from worldmodel.training.verdict import FailedError, judge
from worldmodel.worlds.world_folder import read_world_file


def change_weights(run: Path, to: Path, value: float) -> Path:
    """A copy of a run whose averaged weights are all one value."""
    shutil.copytree(run, to)
    tensors, header = load_tensors(run / STATE)
    changed = {
        name: torch.full_like(t, value) if name.startswith("ema.decoder") else t
        for name, t in tensors.items()
    }
    save_tensors(to / STATE, changed, header)
    return to


def test_an_autoencoder_worse_than_a_copy_of_the_last_frame_ends_its_run(
    recipe: Path, tmp_path: Path
) -> None:
    config = read_stage(recipe / "autoencoder.toml")
    assert isinstance(config, AutoencoderTraining)
    path, run = tmp_path / "autoencoder.toml", tmp_path / "run"
    path.write_text(to_toml(replace(config, loop=replace(config.loop, steps=3))), encoding="utf-8")
    with pytest.raises(FailedError, match=r"dB, a copy of the frame before at .*000003\.png"):
        run_stage(path, run, threads=1)
    assert (run / "samples" / "000003.png").is_file()
    with pytest.raises(FailedError):  # the same command does not find it good the second time
        run_stage(path, run, threads=1)
    summary = run_stage(path, run, threads=1, rehearses=True)
    assert summary["verdict"].startswith("FAILED")
    assert summary["figures"]["limit"] < summary["figures"]["copy"]


def test_nothing_is_trained_on_such_an_autoencoder(recipe: Path, tmp_path: Path) -> None:
    blank = change_weights(recipe / "runs" / "autoencoder", tmp_path / "autoencoder", 0.0)
    config = read_stage(recipe / "teacher.toml")
    assert isinstance(config, TeacherTraining)
    path, run = tmp_path / "teacher.toml", tmp_path / "run"
    loop = replace(config.loop, steps=2)
    path.write_text(to_toml(replace(config, autoencoder=blank, loop=loop)), encoding="utf-8")
    with pytest.raises(FailedError, match="nothing is trained on it"):
        run_stage(path, run, threads=1)
    assert (run / "samples" / "autoencoder.png").is_file()
    assert not (run / STATE).exists()
    summary = run_stage(path, run, threads=1, rehearses=True)
    assert not any(name.startswith("gap") for name in summary["figures"])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("next_1" in row for row in rows)
    assert not any(name.startswith("gap") for row in rows for name in row), "there is no gap"


def test_every_run_ends_with_a_verdict_three_numbers_and_a_picture(recipe: Path) -> None:
    for stage in ("autoencoder", "teacher", "bidirectional", "student", "ode", "dmd", "decoder"):
        summary = json.loads((recipe / "runs" / stage / SUMMARY).read_text(encoding="utf-8"))
        assert summary["verdict"].startswith("good: "), stage
        assert len(summary["figures"]) == 3, stage
        assert Path(summary["picture"]).is_file(), stage
    costs = read_world_file(recipe / "world").training
    assert costs["autoencoder"].keys() >= {"steps", "minutes"}
    assert not any("picture" in cost for cost in costs.values() if isinstance(cost, dict))


@pytest.mark.parametrize(
    ("stage", "load"),
    [("autoencoder", load_autoencoder), ("teacher", lambda run: load_transformer(run, MODEL))],
)
def test_weights_that_are_no_numbers_feed_no_later_stage(
    stage: str, load: Callable[[Path], object], recipe: Path, tmp_path: Path
) -> None:
    run = recipe / "runs" / stage
    tensors, header = load_tensors(run / STATE)
    name = next(name for name, t in tensors.items() if name.startswith("ema.") and t.ndim > 1)
    tensors[name].view(-1)[0] = torch.nan
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    save_tensors(broken / STATE, tensors, header)
    with pytest.raises(CheckpointError, match="holds values that are not numbers"):
        load(broken)


def test_where_nothing_moves_nobody_can_tell_and_nothing_is_stopped(tmp_path: Path) -> None:
    still = np.stack([draw(3)] * 60)
    episode = Episode(
        frames=still, actions=[IDLE] * 60, frames_per_second=10.0, buttons=SPEC.buttons
    )
    save_episode(tmp_path / "still" / "000.safetensors", episode)
    torch.manual_seed(0)
    autoencoder = Autoencoder(AUTOENCODER).eval()
    marks = Probe(tmp_path / "still", autoencoder, SPEC, MODEL).marks
    assert not marks.is_known
    assert marks.gap_gained(30.0) is None

    class Shows:
        student = ema = shown = autoencoder
        unseen = tmp_path / "still"

    verdict = judge(Shows(), {"heldout_psnr": 20.0})  # type: ignore[arg-type]  # no more is asked
    assert not verdict.failed
    assert "cannot be told" in verdict.sentence


def test_a_model_no_better_than_a_copy_is_called_weak_and_one_of_no_numbers_failed(
    recipe: Path,
) -> None:
    unseen = write_episodes(recipe / "unseen_again", count=2, first=100)
    autoencoder = load_autoencoder(recipe / "runs" / "autoencoder")

    class Probed:
        student = ema = autoencoder
        probe = Probe(unseen, autoencoder, SPEC, MODEL)

    copy = Probed.probe.marks.copy
    for score, word in ((copy - 1, "weak"), (copy + 1, "good"), (None, "FAILED")):
        verdict = judge(Probed(), {"next_1": score})  # type: ignore[arg-type]
        assert verdict.sentence.startswith(word), verdict.sentence
    assert Marks(copy=30.0, limit=30.0).gap_gained(35.0) is None


def test_of_clips_that_nothing_stands_beside_only_life_is_judged() -> None:
    class Draws:
        student = ema = Autoencoder(AUTOENCODER)

    def word(**figures: float | None) -> str:
        return judge(Draws(), figures).sentence.split(":")[0]  # type: ignore[arg-type]

    assert word(loss=0.3, spread=0.9, motion=1.1) == "done"
    assert word(loss=0.3, spread=0.1, motion=1.1) == "weak"
    assert word(loss=0.3, spread=0.9, motion=None) == "FAILED"
    assert word(critic_loss=0.3) == "done", "what was not measured has not failed"
    with torch.no_grad():
        next(Draws.ema.parameters()).view(-1)[0] = torch.nan
    assert word(loss=0.3) == "FAILED"
