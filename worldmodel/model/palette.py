"""The colours of a game that has few of them: every pixel that is shown becomes the nearest one.

A game of flat colours shows the same one from pixel to pixel; a decoder comes near it and never the
same twice. In the game's own colours areas are flat and edges crisp again, and a frame packs into
half the bytes.

    palette = Palette(["2b1708", "33200f"])
    frames = palette(frames)               # uint8 ... 3
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

STEP = 4  # levels of a channel that share their nearest colour
STEPS = 256 // STEP


class Palette(nn.Module):
    """Frames in the colours of a palette."""

    colours: Tensor  # uint8, a row of red, green and blue for each
    nearest: Tensor  # 64·64·64, uint8: the colour that is nearest to a cell of red, green and blue

    def __init__(self, colours: Sequence[str]) -> None:
        """Colours as `rrggbb`, at most 256: `AutoencoderConfig` has checked them."""
        super().__init__()
        table = torch.tensor([list(bytes.fromhex(colour)) for colour in colours])
        self.register_buffer("colours", table.to(torch.uint8), persistent=False)
        self.register_buffer("nearest", _nearest(table.float()), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames uint8 ... 3 -> uint8 ... 3. In integers, which no compiler rounds."""
        red, green, blue = torch.div(frames.to(torch.int32), STEP, rounding_mode="floor").unbind(-1)
        which = self.nearest[((red * STEPS + green) * STEPS + blue).long()]
        return self.colours[which.long()]


def _nearest(colours: Tensor) -> Tensor:
    """Which of the colours is nearest to the middle of every cell of r g b: uint8."""
    middle = torch.arange(STEPS) * STEP + (STEP - 1) / 2
    cells = torch.cartesian_prod(middle, middle, middle)
    half = colours.square().sum(dim=1) / 2
    parts = [(part @ colours.T - half).argmax(dim=1) for part in cells.split(STEPS**2)]
    return torch.cat(parts).to(torch.uint8)
