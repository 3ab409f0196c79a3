"""What an environment draws, as a picture uint8 h w 3: what can be converted plainly, is.

Grey h w or h w 1, h w 4 with alpha (left out), channels first, whole numbers from 0 to 255, and
floats, whose scale the first picture with anything in it decides: up to 1, or up to 255.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.config import UserError
from worldmodel.world import Frame

KNOWN = "expected h w 3 (or h w, h w 1, h w 4, 3 h w) of 0 to 255, or of floats from 0 to 1"


class Looks:
    """Converts the pictures of one environment, all alike."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._scale: float | None = None  # that makes its floats 0 to 255, once it is known

    def picture(self, drawn: Any) -> Frame:
        """A rendered picture as uint8 h w 3; a `UserError` says what it is instead."""
        if drawn is None or isinstance(drawn, str | list | tuple | dict):
            raise self._refuse(f"a {type(drawn).__name__}")
        values = np.asarray(drawn)
        if values.dtype.kind not in "buif" or values.ndim not in (2, 3) or not values.size:
            raise self._refuse(f"{values.dtype} {values.shape}")
        return self._bytes(self._channels_last(values))

    def _channels_last(self, values: NDArray[Any]) -> NDArray[Any]:
        if values.ndim == 2:
            values = values[..., None]
        if values.shape[2] not in (1, 3, 4) and values.shape[0] in (1, 3, 4):
            values = np.moveaxis(values, 0, 2)
        if values.shape[2] == 1:
            return np.repeat(values, 3, axis=2)
        if values.shape[2] not in (3, 4):
            raise self._refuse(f"{values.dtype} {values.shape}")
        return values[..., :3]

    def _bytes(self, values: NDArray[Any]) -> Frame:
        if values.dtype == np.uint8:
            return np.ascontiguousarray(values, np.uint8)
        if values.dtype == np.bool_:
            return np.where(values, np.uint8(255), np.uint8(0))
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 255):  # what is no number is neither
            raise self._refuse(f"{values.dtype} from {low:g} to {high:g}")
        if values.dtype.kind != "f":
            return values.astype(np.uint8)
        if self._scale is None and high > 0:
            self._scale = 255.0 if high <= 1 else 1.0
        if self._scale == 255.0 and high > 1:
            raise self._refuse(f"floats up to 1 at first and up to {high:g} later")
        return np.round(values * (self._scale or 1.0)).astype(np.uint8)

    def _refuse(self, found: str) -> UserError:
        return UserError(f"{self._name}: render() gave {found}, {KNOWN}")
