"""Files that are either whole or not there."""

import contextlib
import os
from pathlib import Path

from worldmodel.config import UserError


class FileWriteError(UserError):
    """A file could not be written; whatever stood there before still does."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path`, then rename: a crash or a full disk leaves the old file as it was."""
    part = path.with_name(f".{path.name}.part")  # one name: what a kill leaves is overwritten
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise FileWriteError(f"{path}: cannot be written: {error.strerror}") from error
