"""Frames to latents and back, one frame at a time, by convolutions.

The encoder halves a frame several times and ends in latents of unit variance per channel (a batch
normalisation without scale, whose running statistics are part of the weights). In training the
decoder sees them with noise added, so that the small errors of a denoiser stay small in pixels.

Letters: b batch (frames), c latent channels, h w rows, columns (of frames or of latents).
"""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.config import AutoencoderConfig

BATCH = 256  # frames encoded or decoded at once

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity: b d h w -> b d h w."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.expand = nn.Conv2d(width, width, 3, padding=1)
        self.contract = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.contract.weight)

    def forward(self, x: Tensor) -> Tensor:
        """b d h w -> b d h w."""
        return x + self.contract(F.silu(self.expand(F.silu(self.norm(x)))))


class Encoder(nn.Module):
    """Frames b 3 h w in [-1, 1] -> latents b c h w, not yet normalised."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        incoming = 3
        for width in config.widths:
            layers += [
                nn.PixelUnshuffle(2),
                nn.Conv2d(4 * incoming, width, 3, padding=1),
                *(ResidualBlock(width) for _ in range(config.blocks)),
            ]
            incoming = width
        layers += [nn.SiLU(), nn.Conv2d(incoming, config.latent_channels, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames b 3 h w -> b c h w."""
        return self.layers(frames)


class Decoder(nn.Module):
    """Latents b c h w -> frames b 3 h w in about [-1, 1]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)]
        for width, outgoing in zip(widths, (*widths[1:], 3), strict=True):
            layers += [
                *(ResidualBlock(width) for _ in range(config.blocks)),
                nn.Conv2d(width, 4 * outgoing, 3, padding=1),
                nn.PixelShuffle(2),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents b c h w -> frames b 3 h w."""
        return self.layers(latents)


class Autoencoder(nn.Module):
    """A frame encoder and decoder with normalised latents between them."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.normalise = nn.BatchNorm2d(config.latent_channels, affine=False, momentum=0.02)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """One frame of latents: c h w."""
        return self.config.latent_shape

    def encode(self, frames: Tensor) -> Tensor:
        """Frames b 3 h w in [-1, 1] -> latents b c h w of unit variance."""
        return self.normalise(self.encoder(frames))

    def decode(self, latents: Tensor) -> Tensor:
        """Latents b c h w -> frames b 3 h w in about [-1, 1]."""
        return self.decoder(latents)


def channels_last(module: AnyModule) -> AnyModule:
    """The module itself, its weights in the layout that convolutions on CPUs and GPUs prefer."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs


@torch.inference_mode()
def encode_frames(autoencoder: Autoencoder, frames: Tensor) -> Tensor:
    """Frames uint8 b f h w 3 -> latents b f c h w, fp32, in batches of a bounded size."""
    weight = next(autoencoder.parameters())
    parts = [
        autoencoder.encode(
            to_tensor(chunk.to(weight.device)).to(weight.dtype, memory_format=torch.channels_last)
        )
        for chunk in frames.flatten(0, 1).split(BATCH)
    ]
    return torch.cat(parts).float().unflatten(0, frames.shape[:2])


@torch.inference_mode()
def decode_latents(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """Latents b f c h w -> frames uint8 b f h w 3, in batches of a bounded size."""
    dtype = next(autoencoder.parameters()).dtype
    parts = [
        to_frames(autoencoder.decode(chunk.to(dtype)))
        for chunk in latents.flatten(0, 1).split(BATCH)
    ]
    return torch.cat(parts).unflatten(0, latents.shape[:2])


def to_tensor(frames: Tensor) -> Tensor:
    """Frames uint8 b h w 3 -> float b 3 h w in [-1, 1]."""
    return frames.movedim(-1, 1).float() / 127.5 - 1


def to_frames(pixels: Tensor) -> Tensor:
    """Pixels b 3 h w in about [-1, 1] -> frames uint8 b h w 3."""
    return torch.clamp((pixels.float() + 1) * 127.5 + 0.5, 0, 255).to(torch.uint8).movedim(1, -1)
