"""The JSONL of a recording, line by line: a header, then a row for every frame.

    header, rows = read_recording(path)

What is read comes from strangers: lines are read one after the other, none of them without a limit.
Where the world tells its state, the header says what its numbers are, and every row has them.
"""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from worldmodel.action import IDLE, Action, Prompt
from worldmodel.config import ConfigError, UserError, build_config, to_table
from worldmodel.state_spec import StateSpec, from_plain, to_plain
from worldmodel.storage.files import FileReadError, read_file
from worldmodel.system.encoding import TextError, decode_text, encoding_of
from worldmodel.system.limits import (
    FASTEST,
    LARGEST_RECORDING,
    LATEST_FRAME,
    LONGEST_BUTTON,
    LONGEST_LINE,
    LONGEST_PROMPT,
    LONGEST_SHOWN,
    LONGEST_SIDE,
    LONGEST_TIMELINE,
    MOST_BUTTONS,
    SLOWEST,
)
from worldmodel.system.printable import printable, shown

FORMAT = "worldmodel recording 1"
BAD_LINE = (LookupError, TypeError, ValueError, OverflowError, RecursionError)


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
    state: StateSpec | None = None  # what the numbers of a row's state are

    def __post_init__(self) -> None:
        is_late = not 0 <= self.first_frame < LATEST_FRAME
        if not 0 <= self.seed < 2**63 or self.start < 0 or is_late:
            raise ConfigError(
                f"seed ({self.seed}), start ({self.start}) and first_frame ({self.first_frame}) "
                "must be 0 or more, seed below 2^63, first_frame below 2^40"
            )
        sizes = [1 <= side <= LONGEST_SIDE for side in self.frame_size]
        if not SLOWEST <= self.frames_per_second <= FASTEST or not all(sizes):
            raise ConfigError(
                f"frames_per_second ({self.frames_per_second}) must be from {SLOWEST} to "
                f"{FASTEST:g}, frame_size from 1 x 1 to {LONGEST_SIDE} x {LONGEST_SIDE}"
            )
        if len(self.buttons) > MOST_BUTTONS or len(set(self.buttons)) < len(self.buttons):
            raise ConfigError(
                f"{len(self.buttons)} buttons: expected {MOST_BUTTONS} at most, each once"
            )

    def to_json(self) -> str:
        """The first line, without its end."""
        table = {"format": FORMAT, **to_table(self)}
        if self.state is None:
            del table["state"]
        return json.dumps(table)


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRow:
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
    def from_json(cls, line: str) -> "FrameRow":
        """Read one line; `BAD_LINE` says which errors mean that it is none."""
        table = json.loads(line)
        right, down = map(_finite, table["mouse"])
        said = table.get("prompt")  # only in worlds with text
        prompt = Prompt(_text(said[0], LONGEST_PROMPT), renew=bool(said[1])) if said else None
        if not isinstance(table["buttons"], list) or len(table["buttons"]) > MOST_BUTTONS:
            raise ValueError(f"buttons should be a list of {MOST_BUTTONS} at most")
        buttons = frozenset(_text(button, LONGEST_BUTTON) for button in table["buttons"])
        return cls(
            index=int(table["index"]),
            time=_seconds(table["time"]),
            action=Action(buttons, (right, down), prompt),
            latency_ms=None if table["latency_ms"] is None else _finite(table["latency_ms"]),
            hash=str(table["hash"]),
            back_to=None if table.get("back_to") is None else int(table["back_to"]),
            state=None if table.get("state") is None else from_plain(table["state"]),
        )


def read_recording(path: Path) -> tuple[Header, list[FrameRow]]:
    """Header and rows of a JSONL; a last line left half written by a broken process is dropped."""
    try:
        content = _in_utf8(read_file(path, LARGEST_RECORDING))
    except (FileReadError, TextError) as error:
        raise RecordingError(f"{path}: not a recording: {error}") from error
    # Line by line: all of them at once would take several times the file.
    lines = io.BytesIO(content)
    header = _read_header(path, lines.readline(LONGEST_LINE + 1))
    return header, list(_read_rows(path, lines, len(content), header.state))


def _in_utf8(content: bytes) -> bytes:
    """The lines, whatever they were saved as; the last one may be cut off within a letter."""
    mark, encoding = encoding_of(content)
    # After a lost power some disks hold zeros where the last lines were to be.
    if encoding == "utf-8":
        return content.removeprefix(mark).rstrip(b"\0")
    is_cut = not content.rstrip(b"\0").endswith(b"\n")
    return decode_text(content, is_cut=is_cut).rstrip("\0").encode()


def _read_header(path: Path, line: bytes) -> Header:
    where = f"{path}: not a recording: the first line"
    if len(line) > LONGEST_LINE:
        raise RecordingError(f"{where} is longer than {LONGEST_LINE >> 20} MB")
    try:
        table = json.loads(decode_text(line))
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


def _read_rows(
    path: Path, lines: io.BytesIO, end: int, spec: StateSpec | None
) -> Iterator[FrameRow]:
    index: int | None = None
    known: dict[Action, Action] = {}  # few are different
    number = 1
    while line := lines.readline(LONGEST_LINE + 1):
        number += 1
        if not line.strip():  # an editor's
            continue
        is_last = lines.tell() == end
        try:
            if len(line) > LONGEST_LINE:
                raise ValueError(f"longer than {LONGEST_LINE >> 20} MB")
            row = FrameRow.from_json(decode_text(line, is_cut=is_last))
            index = _check_order(row, index)
            check_width(row, spec)
        except BAD_LINE as error:
            if is_last:
                return
            reason = printable(str(error), LONGEST_SHOWN)
            raise RecordingError(f"{path}: line {number} is not a frame: {reason}") from error
        yield replace(row, action=known.setdefault(row.action, row.action))


def _check_order(row: FrameRow, before: int | None) -> int:
    """Frames follow each other, and play goes back only to where it has been."""
    after = before if row.back_to is None else row.back_to
    if not 0 <= row.index < LATEST_FRAME or (after is not None and row.index != after + 1):
        raise ValueError(f"frame {row.index} after frame {after}")
    if row.back_to is not None and (before is None or not 0 <= row.back_to <= before):
        raise ValueError(f"play cannot go back to frame {row.back_to} from {before}")
    return row.index


def check_width(row: FrameRow, spec: StateSpec | None) -> None:
    """A row tells all the numbers that the header names, or none."""
    wanted, found = spec.width if spec else 0, row.state
    if found is not None and len(found) != wanted:
        raise RecordingError(
            f"frame {row.index} has a state of {len(found)} numbers, the header names {wanted}"
        )


def _text(value: Any, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{shown(value)} where a text of {longest} letters at most should be")
    return value


def _seconds(value: Any) -> float:
    number = _finite(value)
    if not 0 <= number <= LONGEST_TIMELINE:
        raise ValueError(f"{number:g} seconds, expected 0 to {LONGEST_TIMELINE:g}")
    return number


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} where a number should be")
    return number
