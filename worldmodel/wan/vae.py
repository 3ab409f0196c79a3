"""The Wan2.1 video autoencoder (arXiv 2503.20314, section 4.1), causal in time.

One pixel frame gives the first latent frame, every four more another one; a latent position covers
8x8 pixels. Latents come out normalised (zero mean, unit variance per channel), as the transformer
wants them.

    vae = load_vae(Path("Wan2.1_VAE.pth"), WAN21_VAE)
    latents = vae.encode(video)          # b 3 1+4f h w in [-1, 1] -> b 16 1+f h/8 w/8
    stream = vae.stream()
    frames = stream.decode(latents[:, :, :1])
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from worldmodel.config import UserError
from worldmodel.system.progress import through
from worldmodel.wan.streaming_decoder import LAST, LayerCaches, Stepwise
from worldmodel.wan.vae_config import VaeConfig
from worldmodel.wan.vae_keys import released_names
from worldmodel.wan.vae_layers import (
    Downsample,
    RmsNorm,
    SpatialAttention,
    Upsample,
    WanResidualBlock,
    activate_and_convolve,
    causal,
    convolve,
    load_frozen,
)
from worldmodel.wan.weight_files import read_tensors

Layer = Callable[[Tensor, LayerCaches], Tensor]


class Trunk(nn.Module):
    """What encoder and decoder have in common: layers that take x and `LayerCaches`, and a head."""

    def __init__(self, inputs: int, widths: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        first, coarsest, last = widths
        self.conv1 = causal(inputs, first)
        self.middle = nn.ModuleList(
            [
                WanResidualBlock(coarsest, coarsest),
                SpatialAttention(coarsest),
                WanResidualBlock(coarsest, coarsest),
            ]
        )
        self.head = nn.ModuleDict({"0": RmsNorm(last, spatial=3), "2": causal(last, outputs)})

    def begin(self, x: Tensor, past: LayerCaches) -> Tensor:
        """The first convolution: b c g h w -> b d g h w."""
        return convolve(self.conv1, x, past)

    def end(self, x: Tensor, past: LayerCaches) -> Tensor:
        """The head: b d g h w -> b c g h w."""
        return activate_and_convolve(self.head["0"], self.head["2"], x, past)


class WanEncoder(Trunk):
    """Frames b 3 g h w -> means and log variances b 2c f h/8 w/8, neither normalised.

    One frame in the first step, four (-> 1) in the others.
    """

    def __init__(self, config: VaeConfig) -> None:
        widths = config.level_widths
        super().__init__(3, (config.width, widths[-1], widths[-1]), 2 * config.latent_channels)
        layers: list[nn.Module] = []
        incoming = config.width
        for level, width in enumerate(widths):
            for _ in range(config.blocks):
                layers.append(WanResidualBlock(incoming, width))
                incoming = width
            if level < len(config.time_halvings):
                layers.append(Downsample(width, time=config.time_halvings[level]))
        self.downsamples = nn.ModuleList(layers)

    def levels(self) -> list[list[Layer]]:
        """All layers in order, in groups that each end where frames become smaller."""
        found: list[list[Layer]] = [[self.begin]]
        for layer in (*self.downsamples, *self.middle, self.end):
            found[-1].append(layer)
            if isinstance(layer, Downsample):
                found.append([])
        return found


class WanDecoder(Trunk):
    """Latents b c 1 h w, not normalised -> frames b 3 g 8h 8w."""

    def __init__(self, config: VaeConfig) -> None:
        widths = config.level_widths[::-1]
        super().__init__(config.latent_channels, (widths[0], widths[0], widths[-1]), 3)
        layers: list[nn.Module] = []
        incoming = widths[0]
        for level, width in enumerate(widths):
            for _ in range(config.blocks + 1):
                layers.append(WanResidualBlock(incoming, width))
                incoming = width
            if level < len(config.time_halvings):
                layers.append(Upsample(width, time=config.time_halvings[-1 - level]))
                incoming = width // 2
        self.upsamples = nn.ModuleList(layers)

    def forward(self, x: Tensor, past: LayerCaches) -> Tensor:
        """b c 1 h w -> b 3 g 8h 8w: g = 1 in the first step, 4 in the others."""
        for layer in (self.begin, *self.middle, *self.upsamples, self.end):
            x = layer(x, past)
        return x


class Level:
    """Some layers on a video that comes step by step; what does not move is computed once.

    Where neither the frames that come in nor what is remembered have changed in any bit since the
    step before, the result is that step's. So the grey after a picture costs little.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self._past: list[Tensor] = []
        self._last: tuple[Tensor, Tensor] | None = None  # into and out of a step that kept the past

    def run(self, x: Tensor) -> Tensor:
        """The next frames b c g h w through all layers."""
        if self._last is not None and torch.equal(x, self._last[0]):
            return self._last[1]
        past, y = LayerCaches(self._past), x
        for layer in self.layers:
            y = layer(y, past)
        is_still = not past.first and all(map(torch.equal, self._past, past.after))
        self._past, self._last = past.after, (x, y) if is_still else None
        return y


