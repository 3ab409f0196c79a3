"""The noise levels that Wan is trained on, and how much an error counts at each.

    σ_i = 5 s_i / (1 + 4 s_i),  s_i = 1 − i / 1000,  i = 0 … 999          (`schedule.sigma_grid`)
    w_i ∝ exp(−2 (σ_i − ½)²) − its least value,  mean 1

Every level is as likely as any other; the weight takes back what the shift gives to high noise.
"""

from functools import lru_cache

import torch
from torch import Tensor

from worldmodel.schedule import sigma_grid
from worldmodel.wan.samplers import SHIFT, TICKS


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)  # kept, so it must also serve where gradients are taken
def training_levels(shift: float = SHIFT) -> tuple[Tensor, Tensor]:
    """Levels i and their weights i, fp32, on the CPU."""
    sigmas = sigma_grid(TICKS, shift)[:-1]
    bell = torch.exp(-2 * (sigmas.double() - 0.5).square())
    bell = bell - bell.min()
    return sigmas, (bell / bell.mean()).float()


def draw_levels(
    shape: tuple[int, ...], generator: torch.Generator, shift: float = SHIFT
) -> tuple[Tensor, Tensor]:
    """Independent levels and their weights, both of `shape`, on the generator's device."""
    device = generator.device
    index = torch.randint(TICKS, shape, generator=generator, device=device)
    sigmas, weights = (table.to(device) for table in training_levels(shift))
    return sigmas[index], weights[index]
