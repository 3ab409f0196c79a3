"""Rotary positions along time, rows and columns (RoFormer, arXiv 2104.09864, axially split).

A head's channels are pairs; a third of the pairs turns with the time of the frame, a third with
the token's row, a third with its column. Turning a key that is already turned adds the angles, so
a cached key can be moved in time.
"""

import torch
from torch import Tensor

from worldmodel.model.configs import ModelConfig

TIME_BASE = 100.0  # slowest period about 600 frames
SPACE_BASE = 30.0


def pair_split(head_width: int) -> tuple[int, int, int]:
    """Pairs of channels for time, rows, columns."""
    space = head_width // 2 // 3
    return head_width // 2 - 2 * space, space, space


def time_angles(config: ModelConfig, times: Tensor) -> Tensor:
    """Angles f e/2 of frame times f, zero on the row and column pairs.

    Computed in fp64 and reduced to one turn, so that an hour of frames is as exact as the first.
    """
    time, rows, columns = pair_split(config.head_width)
    frequencies = TIME_BASE ** -(torch.arange(time, dtype=torch.float64) / time)
    angles = torch.outer(times.double(), frequencies).remainder(2 * torch.pi)
    return torch.cat((angles, angles.new_zeros(len(times), rows + columns)), dim=1).float()


def space_angles(config: ModelConfig) -> Tensor:
    """Angles p e/2 of a frame's tokens: action tokens lie off the grid, at row and column -1."""
    time, rows, columns = pair_split(config.head_width)
    height, width = config.token_grid
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    outside = torch.full((config.action_tokens,), -1)
    y, x = torch.cat((outside, y)).float(), torch.cat((outside, x)).float()
    down = SPACE_BASE ** -(torch.arange(rows) / rows)
    across = SPACE_BASE ** -(torch.arange(columns) / columns)
    still = torch.zeros(config.tokens_per_frame, time)
    return torch.cat((still, torch.outer(y, down), torch.outer(x, across)), dim=1)


def rope_cos_sin(
    config: ModelConfig, times: Tensor, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Cosines and sines t e/2 of all tokens (t = f p) of frames at `times` f."""
    angles = time_angles(config, times)[:, None] + space_angles(config)
    angles = angles.flatten(0, 1)
    return angles.cos().to(device), angles.sin().to(device)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate ... t e by angles t e/2; channel i pairs with channel i + e/2."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
