"""TAEHV, a tiny autoencoder for the latents of large video models (github.com/madebyollin/taehv).

It draws a little softer than the Wan autoencoder, for a small part of its work. What a layer needs
of the past is one frame, so that a video is decoded as it comes.

    tiny = load_taehv(Path("taew2_1.pth"), TAEW2_1)
    stream = tiny.stream()
    frames = stream.decode(latent)       # normalised latents b 16 1 h w, as the transformer's

Layers work on frames one by one, `(b g) c h w`.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.config import UserError
from worldmodel.wan.streaming_decoder import LAST, LayerCaches, Stepwise
from worldmodel.wan.taehv_config import TaehvConfig
from worldmodel.wan.vae_layers import load_frozen
from worldmodel.wan.weight_files import read_tensors


def _conv(inputs: int, outputs: int, *, bias: bool = True, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias, stride=stride)


class MemoryBlock(nn.Module):
    """Three convolutions over a frame and the one before it, beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ModuleDict(
            {"0": _conv(2 * width, width), "2": _conv(width, width), "4": _conv(width, width)}
        )

    def forward(self, x: Tensor, past: LayerCaches, batch: int) -> Tensor:
        """(b g) c h w -> (b g) c h w."""
        with_past = past.extend(rearrange(x, "(b g) c h w -> b c g h w", b=batch), frames=1)
        before = rearrange(with_past[:, :, :-1], "b c g h w -> (b g) c h w")
        y = F.relu(self.conv["0"](torch.cat((x, before), dim=1)), inplace=True)
        y = F.relu(self.conv["2"](y), inplace=True)
        return F.relu(self.conv["4"](y).add_(x), inplace=True)


class Grow(nn.Module):
    """One frame becomes `frames` of twice the rows and columns: (b g) c h w -> (b g') c 2h 2w.

    The reference doubles rows and columns first; this order gives the same numbers for a quarter
    of the work.
    """

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(width, width * frames, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b g) c h w -> (b g') c 2h 2w."""
        x = rearrange(self.conv(x), "b (g c) h w -> (b g) c h w", g=self.frames)
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Pool(nn.Module):
    """`frames` frames become one: (b g) c h w -> (b g') c h w."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(width * frames, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b g) c h w -> (b g') c h w."""
        return self.conv(rearrange(x, "(b g) c h w -> b (g c) h w", g=self.frames))


class SoftClamp(nn.Module):
    """Latents held within 3 standard deviations."""

    def forward(self, x: Tensor) -> Tensor:
        """Squash values to (-3, 3) smoothly; the shape stays."""
        return torch.tanh(x / 3) * 3


# The release names layers by their place in a list that counts activations; so do these lists.


def _encoder(config: TaehvConfig) -> nn.ModuleList:
    width = config.encoder_width
    layers: list[nn.Module] = [_conv(3, width), nn.ReLU()]
    for frames in config.time_halvings:
        layers += [Pool(width, frames), _conv(width, width, bias=False, stride=2)]
        layers += [MemoryBlock(width) for _ in range(config.blocks)]
    return nn.ModuleList([*layers, _conv(width, config.latent_channels)])


def _decoder(config: TaehvConfig) -> nn.ModuleList:
    widths = config.decoder_widths
    layers: list[nn.Module] = [SoftClamp(), _conv(config.latent_channels, widths[0]), nn.ReLU()]
    for width, after, frames in zip(widths[:-1], widths[1:], config.time_doublings, strict=True):
        layers += [MemoryBlock(width) for _ in range(config.blocks)]
        # Where the release has its doubling of rows and columns, which `Grow` does here.
        layers += [nn.Identity(), Grow(width, frames), _conv(width, after, bias=False)]
    return nn.ModuleList([*layers, nn.ReLU(), _conv(widths[-1], 3)])


def _run(layers: nn.ModuleList, frames: Tensor, past: LayerCaches) -> Tensor:
    """b c g h w through the layers of an encoder or a decoder."""
    batch = frames.shape[0]
    x = rearrange(frames, "b c g h w -> (b g) c h w")
    for layer in layers:
        x = layer(x, past, batch) if isinstance(layer, MemoryBlock) else layer(x)
    return rearrange(x, "(b g) c h w -> b c g h w", b=batch)


class Taehv(Stepwise):
    """Encoder and decoder between frames and normalised latents."""

    config: TaehvConfig

    def __init__(self, config: TaehvConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = _encoder(config), _decoder(config)

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """Video b 3 g h w in [-1, 1] -> latents b c f h/8 w/8; 4 frames make one.

        The last frame is repeated where they do not suffice, as the reference does.
        """
        self._check(video)
        step = self.config.frames_encoded
        weight = next(self.parameters())
        video = video.to(weight.device, weight.dtype)
        lacking = -video.shape[2] % step
        video = torch.cat((video, video[:, :, -1:].expand(-1, -1, lacking, -1, -1)), dim=2)
        parts, past = [], LayerCaches()
        for frames in video.contiguous(memory_format=LAST).split(step, dim=2):
            parts.append(_run(self.encoder, (frames + 1) / 2, past))
            past = LayerCaches(past.after)
        return torch.cat(parts, dim=2).float().contiguous()

    def step(self, latent: Tensor, past: LayerCaches) -> Tensor:
        """Latent b c 1 h w -> frames b 3 g 8h 8w in [-1, 1] (g = 1 in the first step, then 4)."""
        frames = _run(self.decoder, latent.to(next(self.parameters()).dtype), past)
        if past.first:  # the Wan autoencoder's first latent frame is a single picture
            frames = frames[:, :, -1:]
        return frames.clamp(0, 1).mul_(2).sub_(1)

    def _check(self, video: Tensor) -> None:
        block = self.config.pixels_per_latent
        shape = tuple(video.shape)
        if len(shape) != 5 or shape[1] != 3 or 0 in shape or shape[3] % block or shape[4] % block:
            raise UserError(
                f"a video of {' x '.join(map(str, shape))} cannot be encoded: expected "
                f"b x 3 x frames x rows x columns, rows and columns divisible by {block}"
            )


def load_taehv(path: Path, config: TaehvConfig) -> Taehv:
    """The tiny autoencoder in a `.pth` or safetensors file, on the CPU."""
    with torch.device("meta"):
        tiny = Taehv(config)
    return load_frozen(tiny, _fitted(tiny, read_tensors(path)), str(path))


def _fitted(tiny: Taehv, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file may make more frames than the config asks for; the last of them are kept."""
    fitted = dict(tensors)
    for number, layer in enumerate(tiny.decoder):
        name = f"decoder.{number}.conv.weight"
        if isinstance(layer, Grow) and name in fitted:
            fitted[name] = fitted[name][-layer.conv.out_channels :]
    return fitted
