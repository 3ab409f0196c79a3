"""Videos: H.264 is written frame by frame at its real times; what cameras write is read too.

Frames are read as they are meant to be seen: turned as the camera was held, pixels square.

While it grows, the file is a fragmented MP4, playable at whatever point the process is killed or,
up to the last `sync`, the power fails; `close` rewrites it as a plain MP4, which more players can
seek in. A writer makes its file itself, so no two ever share one. PyAV is imported when a video is
opened, so nothing else needs it.
"""

import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.config import UserError
from worldmodel.storage.containers import ENDINGS as ENDINGS
from worldmodel.storage.containers import (
    HEAD,
    container_of,
    is_something_else,
    seen,
    square_size,
)
from worldmodel.storage.files import check_file, sync
from worldmodel.system.limits import (
    FASTEST,
    LARGEST_WEIGHTS,
    LONGEST_SIDE,
    MOST_BOXES,
    MOST_VIDEO_PIXELS,
    SLOWEST,
)

TIME_BASE = Fraction(1, 90_000)  # what MPEG counts in
SHOWN_WIDTH = 640  # small frames are scaled up to at least this
FRAGMENT_SECONDS = 1.0  # what a killed process loses
FIRST_FRAGMENT = 0.05  # they grow: who is killed in the first second leaves a clip too
QUALITY = "18"  # x264's crf; 18 is taken to look lossless
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}


class VideoError(UserError):
    """A video cannot be written or read here."""


