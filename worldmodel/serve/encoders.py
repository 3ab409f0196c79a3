"""How frames go to one browser: PNG or JPEG, each for itself, or H.264, each after the one before.

H.264 has no B frames and no look-ahead: a frame goes in, its bytes come out. Only what is sent is
encoded, so a frame that is left out on the way is left out before the encoder saw it, and no
decoder ever misses one. Quality is a number from 1 to 100, as for JPEG.
"""

from fractions import Fraction
from typing import Any, Protocol

import av
import cv2
import numpy as np

from worldmodel.serve.protocol import encode, is_exact
from worldmodel.world import Frame

TIME_BASE = Fraction(1, 1000)
BITS = 0.3  # a pixel at quality 90
FINEST, HALVES = 90, 20  # so many steps of quality less are half the bits
CALM_RATE = 17.5  # frames a second that the bits are reckoned for
BUFFER = 0.25  # seconds of the bit rate in which it may be used up: what a key frame can take
SHORTEST = 1  # of time between two frames, in `TIME_BASE`
NO_KEY = 1 << 20  # frames until a key frame that nobody asked for
# What a browser must know to show the colours that went in (numbers of ITU-T H.273).
LIMITED, BT601, BT709, SRGB = 1, 6, 1, 13


class Encoder(Protocol):
    """The encoder of one socket; used by one thread at a time."""

    def encode(self, frame: Frame, seconds: float, quality: int, *, is_new: bool) -> bytes:
        """Bytes of an RGB frame h w 3 at a time that rises; `is_new`: none before matters."""


class Pictures:
    """PNG of small frames, else JPEG."""

    def encode(self, frame: Frame, seconds: float, quality: int, *, is_new: bool) -> bytes:
        """The bytes of a frame; see `Encoder`."""
        del seconds, is_new
        return encode(frame, quality)


class Video:
    """H.264 of large frames, in Annex B; small ones are PNG."""

    def __init__(self) -> None:
        self._codec: Any = None
        self._size = (0, 0)
        self._last = -1
        self._quality = 0

    def encode(self, frame: Frame, seconds: float, quality: int, *, is_new: bool) -> bytes:
        """See `Encoder`; a key frame, which begins with its parameter sets, where `is_new`."""
        size = (frame.shape[0], frame.shape[1])
        if is_exact(size):
            return encode(frame, quality)
        even = _evened(frame)
        if self._codec is None or self._size != size:
            self._codec, self._size, self._last = _open(even, quality), size, -1
        elif quality != self._quality:
            self._codec.bit_rate = bit_rate(even, quality)  # from this frame on
        self._quality = quality
        picture = av.VideoFrame.from_ndarray(even, format="rgb24")
        self._last = max(self._last + SHORTEST, round(seconds / TIME_BASE))
        picture.pts, picture.time_base = self._last, TIME_BASE
        if is_new:
            picture.pict_type = av.video.frame.PictureType.I
        return b"".join(bytes(packet) for packet in self._codec.encode(picture))


def bit_rate(frame: Frame, quality: int) -> int:
    """Bits a second of frames of this size."""
    pixels = frame.shape[0] * frame.shape[1]
    return round(CALM_RATE * pixels * BITS * 2 ** ((quality - FINEST) / HALVES))


def _evened(frame: Frame) -> Frame:
    """With a last row or column twice where there was an odd number: colours have half as many."""
    rows, columns = frame.shape[0] % 2, frame.shape[1] % 2
    if rows or columns:
        frame = np.asarray(cv2.copyMakeBorder(frame, 0, rows, 0, columns, cv2.BORDER_REPLICATE))
    return np.ascontiguousarray(frame)


def _open(frame: Frame, quality: int) -> Any:
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.height, codec.width, codec.pix_fmt = frame.shape[0], frame.shape[1], "yuv420p"
    codec.time_base, codec.framerate = TIME_BASE, Fraction(30)
    codec.bit_rate, codec.gop_size, codec.max_b_frames = bit_rate(frame, quality), NO_KEY, 0
    codec.thread_count = 1  # the world needs the other cores
    codec.color_range, codec.colorspace = LIMITED, BT601
    codec.color_primaries, codec.color_trc = BT709, SRGB
    most = bit_rate(frame, FINEST)
    buffer = {"maxrate": str(most), "bufsize": str(round(most * BUFFER))}
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", **buffer}
    return codec
