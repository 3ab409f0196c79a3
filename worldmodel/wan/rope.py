"""Rotary positions along time, rows and columns, as Wan was trained with them.

A head's channels are neighbouring pairs (RoFormer, arXiv 2104.09864). Two times a third of them,
rounded down, turn with rows and columns, the rest with time: 22, 21, 21 of 64.
"""

import torch
from torch import Tensor

from worldmodel.model.rotary import pair_split
from worldmodel.wan.model_config import ActionModuleConfig, WanConfig

BASE = 10_000.0
ACTION_BASE = 256.0  # of attention to keys and mouse


def _angles(positions: Tensor, pairs: int, base: float = BASE) -> Tensor:
    """Angles t pairs, in fp64 and reduced to one turn: hour-long sessions stay exact."""
    frequencies = base ** -(torch.arange(pairs, dtype=torch.float64) / max(pairs, 1))
    return torch.outer(positions.double(), frequencies).remainder(2 * torch.pi)


def time_cos_sin(config: WanConfig, times: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines f e/2 of times alone: what moves a key in time."""
    time, rows, columns = pair_split(config.head_width)
    angles = _angles(times, time)
    angles = torch.cat((angles, angles.new_zeros(len(times), rows + columns)), dim=1)
    return angles.cos().float(), angles.sin().float()


def action_cos_sin(config: ActionModuleConfig, times: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines f e/2 of times for attention to keys and mouse: few channels turn."""
    angles = _angles(times, config.turned // 2, ACTION_BASE)
    still = angles.new_zeros(len(times), (config.head_width - config.turned) // 2)
    angles = torch.cat((angles, still), dim=1)
    return angles.cos().float(), angles.sin().float()


def rope_cos_sin(
    config: WanConfig, times: Tensor, rows: int, columns: int
) -> tuple[Tensor, Tensor]:
    """Cosines and sines t e/2 of frames at `times` f, of rows x columns tokens each."""
    split = pair_split(config.head_width)
    frames, p = len(times), rows * columns
    y = torch.arange(rows).repeat_interleave(columns)
    x = torch.arange(columns).repeat(rows)
    parts = (
        _angles(times, split[0]).repeat_interleave(p, dim=0),
        _angles(y, split[1]).repeat(frames, 1),
        _angles(x, split[2]).repeat(frames, 1),
    )
    angles = torch.cat(parts, dim=1)
    return angles.cos().float(), angles.sin().float()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ... t e by angles t e/2, in fp32; channel 2i pairs with channel 2i + 1."""
    first, second = x[..., 0::2].float(), x[..., 1::2].float()
    rotated = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return rotated.flatten(-2).to(x.dtype)
