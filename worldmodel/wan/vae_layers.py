"""The layers of the Wan2.1 video autoencoder, named as in its released weights.

Convolutions are causal in time: they see the frame itself and the two before it, which
`LayerCaches` supplies, so that a clip can be cut between any two latent frames without a
difference. Everything is fastest with channels last in memory (`channels_last`); results are the
same in any layout.
"""

from collections.abc import Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.storage.checkpoint import refuse_broken
from worldmodel.wan.streaming_decoder import LayerCaches
from worldmodel.wan.weight_files import load_strict

M = TypeVar("M", bound=nn.Module)

TINY = 1e-24  # the square of the norm below which a vector counts as zero


class RmsNorm(nn.Module):
    """Channels (dimension 1) scaled to a root mean square of 1, then by `gamma`."""

    def __init__(self, width: int, spatial: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width, *[1] * spatial))

    def forward(self, x: Tensor) -> Tensor:
        """b c ... -> b c ..."""
        width = self.gamma.shape[0]
        y = rearrange(x, "b c ... -> b ... c")
        y = F.rms_norm(y, (width,), self.gamma.flatten(), TINY / width)
        return rearrange(y, "b ... c -> b c ...")


def causal(inputs: int, outputs: int) -> nn.Conv3d:
    """A 3x3x3 convolution for `convolve`, which adds the frames before."""
    return nn.Conv3d(inputs, outputs, 3, padding=(0, 1, 1))


def convolve(layer: nn.Module, x: Tensor, past: LayerCaches) -> Tensor:
    """A convolution over 3 frames on x: b c g h w and the two frames before -> b d g h w."""
    x = past.extend(x, frames=2)
    return layer(x)


def activate_and_convolve(
    norm: nn.Module, layer: nn.Module, x: Tensor, past: LayerCaches
) -> Tensor:
    """Norm, SiLU, then `convolve`: b c g h w -> b d g h w."""
    x = F.silu(norm(x), inplace=True)  # rebound, so that what it was made of can be freed
    x = past.extend(x, frames=2)
    return layer(x)


class WanResidualBlock(nn.Module):
    """Two causal convolutions beside a shortcut: b c g h w -> b d g h w."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.ModuleDict(
            {
                "0": RmsNorm(inputs, spatial=3),
                "2": causal(inputs, outputs),
                "3": RmsNorm(outputs, spatial=3),
                "6": causal(outputs, outputs),
            }
        )
        self.shortcut = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, past: LayerCaches) -> Tensor:
        """b c g h w -> b d g h w."""
        part = self.residual
        y = activate_and_convolve(
            part["3"],
            part["6"],
            activate_and_convolve(part["0"], part["2"], x, past),
            past,
        )
        return y.add_(self.shortcut(x))


class SpatialAttention(nn.Module):
    """Every position of a frame attends to all of the same frame, one head: b c g h w -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RmsNorm(width, spatial=2)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, past: LayerCaches) -> Tensor:  # noqa: ARG002  # as all layers of a level
        """b c g h w -> b c g h w."""
        b, _, _, h, w = x.shape
        y = self.to_qkv(self.norm(rearrange(x, "b c g h w -> (b g) c h w")))
        q, k, v = rearrange(y, "n (three c) h w -> three n 1 (h w) c", three=3)
        y = F.scaled_dot_product_attention(q, k, v)
        y = self.proj(rearrange(y, "n 1 (h w) c -> n c h w", h=h, w=w))
        return x + rearrange(y, "(b g) c h w -> b c g h w", b=b)


class Downsample(nn.Module):
    """Halves rows and columns and, with `time`, frames: b c g h w -> b c g' h/2 w/2.

    The first frame of a video stays as it is; every later step must bring an even number.
    """

    def __init__(self, width: int, *, time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2)
        )
        self.time_conv = nn.Conv3d(width, width, (3, 1, 1), stride=(2, 1, 1)) if time else None

    def forward(self, x: Tensor, past: LayerCaches) -> Tensor:
        """b c g h w -> b c g/2 h/2 w/2 (g = 1 in the first step)."""
        b = x.shape[0]
        y = self.resample(rearrange(x, "b c g h w -> (b g) c h w"))
        y = rearrange(y, "(b g) c h w -> b c g h w", b=b)
        if self.time_conv is None:
            return y
        whole = past.extend(y, frames=1)
        return y if past.first else self.time_conv(whole)


class Upsample(nn.Module):
    """Doubles rows and columns and, with `time`, frames: b c g h w -> b c/2 g' 2h 2w.

    The first frame of a video is not doubled, nor does the convolution over time ever see it.
    """

    def __init__(self, width: int, *, time: bool) -> None:
        super().__init__()
        self.time_conv = nn.Conv3d(width, 2 * width, (3, 1, 1)) if time else None
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            nn.Conv2d(width, width // 2, 3, padding=1),
        )

    def forward(self, x: Tensor, past: LayerCaches) -> Tensor:
        """b c g h w -> b c/2 2g 2h 2w (g stays 1 in the first step)."""
        if self.time_conv is not None and past.first:
            past.extend(x[:, :, :0], frames=2)
        elif self.time_conv is not None:
            x = convolve(self.time_conv, x, past)
            x = rearrange(x, "b (two c) g h w -> b c (g two) h w", two=2)
        b = x.shape[0]
        y = self.resample(rearrange(x, "b c g h w -> (b g) c h w"))
        return rearrange(y, "(b g) c h w -> b c g h w", b=b)


def load_frozen(module: M, tensors: Mapping[str, Tensor], where: str) -> M:
    """A module on the `meta` device with exactly these weights, laid out as they are fastest."""
    load_strict(module, tensors, where)
    refuse_broken(module.state_dict(), where)
    channels_last(module)
    return module.requires_grad_(requires_grad=False).eval()


def channels_last(module: nn.Module) -> None:
    """Lay out the weights of convolutions as they are fastest; their values stay."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            layer.weight.data = layer.weight.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.contiguous(memory_format=torch.channels_last)
