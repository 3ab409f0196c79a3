"""What was measured, as it is kept: JSON files beside the page, one for each row.

Of everything that is a mean over clips the clips' own values are kept, so that two rows can be
compared clip by clip: they saw the same starts, actions and noise.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from worldmodel.config import ConfigError, UserError, build_config
from worldmodel.model.configs import SamplerConfig
from worldmodel.storage.files import read_text, write_atomically

RESAMPLES = 200
NORMAL_95 = 1.96  # standard errors to either side of a 95 % interval
LARGEST = 16 << 20  # bytes of a file of figures

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and half the width of its 95 % interval over clips."""

    value: float
    error: float

    @property
    def low(self) -> float:
        """Where the interval begins."""
        return self.value - self.error

    @property
    def high(self) -> float:
        """Where it ends."""
        return self.value + self.error


def mean_of(values: Sequence[float]) -> Estimate:
    """Mean over clips; 1.96 standard errors."""
    x = torch.tensor(values, dtype=torch.float64)
    spread = float(x.std()) if len(x) > 1 else 0.0
    return Estimate(float(x.mean()), NORMAL_95 * spread / len(x) ** 0.5)


def difference(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Mean of one minus the other, clip by clip."""
    if len(one) != len(other):
        raise UserError(f"{len(one)} and {len(other)} clips cannot be compared clip by clip")
    return mean_of([a - b for a, b in zip(one, other, strict=True)])


def resampled(clips: int, statistic: Callable[[Tensor], float]) -> Estimate:
    """Any statistic of clips, given their numbers; 1.96 bootstrap standard errors over clips."""
    generator = torch.Generator().manual_seed(0)
    draws = [
        statistic(torch.randint(clips, (clips,), generator=generator)) for _ in range(RESAMPLES)
    ]
    spread = torch.tensor(draws, dtype=torch.float64).nan_to_num(nan=0.0)
    return Estimate(statistic(torch.arange(clips)), NORMAL_95 * float(spread.std()))


def ratio_of(made: Sequence[float], real: Sequence[float]) -> Estimate:
    """The mean of one over the mean of the other."""
    a, b = torch.tensor(made), torch.tensor(real)
    return resampled(len(a), lambda clips: float(a[clips].mean() / b[clips].mean()))


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowFigures:
    """Long play over some frames, all streams: the world's, and the game's doing the same."""

    brightness: tuple[float, float]  # generated, real
    detail: tuple[float, float]
    frechet: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftFigures:
    """Long play of one kind."""

    frames: int
    windows: tuple[WindowFigures, ...]
    inside: float  # share of generated frames within the range of single real frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """A row's. Per clip where there is a tuple of floats, in the order of the clips."""

    yardstick: str  # stamp of what it was measured with
    stamp: str  # changes with that, the weights and the sampler
    weights: str
    trained_steps: int
    steps: int  # of denoising
    chunk_frames: int
    sampler: SamplerConfig
    next_psnr: tuple[float, ...]  # dB, frames drawn given true history
    next_ssim: tuple[float, ...]
    psnr: dict[str, tuple[float, ...]]  # dB, free rollout at that frame
    ssim: dict[str, tuple[float, ...]]
    curve: tuple[float, ...]  # mean PSNR at every frame of the rollout
    flow: tuple[float, ...]  # pixels a frame
    sharpness: tuple[float, ...]  # at the rollout's last frame
    turn_correlation: Estimate
    button_accuracy: Estimate
    frechet: Estimate
    drift: dict[str, DriftFigures]
    minutes: float  # that measuring it took


@dataclass(frozen=True, kw_only=True, slots=True)
class RealFigures:
    """The marks that rows stand between; per clip as there."""

    stamp: str
    clips: int
    inverse_dynamics: str  # what it was trained on, in words
    copy_psnr: tuple[float, ...]  # of the last true frame, shown again
    limit_psnr: tuple[float, ...]  # of the autoencoder's picture of the true frame
    flow: tuple[float, ...]
    sharpness: tuple[float, ...]
    turn_correlation: Estimate
    button_accuracy: Estimate
    frechet: Estimate  # real play against other real play


def save_figures(path: Path, figures: object) -> None:
    """Write a dataclass of figures, rounded to what they are worth."""
    table = _rounded(asdict(figures))  # type: ignore[call-overload]  # always a dataclass
    write_atomically(path, (json.dumps(table, allow_nan=False) + "\n").encode())


def load_figures(kind: type[T], path: Path) -> T | None:
    """What was kept, or nothing."""
    if not path.is_file():
        return None
    try:
        table = json.loads(read_text(path, LARGEST))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON ({error}); delete it to measure again") from error
    return build_config(kind, table, str(path))


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        # A sampler is no measurement: its levels say whether two rows are the same.
        return {key: one if key == "sampler" else _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value
