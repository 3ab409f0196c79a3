"""Pictures of a user's own: their size is read from the header before anything is decoded.

A PNG of some kilobytes can promise gigabytes of pixels. PNG, JPEG, WebP and BMP are read, turned as
the camera was held, and what is transparent is black: colours that nobody sees stay unseen.

Into a frame of another shape they come by one rule, `fit`: cut off evenly at the sides that are too
long, then scaled, every pixel the mean of its area. Nothing is stretched.
"""

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.config import UserError
from worldmodel.storage.exif import orientation_of, turned
from worldmodel.storage.files import read_file
from worldmodel.system.limits import LARGEST_PICTURE_FILE, MOST_PICTURE_PIXELS

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
        picture = _decode(content)
    except cv2.error:
        picture = None
    if picture is None:
        raise PictureError(f"{path}: not a whole image; copy or download it again")
    return turned(picture, orientation_of(content))


def centre(frame: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """The largest part of a frame h w 3, around its middle, in the shape of rows x columns."""
    height, width = frame.shape[:2]
    share = min(height / rows, width / columns)
    high, wide = max(1, round(rows * share)), max(1, round(columns * share))
    top, left = (height - high) // 2, (width - wide) // 2
    return frame[top : top + high, left : left + wide]


def fit(frame: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """A frame h w 3 as rows x columns; what is too small is enlarged smoothly."""
    part = centre(frame, rows, columns)
    if part.shape[:2] == (rows, columns):
        return np.ascontiguousarray(part)
    way = cv2.INTER_AREA if part.shape[0] >= rows and part.shape[1] >= columns else cv2.INTER_CUBIC
    return np.asarray(
        cv2.resize(np.ascontiguousarray(part), (columns, rows), interpolation=way), np.uint8
    )


def _decode(content: bytes) -> NDArray[np.uint8] | None:
    """RGB h w 3, not turned yet."""
    # A BMP's fourth channel is no alpha: most programs leave noughts in it.
    kind = cv2.IMREAD_COLOR if content.startswith(b"BM") else cv2.IMREAD_UNCHANGED
    if kind == cv2.IMREAD_COLOR:
        kind |= cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), kind)
    if picture is None:
        return None
    if picture.dtype == np.uint16:
        picture = (np.asarray(picture, np.uint16) >> 8).astype(np.uint8)
    if picture.ndim == 2:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)
    colours = np.asarray(cv2.cvtColor(picture[..., :3], cv2.COLOR_BGR2RGB), np.uint8)
    if picture.shape[2] == 4:
        for row, alpha in zip(colours, picture[..., 3], strict=True):  # memory for one row
            row[:] = (row.astype(np.uint16) * alpha[:, None] + 127) // 255
    return colours


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
    """Whether a PNG's parts are as long as they say: decoders take memory for what is promised.

    What other programs left behind its end (another picture, a maker's notes) is not looked at.
    """
    at = 8
    while at + 12 <= len(content):
        is_last = content[at + 4 : at + 8] == b"IEND"
        at += 12 + int(struct.unpack(">I", content[at : at + 4])[0])
        if is_last:
            return at <= len(content)
    return False


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
