"""Sizes of frames, as the command line names them."""

from worldmodel.config import UserError
from worldmodel.storage.episodes import HALVED, told_sizes


def read_size(text: str) -> tuple[int, int]:
    """Rows and columns of "64x48", width first; what nothing can be trained on is refused."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"--size {text!r}: expected width x height, for instance 64x48")
    size = int(height), int(width)
    if any(side % HALVED for side in size):
        raise UserError(f"--size {text}: nothing could be trained on it; {told_sizes(size)}")
    return size
