"""The shape of a tiny autoencoder, its decoder's layers, and the one for Wan2.1."""

import math
from dataclasses import dataclass

from worldmodel.config import ConfigError, require_at_most, require_positive
from worldmodel.system.printable import shown
from worldmodel.wan.layer_costs import Layer


@dataclass(frozen=True, kw_only=True, slots=True)
class TaehvConfig:
    """Sizes of encoder and decoder."""

    encoder_width: int
    decoder_widths: tuple[int, ...]  # before each doubling and after the last, coarsest first
    blocks: int  # blocks with memory at each level
    time_halvings: tuple[int, ...]  # encoder: frames made one at each level, finest first
    time_doublings: tuple[int, ...]  # decoder: frames made of one at each level, coarsest first
    latent_channels: int

    def __post_init__(self) -> None:
        require_positive(self, "encoder_width", "blocks", "latent_channels")
        require_at_most(self, 4096, "encoder_width")
        require_at_most(self, 64, "blocks")
        require_at_most(self, 1024, "latent_channels")
        levels = len(self.time_doublings)
        if not 1 <= levels <= 5:
            raise ConfigError(
                f"time_doublings {shown(self.time_doublings)} must hold 1 to 5 numbers"
            )
        if len(self.decoder_widths) != levels + 1 or len(self.time_halvings) != levels:
            raise ConfigError(
                f"decoder_widths {list(self.decoder_widths)} must hold one number more than "
                f"time_doublings {list(self.time_doublings)} and time_halvings "
                f"{list(self.time_halvings)}"
            )
        if min(*self.decoder_widths, *self.time_doublings, *self.time_halvings) < 1:
            raise ConfigError("decoder_widths, time_doublings and time_halvings must be above 0")
        if max(self.decoder_widths) > 4096 or max(*self.time_doublings, *self.time_halvings) > 8:
            raise ConfigError(
                "decoder_widths must be at most 4096, time_doublings and time_halvings at most 8"
            )

    @property
    def frames_per_latent(self) -> int:
        """Pixel frames of a latent frame after the first."""
        return math.prod(self.time_doublings)

    @property
    def frames_encoded(self) -> int:
        """Pixel frames that become one latent frame."""
        return math.prod(self.time_halvings)

    @property
    def pixels_per_latent(self) -> int:
        """Pixels that a latent position covers, along rows and along columns."""
        return int(2 ** len(self.time_doublings))

    @property
    def decoder_layers(self) -> list[Layer]:
        """What a later step of the decoder (not the first) computes, in order."""
        widths, scale, frames = self.decoder_widths, 1, 1
        layers = [Layer(self.latent_channels, widths[0], (1, 3, 3), scale, frames)]
        for width, after, growth in zip(widths[:-1], widths[1:], self.time_doublings, strict=True):
            for _ in range(self.blocks):
                # The previous frame enters as further channels: a kernel over two frames.
                layers.append(Layer(width, width, (2, 3, 3), scale, frames, remembers=1))
                layers += [Layer(width, width, (1, 3, 3), scale, frames)] * 2
            layers.append(Layer(width, width * growth, (1, 1, 1), scale, frames))
            scale, frames = 2 * scale, growth * frames
            layers.append(Layer(width, after, (1, 3, 3), scale, frames))
        layers.append(Layer(widths[-1], 3, (1, 3, 3), scale, frames))
        return layers


TAEW2_1 = TaehvConfig(
    encoder_width=64,
    decoder_widths=(256, 128, 64, 64),
    blocks=3,
    time_halvings=(2, 2, 1),
    time_doublings=(1, 2, 2),
    latent_channels=16,
)
