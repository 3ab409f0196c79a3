"""Clips to download: a stretch of a session as a video, and its keys as the rows of a recording.

They lie in a folder that goes with the server, or, once they are whole, in the store that all
servers of a fleet see; each under an address that nobody guesses, and only for a while. How long,
how large and how many: `server_limits`.
"""

import contextlib
import hashlib
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodel.config import UserError
from worldmodel.serve.served_session import Note, Picture, ServedSession
from worldmodel.serve.server_limits import Limits
from worldmodel.storage.recording import FrameRow, Header, Recorder
from worldmodel.system.paths import list_files
from worldmodel.world import HasState

KINDS = {".mp4": "video/mp4", ".jsonl": "application/jsonl"}
MOST_WAITING = 32  # frames not encoded yet; beyond it play would have to wait for the disk


class ClipError(Exception):
    """There is no clip; the text is for who asked."""


class Clip:
    """One clip; `hear` is a session's listener, called on the ticking thread."""

    def __init__(self, folder: Path, session: ServedSession, rate: float, limits: Limits) -> None:
        self.key = secrets.token_urlsafe(16)
        self.session, self.limits, self.rate = session, limits, rate
        self.is_over, self.why = False, ""
        self.done: Callable[[], None] = lambda: None  # called once, on any thread
        self.expires = float("inf")
        self.frames = 0
        self._first = self._last = -1
        self._back_to: int | None = None
        self._lock = threading.RLock()
        with self._lock:  # the next frame waits for it, so that none is missed
            session.listeners.add(self.hear)
            self._shown = session.picture
            if self._shown is None:
                session.listeners.discard(self.hear)
                raise ClipError("nothing is shown yet")
            self._recorder = Recorder(folder / self.key, self._header(self._shown))
            self._add(self._shown)

    def hear(self, what: Picture | Note) -> None:
        """Take a frame of the session, or its end."""
        with self._lock:
            if self.is_over or what is self._shown:
                return
            if isinstance(what, Picture):
                try:
                    self._add(what)
                except UserError as error:
                    self.stop(str(error))
            elif what.kind == "ended":
                self.stop("the session has ended")

    def stop(self, why: str) -> None:
        """End the clip: no more frames are written."""
        with self._lock:
            if self.is_over:
                return
            self.why, self.is_over = why, True
            self.session.listeners.discard(self.hear)
            self._recorder.finish()
        self.done()

    def wait(self) -> None:
        """Until the files are whole; a `ClipError` says why they are not."""
        try:
            self._recorder.wait()
        except UserError as error:
            raise ClipError("the clip could not be written") from error

    def message(self) -> dict[str, Any]:
        """What the page of the clip's maker is told about it."""
        return {
            "type": "clip",
            "why": self.why,
            "seconds": round(self.frames / self.rate, 1),
            "kept": self.limits.clip_kept,
            "video": f"clip/{self.key}.mp4",
            "keys": f"clip/{self.key}.jsonl",
        }

    def _header(self, picture: Picture) -> Header:
        world, session = self.session.world, self.session
        return Header(
            settings={"world": world.name},
            identity=world.identity,
            seed=session.seed,
            start=session.start,
            first_frame=picture.number,
            frames_per_second=self.rate,
            frame_size=world.frame_size,
            buttons=world.actions.buttons,
            state=world.state_spec if isinstance(world, HasState) else None,
        )

    def _add(self, picture: Picture) -> None:
        if self._first < 0:
            self._first = picture.number
        elif picture.number <= self._last:  # play went back: what follows comes after this frame
            self._last = self._back_to = picture.number
            if picture.number < self._first:
                self.stop("play went back to before it began")
            return
        back_to, self._back_to, self._last = self._back_to, None, picture.number
        row = FrameRow(
            index=picture.number,
            time=self.frames / self.rate,
            action=picture.action,
            back_to=back_to,
            state=picture.state,
        )
        self._recorder.write(picture.frame, row)
        self.frames += 1
        if self.frames >= self.limits.clip_seconds * self.rate:
            self.stop(f"a clip has {self.limits.clip_seconds:g} s at most")
        elif self._recorder.path.stat().st_size > self.limits.clip_bytes:
            self.stop(f"a clip has {self.limits.clip_bytes >> 20} MB at most")
        elif self._recorder.waiting > MOST_WAITING:
            self.stop("the server had no time to write more")


