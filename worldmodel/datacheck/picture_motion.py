"""How the picture moves from frame to frame: a few numbers a frame, enough to tell when.

The picture is made small and grey, and its motion is fitted as one similarity: right, down, larger,
turned. By Lucas and Kanade's brightness constancy, with (x, y) from the middle of the picture:

    I_t + u I_x + v I_y + z (x I_x + y I_y) + r (x I_y − y I_x) = 0
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

SMALL = 32  # columns
FIGURES = 5  # right, down, larger, turned, and how much changed at all


def small_grey(frames: NDArray[np.uint8]) -> Numbers:
    """Frames n h w 3 as small grey pictures n h w, 0 to 1."""
    rows, columns = frames.shape[1:3]
    wide = min(SMALL, columns)
    size = max(2, wide), max(2, round(rows * wide / columns))  # a gradient needs two
    grey = [
        cv2.resize(
            cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY),
            size,
            interpolation=cv2.INTER_AREA,
        )
        for frame in frames
    ]
    soft = [cv2.GaussianBlur(picture, (3, 3), 0) for picture in grey]
    return np.stack(soft).astype(np.float64) / 255


def motion(grey: Numbers) -> Numbers:
    """Motion into each picture but the first: n h w -> n−1 5."""
    if len(grey) < 2:
        return np.zeros((0, FIGURES))
    before, after = grey[:-1], grey[1:]
    change = after - before
    down, right = np.gradient((before + after) / 2, axis=(1, 2))
    rows, columns = grey.shape[1:]
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    y, x = (y - (rows - 1) / 2) / columns, (x - (columns - 1) / 2) / columns
    basis = np.stack((right, down, x * right + y * down, x * down - y * right), axis=1)
    flat, target = basis.reshape(*basis.shape[:2], -1), change.reshape(len(change), -1)
    square = flat @ flat.mT + 1e-3 * np.eye(4)  # flat pictures do not move
    fitted = np.linalg.solve(square, -(flat @ target[..., None]))[..., 0]
    much = np.log(1e-3 + np.abs(change).mean(axis=(1, 2)))
    return np.concatenate((fitted, much[:, None]), axis=1)
