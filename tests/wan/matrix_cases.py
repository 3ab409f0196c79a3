"""Small Matrix-Game 2 models and inputs whose results the reference gave (`golden/`)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.wan.numbers import uniform
from worldmodel.wan.image_encoder import ImageEncoderConfig

ROWS, COLUMNS = 4, 6
CHANNELS, MASK = 16, 4  # of latents; of the mask beside the picture's latents
PICTURE_WIDTH, PICTURE_TOKENS = 20, 5
WIDTH, HEADS, LAYERS, FEED_FORWARD, TIME_FEATURES = 32, 2, 3, 48, 16
KEY_WIDTH, ACTION_HEADS, ACTION_HEAD_WIDTH = 8, 2, 64
CHUNK = 3
GAIN = 1.3
IMAGE_ENCODER = ImageEncoderConfig(width=160, layers=2, feed_forward=640, patch=14, side=28)


@dataclass(frozen=True, slots=True)
class MatrixCase:
    """A variant of the model, and how it was rolled out."""

    keys: int
    mouse: int
    layers: tuple[int, ...]  # which have an action module
    steps: tuple[int, ...]
    window: int  # latent frames; -1: all
    frames: int
    moves: bool = True  # whether keys and mouse do anything
    actions: int = 0  # latent frames that attention to keys and mouse sees, where it is told apart

    @property
    def action_window(self) -> int:
        """Where nothing limits the window, the reference's action attention sees 15 frames."""
        return self.actions or (15 if self.window < 0 else self.window)

    def noise(self) -> Tensor:
        """Of the whole clip: 1 f c h w."""
        return 3**0.5 * uniform((1, self.frames, CHANNELS, ROWS, COLUMNS), 1)

    def renoise(self, number: int) -> Tensor:
        """Of the draw of this number within the rollout, for one chunk: n c h w."""
        return 3**0.5 * uniform((CHUNK, CHANNELS, ROWS, COLUMNS), 100 + number)

    def picture(self) -> Tensor:
        """Mask and latents beside the noise: 1 f 20 h w."""
        mask = torch.zeros(1, self.frames, MASK, ROWS, COLUMNS)
        mask[:, 0] = 1
        return torch.cat((mask, uniform((1, self.frames, CHANNELS, ROWS, COLUMNS), 2)), dim=2)

    def features(self) -> Tensor:
        """Of the picture: 1 u d."""
        return uniform((1, PICTURE_TOKENS, PICTURE_WIDTH), 3)

    def key_rows(self) -> Tensor:
        """One row for each pixel frame: 1 r k."""
        rows = (uniform((1, 1 + 4 * (self.frames - 1), self.keys), 4) > 0).float()
        return rows if self.moves else torch.zeros_like(rows)

    def mouse_rows(self) -> Tensor | None:
        """One row for each pixel frame: 1 r m."""
        if not self.mouse:
            return None
        rows = uniform((1, 1 + 4 * (self.frames - 1), self.mouse), 5)
        return rows if self.moves else torch.zeros_like(rows)


THREE, FOUR = (1000, 666, 333), (1000, 750, 500, 250)
ROLLOUTS = {
    "universal": MatrixCase(4, 2, (0, 1), THREE, 6, 15),
    "universal.still": MatrixCase(4, 2, (0, 1), THREE, 6, 15, moves=False),
    "gta": MatrixCase(2, 2, (0, 1), THREE, 4, 12),
    "templerun": MatrixCase(7, 0, (0, 1), FOUR, 6, 12),
    "forgewm": MatrixCase(6, 2, (0, 1), FOUR, 9, 15, actions=6),  # the recipe's windows
    "forgewm.still": MatrixCase(6, 2, (0, 1), FOUR, 9, 15, moves=False, actions=6),
    "forgewm.9": MatrixCase(6, 2, (0, 1), FOUR, 9, 12),
    "forgewm.all": MatrixCase(6, 2, (0, 1), FOUR, -1, 21),
}
# One pass over a whole clip: noise level 0.625 for every frame, or its own for every chunk.
WHOLE = MatrixCase(6, 2, (0, 1, 2), FOUR, -1, 6)
PACKED = MatrixCase(7, 0, (0, 1, 2), FOUR, -1, 6)
TICKS = (937.5, 625.0)  # of the two chunks


def clean() -> Tensor:
    """The true clip of the packed pass: 1 f c h w."""
    return uniform((1, WHOLE.frames, CHANNELS, ROWS, COLUMNS), 6)


def picture_bytes() -> NDArray[np.uint8]:
    """A picture that is not square: h w 3."""
    return (127.5 * (uniform((32, 48, 3), 7) + 1)).numpy().astype(np.uint8)
