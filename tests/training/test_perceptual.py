"""The distance of features: of random weights, held against what its authors' code answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.tiny_data import AUTOENCODER, draw, save, write_episodes
from worldmodel.action import IDLE
from worldmodel.config import ConfigError, to_table, to_toml
from worldmodel.model.configs import AutoencoderConfig
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.training.metrics_log import last_figures
from worldmodel.training.perceptual import BLURS, CONVOLUTIONS, PerceptualDistance
from worldmodel.training.run_stage import run_stage

# Of `random_weights` and `random_pictures`, by ST-LPIPS's own program.
SIZE = 40, 52  # rows and columns
THEIRS = [0.6715832352638245, 0.2776677906513214, 0.0]


def random_weights() -> dict[str, Tensor]:
    """A file's tensors, in the authors' names and shapes."""
    generator = torch.Generator().manual_seed(0)
    found = {
        "scaling_layer.shift": torch.tensor([-0.03, -0.088, -0.188])[None, :, None, None],
        "scaling_layer.scale": torch.tensor([0.458, 0.448, 0.45])[None, :, None, None],
    }
    for layer, (name, incoming, outgoing, size, _) in enumerate(CONVOLUTIONS):
        shape = (outgoing, incoming, size, size)
        scale = (2 / (incoming * size**2)) ** 0.5
        found[f"net.{name}.weight"] = scale * torch.randn(shape, generator=generator)
        found[f"net.{name}.bias"] = 0.1 * torch.randn(outgoing, generator=generator)
        found[f"lin{layer}.model.1.weight"] = torch.rand(1, outgoing, 1, 1, generator=generator)
    line = torch.tensor([0.25, 0.5, 0.25])
    for name, channels in BLURS.items():
        found[f"net.{name}.filt"] = torch.outer(line, line).repeat(channels, 1, 1, 1)
    return found


def random_pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    one, other = torch.rand(2, 3, 3, *SIZE, generator=generator) * 2 - 1
    other[1] = one[1].roll(1, -1)
    other[2] = one[2]
    return one, other


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "alex_shift_tolerant.pth"
    torch.save(random_weights(), path)
    return path


def test_it_is_the_distance_that_its_authors_program_gives(weights: Path) -> None:
    found = PerceptualDistance.load(weights, SIZE)(*random_pictures())
    torch.testing.assert_close(found, torch.tensor(THEIRS), atol=1e-5, rtol=1e-4)


def test_a_picture_is_trained_towards_another_by_it(weights: Path) -> None:
    distance = PerceptualDistance.load(weights, SIZE)
    one, other = (x[:1] for x in random_pictures())
    moved = one.clone().requires_grad_(True)
    far = distance(moved, other).sum()
    (gradient,) = torch.autograd.grad(far, moved)
    assert distance(one - 0.5 * gradient / gradient.abs().max(), other) < far


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("net.slice3.9.weight", None, r"expected slice3\.9\.weight of shape .*, found nothing"),
        ("lin4.model.1.weight", (1, 512, 1, 1), r"found \(1, 512, 1, 1\); give the file alex_"),
        ("net.slice1.1.filt", (64, 1, 3, 3), r"slice1\.1\.filt is not the blur of three pixels"),
    ],
)
def test_another_file_is_refused_by_what_it_lacks(
    tmp_path: Path, name: str, shape: tuple[int, ...] | None, told: str
) -> None:
    found = random_weights()
    del found[name]
    if shape:
        found[name] = torch.zeros(shape)
    torch.save(found, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=told):
        PerceptualDistance.load(tmp_path / "other.pth", SIZE)


def train(home: Path, name: str, steps: int, table: dict[str, Any]) -> dict[str, float | None]:
    """Run a stage to its end; what it measured last."""
    where = {"data": str(home / "data"), "heldout": str(home / "heldout"), "batch": 8}
    loop = {"steps": steps, "learning_rate": 3e-3, "warmup_steps": 5, "ema_decay": 0.9}
    path = home / f"{name}.toml"
    path.write_text(to_toml({**where, "frame_stride": 1, **table, "loop": loop}), encoding="utf-8")
    run_stage(path, home / "runs" / name, threads=1, rehearses=True)
    return last_figures(home / "runs" / name)


def make_autoencoder(home: Path, shape: AutoencoderConfig) -> dict[str, str]:
    train(home, "autoencoder", 20, {"stage": "autoencoder", "model": to_table(shape)})
    return {"stage": "decoder", "autoencoder": str(home / "runs" / "autoencoder")}


def test_a_decoder_that_is_trained_with_it_looks_nearer(tmp_path: Path, weights: Path) -> None:
    for folder, number in (("data", 0), ("heldout", 9)):
        (tmp_path / folder).mkdir()
        frames = [np.tile(draw(3 * number + f), (4, 2, 1)) for f in range(40)]
        save(tmp_path / folder, number, frames, [IDLE] * len(frames))
    decoder = make_autoencoder(tmp_path, replace(AUTOENCODER, frame_height=32, frame_width=32))
    found = []
    for name, weight in (("without", 0.0), ("with", 3.0)):
        measure = {"weights": str(weights), "weight": weight}
        figures = train(tmp_path, name, 30, {**decoder, "perceptual": measure})
        found.append(figures["heldout_perceptual"] or 0.0)
    assert 0 < found[1] < 0.8 * found[0], found


def test_frames_too_small_for_it_are_refused(tmp_path: Path, weights: Path) -> None:
    for folder, first in (("data", 0), ("heldout", 9)):
        (tmp_path / folder).mkdir()
        write_episodes(tmp_path / folder, 1, first=first)
    decoder = make_autoencoder(tmp_path, AUTOENCODER)
    with pytest.raises(ConfigError, match=r"frames are 16 x 8, expected at least 32 x 32"):
        train(tmp_path, "decoder", 2, {**decoder, "perceptual": {"weights": str(weights)}})
