"""What of a recipe is done, what it took, and what has gone by: one small file in the run's folder.

A step is done if it was done under the same key: everything that its result depends on.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.config import ConfigError, build_config
from worldmodel.storage.files import read_record, write_atomically

FILE = "progress.json"


def key_of(what: Mapping[str, Any], before: Sequence[str] = ()) -> str:
    """Changes with a table and with the keys of the steps before it."""
    text = json.dumps([what, list(before)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(slots=True)
class Entry:
    """One step of a recipe: whether it is done, and what it has taken."""

    key: str
    done: bool = False
    seconds: float = 0.0  # over all sessions
    since: float = 0.0  # when the running session began, by the system's clock
    minutes: float = 0.0  # that it was given, if it trains
    rate: float = 1.0  # times the learning rates of the recipe
    split: int = 1  # parts of a batch
    change: float = 0.0  # of an autoencoder: how much latents change from frame to frame


@dataclass(slots=True)
class Ledger:
    """All steps that were begun."""

    root: Path
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path) -> "Ledger":
        """What an earlier session left; the seconds that a killed one did not write are added."""
        path, ledger = root / FILE, cls(root)
        if path.exists():
            try:
                table = read_record(path)
                found = {name: build_config(Entry, row, str(path)) for name, row in table.items()}
            except (OSError, ValueError, AttributeError) as error:
                raise ConfigError(f"{path}: cannot be read: {error}; remove it") from error
            ledger.entries = found
            for name, entry in found.items():
                if entry.since:
                    entry.seconds += max(0.0, _last_sign(root / name) - entry.since)
                    entry.since = 0.0
        return ledger

    @property
    def spent(self) -> float:
        """Seconds of all that was done under keys that still count, now included."""
        now = time.time()
        return sum(e.seconds + (now - e.since if e.since else 0.0) for e in self.entries.values())

    def is_done(self, name: str, key: str) -> bool:
        """Whether a step was done as it is wanted."""
        entry = self.entries.get(name)
        return entry is not None and entry.done and entry.key == key

    def begin(self, name: str, key: str) -> Entry:
        """Begin a step, or go on with it; what it left under another key is put aside.

        A folder of its name that no step has made is somebody's own: a `ConfigError`.
        """
        entry, folder = self.entries.get(name), self.root / name
        if entry is None and folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder}: is in the way, and `make` has not made it; move it, or give another "
                "folder with --run"
            )
        if entry is None or entry.key != key:
            self._put_aside(folder)
            entry = self.entries[name] = Entry(key)
        entry.done, entry.since = False, time.time()
        self.save()
        return entry

    def finish(self, name: str) -> None:
        """Note that a step is done, and how long it took."""
        self.entries[name].done = True
        self.pause(name)

    def pause(self, name: str) -> None:
        """A step has stopped, for now or for good."""
        entry = self.entries[name]
        entry.seconds += time.time() - entry.since if entry.since else 0.0
        entry.since = 0.0
        self.save()

    def save(self) -> None:
        """Write the ledger to its file."""
        table = {name: asdict(entry) for name, entry in self.entries.items()}
        write_atomically(self.root / FILE, (json.dumps(table, indent=1) + "\n").encode())

    def _put_aside(self, folder: Path) -> None:
        """Keep what a changed recipe replaces, once."""
        if folder.is_dir():
            before = folder.with_name(f"{folder.name}.before")
            shutil.rmtree(before, ignore_errors=True)
            folder.rename(before)


def _last_sign(folder: Path) -> float:
    """When something in a folder was last written."""
    times = [path.stat().st_mtime for path in folder.rglob("*") if path.is_file()]
    return max(times, default=0.0)
