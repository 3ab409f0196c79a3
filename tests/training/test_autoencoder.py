"""What counts in the autoencoder's loss."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.tiny_data import AUTOENCODER, write_episodes
from worldmodel.config import ConfigError
from worldmodel.training.autoencoder import AutoencoderStage, AutoencoderTraining
from worldmodel.training.stage import LoopConfig
from worldmodel.training.torch_streams import torch_stream


def training(home: Path) -> AutoencoderTraining:
    return AutoencoderTraining(
        stage="autoencoder",
        data=home,
        heldout=home,
        model=AUTOENCODER,
        loop=LoopConfig(steps=1, learning_rate=1e-3),
        batch=8,
        frame_stride=1,
    )


def test_rows_of_a_status_bar_count_as_often_as_they_are_said_to(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()
    write_episodes(data, count=2, length=30)

    def loss(rows: int, weight: float) -> float:
        config = replace(training(data), status_rows=rows, status_weight=weight)
        stage = AutoencoderStage(config, tmp_path / "run")
        return float(stage.loss(0, torch_stream("cpu", 0, "test"))[1]["l1"].detach())

    plain, half = loss(0, 1.0), loss(4, 3.0)
    assert loss(8, 3.0) == pytest.approx(3 * plain)
    assert plain < half < 3 * plain
    assert loss(4, 1.0) == plain


@pytest.mark.parametrize("wrong", [{"status_rows": 9}, {"status_rows": -1}, {"status_weight": 0.0}])
def test_rows_that_the_picture_does_not_have_are_refused(
    tmp_path: Path, wrong: dict[str, float]
) -> None:
    with pytest.raises(ConfigError, match="status_rows"):
        replace(training(tmp_path), **wrong)  # type: ignore[arg-type]
