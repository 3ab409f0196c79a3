"""Pictures of what a model makes, for a person to look at."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.files import write_atomically

Frames = NDArray[np.uint8]  # f h w 3


def make_grid(rows: Sequence[Frames], scale: int = 2) -> NDArray[np.uint8]:
    """Rows of frames f h w 3 as one picture, every frame `scale` times as large."""
    wide = [np.concatenate(list(row), axis=1) for row in rows]
    grid = np.concatenate(wide, axis=0)
    size = (grid.shape[1] * scale, grid.shape[0] * scale)
    return np.asarray(cv2.resize(grid, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def save_grid(path: Path, rows: Sequence[Frames], scale: int = 2) -> None:
    """Write rows of frames as a PNG."""
    picture = cv2.cvtColor(make_grid(rows, scale), cv2.COLOR_RGB2BGR)
    write_atomically(path, cv2.imencode(".png", picture)[1].tobytes())
