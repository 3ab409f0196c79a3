"""Playing a recording again, and checking that the same frames come out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.action import IDLE
from worldmodel.game.input import Taken
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.storage.files import is_file
from worldmodel.storage.moments import Moment, load_moment
from worldmodel.storage.recording import (
    FrameRow,
    Header,
    RecordingError,
    hash_frame,
    read_recording,
)
from worldmodel.system.limits import LONGEST_SHOWN
from worldmodel.system.printable import shown
from worldmodel.system.versions import installed_versions

FRAME_MAKERS = ("worldmodel", "torch")  # versions that can change a frame


@dataclass(slots=True)
class Replay:
    """What was recorded, and how much of it came out the same so far."""

    path: Path
    header: Header
    rows: list[FrameRow]
    moment: Moment | None = None  # where it begins, if not at a start
    same: int = 0
    first_different: int | None = None  # counted in rows
    played: int = 0  # rows whose action was taken
    differences: list[str] = field(default_factory=list)  # of the settings, here and there

    @classmethod
    def read(cls, path: Path) -> "Replay":
        """Open a recording; a `RecordingError` when it cannot be replayed."""
        if path.suffix.lower() == ".mp4":
            raise RecordingError(
                f"{path}: the video does not hold the actions; give the .jsonl beside it"
            )
        header, rows = read_recording(path)
        if not rows:
            raise RecordingError(f"{path}: the recording holds no frames")
        return cls(path, header, rows, _first_moment(path, header))

    def compare_settings(self, identity: Mapping[str, Any]) -> str:
        """What differs between the world here and the one recorded, as a sentence or nothing."""
        versions = installed_versions()
        recorded = {**self.header.identity, **_relevant(self.header.versions)}
        here = {**json.loads(json.dumps(dict(identity))), **_relevant(versions)}
        self.differences = [
            f"{key} ({_told(recorded.get(key))} then, {_told(here.get(key))} now)"
            for key in sorted(recorded.keys() | here.keys())
            if recorded.get(key) != here.get(key)
        ]
        if not self.differences:
            return ""
        return f"frames may differ, because settings do: {', '.join(self.differences)}"

    def take(self, index: int) -> Taken:
        """What was done to make the next frame, row by row; past the end the player stands still.

        A row that goes back takes the session with it: both branches are played again.
        """
        del index
        self.played += 1
        if self.played >= len(self.rows):
            return Taken(IDLE, None)
        row = self.rows[self.played]
        return Taken(row.action, None, row.back_to)

    def check(self, step: PlayedFrame) -> None:
        """Compare one frame with its row."""
        if step.is_past or step.count >= len(self.rows):
            return
        if hash_frame(step.frame) == self.rows[step.count].hash:
            self.same += 1
        elif self.first_different is None:
            self.first_different = step.count

    def verdict(self) -> str:
        """One sentence for the person."""
        total = len(self.rows)
        if self.same == total:
            return f"{total} of {total} frames identical"
        where = (
            f"the first different one is frame {self.first_different}"
            if self.first_different is not None
            else "the replay was stopped before its end"
        )
        settings = ", ".join(self.differences) or "none, so the world is not deterministic here"
        why = "" if self.first_different is None else f"; settings that differ: {settings}"
        return f"{self.same} of {total} frames identical; {where}{why}"


def _first_moment(path: Path, header: Header) -> Moment | None:
    beside = path.with_suffix(".moment")
    spot = header.settings.get("at")  # a place of the level's map
    if not header.first_frame and not spot and not is_file(beside):
        return None
    if not is_file(beside):
        began = (
            f"in the middle of play, at frame {header.first_frame}"
            if header.first_frame
            else f"at a place of the map ({shown(spot)})"
        )
        raise RecordingError(
            f"{path}: this recording was begun {began}, and {beside.name}, with what came before, "
            "is not beside it; it can be watched and trained on, not replayed"
        )
    moment = load_moment(beside)
    if moment.header.index != header.first_frame:
        raise RecordingError(
            f"{beside}: it is of frame {moment.header.index}, the recording begins at frame "
            f"{header.first_frame}: the two do not belong together"
        )
    return moment


def _told(value: Any) -> str:
    return value[:LONGEST_SHOWN] if isinstance(value, str) else shown(value)


def _relevant(versions: Mapping[str, str]) -> dict[str, str]:
    return {f"{name} version": versions[name] for name in FRAME_MAKERS if name in versions}
