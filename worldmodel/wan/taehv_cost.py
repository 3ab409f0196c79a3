"""The layers of the tiny decoder as numbers, for `layer_costs`."""

from worldmodel.wan.layer_costs import Layer
from worldmodel.wan.taehv_config import TaehvConfig


def decoder_layers(config: TaehvConfig) -> list[Layer]:
    """What a later step (not the first) of the decoder computes, in order."""
    widths, scale, frames = config.decoder_widths, 1, 1
    layers = [Layer(config.latent_channels, widths[0], (1, 3, 3), scale, frames)]
    for width, after, growth in zip(widths[:-1], widths[1:], config.time_doublings, strict=True):
        for _ in range(config.blocks):
            # The previous frame enters as further channels: a kernel over two frames.
            layers.append(Layer(width, width, (2, 3, 3), scale, frames, remembers=1))
            layers += [Layer(width, width, (1, 3, 3), scale, frames)] * 2
        layers.append(Layer(width, width * growth, (1, 1, 1), scale, frames))
        scale, frames = 2 * scale, growth * frames
        layers.append(Layer(width, after, (1, 3, 3), scale, frames))
    layers.append(Layer(widths[-1], 3, (1, 3, 3), scale, frames))
    return layers
