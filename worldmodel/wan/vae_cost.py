"""The layers of the Wan decoder as numbers, for `layer_costs`."""

from worldmodel.wan.layer_costs import Layer
from worldmodel.wan.vae_config import VaeConfig


def decoder_layers(config: VaeConfig) -> list[Layer]:
    """What a later step (not the first) of the decoder computes, in order."""
    widths, channels = config.level_widths[::-1], config.latent_channels
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
        for _ in range(config.blocks + 1):
            layers += _block(incoming, width, scale, frames)
            incoming = width
        if level < len(config.time_halvings):
            if config.time_halvings[-1 - level]:
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
