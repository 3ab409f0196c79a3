"""Recordings: NAME.mp4 to watch and NAME.jsonl to replay and to train on.

The JSONL has a header line, then one line per frame: index, time in seconds, buttons, mouse
degrees, latency and a hash of the frame as the world made it. The first of them is the start frame,
which no action led to. The video holds the same frames at the same times, scaled up by a whole
number.

    recorder = Recorder(path, header)             # the files exist from here on
    recorder.write(frame, row)                    # again and again; encoding has its own thread
    recorder.finish(); recorder.wait()

Until it is finished the video is fragmented, so a killed process leaves one that plays.
"""

import contextlib
import hashlib
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.episodes import Episode, EpisodeError
from worldmodel.video import VideoWriter, read_video, shrink
from worldmodel.world import Frame

FORMAT = "worldmodel recording 1"
WAITING_FRAMES = 64  # frames the encoder may lag behind before play waits for it


class RecordingError(UserError):
    """A recording cannot be written or read."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One frame of a recording; `hash` is filled in by the recorder."""

    index: int
    time: float  # seconds since the first frame of the recording
    action: Action = IDLE
    latency_ms: float | None = None  # None when the player did nothing new
    hash: str = ""

    def to_json(self) -> str:
        """One line, without its end."""
        table = {
            "index": self.index,
            "time": round(self.time, 6),
            "buttons": sorted(self.action.buttons),
            "mouse": self.action.mouse,
            "latency_ms": None if self.latency_ms is None else round(self.latency_ms, 3),
            "hash": self.hash,
        }
        return json.dumps(table)

    @classmethod
    def from_json(cls, line: str) -> "Row":
        """Read one line; `KeyError`, `TypeError` or `ValueError` when it is none."""
        table = json.loads(line)
        right, down = table["mouse"]
        return cls(
            index=int(table["index"]),
            time=float(table["time"]),
            action=Action(frozenset(map(str, table["buttons"])), (float(right), float(down))),
            latency_ms=table["latency_ms"],
            hash=str(table["hash"]),
        )


def hash_frame(frame: Frame) -> str:
    """The first 16 hexadecimal digits of the sha256 of a frame's bytes."""
    return hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest()[:16]


def free_name(path: Path) -> Path:
    """`path` without a suffix, numbered until no recording has that name."""
    path = path.with_suffix("") if path.suffix in (".mp4", ".jsonl") else path
    number, name = 1, path
    while any(name.with_name(name.name + end).exists() for end in (".jsonl", ".mp4")):
        number += 1
        name = path.with_name(f"{path.name}_{number:03}")
    return name


class Recorder:
    """Writes one recording; frames are handed over by one thread and encoded by another."""

    def __init__(self, name: Path, header: Header) -> None:
        self.path = name.with_name(name.name + ".mp4")
        self.rows_path = name.with_name(name.name + ".jsonl")
        self._queue: queue.Queue[tuple[Frame, Row] | None] = queue.Queue(maxsize=WAITING_FRAMES)
        self._failure: RecordingError | None = None
        try:
            name.parent.mkdir(parents=True, exist_ok=True)
            self._video = VideoWriter(self.path, header.frame_size, header.frames_per_second)
            self._rows = self.rows_path.open("x", encoding="utf-8")
            self._write_line(json.dumps({"format": FORMAT, **asdict(header)}))
        except OSError as error:
            raise self._explain(error) from error
        self._thread = threading.Thread(target=self._run, name="recorder")
        self._thread.start()

    def write(self, frame: Frame, row: Row) -> None:
        """Append one frame; a `RecordingError` says that the recording has stopped, and why."""
        if self._failure:
            raise self._failure
        self._queue.put((frame, row))

    def finish(self) -> None:
        """No more frames will come."""
        self._queue.put(None)

    def wait(self) -> None:
        """Until everything is on disk; a `RecordingError` says what is not."""
        self._thread.join()
        if self._failure:
            raise self._failure

    def _run(self) -> None:
        """Encode until `finish`; after a failure only make room, so that play never waits."""
        try:
            while item := self._queue.get():
                self._append(*item)
            self._video.close()
            self._rows.close()
        except OSError as error:
            self._failure = self._explain(error)
            self._video.abandon()
            with contextlib.suppress(OSError):
                self._rows.close()
            while self._queue.get():
                pass

    def _append(self, frame: Frame, row: Row) -> None:
        whole = Row(
            index=row.index,
            time=row.time,
            action=row.action,
            latency_ms=row.latency_ms,
            hash=hash_frame(frame),
        )
        self._write_line(whole.to_json())
        self._video.write(frame, row.time)

    def _write_line(self, line: str) -> None:
        self._rows.write(line + "\n")
        self._rows.flush()

    def _explain(self, error: OSError) -> RecordingError:
        return RecordingError(
            f"{self.path}: recording stopped: {error.strerror or error}; "
            "what was written before stays readable"
        )


def read_recording(path: Path) -> tuple[Header, list[Row]]:
    """Header and rows of a JSONL; a last line left half written by a killed process is dropped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: not a recording: {error}") from error
    header = _read_header(path, lines[0] if lines else "")
    return header, list(_read_rows(path, lines[1:]))


def load_recording(path: Path) -> Episode:
    """The recording as an episode: as many frames as both files hold, at the world's own size."""
    header, rows = read_recording(path)
    frames = [shrink(frame, header.frame_size) for frame in read_video(path.with_suffix(".mp4"))]
    length = min(len(frames), len(rows))
    if not length:
        raise EpisodeError(f"{path}: the recording holds no frames")
    stacked: NDArray[np.uint8] = np.stack(frames[:length])
    return Episode(
        frames=stacked,
        actions=[IDLE, *(row.action for row in rows[1:length])],
        frames_per_second=header.frames_per_second,
        buttons=header.buttons,
    )


def _read_header(path: Path, line: str) -> Header:
    try:
        table = json.loads(line)
        found = table.pop("format")
        rows, columns = table.pop("frame_size")
        buttons = tuple(map(str, table.pop("buttons")))
        if found != FORMAT:
            raise ValueError(f"its format is {found!r}")
        return Header(frame_size=(int(rows), int(columns)), buttons=buttons, **table)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordingError(
            f"{path}: not a recording: the first line should be a header of format {FORMAT!r}"
            f" ({type(error).__name__}: {error})"
        ) from error


def _read_rows(path: Path, lines: list[str]) -> Iterator[Row]:
    for i, line in enumerate(lines):
        try:
            row = Row.from_json(line)
        except (KeyError, TypeError, ValueError) as error:
            if i == len(lines) - 1:
                return
            raise RecordingError(f"{path}: line {i + 2} is not a frame: {error}") from error
        yield row
