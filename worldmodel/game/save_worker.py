"""Moments on their way to disk, in a thread of their own: play never waits for a disk.

save_worker = SaveWorker()
save_worker.save(moment)                          # F5
if save_worker.autosave_is_due(): save_worker.autosave(moment)
for text in save_worker.notices(): ...            # what there is to tell the player
save_worker.close(None)                           # a good end: the autosave is removed
"""

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from worldmodel.config import UserError
from worldmodel.storage.autosave import Autosave, forget_old
from worldmodel.storage.files import plain
from worldmodel.storage.moments import (
    Moment,
    list_moments,
    load_moment,
    moments_folder,
    new_name,
    save_moment,
)

AUTOSAVE_SECONDS = 30.0
AUTOSAVE_RATE = 32 << 20  # bytes a second that a disk is asked to take for them


class SaveWorker:
    """Writes moments, and an autosave now and then."""

    def __init__(self, folder: Path | None = None, period: float = AUTOSAVE_SECONDS) -> None:
        self.folder = folder or moments_folder()
        self.last: Moment | None = None  # the one that was saved last, on disk or not
        self.autosaves = 0  # written so far
        self._period = period
        self._next = time.monotonic() + period
        self._autosave: Autosave | None = None
        self._said_why_not = False
        self._notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[tuple[Path | None, Moment] | None] = queue.SimpleQueue()
        self._busy = threading.Event()  # an autosave waits or is being written
        self._thread = threading.Thread(target=self._run, name="save_worker")
        self._thread.start()

    def save(self, moment: Moment) -> None:
        """Keep a moment under a name of its own."""
        self.last = moment
        self._jobs.put((new_name(self._folder_of(moment)), moment))

    def newest(self, world: str) -> Moment:
        """What was saved last in this session, else the newest one on disk."""
        if self.last is not None:
            return self.last
        kept = [one for one in list_moments(world, self.folder) if not one.is_autosave]
        if not kept:
            raise UserError(f"nothing is saved of {world} yet, F5 saves")
        return load_moment(kept[0].path)

    def autosave_is_due(self) -> bool:
        """Whether the last one is old, and on disk."""
        return time.monotonic() >= self._next and not self._busy.is_set()

    def autosave(self, moment: Moment) -> None:
        """Keep a moment in place of the last one; one of gigabytes, less often."""
        self._busy.set()
        seconds = moment.state.bytes_beside(None) / AUTOSAVE_RATE
        self._next = time.monotonic() + max(self._period, seconds)
        self._jobs.put((None, moment))

    def notices(self) -> Iterator[str]:
        """What happened since the last call, in words."""
        while not self._notices.empty():
            yield self._notices.get()

    def tell(self, text: str) -> None:
        """Say something to the player; from any thread."""
        self._notices.put(text)

    def close(self, rescued: Moment | None) -> None:
        """Finish what is waiting. A session that broke hands over its last good moment."""
        if rescued:
            self.autosave(rescued)
        self._jobs.put(None)
        self._thread.join()
        if self._autosave:
            if rescued:
                self._autosave.let_go()
            else:
                self._autosave.remove()

    def _run(self) -> None:
        while job := self._jobs.get():
            path, moment = job
            try:
                self._write(path, moment)
            except Exception as error:  # noqa: BLE001  # it is told to the player; play goes on
                self._explain(path, error)
            if path is None:
                self._busy.clear()

    def _write(self, path: Path | None, moment: Moment) -> None:
        if path is not None:
            save_moment(path, moment)
            self.tell(f"saved this moment: {path}")
            return
        if self._autosave is None:
            folder = self._folder_of(moment)
            forget_old(folder)
            self._autosave = Autosave(folder)
        self._autosave.claim()
        save_moment(self._autosave.path, moment)
        self.autosaves += 1
        self._said_why_not = False

    def _explain(self, path: Path | None, error: Exception) -> None:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if path is not None:
            self.tell(f"not on disk, only in memory until the end: {reason}")
        elif not self._said_why_not:
            self._said_why_not = True
            self.tell(f"no autosave: {reason}")

    def _folder_of(self, moment: Moment) -> Path:
        return self.folder / plain(moment.header.world)
