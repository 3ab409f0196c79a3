"""Pictures of a user's own: their size is read from the header before anything is decoded.

A PNG of some kilobytes can promise gigabytes of pixels. PNG, JPEG, WebP and BMP are read.
"""

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.config import UserError
from worldmodel.files import read_file
from worldmodel.limits import LARGEST_PICTURE_FILE, MOST_PICTURE_PIXELS

SIZED = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)  # SOFn
BARE = (0x01, *range(0xD0, 0xD9))  # JPEG markers without a length


class PictureError(UserError):
    """A file is no picture that can be read."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """RGB h w 3; a `PictureError` names the file and says why not."""
    content = read_file(path, LARGEST_PICTURE_FILE)
    try:
        width, height = picture_size(content)
    except (struct.error, IndexError):
        width = height = 0
    if not (width > 0 and height > 0):
        raise PictureError(f"{path}: not an image that can be read (PNG, JPEG, WebP or BMP)")
    if width * height > MOST_PICTURE_PIXELS:
        raise PictureError(
            f"{path}: {width} x {height} pixels, at most {MOST_PICTURE_PIXELS >> 20} million are "
            "read"
        )
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise PictureError(f"{path}: not a whole image; copy or download it again")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def picture_size(content: bytes) -> tuple[int, int]:
    """Width and height as a picture's header states them; noughts for what is none."""
    if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR":
        return struct.unpack(">II", content[16:24]) if _has_whole_chunks(content) else (0, 0)
    if content.startswith(b"BM"):
        width, height = struct.unpack("<ii", content[18:26])
        return width, abs(height)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp_size(content)
    return _jpeg_size(content) if content.startswith(b"\xff\xd8") else (0, 0)


def _has_whole_chunks(content: bytes) -> bool:
    """Whether a PNG's parts are as long as they say: decoders take memory for what is promised."""
    at = 8
    while at + 12 <= len(content):
        at += 12 + int(struct.unpack(">I", content[at : at + 4])[0])
    return at == len(content)


def _webp_size(content: bytes) -> tuple[int, int]:
    kind = content[12:16]
    if kind == b"VP8X":
        size = int.from_bytes(content[24:27], "little"), int.from_bytes(content[27:30], "little")
        return size[0] + 1, size[1] + 1
    if kind == b"VP8L":
        bits = struct.unpack("<I", content[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", content[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(content: bytes) -> tuple[int, int]:
    at = 2
    while content[at] == 0xFF:
        marker = content[at + 1]
        if marker in SIZED:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 if marker in BARE else 1 if marker == 0xFF else 2 + _length(content, at)
    return 0, 0


def _length(content: bytes, at: int) -> int:
    return int(struct.unpack(">H", content[at + 2 : at + 4])[0])
