"""The shape of a Wan video autoencoder, its decoder's layers, and the released one."""

from dataclasses import dataclass

from worldmodel.config import ConfigError, require_at_most, require_positive
from worldmodel.system.printable import shown
from worldmodel.wan.layer_costs import Layer


@dataclass(frozen=True, kw_only=True, slots=True)
class VaeConfig:
    """Sizes of encoder and decoder. Level i has width x multipliers[i] channels, finest first."""

    width: int
    multipliers: tuple[int, ...]
    blocks: int  # residual blocks at each level of the encoder; the decoder has one more
    time_halvings: tuple[bool, ...]  # whether going down from level i also halves frames
    latent_channels: int
    latent_mean: tuple[float, ...]  # per channel, of the encoder's raw output over the training set
    latent_std: tuple[float, ...]

    def __post_init__(self) -> None:
        require_positive(self, "width", "blocks", "latent_channels")
        require_at_most(self, 4096, "width")
        require_at_most(self, 64, "blocks")
        require_at_most(self, 1024, "latent_channels")
        if not 2 <= len(self.multipliers) <= 6 or max(self.multipliers) > 64:
            raise ConfigError(
                f"multipliers {shown(self.multipliers)} must hold 2 to 6 numbers up to 64"
            )
        if len(self.time_halvings) != len(self.multipliers) - 1 or min(self.multipliers) < 1:
            raise ConfigError(
                f"multipliers {list(self.multipliers)} must hold numbers from 1 upwards, one more "
                f"than time_halvings {list(self.time_halvings)}"
            )
        if any(width % 2 for width in self.level_widths[1:]):
            raise ConfigError(f"widths {list(self.level_widths)} must be even below the finest")
        channels = self.latent_channels
        if len(self.latent_mean) != channels or len(self.latent_std) != channels:
            raise ConfigError(
                f"latent_mean has {len(self.latent_mean)} and latent_std {len(self.latent_std)} "
                f"entries; there are {channels} latent channels"
            )
        if min(self.latent_std) <= 0:
            raise ConfigError(f"latent_std {list(self.latent_std)} must be above 0")

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Channels at each level, finest first."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @property
    def pixels_per_latent(self) -> int:
        """Pixels that a latent position covers, along rows and along columns."""
        return int(2 ** len(self.time_halvings))

    @property
    def frames_per_latent(self) -> int:
        """Pixel frames of a latent frame after the first."""
        return int(2 ** sum(self.time_halvings))

    @property
    def decoder_layers(self) -> list[Layer]:
        """What a later step of the decoder (not the first) computes, in order."""
        widths, channels = self.level_widths[::-1], self.latent_channels
        coarsest, scale, frames = widths[0], 1, 1
        layers = [
            Layer(channels, channels, (1, 1, 1), scale, frames),
            Layer(channels, coarsest, (3, 3, 3), scale, frames, remembers=2),
            *_block(coarsest, coarsest, scale, frames),
            Layer(coarsest, 3 * coarsest, (1, 1, 1), scale, frames),
            Layer(coarsest, coarsest, (1, 1, 1), scale, frames, attends=True),
            *_block(coarsest, coarsest, scale, frames),
        ]
        incoming = coarsest
        for level, width in enumerate(widths):
            for _ in range(self.blocks + 1):
                layers += _block(incoming, width, scale, frames)
                incoming = width
            if level < len(self.time_halvings):
                if self.time_halvings[-1 - level]:
                    layers.append(Layer(width, 2 * width, (3, 1, 1), scale, frames, remembers=2))
                    frames *= 2
                scale *= 2
                layers.append(Layer(width, width // 2, (1, 3, 3), scale, frames, beside=width / 4))
                incoming = width // 2
        layers.append(Layer(incoming, 3, (3, 3, 3), scale, frames, remembers=2))
        return layers


def _block(inputs: int, outputs: int, scale: int, frames: int) -> list[Layer]:
    both = [
        Layer(inputs, outputs, (3, 3, 3), scale, frames, remembers=2, beside=inputs),
        Layer(outputs, outputs, (3, 3, 3), scale, frames, remembers=2, beside=inputs),
    ]
    if inputs != outputs:
        both.append(Layer(inputs, outputs, (1, 1, 1), scale, frames))
    return both


# What diffusers' and Wan's own code give for Wan2.1 (all sizes of the transformer share it).
# fmt: off
WAN21_VAE = VaeConfig(
    width=96,
    multipliers=(1, 2, 4, 4),
    blocks=2,
    time_halvings=(False, True, True),
    latent_channels=16,
    latent_mean=(
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    ),
    latent_std=(
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    ),
)
# fmt: on
