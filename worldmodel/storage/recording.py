"""Recordings: NAME.mp4 to watch and NAME.jsonl to replay and to train on.

The JSONL has a header line, then one line per frame: index, time in seconds, buttons, mouse
degrees, latency, a hash of the frame as the world made it, and what was said to it, if anything.
The first of them is the start frame, which no action led to. The video holds the same frames at
the same times, scaled up by a whole number. Where the world tells its state, the header has it as a
table, `"state": {"x": {"kind": "position", "unit": "m", "low": 0.0, "high": 9.0}, …}`, and a frame
the numbers in the same order, `"state": [3.25, …]`, null for what is not known.

    recorder = Recorder(path, header)             # the files exist from here on
    recorder.write(frame, row)                    # again and again; encoding has its own thread
    recorder.finish(); recorder.wait()

Until it is finished the video is fragmented, and every second both files are on the disk: a killed
process or a lost power leaves a clip that plays up to its last second, and a row for every frame of
it. A recording begun in the middle of play has a third file, NAME.moment: what its replay begins
with.
"""

import contextlib
import hashlib
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import IDLE
from worldmodel.config import UserError
from worldmodel.state_spec import track_of
from worldmodel.storage.action_log import BAD_LINE as BAD_LINE
from worldmodel.storage.action_log import FORMAT as FORMAT
from worldmodel.storage.action_log import FrameRow as FrameRow
from worldmodel.storage.action_log import Header as Header
from worldmodel.storage.action_log import RecordingError as RecordingError
from worldmodel.storage.action_log import check_width
from worldmodel.storage.action_log import read_recording as read_recording
from worldmodel.storage.episode import Episode, EpisodeError
from worldmodel.storage.files import sync
from worldmodel.storage.moments import Moment, save_moment
from worldmodel.storage.video import VideoWriter, read_video, shrink
from worldmodel.system.limits import LARGEST_FRAMES
from worldmodel.world import Frame

ENDINGS = (".jsonl", ".mp4", ".moment")
WAITING_FRAMES = 64  # frames the encoder may lag behind before play waits for it
PATIENCE = 2.0  # seconds that play waits for an encoder which does nothing
SYNC_SECONDS = 1.0  # how often the disk must have everything
LAST_PATIENCE = 60.0  # seconds at the end
NICENESS = 10  # of the encoder beside the world
MOST_TRIES = 100


class TakenError(RecordingError):
    """A file of that name is there already."""


def _step_back() -> None:
    """Let this thread have the time that the world leaves, where a system can (Linux)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def hash_frame(frame: Frame) -> str:
    """The first 16 hexadecimal digits of the sha256 of a frame's bytes."""
    return hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest()[:16]


def free_name(path: Path, endings: Sequence[str] = ENDINGS) -> Path:
    """`path` without such an ending, numbered until no file of that name has one of them."""
    path = path.with_suffix("") if path.suffix in endings else path
    number, name = 1, path
    while any(os.path.lexists(name.with_name(name.name + end)) for end in endings):
        number += 1
        name = path.with_name(f"{path.name}_{number:03}")
    return name


class Recorder:
    """Writes one recording; frames are handed over by one thread and encoded by another."""

    def __init__(self, name: Path, header: Header, moment: Moment | None = None) -> None:
        self.path, self.rows_path, self._moment_path = (
            name.with_name(name.name + ending) for ending in (".mp4", ".jsonl", ".moment")
        )
        self._spec = header.state
        self._moment = moment  # where a recording begins that does not begin at a start
        self._queue: queue.SimpleQueue[tuple[Frame, FrameRow] | None] = queue.SimpleQueue()
        self._failure: UserError | None = None
        self._is_empty = True
        self._synced = time.monotonic()
        try:
            name.parent.mkdir(parents=True, exist_ok=True)
            self._rows = self.rows_path.open("x", encoding="utf-8")
        except FileExistsError as error:
            raise TakenError(f"{self.rows_path}: recording stopped: File exists") from error
        except OSError as error:
            raise self._explain(error) from error
        try:
            self._write_line(header.to_json())
            self._video = VideoWriter(self.path, header.frame_size, header.frames_per_second)
        except FileExistsError as error:
            self._remove()
            raise TakenError(f"{self.path}: recording stopped: File exists") from error
        except Exception as error:
            self._remove()
            raise self._explain(error) from error
        # A daemon: a disk that never answers does not hold the program for ever.
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, row: FrameRow) -> None:
        """Append one frame; a `RecordingError` says that the recording has stopped, and why."""
        self._wait_for_room()
        if self._failure:
            raise self._failure
        check_width(row, self._spec)
        self._queue.put((frame, row))

    @property
    def waiting(self) -> int:
        """Frames that are not encoded yet."""
        return self._queue.qsize()

    def finish(self) -> None:
        """No more frames will come; those that wait are still written."""
        self._queue.put(None)

    def wait(self) -> None:
        """Until everything is on disk; a `RecordingError` says what is not."""
        self._thread.join(LAST_PATIENCE)
        if self._thread.is_alive():
            self._failure = self._explain(TimeoutError(0, "the disk does not answer"))
        for path in (self.path, self.rows_path) if not self._failure else ():
            if not path.is_file():
                self._failure = RecordingError(f"{path}: was removed while it was recorded")
        if self._failure:
            raise self._failure

    def _wait_for_room(self) -> None:
        """Give a slow encoder time, but not one that does nothing."""
        waiting, since = self._queue.qsize(), time.monotonic()
        while waiting >= WAITING_FRAMES and not self._failure:
            time.sleep(0.002)
            if (now_waiting := self._queue.qsize()) < waiting:
                waiting, since = now_waiting, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                self._failure = self._explain(TimeoutError(0, "the disk does not keep up"))

    def _run(self) -> None:
        """Encode until `finish`; after a failure only make room, so that play never waits."""
        _step_back()
        try:
            if self._moment:
                save_moment(self._moment_path, self._moment)
            while (item := self._queue.get()) and not self._failure:
                self._append(*item)
            if item:  # play lost its patience with the disk
                self._drain()
        except Exception as error:  # noqa: BLE001  # `write` and `wait` raise it where play is
            self._failure = self._explain(error)
            self._drain()
        self._close()

    def _drain(self) -> None:
        while self._queue.get():
            pass

    def _close(self) -> None:
        try:
            if not self._failure:
                self._sync_rows()
                self._rows.close()
                self._video.close()
        except Exception as error:  # noqa: BLE001  # `wait` raises it
            self._failure = self._explain(error)
        if self._failure:
            self._video.abandon()
            with contextlib.suppress(OSError):
                self._rows.close()

    def _remove(self) -> None:
        """Nothing was recorded, so nothing stays."""
        for clean in (self._rows.close, self.rows_path.unlink):
            with contextlib.suppress(OSError):
                clean()

    def _append(self, frame: Frame, row: FrameRow) -> None:
        line = replace(row, hash=hash_frame(frame)).to_json()
        if self._is_empty:  # whoever finds a row finds a frame; of later ones the row comes first
            self._video.write(frame, row.time)
        self._write_line(line)
        if not self._is_empty:
            self._video.write(frame, row.time)
        self._is_empty = False
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync_rows()
            self._video.sync()
            self._synced = time.monotonic()

    def _sync_rows(self) -> None:
        self._rows.flush()
        sync(self._rows.fileno())

    def _write_line(self, line: str) -> None:
        self._rows.write(line + "\n")
        self._rows.flush()

    def _explain(self, error: Exception) -> UserError:
        if isinstance(error, UserError):
            return error
        told = error.strerror if isinstance(error, OSError) else None
        return RecordingError(
            f"{self.path}: recording stopped: {told or f'{type(error).__name__}: {error}'}; "
            "what was written before stays readable"
        )


