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
import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import IDLE, Action, Prompt
from worldmodel.config import ConfigError, UserError, build_config, to_table
from worldmodel.episodes import Episode, EpisodeError
from worldmodel.files import FileReadError, read_file, sync
from worldmodel.moments import Moment, save_moment
from worldmodel.state_spec import StateSpec, from_plain, to_plain, track_of
from worldmodel.text import TextError, decode_text
from worldmodel.video import VideoWriter, read_video, shrink
from worldmodel.world import Frame

FORMAT = "worldmodel recording 1"
ENDINGS = (".jsonl", ".mp4", ".moment")
BAD_LINE = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
WAITING_FRAMES = 64  # frames the encoder may lag behind before play waits for it
PATIENCE = 2.0  # seconds that play waits for an encoder which does nothing
SYNC_SECONDS = 1.0  # how often the disk must have everything
LAST_PATIENCE = 60.0  # seconds at the end
NICENESS = 10  # of the encoder beside the world
MOST_TRIES = 100
MOST_BYTES = 256 << 20  # of a JSONL: a day of play
MOST_PIXELS = 4 << 30  # bytes of frames that are read at once
LONGEST_SIDE = 8192  # of a frame


class RecordingError(UserError):
    """A recording cannot be written or read."""


class TakenError(RecordingError):
    """A file of that name is there already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a replay needs to know, and what an episode needs to say."""

    settings: dict[str, Any]  # which world, and how it was run
    identity: dict[str, Any]  # weights' sha256, sampler, dtype, device, threads
    seed: int
    start: int
    first_frame: int  # 0 unless the recording was begun in the middle of play
    frames_per_second: float
    frame_size: tuple[int, int]  # rows, columns
    buttons: tuple[str, ...]
    versions: dict[str, str] = field(default_factory=dict)
    state: StateSpec | None = None  # what the numbers of a row's state are

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63 or self.start < 0 or self.first_frame < 0:
            raise ConfigError(
                f"seed ({self.seed}), start ({self.start}) and first_frame ({self.first_frame}) "
                "must be 0 or more, seed below 2^63"
            )
        sizes = [1 <= side <= LONGEST_SIDE for side in self.frame_size]
        if not 0.01 <= self.frames_per_second <= 1000 or not all(sizes):
            raise ConfigError(
                f"frames_per_second ({self.frames_per_second}) must be from 0.01 to 1000, "
                f"frame_size from 1 x 1 to {LONGEST_SIDE} x {LONGEST_SIDE}"
            )

    def to_json(self) -> str:
        """The first line, without its end."""
        table = {"format": FORMAT, **to_table(self)}
        if self.state is None:
            del table["state"]
        return json.dumps(table)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One frame of a recording; `hash` is filled in by the recorder."""

    index: int
    time: float  # seconds since the first frame of the recording
    action: Action = IDLE
    latency_ms: float | None = None  # None when the player did nothing new
    hash: str = ""
    back_to: int | None = None  # the frame that it comes after, where play went back in time
    state: tuple[float, ...] | None = None  # what the world knew of itself, NaN: not known

    def to_json(self) -> str:
        """One line, without its end."""
        table: dict[str, Any] = {
            "index": self.index,
            "time": round(self.time, 6),
            "buttons": sorted(self.action.buttons),
            "mouse": self.action.mouse,
            "latency_ms": None if self.latency_ms is None else round(self.latency_ms, 3),
            "hash": self.hash,
        }
        if prompt := self.action.prompt:
            table["prompt"] = [prompt.text, prompt.renew]
        if self.back_to is not None:
            table["back_to"] = self.back_to
        if self.state is not None:
            table["state"] = to_plain(self.state)
        return json.dumps(table)

    @classmethod
    def from_json(cls, line: str) -> "Row":
        """Read one line; `BAD_LINE` says which errors mean that it is none."""
        table = json.loads(line)
        right, down = map(_finite, table["mouse"])
        said = table.get("prompt")  # only in worlds with text
        prompt = Prompt(str(said[0]), renew=bool(said[1])) if said else None
        return cls(
            index=int(table["index"]),
            time=_finite(table["time"]),
            action=Action(frozenset(map(str, table["buttons"])), (right, down), prompt),
            latency_ms=None if table["latency_ms"] is None else _finite(table["latency_ms"]),
            hash=str(table["hash"]),
            back_to=None if table.get("back_to") is None else int(table["back_to"]),
            state=None if table.get("state") is None else from_plain(table["state"]),
        )


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
        self._queue: queue.SimpleQueue[tuple[Frame, Row] | None] = queue.SimpleQueue()
        self._failure: UserError | None = None
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

    def write(self, frame: Frame, row: Row) -> None:
        """Append one frame; a `RecordingError` says that the recording has stopped, and why."""
        self._wait_for_room()
        if self._failure:
            raise self._failure
        _check_width(row, self._spec)
        self._queue.put((frame, row))

    def finish(self) -> None:
        """No more frames will come."""
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

    def _append(self, frame: Frame, row: Row) -> None:
        whole = replace(row, hash=hash_frame(frame))
        self._write_line(whole.to_json())
        self._video.write(frame, row.time)
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


def read_recording(path: Path) -> tuple[Header, list[Row]]:
    """Header and rows of a JSONL; a last line left half written by a broken process is dropped."""
    try:
        # After a lost power some disks hold zeros where the last lines were to be.
        content = read_file(path, MOST_BYTES)
        is_cut = not content.rstrip(b"\0").endswith(b"\n")
        lines = decode_text(content, is_cut=is_cut).rstrip("\0").split("\n")
    except (FileReadError, TextError) as error:
        raise RecordingError(f"{path}: not a recording: {error}") from error
    if lines and not lines[-1]:
        lines.pop()
    header = _read_header(path, lines[0] if lines else "")
    return header, list(_read_rows(path, lines[1:], header.state))


def last_path(rows: Sequence[Row]) -> list[int]:
    """Which rows lead to the last one: where play went back in time, what it left is left out."""
    path: list[int] = []
    for i, row in enumerate(rows):
        if row.back_to is not None:
            while path and rows[path[-1]].index > row.back_to:
                path.pop()
        path.append(i)
    return path


def load_recording(path: Path) -> Episode:
    """The recording as an episode: as many frames as both files hold, at the world's own size.

    An episode has one past, so of several branches it is the last one.
    """
    header, rows = read_recording(path)
    video = read_frames(path.with_suffix(".mp4"), header.frame_size)
    most = MOST_PIXELS // (3 * math.prod(header.frame_size))
    frames = [frame for frame, _ in zip(video, rows[: most + 1], strict=False)]
    if len(frames) > most:
        raise RecordingError(f"{path}: more than {most} frames of this size are not read at once")
    if not frames:
        raise EpisodeError(f"{path}: the recording holds no frames")
    kept = last_path(rows[: len(frames)])
    stacked: NDArray[np.uint8] = np.stack([frames[i] for i in kept])
    return Episode(
        frames=stacked,
        actions=[IDLE, *(rows[i].action for i in kept[1:])],
        frames_per_second=header.frames_per_second,
        buttons=header.buttons,
        state=track_of(header.state, [rows[i].state for i in kept]) if header.state else None,
    )


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


def _read_header(path: Path, line: str) -> Header:
    where = f"{path}: not a recording: the first line"
    try:
        table = json.loads(line)
    except BAD_LINE as error:
        raise RecordingError(f"{where} should be JSON: {str(error)[:200]}") from error
    if not isinstance(table, dict) or table.pop("format", None) != FORMAT:
        raise RecordingError(f"{where} should be a header of format {FORMAT!r}")
    try:
        return build_config(Header, table, where)
    except ConfigError as error:
        raise RecordingError(str(error)) from error
    except OverflowError as error:
        raise RecordingError(f"{where} holds a number beyond all bounds: {error}") from error


def _read_rows(path: Path, lines: list[str], spec: StateSpec | None) -> Iterator[Row]:
    index: int | None = None
    for i, line in enumerate(lines):
        try:
            row = Row.from_json(line)
            index = _check_order(row, index)
            _check_width(row, spec)
        except BAD_LINE as error:
            if i == len(lines) - 1:
                return
            told = str(error)[:200]
            raise RecordingError(f"{path}: line {i + 2} is not a frame: {told}") from error
        yield row


def _check_order(row: Row, before: int | None) -> int:
    """Frames follow each other, and play goes back only to where it has been."""
    after = before if row.back_to is None else row.back_to
    if not 0 <= row.index < 2**40 or (after is not None and row.index != after + 1):
        raise ValueError(f"frame {row.index} after frame {after}")
    if row.back_to is not None and (before is None or not 0 <= row.back_to <= before):
        raise ValueError(f"play cannot go back to frame {row.back_to} from {before}")
    return row.index


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} where a number should be")
    return number


def _check_width(row: Row, spec: StateSpec | None) -> None:
    """A row tells all the numbers that the header names, or none."""
    wanted, found = spec.width if spec else 0, row.state
    if found is not None and len(found) != wanted:
        raise RecordingError(
            f"frame {row.index} has a state of {len(found)} numbers, the header names {wanted}"
        )
