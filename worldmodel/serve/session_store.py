"""Sessions on disk, so that another server can go on with them: after a crash, after an update.

    store = SessionStore(folder)
    store.save(kept)                          # returns at once; the newest of each session counts
    kept = store.find(key, world)             # on another server, on any machine with the folder

A file is named after a hash of its player's key, and does not hold the key itself: who can list
the folder cannot take a session over. Files are safetensors: reading one runs no code.
"""

import contextlib
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from worldmodel.config import UserError
from worldmodel.storage.files import write_atomically
from worldmodel.storage.tensor_files import array_file, open_tensors
from worldmodel.system.limits import LARGEST_MOMENT
from worldmodel.system.paths import list_files
from worldmodel.system.progress import note
from worldmodel.world import Frame, SavedState

FORMAT = "worldmodel session 1"
ENDING = ".safetensors"
KEPT_FOR = 600.0  # seconds: a server that loads a large world takes some minutes
SWEEP = 60.0  # seconds between two looks for files that nobody asks for any more
LARGEST = 64 << 20  # bytes of a state, once a second
BROKEN = (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError, UserError)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptSession:
    """A session between two frames."""

    world: str
    key: str  # of its player
    watch_key: str
    start: int
    seed: int
    number: int  # of the frame that is shown
    frame: Frame
    state: SavedState
    is_own: bool = True  # whether it was kept by the store that is asked


class SessionStore:
    """A folder of sessions; any thread may call, one of its own writes."""

    def __init__(self, folder: Path, kept_for: float = KEPT_FOR) -> None:
        """Sessions are gone on with for `kept_for` seconds, then their files are removed."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"--store {folder}: cannot be a folder of sessions: {why}") from error
        self.folder, self.kept_for = folder, kept_for
        self._writer = secrets.token_hex(8)  # tells this store's files from another server's
        self._swept = 0.0
        self._jobs: dict[str, KeptSession | None] = {}  # by key: the newest, or None to forget it
        self._changed = threading.Condition()
        self._closing = False
        self._told = False
        # A daemon, as in `storage.recording`: a disk that hangs holds nobody.
        self._thread = threading.Thread(target=self._run, name="session store", daemon=True)
        self._thread.start()

    def save(self, kept: KeptSession) -> None:
        """Write it soon; a state that no disk takes once a second is not kept, and that is said."""
        size = kept.state.bytes_beside(None)
        if size <= LARGEST:
            self._soon(kept.key, kept)
        else:
            self._tell(f"a state of {size >> 20} MB is too large, at most {LARGEST >> 20} MB")

    def forget(self, key: str) -> None:
        """It has ended; nobody goes on with it."""
        self._soon(key, None)

    def find(self, key: str, world: str) -> KeptSession | None:
        """A world's session, as the last server that played it has kept it."""
        path = self._path(key)
        try:
            return None if self._is_over(path) else _read(path, key, world, self._writer)
        except BROKEN:
            return None

    def close(self) -> None:
        """Write what waits to be written, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _soon(self, key: str, kept: KeptSession | None) -> None:
        with self._changed:
            self._jobs[key] = kept
            self._changed.notify_all()

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{ENDING}"

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closing)
                jobs, self._jobs = self._jobs, {}
                closing = self._closing
            for key, kept in jobs.items():
                self._attempt(self._write if kept else self._remove, self._path(key), kept)
            if time.monotonic() - self._swept > SWEEP:
                self._swept = time.monotonic()
                for path in filter(self._is_over, list_files(self.folder, f"*{ENDING}")):
                    self._attempt(self._sweep, path, None)
            if closing and not self._jobs:
                return

    def _attempt(self, do: Callable[..., None], path: Path, kept: KeptSession | None) -> None:
        try:
            do(path, kept)
        except FileNotFoundError:  # another server was faster
            pass
        except BROKEN as error:
            self._tell(str(error))

    def _tell(self, why: str) -> None:
        """Once: play goes on, and a full disk stays full."""
        if not self._told:
            note(f"{self.folder}: sessions cannot be kept for other servers: {why}")
        self._told = True

    def _is_over(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime > self.kept_for
        return True

    def _write(self, path: Path, kept: KeptSession) -> None:
        facts: dict[str, Any] = {
            "world": kept.world,
            "watch_key": kept.watch_key,
            "start": kept.start,
            "seed": kept.seed,
            "number": kept.number,
            "identity": dict(kept.state.identity),
            "process": os.getpid(),  # that played it
            "writer": self._writer,
        }
        arrays = {f"state.{name}": array for name, array in kept.state.arrays.items()}
        header = {"format": FORMAT, "session": json.dumps(facts)}
        write_atomically(path, array_file(arrays | {"frame": kept.frame}, header))

    def _remove(self, path: Path, kept: None) -> None:
        """A session's file, unless another server has gone on with it."""
        del kept
        if not path.exists():  # it was over before it was kept
            return
        with open_tensors(path, LARGEST_MOMENT, "np") as file:
            writer = json.loads((file.metadata() or {})["session"])["writer"]
        if writer == self._writer:
            path.unlink()

    @staticmethod
    def _sweep(path: Path, kept: None) -> None:
        del kept
        path.unlink()


def _read(path: Path, key: str, world: str, writer: str) -> KeptSession | None:
    with open_tensors(path, LARGEST_MOMENT, "np") as file:
        header = file.metadata() or {}
        facts = json.loads(header["session"])
        if header.get("format") != FORMAT or facts["world"] != world:
            return None
        names = list(file.keys())
        arrays = {name: np.array(file.get_tensor(name)) for name in names}
    frame = arrays.pop("frame")
    state = {name.removeprefix("state."): array for name, array in arrays.items()}
    return KeptSession(
        world=world,
        key=key,
        watch_key=str(facts["watch_key"]),
        start=int(facts["start"]),
        seed=int(facts["seed"]),
        number=int(facts["number"]),
        frame=frame,
        state=SavedState(facts["identity"], state),
        is_own=facts["writer"] == writer,
    )