def begin_recording(name: Path, header: Header, moment: Moment | None = None) -> Recorder:
    """A recorder under `name`, or the next number that neither file nor process has taken."""
    for _ in range(MOST_TRIES):
        with contextlib.suppress(TakenError):  # by another process, in this very moment
            return Recorder(free_name(name), header, moment)
    raise RecordingError(f"{name}: recording stopped: every name that is free is taken at once")


def last_path(rows: Sequence[FrameRow]) -> list[int]:
    """Which rows lead to the last one: where play went back in time, what it left is left out."""
    path: list[int] = []
    for i, row in enumerate(rows):
        if row.back_to is not None:
            while path and rows[path[-1]].index > row.back_to:
                path.pop()
        path.append(i)
    return path


def load_recording(path: Path, last: int | None = None) -> Episode:
    """The recording as an episode: as many frames as both files hold, at the world's own size.

    An episode has one past, so of several branches it is the last one; and of that, where it is
    asked for, only the `last` frames.
    """
    header, rows = read_recording(path)
    kept, frames = _read_kept(path, header, rows, last)
    if not kept:
        raise EpisodeError(f"{path}: the recording holds no frames")
    begin = kept[0] if last is None or len(kept) < last else None  # no action led there
    return Episode(
        frames=frames,
        actions=[rows[i].action if i != begin else IDLE for i in kept],
        frames_per_second=header.frames_per_second,
        buttons=header.buttons,
        state=track_of(header.state, [rows[i].state for i in kept]) if header.state else None,
    )


def _read_kept(
    path: Path, header: Header, rows: Sequence[FrameRow], last: int | None
) -> tuple[list[int], NDArray[np.uint8]]:
    """Which rows belong to the episode, and their frames; never more memory than these take."""
    kept = last_path(rows)[-last if last else 0 :]
    size = len(kept) * 3 * math.prod(header.frame_size)
    if size > LARGEST_FRAMES and last:
        raise RecordingError(f"{path}: {last} frames of this size are not read at once")
    frames: NDArray[np.uint8] = np.empty((len(kept), *header.frame_size, 3), np.uint8)
    places = {row: place for place, row in enumerate(kept)}
    count = 0
    for i, frame in enumerate(read_frames(path.with_suffix(".mp4"), header.frame_size)):
        if i == len(rows):
            break
        count = i + 1
        if i in places:
            frames[places[i]] = frame
            if (places[i] + 1) * frame.nbytes > LARGEST_FRAMES:
                raise RecordingError(
                    f"{path}: more than {places[i]} frames of this size are not read at once"
                )
    if count < len(rows):  # a killed one: its video ends before its rows
        return _read_kept(path, header, rows[:count], last)
    return kept, frames


def read_frames(path: Path, frame_size: tuple[int, int]) -> Iterator[Frame]:
    """A recording's frames at the world's own size, one after the other."""
    for picture in read_video(path):
        rows, columns = picture.shape[:2]
        if rows < frame_size[0] or columns < frame_size[1]:
            raise EpisodeError(
                f"{path}: the video shows {columns} x {rows}, too small for frames of "
                f"{frame_size[1]} x {frame_size[0]}, as the rows beside it have them"
            )
        yield shrink(picture, frame_size)
