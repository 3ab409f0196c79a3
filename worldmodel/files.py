"""Files that are either whole or not there, and what is read is a file of a sane size."""

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from worldmodel.config import UserError


class FileWriteError(UserError):
    """A file could not be written; whatever stood there before still does."""


class FileReadError(UserError):
    """What should be a file of a certain size is missing or something else."""


def check_file(path: Path, largest: int) -> None:
    """Refuse what is missing, no plain file (a pipe would block for ever) or too large."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        told = error.strerror if isinstance(error, OSError) else str(error)
        raise FileReadError(f"{path}: cannot be read: {told}") from error
    if not stat.S_ISREG(found.st_mode):
        raise FileReadError(f"{path}: cannot be read: not a file")
    if found.st_size > largest:
        raise FileReadError(
            f"{path}: {found.st_size / 2**20:.1f} MB, at most {largest / 2**20:.1f} MB are read"
        )


def read_file(path: Path, largest: int) -> bytes:
    """The content of a plain file of at most `largest` bytes."""
    check_file(path, largest)
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)  # it may have grown
    except OSError as error:
        raise FileReadError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > largest:
        raise FileReadError(f"{path}: more than {largest / 2**20:.1f} MB")
    return content


def plain(name: str) -> str:
    """A name that is one harmless file name on every system."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[:80] or "_"


def write_atomically(path: Path, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Write beside `path`, then rename: a crash or a full disk leaves the old file as it was.

    Content of gigabytes comes in parts, so that memory need not hold it a second time.
    """
    part = path.with_name(f".{path.name}.part")  # one name: what a kill leaves is overwritten
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for piece in (content,) if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise FileWriteError(f"{path}: cannot be written: {error.strerror}") from error
