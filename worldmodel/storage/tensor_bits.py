"""Tensors as arrays and back: bfloat16, which numpy does not know, as the 16 bits that it is."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_array(tensor: Tensor) -> NDArray[Any]:
    """A CPU tensor's memory as an array; of bfloat16 its bits, as int16."""
    bits = tensor.view(dtype=torch.int16) if tensor.dtype is torch.bfloat16 else tensor
    return np.asarray(bits.numpy())


def as_tensor(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """A copy of the same shape that means what `as_array` was given, if that was of `dtype`."""
    tensor = torch.from_numpy(np.array(array))
    is_bits = dtype is torch.bfloat16 and tensor.dtype is torch.int16
    return tensor.view(dtype=torch.bfloat16) if is_bits else tensor