class WanVAE(Stepwise):
    """Encoder and decoder with normalised latents between them."""

    config: VaeConfig

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = WanEncoder(config)
        self.conv1 = nn.Conv3d(2 * channels, 2 * channels, 1)
        self.conv2 = nn.Conv3d(channels, channels, 1)
        self.decoder = WanDecoder(config)

    @torch.no_grad()
    def encode(self, video: Tensor, desc: str | None = None) -> Tensor:
        """Video b 3 1+4f h w in [-1, 1] -> latents b c 1+f h/8 w/8 (normalised means, fp32).

        With `desc`, what is encoded, a job of minutes shows how far it has come.
        """
        self._check(video)
        weight = self.conv1.weight
        video = video.to(weight.device, weight.dtype).contiguous(memory_format=LAST)
        later = video[:, :, 1:].split(self.config.frames_per_latent, dim=2)
        parts, levels = [], [Level(layers) for layers in self.encoder.levels()]
        chunks = (video[:, :, :1], *(part for part in later if part.shape[2]))
        for frames in through(chunks, desc=desc, unit="latent frame", disable=desc is None):
            for level in levels:
                frames = level.run(frames)
            parts.append(frames)
        means = self.conv1(torch.cat(parts, dim=2)).chunk(2, dim=1)[0]
        mean, std = self._statistics(weight.device)
        return ((means.float() - mean) / std).contiguous()

    def step(self, latent: Tensor, past: LayerCaches) -> Tensor:
        """Latent b c 1 h w -> frames b 3 g 8h 8w in [-1, 1] (g = 1 in the first step, then 4)."""
        mean, std = self._statistics(latent.device)
        raw = (latent.float() * std + mean).to(self.conv2.weight.dtype)
        return self.decoder(self.conv2(raw), past).clamp_(-1, 1)

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, c 1 1 1, in fp32 whatever the weights are."""
        return (
            _constant(self.config.latent_mean, device),
            _constant(self.config.latent_std, device),
        )

    def _check(self, video: Tensor) -> None:
        step, block = self.config.frames_per_latent, self.config.pixels_per_latent
        if (
            video.ndim != 5
            or video.shape[1] != 3
            or video.shape[2] % step != 1 % step
            or video.shape[3] % block
            or video.shape[4] % block
        ):
            raise UserError(
                f"a video of {' x '.join(map(str, video.shape))} cannot be encoded: expected "
                f"b x 3 x frames x rows x columns, 1 + a multiple of {step} frames, rows and "
                f"columns divisible by {block}"
            )


@functools.cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers as c 1 1 1 on a device, made once, usable with and without autograd."""
    with torch.inference_mode(mode=False):
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None, None]


def load_vae(path: Path, config: VaeConfig) -> WanVAE:
    """The autoencoder in a file of either layout, original or diffusers, on the CPU."""
    with torch.device("meta"):
        vae = WanVAE(config)
    tensors = released_names(config, list(vae.state_dict()), read_tensors(path))
    return load_frozen(vae, tensors, str(path))