class Clips:
    """All clips of a server; called on the event loop or a thread of its own."""

    def __init__(self, limits: Limits, shared: Path | None = None) -> None:
        """`shared`: a folder that other servers answer for clips from, too."""
        self.limits, self._shared = limits, shared
        self._made: tempfile.TemporaryDirectory[str] | None = None  # by the first clip
        self._clips: list[Clip] = []
        self._lock = threading.Lock()

    def begin(self, session: ServedSession, rate: float) -> Clip:
        """A clip that begins with what is shown; a `ClipError` says why there is none."""
        with self._lock:
            self._forget()
            if sum(not clip.is_over for clip in self._clips) >= self.limits.recordings:
                raise ClipError(f"{self.limits.recordings} clips are being recorded; try later")
            if len(self._clips) >= self.limits.clips:
                raise ClipError(f"all {self.limits.clips} places for clips are taken; try later")
            try:
                clip = Clip(self._folder, session, rate, self.limits)
            except UserError as error:
                raise ClipError("a clip cannot be written here") from error
            self._clips.append(clip)
        return clip

    def keep(self, clip: Clip) -> None:
        """Wait until it is whole; from now on it can be fetched, for a while."""
        clip.wait()
        try:
            for ending in KINDS:
                self._publish(clip.key, ending)
        except OSError as error:
            raise ClipError("the clip could not be written") from error
        clip.expires = time.monotonic() + self.limits.clip_kept

    def drop(self, clip: Clip) -> None:
        """Remove a clip that nobody will ask for."""
        clip.stop("its player has left")
        clip.expires = 0.0

    def find(self, name: str) -> Path | None:
        """The file of an address's last part; None: there is none, or no longer."""
        key, dot, ending = name.rpartition(".")
        if dot + ending not in KINDS:
            return None
        with self._lock:
            self._forget()
            if self._shared is None and self._made is None:
                return None
            path = self._kept_path(key, dot + ending)
        return path if path.is_file() and not self._is_over(path) else None

    def close(self) -> None:
        """Remove every clip that is still there."""
        for clip in self._clips:
            self.drop(clip)
            with contextlib.suppress(ClipError):
                clip.wait()
        if self._made is not None:
            self._made.cleanup()

    @property
    def _folder(self) -> Path:
        if self._made is None:
            self._made = tempfile.TemporaryDirectory(prefix="clips", ignore_cleanup_errors=True)
        return Path(self._made.name)

    def _publish(self, key: str, ending: str) -> None:
        """A whole file, to where it is found by an address; whoever lists the folder finds none."""
        made, kept = self._folder / f"{key}{ending}", self._kept_path(key, ending)
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        shutil.move(made, part)
        part.touch()
        part.replace(kept)

    def _kept_path(self, key: str, ending: str) -> Path:
        folder = self._shared or self._folder / "kept"
        name = hashlib.sha256(key.encode(errors="replace")).hexdigest()[:32]
        return folder / f"{name}{ending}"

    def _is_over(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime > self.limits.clip_kept
        return True

    def _forget(self) -> None:
        now = time.monotonic()
        over = [clip for clip in self._clips if clip.expires < now]
        self._clips = [clip for clip in self._clips if clip.expires >= now]
        for clip in over:
            for ending in KINDS:
                (self._folder / f"{clip.key}{ending}").unlink(missing_ok=True)
        if self._shared is None and self._made is None:
            return  # no clip was ever made
        for path in list_files(self._kept_path("", "").parent, "*"):  # another server's, too
            if self._is_over(path):
                with contextlib.suppress(OSError):  # not ours to remove
                    path.unlink()
