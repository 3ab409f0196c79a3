"""The process that ViZDoom starts: in a place where it can, and not left behind.

Its library starts the engine itself and crashes where it cannot write, so what it needs is tried
beforehand. A launcher between the two lets the engine work in a folder of its own (the working
folder may be read-only) where a terminal's Ctrl-C does not reach it (the library crashes when its
engine goes first), and on Linux asks the system to end it with the program that started it, however
that ends: a `kill -9` runs no `close`.
"""

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from worldmodel.config import UserError

SHARED_MEMORY = Path("/dev/shm")
SHARED_BYTES = 8 << 20  # pictures and messages of one engine, with room to spare

# A program of its own, by whatever Python this is, without any package: it starts in 15 ms.
LAUNCH = """
import ctypes, os, signal, sys
folder, parent, engine = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, which exec keeps
    if os.getppid() != parent:  # it has died in the meantime
        sys.exit(1)
os.setsid()  # a terminal's Ctrl-C is for the program, which then ends it
os.chdir(folder)
os.execv(engine, [engine, *sys.argv[4:]])
"""


class EnginePlace:
    """A folder for one engine's settings and leavings, and the launcher that takes it there."""

    def __init__(self) -> None:
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="worldmodel-doom-"))
        except OSError as error:
            raise UserError(
                "the real game needs a folder for temporary files, and none can be written: "
                f"{error.strerror}; set TMPDIR"
            ) from error
        # The process is in the name, so that its engines can be told from others'.
        self.settings = self.folder / f"worldmodel-vizdoom-{os.getpid()}.ini"

    def launcher(self, engine: Path) -> Path | None:
        """What to start in place of the engine; None where nothing can be started from here."""
        if os.name != "posix" or not engine.exists():
            return None
        words = [sys.executable, "-ISc", LAUNCH, self.folder, os.getpid(), engine]
        line = " ".join(shlex.quote(str(word)) for word in words)
        path = self.folder / "launch"
        path.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
        path.chmod(0o700)
        if not os.access(path, os.X_OK):  # the file system of temporary files runs no programs
            check_working_folder(Path.cwd())
            return None
        return path

    def remove(self) -> None:
        """When the engine has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)


def check_shared_memory(folder: Path = SHARED_MEMORY) -> None:
    """A `UserError` where frames could not be passed on: the library would crash there."""
    if not sys.platform.startswith("linux"):
        return
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="worldmodel-"):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(
            f"the real game passes its frames through {folder}, which cannot be written "
            f"({error.strerror}); mount a tmpfs there"
        ) from error
    if free < SHARED_BYTES:
        raise UserError(
            f"the real game passes its frames through {folder}, which has {free >> 20} MB left and "
            f"needs {SHARED_BYTES >> 20}; make room (docker: --shm-size)"
        )


def check_working_folder(folder: Path) -> None:
    """A `UserError` where the engine would have to write into a working folder that is not its."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".worldmodel-"):
            pass
    except OSError as error:
        raise UserError(
            f"the real game needs to write into the working folder {folder}, and cannot "
            f"({error.strerror}); start it from another one"
        ) from error
