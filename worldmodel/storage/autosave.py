"""What a session keeps of itself while it runs, for the day on which it does not come to its end.

A session holds a lock as long as it lives, and the system lets go of it however the session ends.
So an autosave whose lock can be had is what a broken session left.
"""

import contextlib
import secrets
from pathlib import Path

from filelock import FileLock

from worldmodel.config import UserError

PREFIX = "autosave-"
KEPT = 5  # broken sessions of a world whose autosaves stay


class Autosave:
    """The file and the lock of one running session."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{PREFIX}{secrets.token_hex(4)}.safetensors"
        self._lock: FileLock | None = None

    def claim(self) -> None:
        """Hold the lock; before the file is written for the first time."""
        if self._lock is not None and not _lock_of(self.path).exists():
            self.let_go()  # somebody removed the folder: without a lock this would count as broken
        if self._lock is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(_lock_of(self.path), blocking=False, thread_local=False)
                lock.acquire()
                self._lock = lock
            except OSError as error:
                raise UserError(f"{self.path.parent}: {error.strerror}") from error

    def remove(self) -> None:
        """Remove the file, since the session ended well."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Leave the file to the next session."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        with contextlib.suppress(OSError):
            _lock_of(self.path).unlink(missing_ok=True)


def is_own_kind(path: Path) -> bool:
    """Whether a file is an autosave, by its name."""
    return path.name.startswith(PREFIX)


def is_orphan(path: Path) -> bool:
    """Whether the session of an autosave is gone."""
    lock = _lock_of(path)
    if not lock.exists():
        return True
    try:
        with FileLock(lock, blocking=False):
            return True
    except OSError:  # a `Timeout` too
        return False


def forget_old(folder: Path) -> None:
    """Remove all but the newest autosaves of broken sessions."""
    with contextlib.suppress(OSError):
        paths = [path for path in folder.glob(f"{PREFIX}*") if path.suffix == ".safetensors"]
        orphans = sorted(filter(is_orphan, paths), key=lambda path: path.stat().st_mtime)
        for path in orphans[:-KEPT]:
            path.unlink(missing_ok=True)
            _lock_of(path).unlink(missing_ok=True)


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")
