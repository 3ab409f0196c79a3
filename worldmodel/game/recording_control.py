"""When a recording begins and ends while one plays; what is in its files is `recording`'s matter.

A restart or another start ends one recording and begins the next. Finished ones are completed in
the background, so that play never waits for them; `close` does.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worldmodel.config import UserError
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.storage.files import plain
from worldmodel.storage.recording import (
    ENDINGS,
    FrameRow,
    Header,
    Recorder,
    RecordingError,
    begin_recording,
)
from worldmodel.system.paths import to_path
from worldmodel.system.versions import installed_versions
from worldmodel.world import HasState

FOLDER = Path("recordings")


@dataclass(frozen=True, slots=True)
class Place:
    """The folder or file that recordings go to."""

    folder: Path = FOLDER
    name: str | None = None  # None: world and time of day

    @classmethod
    def of(cls, text: str) -> "Place":
        """What `--record` says: a file's name, or a folder; nothing is the usual folder."""
        if not text:
            return cls()
        path = to_path(text)
        try:
            is_folder = text.endswith(("/", "\\")) or path.name in ("", "..") or path.is_dir()
        except OSError as error:
            raise UserError(f"--record {text}: {error.strerror}") from error
        if is_folder:
            return cls(path)
        return cls(path.parent, path.stem if path.suffix in ENDINGS else path.name)

    def path(self, world: str) -> Path:
        """Folder and name, without an ending, whatever the world is called."""
        now = time.strftime("%Y%m%d-%H%M%S")
        return self.folder / (self.name or f"{plain(world)}_{now}")

    def check_writable(self) -> None:
        """A `UserError` before play begins, rather than after, if nothing can be recorded there."""
        probe = self.folder / f".{self.name or ''}.probe"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            where = self.folder / (self.name or "")
            raise UserError(f"{where}: cannot be recorded there: {error.strerror}") from error


ELSEWHERE = "where a moment from elsewhere began"  # as a place of the map is said


class RecordingControl:
    """Records the steps that it is shown, while it rolls."""

    def __init__(self, place: Place, say: Callable[[str], None]) -> None:
        self.place, self.say = place, say
        self.is_rolling = False
        self.clips: list[Path] = []  # those that did not fail
        self.failure: UserError | None = None  # the last recording that was lost, and why
        self._recorder: Recorder | None = None
        self._finished: list[Recorder] = []
        self._began = 0.0
        self._segment = self._first = 0

    def toggle(self) -> None:
        """Begin with the next step, or end with the last one."""
        self.is_rolling = not self.is_rolling
        if not self.is_rolling:
            self.say(f"recorded {self._recorder.path}" if self._recorder else "nothing recorded")
            self._cut()

    def show(self, session: Session, step: PlayedFrame, latency_ms: float | None) -> None:
        """Record a step if a recording is on; when the disk refuses, say so and stop."""
        if not self.is_rolling or step.is_past:
            return
        try:
            self._record(session, step, latency_ms)
        except UserError as error:
            self._stop(error)
        except OSError as error:  # a folder that cannot even be looked into
            self._stop(RecordingError(f"{self.place.folder}: recording stopped: {error}"))

    def name(self, session: Session) -> Path:
        """Where the next recording goes, unless something is there already."""
        return self.place.path(session.world.name)

    def close(self) -> None:
        """End the recording and wait until every one is on disk; `failure` says what is not."""
        self.is_rolling = False
        self._cut()
        for recorder in self._finished:
            self._wait_for(recorder)
        self._finished.clear()

    def _record(self, session: Session, step: PlayedFrame, latency_ms: float | None) -> None:
        is_first = self._recorder is None or step.segment != self._segment
        if not is_first and step.back_to is not None and step.back_to < self._first:
            is_first = True  # to before this recording: another one
        if is_first:
            self._cut()
            self._begin(session, step)
            if not step.count:
                return
        row = FrameRow(
            index=step.index,
            time=step.time - self._began,
            action=step.action,
            latency_ms=latency_ms,
            back_to=None if is_first else step.back_to,
            state=step.state,
        )
        assert self._recorder is not None
        self._recorder.write(step.frame, row)

    def _begin(self, session: Session, step: PlayedFrame) -> None:
        """A recording that begins with what the step found; in the middle of play, as a moment."""
        past = step.past
        is_at_start = not past.index and session.spot is None
        moment = None if is_at_start else session.moment(past)
        header = self._header(session, step)
        self._recorder = begin_recording(self.name(session), header, moment)
        self._segment, self._first = step.segment, past.index
        self._began = step.time - (1 / session.world.frames_per_second if step.count else 0.0)
        self.clips.append(self._recorder.path)
        known = None if step.count else step.state  # of the frame itself, not of the next one
        self._recorder.write(past.frame, FrameRow(index=past.index, time=0.0, state=known))

    def _cut(self) -> None:
        if self._recorder:
            self._recorder.finish()
            self._finished.append(self._recorder)
            self._recorder = None

    def _wait_for(self, recorder: Recorder) -> None:
        try:
            recorder.wait()
        except UserError as error:
            self.failure = error
            self.clips.remove(recorder.path)

    def _stop(self, error: UserError) -> None:
        self.is_rolling, self.failure = False, error
        self._cut()
        self.say(str(error))

    def _header(self, session: Session, step: PlayedFrame) -> Header:
        world, spot = session.world, session.spot
        began = str(spot) if spot else "" if session.knows_start else ELSEWHERE
        return Header(
            settings={**session.settings, **({"at": began} if began else {})},
            identity=session.identity,
            seed=step.seed,
            start=step.start,
            first_frame=step.past.index,
            frames_per_second=world.frames_per_second,
            frame_size=world.frame_size,
            buttons=world.actions.buttons,
            versions=installed_versions(),
            state=world.state_spec if isinstance(world, HasState) else None,
        )
