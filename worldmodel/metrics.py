"""Distances between frames, pure functions. Frames are uint8 f h w 3 tensors."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MOTION = 2.0  # mean absolute change of the picture, in levels of 255, that counts as motion
SSIM_WINDOW = 11  # pixels


def in_motion(frames: Tensor, before: Tensor) -> Tensor:
    """Which frames have visibly changed since the ones before: ... h w 3 twice -> bool ..."""
    return (frames.float() - before.float()).abs().mean(dim=(-3, -2, -1)) > MOTION


def psnr(frames: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every frame, in dB: f h w 3 twice -> f."""
    error = (frames.float() - reference.float()).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255.0**2 / error.clamp(min=1e-2))


def ssim(frames: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of every frame's brightness (Wang 2004): f h w 3 twice -> f.

    Gaussian window of 11 pixels, σ 1.5, constants 0.01 and 0.03 of the range. Frames that are
    smaller than the window have no number.
    """
    if min(frames.shape[1:3]) < SSIM_WINDOW:
        return torch.full((len(frames),), float("nan"))
    x, y = (brightness(one)[:, None] for one in (frames, reference))
    position = torch.arange(float(SSIM_WINDOW)) - SSIM_WINDOW // 2
    line = torch.exp(-(position**2) / (2 * 1.5**2))
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window)

    mx, my = mean(x), mean(y)
    vx, vy = mean(x * x) - mx**2, mean(y * y) - my**2
    cov = mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return value.mean(dim=(1, 2, 3))


def brightness(frames: Tensor) -> Tensor:
    """Luma (BT.601), 0 to 255: f h w 3 -> f h w."""
    return frames.float() @ torch.tensor([0.299, 0.587, 0.114], device=frames.device)


def sharpness(frames: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels' brightness: f h w 3 -> f."""
    luma = brightness(frames)
    return (luma.diff(dim=1).abs().mean(dim=(1, 2)) + luma.diff(dim=2).abs().mean(dim=(1, 2))) / 2


class Gaussian(NamedTuple):
    """Features as a Gaussian: all that the Fréchet distance knows of them."""

    mean: Tensor  # d, float64
    covariance: Tensor  # d d, float64

    @classmethod
    def of(cls, features: Tensor) -> "Gaussian":
        """Mean and covariance of features f d."""
        values = features.double()
        return cls(values.mean(dim=0), torch.cov(values.T))


def frechet_distance(features: Tensor, reference: Gaussian) -> float:
    """Fréchet distance of features f d, taken as a Gaussian, from another Gaussian.

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)   (Heusel 2017, Eq. 6)
    """
    mean, covariance = Gaussian.of(features)
    # tr (Σ₁Σ₂)^½ from the symmetric Σ₁^½ Σ₂ Σ₁^½, whose eigenvalues are the same.
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    inner = root @ reference.covariance @ root
    cross = torch.linalg.eigvalsh(inner).clamp(min=0).sqrt().sum()
    shift = (mean - reference.mean).square().sum()
    return float(shift + covariance.trace() + reference.covariance.trace() - 2 * cross)