class VideoWriter:
    """One growing video; `write` raises `OSError` or PyAV's errors when it cannot be written."""

    def __init__(self, path: Path, frame_size: tuple[int, int], frames_per_second: float) -> None:
        av = _import_av()
        self.path, self.frame_size = path, frame_size
        self.size = shown_size(frame_size)
        self._last = -1
        self._fragment_ends = self._fragment = 0.0
        self._rate = Fraction(frames_per_second).limit_denominator(1000)
        self._file = path.open("xb", buffering=0)
        self._begun = _BegunFile(self._file)
        self._container = av.open(self._begun, "w", format="mp4", options=FRAGMENTED)
        try:
            self._stream = self._add_stream(self._container)
        except (av.codec.codec.UnknownCodecError, ValueError) as error:
            self.abandon()
            raise VideoError(
                "this PyAV has no H.264 encoder (libx264); install the official one: "
                "pip install --force-reinstall --only-binary av av"
            ) from error

    def write(self, frame: NDArray[np.uint8], seconds: float) -> None:
        """Append an RGB frame h w 3, shown from `seconds` after the beginning."""
        picture = self._enlarge(frame)
        self._last = max(self._last + 1, round(seconds / TIME_BASE))  # times must rise
        picture.pts, picture.time_base = self._last, TIME_BASE
        if seconds >= self._fragment_ends:  # by time, because play may be slower than its world
            picture.pict_type = _import_av().video.frame.PictureType.I
            self._fragment_ends = seconds + self._fragment
            longer = max(FIRST_FRAGMENT, 2 * self._fragment)
            self._fragment = min(longer, FRAGMENT_SECONDS)
        self._container.mux(self._stream.encode(picture))
        if not self._begun.is_shown:
            self._begun.show(self._clip_of(picture))
        else:
            self._begun.release()

    def _add_stream(self, container: Any) -> Any:
        """The one video stream of a container."""
        stream = container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width = self.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.gop_size = max(1, round(self._rate))  # a second at risk
        stream.codec_context.thread_count = 1  # the world needs the other cores
        stream.options = {"crf": QUALITY, "preset": "ultrafast", "tune": "zerolatency"}
        return stream

    def _clip_of(self, picture: Any) -> bytes:
        """A whole video of one frame."""
        av, content = _import_av(), io.BytesIO()
        with av.open(content, "w", format="mp4", options=FRAGMENTED) as container:
            stream = self._add_stream(container)
            container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return content.getvalue()

    def sync(self) -> None:
        """Wait until the disk has every fragment that was written."""
        sync(self._file.fileno())

    def _enlarge(self, frame: NDArray[np.uint8]) -> Any:
        """Squares rather than a smooth picture: it is training data too, and shrinks back exactly.

        Colours are converted before enlarging, a hundred times cheaper than after.
        """
        import av

        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if self.size == self.frame_size:
            return picture
        factor = self.size[0] // self.frame_size[0]
        planes = picture.reformat(format="yuv444p", threads=1).to_ndarray()  # 3 h w
        light = planes[0].repeat(factor, 0).repeat(factor, 1)
        colour = planes[1:].repeat(factor // 2, 1).repeat(factor // 2, 2)  # half the resolution
        both = np.concatenate([light.ravel(), colour.ravel()]).reshape(-1, self.size[1])
        return av.VideoFrame.from_ndarray(both, format="yuv420p")

    def close(self) -> None:
        """Finish the file and make it a plain MP4; when that fails the fragmented one stays."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._begun.release()
        self.sync()
        self._file.close()
        with contextlib.suppress(OSError, _import_av().error.FFmpegError):
            _defragment(self.path)

    def abandon(self) -> None:
        """Close after a failure, keeping what the disk took."""
        with contextlib.suppress(OSError, _import_av().error.FFmpegError):
            self._container.close()
            self._begun.release()
        with contextlib.suppress(OSError):
            self._file.close()


class _BegunFile:
    """A file that a muxer begins, and that shows the first frame while the muxer keeps it back.

    An MP4 says how long each frame lasts, so nothing of one is written before the next is there:
    who is killed in between would leave a clip without any frame. Until then the file holds a whole
    clip of that frame, and what the muxer writes waits in memory.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._held = file, io.BytesIO()
        self._size = 0  # of what was held when the first frame was shown
        self.is_shown = self._is_released = False

    def write(self, content: bytes) -> int:
        """Append to the file, or to what waits for it."""
        return (self._file if self._is_released else self._held).write(content)

    def show(self, clip: bytes) -> None:
        """Let the file hold this for now."""
        self.is_shown, self._size = True, len(self._held.getvalue())
        _write_all(self._file, clip)

    def release(self) -> None:
        """Write what waits, if there is more by now than a header."""
        if self._is_released or len(content := self._held.getvalue()) == self._size:
            return
        self._is_released, self._held = True, io.BytesIO()
        self._file.seek(0)
        _write_all(self._file, content)
        self._file.truncate()


def _write_all(file: BinaryIO, content: bytes) -> None:
    """All of it, or an `OSError`: a file without a buffer may take a part alone."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def shown_size(frame_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the video: as they are, or an even multiple that is wide enough."""
    rows, columns = frame_size
    factor = -(-SHOWN_WIDTH // columns)
    if factor > 1 or rows % 2 or columns % 2:  # yuv420p has half as many colours as pixels
        factor += factor % 2
    return rows * factor, columns * factor


def shrink(frame: NDArray[np.uint8], frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    """A frame of the video at the world's own size, every pixel the mean of its square."""
    if frame.shape[:2] == frame_size:
        return frame
    small = cv2.resize(frame, frame_size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def read_video(path: Path) -> Iterator[NDArray[np.uint8]]:
    """RGB frames h w 3, up to where a killed process or a lost power stopped the writing."""
    return (frame for _, frame in watch(path))


def watch(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The same frames, each with the second at which it is shown; the first is at 0."""
    av = _import_av()
    _check_file(path)
    began = False
    try:
        for shown in _decode(path, path):
            began = True
            yield shown
    except (FileNotFoundError, PermissionError) as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror}") from error
    except (av.error.FFmpegError, ArithmeticError):  # a whole file never gets here
        if began:
            return  # the unfinished end
        with path.open("rb") as file:
            head = file.read(HEAD)
        if is_something_else(head):
            raise VideoError(
                f"{path}: not a video that can be read (MP4, MOV, MKV, WebM, AVI)"
            ) from None
        if container_of(head) != "mp4":
            raise VideoError(f"{path}: not a whole video; copy or download it again") from None
        # Half of a fragment's head, and what a disk gives for the rest: nothing opens that.
        broken = av.error.FFmpegError, ArithmeticError, OSError
        with contextlib.suppress(*broken), path.open("rb") as file:
            yield from _decode(path, _Beginning(file, _whole_fragments(file)))


def _decode(path: Path, source: "Path | _Beginning") -> Iterator[tuple[float, NDArray[np.uint8]]]:
    file = str(source) if isinstance(source, Path) else source
    with _import_av().open(file, format=_kind(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        if stream is None and container.streams.audio:
            raise VideoError(f"{path}: holds sound and no pictures")
        if stream is None:
            return  # killed before anything was written
        if stream.codec_context is None:
            raise VideoError(f"{path}: a video in a format that PyAV does not know")
        _check_size(path, stream.width, stream.height)
        begin = last = None
        lasts = float(1 / (stream.average_rate or 30))
        for picture in container.decode(stream):
            size = square_size(picture.width, picture.height, stream.sample_aspect_ratio)
            _check_size(path, *size)
            time = picture.time
            begin = time if begin is None else begin
            known = 0.0 if time is None or begin is None else float(time - begin)
            last = known if last is None or known > last else last + lasts  # times rise
            yield last, seen(picture, size)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        return container_of(file.read(HEAD))


def _whole_fragments(file: BinaryIO) -> int:
    """Where the last fragment ends that is whole: a box `moof` counts with its `mdat`."""
    total, position, end = file.seek(0, 2), 0, 0
    for _ in range(MOST_BOXES):
        file.seek(position)
        head = file.read(8)
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind not in (b"ftyp", b"moov", b"moof", b"mdat") or size < 8 or position + size > total:
            break
        position += size
        end = end if kind == b"moof" else position
    return end


class _Beginning:
    """The first bytes of a file, as a file."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self.file, self.end = file, end
        file.seek(0)

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count` of them."""
        return self.file.read(max(0, min(count, self.end - self.file.tell())))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the reading position, as `io.IOBase.seek` does."""
        base = {0: 0, 1: self.file.tell(), 2: self.end}[whence]
        return self.file.seek(max(0, base + offset))

    def tell(self) -> int:
        """The reading position in bytes, as `io.IOBase.tell` says it."""
        return self.file.tell()


def _check_size(path: Path, width: int, height: int) -> None:
    if max(width, height) > LONGEST_SIDE or width * height > MOST_VIDEO_PIXELS:
        raise VideoError(
            f"{path}: frames of {width} x {height}, at most {LONGEST_SIDE} a side "
            f"and {MOST_VIDEO_PIXELS >> 20} million pixels are read"
        )


def _check_file(path: Path) -> None:
    """Refuse what is no file: a pipe would be waited for without end."""
    try:
        check_file(path, LARGEST_WEIGHTS)
    except UserError as error:
        raise VideoError(str(error)) from error


def read_rate(path: Path) -> float:
    """Frames a second of a video, on average."""
    av = _import_av()
    _check_file(path)
    try:
        with av.open(str(path), format=_kind(path), metadata_errors="replace") as container:
            rate = container.streams.video[0].average_rate if container.streams.video else None
    except (OSError, av.error.FFmpegError, ArithmeticError) as error:  # a timescale of zero
        raise VideoError(f"{path}: cannot be read: {error}") from error
    if not rate:
        raise VideoError(f"{path}: holds no frames, or does not say how many a second")
    if not SLOWEST <= rate <= FASTEST:
        raise VideoError(
            f"{path}: {float(rate):g} frames a second, expected from {SLOWEST} to {FASTEST:g}"
        )
    return float(rate)


def _defragment(path: Path) -> None:
    import av

    part = path.with_name(f".{path.name}.part")
    try:
        with (
            av.open(str(path)) as old,
            av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as new,
        ):
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in (one for one in old.demux(video=0) if one.dts is not None):
                packet.stream = stream
                new.mux(packet)
        with part.open("rb+") as file:
            sync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise VideoError(f"videos need PyAV ({error}): pip install av") from error
    return av
