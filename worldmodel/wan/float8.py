"""Large matrices kept in eight bits: half the memory of bfloat16, the same products.

    pack = packed(torch.bfloat16)                   # what a file holds instead of each tensor
    if holds_float8(tensors): use_float8(model)     # before these tensors are loaded

Weights of the layers' matrices are float8 (e4m3: three bits of mantissa) with a scale for each
output row, and become what play computes in whenever they are used. A scale is a power of two, so
that this is exact: all that is lost is lost when they are packed. It saves memory alone; a product
takes no less time than before, and the copy a little more.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.config import UserError
from worldmodel.wan.transformer import WanTransformer

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
SMALLEST_SCALE = -120  # as a power of two; what is smaller is zero to every product
WEIGHT, SCALE = ".weight", ".scale"
FEWEST_INPUTS = 16  # of a matrix that is packed: smaller ones save nothing


class Float8Linear(nn.Module):
    """A linear layer whose matrix is kept in float8, a scale for each of its outputs beside it."""

    def __init__(self, inputs: int, outputs: int, dtype: torch.dtype, *, bias: bool) -> None:
        super().__init__()
        kept = torch.zeros(outputs, inputs).to(FLOAT8)
        self.weight = nn.Parameter(kept, requires_grad=False)
        self.scale = nn.Parameter(torch.ones(outputs, dtype=dtype), requires_grad=False)
        zeros = torch.zeros(outputs, dtype=dtype)
        self.bias = nn.Parameter(zeros, requires_grad=False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """... in -> ... out."""
        return F.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype)[:, None], self.bias)


def use_float8(model: WanTransformer) -> None:
    """Let the matrices of all layers be float8 ones, still without their numbers."""
    for name, old in list(model.blocks.named_modules()):
        if isinstance(old, nn.Linear) and old.in_features >= FEWEST_INPUTS:
            place, _, last = name.rpartition(".")
            with old.weight.device:
                sizes, has_bias = (old.in_features, old.out_features), old.bias is not None
                new = Float8Linear(*sizes, old.weight.dtype, bias=has_bias)
            setattr(model.blocks.get_submodule(place), last, new)


def holds_float8(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are packed weights: float8 and scales."""
    return any(name.startswith("blocks.") and name.endswith(SCALE) for name in tensors)


def refuse_float8(tensors: Mapping[str, Tensor], where: str, use: str) -> None:
    """An error for who needs the numbers that packing has lost."""
    if holds_float8(tensors):
        raise UserError(
            f"{where}: weights that were packed as float8 are played, not {use}; "
            "name the file that they were imported from"
        )


def packed(dtype: torch.dtype) -> Callable[[str, Tensor], dict[str, Tensor]]:
    """What a file holds instead of a tensor: float8 and scales, or the tensor in `dtype`."""

    def pack(name: str, tensor: Tensor) -> dict[str, Tensor]:
        is_matrix = name.startswith("blocks.") and name.endswith(WEIGHT) and tensor.ndim == 2
        if not is_matrix or tensor.shape[1] < FEWEST_INPUTS:
            return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor}
        small, scale = to_float8(tensor)
        return {name: small, name.removesuffix(WEIGHT) + SCALE: scale}

    return pack


def to_float8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix out x in as float8, and the scale of each row in fp32."""
    wide = weight.float()
    mantissa, exponent = torch.frexp(wide.abs().amax(dim=1) / LARGEST)
    power = torch.where(mantissa == 0.5, exponent - 1, exponent).clamp(min=SMALLEST_SCALE)
    scale = torch.ldexp(torch.ones_like(mantissa), power)
    return (wide / scale[:, None]).to(FLOAT8), scale
