"""From a name, a folder or nothing at all to a world that can be played."""

import contextlib
import importlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from worldmodel.config import UserError, read_toml
from worldmodel.files import is_file
from worldmodel.printable import shown
from worldmodel.world import World
from worldmodel.worlds.folder import (
    WORLD_FILE,
    WorldError,
    WorldFile,
    check_part,
    read_world_file,
)
from worldmodel.worlds.settings import Settings
from worldmodel.worlds.wan_file import BACKEND as WAN
from worldmodel.worlds.wan_file import WanWorldFile, read_wan_world

DEFAULT = "doom-rooms"
# Backend named in world.toml -> its class. Looked up when needed: a backend's own dependencies
# hurt nobody else.
BACKENDS = {
    "native": "worldmodel.worlds.native:NativeWorld",
    "wan": "worldmodel.worlds.wan:WanWorld",
}


def shipped_worlds() -> Path:
    """The folder with the worlds that come with the project."""
    beside_package = Path(__file__).parents[2] / "assets" / "worlds"
    return beside_package if beside_package.is_dir() else Path("assets/worlds")


def list_worlds() -> list[tuple[Path, WorldFile]]:
    """All shipped worlds that can be read; a broken one says so when it is opened."""
    worlds = []
    for path in sorted(shipped_worlds().glob(f"*/{WORLD_FILE}")):
        with contextlib.suppress(UserError):
            worlds.append((path.parent, read_world_file(path.parent)))
    return worlds


def read_any_world(folder: Path) -> WorldFile | WanWorldFile:
    """What `world.toml` says, whichever backend plays it; weights are not looked at."""
    if read_toml(folder / WORLD_FILE).get("backend") == WAN:
        return read_wan_world(folder)
    return read_world_file(folder)


def list_all_worlds() -> list[tuple[Path, WorldFile | WanWorldFile]]:
    """The shipped worlds and those that were imported beside them, of every backend."""
    worlds = []
    for path in sorted(shipped_worlds().glob(f"*/{WORLD_FILE}")):
        with contextlib.suppress(UserError):
            worlds.append((path.parent, read_any_world(path.parent)))
    return worlds


def check_world(folder: Path) -> int:
    """Compare every file that `world.toml` has the sha256 of; how many there are."""
    if not is_file(folder / WORLD_FILE):
        raise WorldError(f"{folder}: a released file as it is; only imported worlds are checked")
    hashes = read_toml(folder / WORLD_FILE).get("sha256")
    if not isinstance(hashes, dict) or not hashes:
        raise WorldError(f"{folder / WORLD_FILE}: says no sha256 of any file; import it again")
    for name in hashes:
        check_part(folder, SimpleNamespace(sha256=hashes), name)
    return len(hashes)


def find_world(name: str | None) -> Path:
    """A world's folder, a released file as it is, a name among the shipped ones, or the default."""
    wanted = name or DEFAULT
    path = Path(wanted)
    if is_file(path / WORLD_FILE) or is_file(path):
        return path
    shipped = shipped_worlds() / wanted
    if is_file(shipped / WORLD_FILE):
        return shipped
    if os.path.exists(path):  # noqa: PTH110  # `Path.exists` raises for names of 300 letters
        raise WorldError(f"{path}: not a world (a folder with {WORLD_FILE} in it)")
    known = ", ".join(folder.name for folder, _ in list_all_worlds()) or "none"
    raise WorldError(f"unknown world {shown(wanted)}; there are: {known}, or give a world's folder")


def open_world(name: str | None = None, settings: Settings | None = None) -> World:
    """Load a world, ready to `reset`."""
    folder = find_world(name)
    chosen = WAN if is_file(folder) else read_toml(folder / WORLD_FILE).get("backend")
    if not isinstance(chosen, str) or chosen not in BACKENDS:
        raise WorldError(
            f"{folder / WORLD_FILE}: unknown backend {shown(chosen)}; "
            f"this version has {', '.join(BACKENDS)}"
        )
    module, _, kind = BACKENDS[chosen].partition(":")
    backend = getattr(importlib.import_module(module), kind)
    return cast(World, backend.load(folder, settings or Settings()))
