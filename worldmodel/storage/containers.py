"""Kinds of video files, and how their frames are meant to be seen.

What a file is comes from its first bytes: no demuxer is tried that reads lists of other files.
"""

import struct
from fractions import Fraction
from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
HEAD = 16  # bytes that tell
BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"pnot", b"uuid", b"styp")
MATRIX = 36  # bytes of a display matrix, 9 numbers
FLATTEST = Fraction(16)  # the largest ratio of a pixel's sides that is believed


def container_of(head: bytes) -> str:
    """What FFmpeg calls a file with these first bytes; MP4, which has no fixed ones, otherwise."""
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"  # WebM is one
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    return "mp4"  # MOV is one


def is_something_else(head: bytes) -> bool:
    """Whether no video that is read begins so; one that a disk has lost may begin with zeros."""
    return container_of(head) == "mp4" and any(head) and head[4:8] not in BOXES


def square_size(width: int, height: int, ratio: Fraction | None) -> tuple[int, int]:
    """Width and height in square pixels; `ratio` is a pixel's width over its height."""
    if not ratio or not 1 / FLATTEST <= ratio <= FLATTEST:
        return width, height
    if ratio > 1:
        return round(width * ratio), height
    return width, round(height / ratio)


def seen(picture: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A decoded picture as RGB h w 3, of a width and height before it is turned."""
    if (picture.width, picture.height) == size:
        return _turned(picture.to_ndarray(format="rgb24"), picture)
    square = picture.reformat(width=size[0], height=size[1], format="rgb24")
    return _turned(square.to_ndarray(), picture)


def _turned(frame: NDArray[np.uint8], picture: Any) -> NDArray[np.uint8]:
    """As the camera was held: a point (x, y) is shown at (a x + c y, b x + d y)."""
    for side in picture.side_data:
        if side.type.name == "DISPLAYMATRIX" and side.buffer_size >= MATRIX:
            a, b, _, c, d = struct.unpack("=5i", bytes(side)[:20])
            if abs(b) > abs(a):
                frame, a, d = rearrange(frame, "h w c -> w h c"), c, b
            frame = frame[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(frame)
