"""Pictures of a user's own: their size is read from the header before anything is decoded.

A PNG of some kilobytes can promise gigabytes of pixels. PNG, JPEG, WebP and BMP are read, turned as
the camera was held, and what is transparent is black: colours that nobody sees stay unseen.

Into a frame of another shape they come by one rule, `fit`: cut off evenly at the sides that are too
long, then scaled, every pixel the mean of its area. Nothing is stretched.
"""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.config import UserError
from worldmodel.storage.files import read_file
from worldmodel.system.limits import LARGEST_PICTURE_FILE, MOST_PICTURE_PIXELS

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
AT_MOST = f"at most {MOST_PICTURE_PIXELS >> 20} million are read"
ORIENTATION = 0x0112  # the tag
DEPTH = 24  # where a PNG says how many bits a pixel has
# Quarter turns to the left, then whether left and right change places.
TURNS = {
    1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True),
    5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False),
}  # fmt: skip


class PictureError(UserError):
    """A file is no picture that can be read."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """RGB h w 3; a `PictureError` names the file and says why not."""
    content = read_file(path, LARGEST_PICTURE_FILE)
    orientation, unseen = _facts(content, path)
    quarters, is_mirrored = TURNS.get(orientation, (0, False))
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # for standard error
    try:
        picture = _decode(content, unseen)
    except cv2.error:
        picture = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if picture is None:
        raise PictureError(f"{path}: not a whole image; copy or download it again")
    seen = np.rot90(picture, quarters)
    return np.ascontiguousarray(seen[:, ::-1] if is_mirrored else seen)


def _facts(content: bytes, path: Path) -> tuple[int, int | None]:
    """How the camera was held, as EXIF counts, and the grey that a PNG calls transparent.

    The picture's size is none to be afraid of from here on.
    """
    from PIL import Image  # only who brings a picture waits for it

    is_cut = content.startswith(b"\x89PNG") and not _has_whole_chunks(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has a limit of its own
            picture = Image.open(io.BytesIO(b"" if is_cut else content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path}: too many pixels, {AT_MOST}") from error
    except Exception as error:  # a broken or forged picture fails in a dozen ways
        raise PictureError(
            f"{path}: not an image that can be read (PNG, JPEG, WebP or BMP)"
        ) from error
    width, height = picture.size
    if width * height > MOST_PICTURE_PIXELS:
        raise PictureError(f"{path}: {width} x {height} pixels, {AT_MOST}")
    unseen = picture.info.get("transparency") if picture.mode in ("1", "L", "I;16") else None
    if picture.mode == "L" and isinstance(unseen, int):
        unseen = unseen * 255 // (2 ** content[DEPTH] - 1)  # of 2, 4 or 8 bits
    try:
        return int(picture.getexif().get(ORIENTATION, 1)), unseen
    except Exception:  # noqa: BLE001  # the same of its EXIF, which nobody needs to see it
        return 1, unseen


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


def _decode(content: bytes, unseen: int | None) -> NDArray[np.uint8] | None:
    """RGB h w 3, not turned yet; black where a grey picture has the value `unseen`."""
    # A BMP's fourth channel is no alpha: most programs leave zeros in it.
    kind = cv2.IMREAD_COLOR if content.startswith(b"BM") else cv2.IMREAD_UNCHANGED
    if kind == cv2.IMREAD_COLOR:
        kind |= cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), kind)
    if picture is None:
        return None
    if picture.ndim == 2 and unseen is not None:  # OpenCV reads it in colours and palettes only
        picture[picture == unseen] = 0
    if picture.dtype == np.uint16:
        picture = (np.asarray(picture, np.uint16) >> 8).astype(np.uint8)
    if picture.ndim == 2:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)
    colours = np.asarray(cv2.cvtColor(picture[..., :3], cv2.COLOR_BGR2RGB), np.uint8)
    if picture.shape[2] == 4:
        for row, alpha in zip(colours, picture[..., 3], strict=True):  # memory for one row
            row[:] = (row.astype(np.uint16) * alpha[:, None] + 127) // 255
    return colours


def _has_whole_chunks(content: bytes) -> bool:
    """Whether a PNG's parts are as long as they say: decoders take memory for what is promised.

    What other programs left behind its end (another picture, a maker's notes) is not looked at.
    """
    at = 8
    while at + 12 <= len(content):
        is_last = content[at + 4 : at + 8] == b"IEND"
        at += 12 + int.from_bytes(content[at : at + 4], "big")
        if is_last:
            return at <= len(content)
    return False
