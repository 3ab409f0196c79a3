"""How a camera was held: the orientation that a picture's EXIF states.

Phones write the picture as the sensor saw it, and beside it how it has to be turned. JPEG has EXIF
in a segment APP1, PNG in a chunk `eXIf`, WebP in a chunk `EXIF`; all hold the same little TIFF.
"""

import struct

import numpy as np
from numpy.typing import NDArray

PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # the tag
MOST_ENTRIES = 512  # of a directory
SHORT = 3  # the type that an orientation has
# Quarter turns to the left, then whether left and right change places.
TURNS = {
    1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True),
    5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False),
}  # fmt: skip


def turned(picture: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A picture h w ... as it was seen; an orientation that there is not turns nothing."""
    quarters, is_mirrored = TURNS.get(orientation, (0, False))
    seen = np.rot90(picture, quarters)
    return np.ascontiguousarray(seen[:, ::-1] if is_mirrored else seen)


def orientation_of(content: bytes) -> int:
    """1 to 8, as EXIF counts; 1, upright, where the picture does not say."""
    try:
        return _read_tiff(_find_exif(content))
    except (struct.error, IndexError):
        return 1


def _read_tiff(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    start = struct.unpack(f"{order}I", tiff[4:8])[0]
    count = struct.unpack(f"{order}H", tiff[start : start + 2])[0]
    for at in range(start + 2, start + 2 + 12 * min(count, MOST_ENTRIES), 12):
        tag, kind = struct.unpack(f"{order}HH", tiff[at : at + 4])
        if tag == ORIENTATION and kind == SHORT:
            return int(struct.unpack(f"{order}H", tiff[at + 8 : at + 10])[0])
    return 1


def _find_exif(content: bytes) -> bytes:
    """The TIFF inside, or nothing."""
    if content.startswith(PNG):
        found = _find_chunk(content, 8, b"eXIf", ">", is_padded=False)
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        found = _find_chunk(content, 12, b"EXIF", "<", is_padded=True)
    else:
        found = _find_segment(content)
    return found.removeprefix(b"Exif\0\0")


def _find_chunk(content: bytes, at: int, name: bytes, order: str, *, is_padded: bool) -> bytes:
    """PNG says length, name, data, checksum; RIFF says name, length, data, to an even length."""
    while at + 8 <= len(content):
        head = content[at : at + 8]
        kind, size = (head[:4], head[4:]) if is_padded else (head[4:], head[:4])
        length = int(struct.unpack(f"{order}I", size)[0])
        if kind == name:
            return content[at + 8 : at + 8 + length]
        at += 8 + length + (length % 2 if is_padded else 4)
    return b""


def _find_segment(content: bytes) -> bytes:
    """Of a JPEG; what is drawn begins with SOS, and EXIF comes before."""
    at = 2
    while content[at : at + 1] == b"\xff" and content[at + 1] != 0xDA:
        length = int(struct.unpack(">H", content[at + 2 : at + 4])[0])
        inside = content[at + 4 : at + 2 + length]
        if content[at + 1] == 0xE1 and inside.startswith(b"Exif\0\0"):
            return inside
        at += 2 + max(2, length)
    return b""
