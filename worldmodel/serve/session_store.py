"""Sessions on disk, so that another server can go on with them: after a crash, after an update.

    store = SessionStore(folder)
    store.save(kept)                          # returns at once; the newest of each session counts
    kept = store.find(key, world, within=60)  # on another server, on any machine with the folder

A file is named after a hash of its player's key, and does not hold the key itself: who can list
the folder cannot take a session over. Files are safetensors: reading one runs no code.
"""

import contextlib
import hashlib
import json
import os
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
from worldmodel.system.progress import note
from worldmodel.world import Frame, State

FORMAT = "worldmodel session 1"
ENDING = ".safetensors"
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
    state: State


class SessionStore:
    """A folder of sessions; any thread may call, one of its own writes."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            told = error.strerror or error
            raise UserError(f"--store {folder}: cannot be a folder of sessions: {told}") from error
        self.folder = folder
        self._jobs: dict[str, KeptSession | None] = {}  # by key: the newest, or None to forget it
        self._changed = threading.Condition()
        self._closing = False
        self._told = False
        self._thread = threading.Thread(target=self._run, name="session store", daemon=True)
        self._thread.start()

    def save(self, kept: KeptSession) -> None:
        """Write it soon."""
        self._soon(kept.key, kept)

    def forget(self, key: str) -> None:
        """It has ended; nobody goes on with it."""
        self._soon(key, None)

    def find(self, key: str, world: str, within: float) -> KeptSession | None:
        """A world's session that was saved in the last `within` seconds."""
        path = self._path(key)
        try:
            if time.time() - path.stat().st_mtime > within:
                path.unlink()
                return None
            return _read(path, key, world)
        except BROKEN:
            return None

    def close(self) -> None:
        """Write what waits."""
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
                self._attempt(self._write if kept else self._remove, key, kept)
            if closing and not self._jobs:
                return

    def _attempt(self, do: Callable[..., None], key: str, kept: KeptSession | None) -> None:
        try:
            do(self._path(key), kept)
        except (OSError, UserError) as error:
            if not self._told:  # once: play goes on, and a full disk stays full
                note(f"{self.folder}: sessions cannot be kept for other servers: {error}")
            self._told = True

    @staticmethod
    def _write(path: Path, kept: KeptSession) -> None:
        facts: dict[str, Any] = {
            "world": kept.world,
            "watch_key": kept.watch_key,
            "start": kept.start,
            "seed": kept.seed,
            "number": kept.number,
            "identity": dict(kept.state.identity),
            "process": os.getpid(),  # that played it
        }
        arrays = {f"state.{name}": array for name, array in kept.state.arrays.items()}
        header = {"format": FORMAT, "session": json.dumps(facts)}
        write_atomically(path, array_file(arrays | {"frame": kept.frame}, header))

    @staticmethod
    def _remove(path: Path, kept: None) -> None:
        del kept
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _read(path: Path, key: str, world: str) -> KeptSession | None:
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
        state=State(facts["identity"], state),
    )
