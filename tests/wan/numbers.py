"""Numbers that look random and are the same on every machine, for comparisons over time."""

from collections.abc import Mapping

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
GREY = "decoder.22.bias"  # of TAEHV, whose frames would otherwise be mostly black


def uniform(shape: tuple[int, ...], salt: int) -> Tensor:
    """Numbers in [-1, 1), by integer arithmetic alone; another salt gives others."""
    count = torch.Size(shape).numel()
    x = (torch.arange(count, dtype=torch.int64) + salt * 0x9E3779B1) & MASK
    for factor in (0x7FEB352D, 0x846CA68B):
        x = ((x ^ (x >> 16)) * factor) & MASK
    return ((x ^ (x >> 16)).double() / 2**31 - 1).float().view(shape)


def weights(shapes: Mapping[str, tuple[int, ...]], gain: float) -> dict[str, Tensor]:
    """Tensors by name: norms about 1, biases small, the rest such that signals keep their size."""
    tensors = {}
    for salt, name in enumerate(sorted(shapes), start=1):
        shape = tuple(shapes[name])
        numbers = uniform(shape, salt)
        inputs = torch.Size(shape[1:]).numel()
        if inputs > 1:
            tensors[name] = numbers * gain * (3 / inputs) ** 0.5
        else:
            tensors[name] = numbers * 0.1 if name.endswith("bias") else 1 + 0.2 * numbers
    if GREY in tensors:
        tensors[GREY] += 0.5
    return tensors
