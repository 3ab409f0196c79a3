"""Files that are either whole or not there, and what is read is a file of a sane size."""

import contextlib
import errno
import functools
import glob
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from worldmodel.config import UserError
from worldmodel.system.encoding import TextError, decode_text
from worldmodel.system.limits import LARGEST_RECORD, LARGEST_TEXT, LONGEST_SHOWN
from worldmodel.system.not_downloaded import HEAD, what_instead

LONGEST_NAME = 120  # bytes of UTF-8; half of what a file system takes: endings follow
# What file systems answer that have no fsync: FUSE, 9p, some network shares.
NOT_OFFERED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
STALE = 3600.0  # seconds, after which what was being written is what a kill left


class FileWriteError(UserError):
    """A file could not be written; whatever stood there before still does."""


class FileReadError(UserError):
    """What should be a file of a certain size is missing or something else."""


def check_file(path: Path, largest: int) -> None:
    """Refuse what is missing, no plain file (a pipe would block for ever), too large, no data."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise FileReadError(f"{path}: cannot be read: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        raise FileReadError(f"{path}: cannot be read: not a file")
    if found.st_size > largest:
        raise FileReadError(
            f"{path}: {found.st_size / 2**20:.1f} MB, at most {largest / 2**20:.1f} MB are read"
        )
    refuse_stranger(path)


def refuse_stranger(path: Path) -> None:
    """Say so where a file was never downloaded and something else has its name."""
    with contextlib.suppress(OSError), path.open("rb") as file:  # who reads it says why not
        if reason := what_instead(file.read(HEAD)):
            raise FileReadError(f"{path}: {reason}")


def is_file(path: Path) -> bool:
    """Whether there is a plain file; no name is too long or too odd to be asked for."""
    return os.path.isfile(path)  # noqa: PTH113  # `Path.is_file` raises for names of 300 letters


def check_inside(path: Path, folder: Path) -> None:
    """Refuse a link that leads out of `folder`: it could show any file of whoever plays."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FileReadError(f"{path}: a link that leads out of the world's folder; copy the file")


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


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """A text of at most `largest` bytes, in whichever encoding of Unicode it was saved."""
    try:
        return decode_text(read_file(path, largest))
    except TextError as error:
        raise FileReadError(f"{path}: {error}") from error


def read_record(path: Path) -> dict[str, Any]:
    """A JSON table of what a program says of itself; a `FileReadError` if it is anything else."""
    text = read_text(path, LARGEST_RECORD)
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, a number of 5000 digits
        raise FileReadError(f"{path}: not JSON: {str(error)[:LONGEST_SHOWN]}") from error
    if not isinstance(table, dict):
        raise FileReadError(f"{path}: a {type(table).__name__}, expected a table")
    return table


def plain(name: str) -> str:
    """A name that is one harmless file name on every system."""
    short = re.sub(r"[^\w.-]", "_", name).lstrip(".")[:80]
    return short.encode()[:LONGEST_NAME].decode(errors="ignore") or "_"  # systems count bytes


def is_name(text: str) -> bool:
    """Whether a text is one file name and no path, on every system."""
    is_short = 0 < len(text.encode(errors="replace")) <= LONGEST_NAME
    is_plain = text.isprintable() and not re.search(r"[/\\:]", text)
    return is_short and is_plain and text.strip(". ") != ""


def write_atomically(path: Path, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Write beside `path`, then rename: a crash or a full disk leaves the old file as it was.

    Whoever writes at the same time writes into a file of its own: the last one to finish wins.
    Content of gigabytes comes in parts, so that memory need not hold it a second time.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:  # not through a link that somebody left there
            for piece in (content,) if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            sync(file.fileno())
        part.replace(path)
        _remove_stale(path)
    except OSError as error:
        raise FileWriteError(f"{path}: cannot be written: {error.strerror}") from error
    finally:  # whatever has happened, Ctrl-C in the middle of gigabytes too
        with contextlib.suppress(OSError):
            part.unlink()


def link_or_copy(path: Path, to: Path) -> None:
    """A file in another place, without copying it where the disk allows that."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copy2(path, to)


def with_a_name(path: Path) -> Path:
    """The same path, which others can stand beside: `.` has no name of its own."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100  # links stay what they are
    if not whole.name:
        raise FileWriteError(f"{path}: cannot be written: it is the root of a disk")
    return whole


def check_writable(path: Path) -> None:
    """Refuse before the work, rather than after it, a path that nothing can be written to."""
    path = with_a_name(path)
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise FileWriteError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def sync(descriptor: int) -> None:
    """Wait until the disk has a file; where its file system cannot be asked to, say so once."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        _tell_of_no_sync(error.strerror)


@functools.cache
def _tell_of_no_sync(why: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(
            f"this file system does not say when a file is on the disk ({why}): a lost power may "
            "take the last files along, a killed process does not\n"
        )


def _remove_stale(path: Path) -> None:
    """What a kill in the middle of an earlier write left."""
    with contextlib.suppress(OSError):
        for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink(missing_ok=True)
