"""Paths as people write them, and folders without what desktop systems leave in them."""

import os
from collections.abc import Iterator
from pathlib import Path

Pathlike = str | os.PathLike[str]

# What systems and editors put beside files; whatever begins with a dot is hidden and left out too.
NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "__macosx"})
BEGINNINGS = ("~$", "~syncthing~")
ENDINGS = ("~", ".part", ".partial", ".crdownload", ".download", ".tmp", ".bak", ".swp")


def to_path(text: Pathlike) -> Path:
    """A path, with `~` for the home folder; it stays as it is where no such home is known."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_clutter(path: Path) -> bool:
    """Whether a file or folder is no data, by its name: `.DS_Store`, `._x`, `x.part`, `x~`, …"""
    name = path.name.lower()
    if name.startswith((".", *BEGINNINGS)) or name.endswith(ENDINGS):
        return True
    return name in NAMES


def list_files(folder: Path, pattern: str = "**/*") -> Iterator[Path]:
    """The files of a folder that match, in the order of their names, without clutter."""
    for path in sorted(folder.glob(pattern)):
        inside = path.relative_to(folder)
        if not any(map(is_clutter, (inside, *inside.parents[:-1]))) and path.is_file():
            yield path


def closed_folder(folder: Path) -> str:
    """The first folder, this one or below it, that cannot be listed, and why; nothing if none is.

    `list_files` passes over those without a word.
    """
    failures: list[OSError] = []
    for _, inside, _ in os.walk(folder, onerror=failures.append):
        inside[:] = [name for name in inside if not is_clutter(Path(name))]
    return f"{failures[0].filename}: {failures[0].strerror}" if failures else ""
