"""Recordings: NAME.mp4 to watch and NAME.jsonl to replay and to train on.

The JSONL has a header line, then one line per frame: index, time in seconds, buttons, mouse
degrees, latency, a hash of the frame as the world made it, and what was said to it, if anything.
The first of them is the start frame, which no action led to. The video holds the same frames at
the same times, scaled up by a whole number.

    recorder = Recorder(path, header)             # the files exist from here on
    recorder.write(frame, row)                    # again and again; encoding has its own thread
    recorder.finish(); recorder.wait()

Until it is finished the video is fragmented, so a killed process leaves one that plays.
"""

import contextlib
import hashlib
import json
import math
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import IDLE, Action, Prompt
from worldmodel.config import ConfigError, UserError, build_config
from worldmodel.episodes import Episode, EpisodeError
from worldmodel.video import VideoWriter, read_video, shrink
from worldmodel.world import Frame

FORMAT = "worldmodel recording 1"
ENDINGS = (".jsonl", ".mp4")
BAD_LINE = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
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

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63 or self.start < 0 or self.first_frame < 0:
            raise ConfigError(
                f"seed ({self.seed}), start ({self.start}) and first_frame ({self.first_frame}) "
                "must be 0 or more, seed below 2^63"
            )
        if not 0 < self.frames_per_second <= 1000 or min(self.frame_size) < 1:
            raise ConfigError(
                f"frames_per_second ({self.frames_per_second}) must be above 0 and at most 1000, "
                f"frame_size {list(self.frame_size)} at least 1 x 1"
            )


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
        )


def hash_frame(frame: Frame) -> str:
    """The first 16 hexadecimal digits of the sha256 of a frame's bytes."""
    return hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest()[:16]


def free_name(path: Path, endings: Sequence[str] = ENDINGS) -> Path:
    """`path` without such an ending, numbered until no file of that name has one of them."""
    path = path.with_suffix("") if path.suffix in endings else path
    number, name = 1, path
    while any(name.with_name(name.name + end).exists() for end in endings):
        number += 1
        name = path.with_name(f"{path.name}_{number:03}")
    return name


class Recorder:
    """Writes one recording; frames are handed over by one thread and encoded by another."""

    def __init__(self, name: Path, header: Header) -> None:
        self.path = name.with_name(name.name + ".mp4")
        self.rows_path = name.with_name(name.name + ".jsonl")
        self._queue: queue.Queue[tuple[Frame, Row] | None] = queue.Queue(maxsize=WAITING_FRAMES)
        self._failure: UserError | None = None
        try:
            name.parent.mkdir(parents=True, exist_ok=True)
            self._rows = self.rows_path.open("x", encoding="utf-8")
        except OSError as error:
            raise self._explain(error) from error
        try:
            self._write_line(json.dumps({"format": FORMAT, **asdict(header)}))
            self._video = VideoWriter(self.path, header.frame_size, header.frames_per_second)
        except Exception as error:
            self._remove()
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
        except Exception as error:  # noqa: BLE001  # `write` and `wait` raise it where play is
            self._failure = self._explain(error)
            while self._queue.get():
                pass
        self._close()

    def _close(self) -> None:
        try:
            if not self._failure:
                self._video.close()
                self._rows.close()
        except Exception as error:  # noqa: BLE001  # `wait` raises it
            self._failure = self._explain(error)
        if self._failure:
            self._video.abandon()
            with contextlib.suppress(OSError):
                self._rows.close()

    def _remove(self) -> None:
        """Nothing was recorded, so nothing stays."""
        for clean in (self._rows.close, self.rows_path.unlink, self.path.unlink):
            with contextlib.suppress(OSError):
                clean()

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

    def _explain(self, error: Exception) -> UserError:
        if isinstance(error, UserError):
            return error
        told = error.strerror if isinstance(error, OSError) else None
        return RecordingError(
            f"{self.path}: recording stopped: {told or f'{type(error).__name__}: {error}'}; "
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
    where = f"{path}: not a recording: the first line"
    try:
        table = json.loads(line)
    except BAD_LINE as error:
        raise RecordingError(f"{where} should be JSON: {error}") from error
    if not isinstance(table, dict) or table.pop("format", None) != FORMAT:
        raise RecordingError(f"{where} should be a header of format {FORMAT!r}")
    try:
        return build_config(Header, table, where)
    except ConfigError as error:
        raise RecordingError(str(error)) from error
    except OverflowError as error:
        raise RecordingError(f"{where} holds a number beyond all bounds: {error}") from error


def _read_rows(path: Path, lines: list[str]) -> Iterator[Row]:
    for i, line in enumerate(lines):
        try:
            row = Row.from_json(line)
        except BAD_LINE as error:
            if i == len(lines) - 1:
                return
            raise RecordingError(f"{path}: line {i + 2} is not a frame: {error}") from error
        yield row


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} where a number should be")
    return number
