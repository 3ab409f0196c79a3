"""From a name, a folder or nothing at all to a world that can be played."""

import contextlib
import importlib
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

from worldmodel.action import ActionSpec
from worldmodel.config import UserError, read_toml
from worldmodel.model.configs import SamplerConfig
from worldmodel.storage.files import is_file
from worldmodel.system.paths import Pathlike, list_files, to_path
from worldmodel.system.printable import shown
from worldmodel.world import Batch, World
from worldmodel.worlds.known_folders import known_folders
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.wan.world_file import BACKEND as WAN
from worldmodel.worlds.wan.world_file import read_wan_world
from worldmodel.worlds.world_folder import (
    WORLD_FILE,
    WorldError,
    check_part,
    read_world_file,
)

DEFAULT = "doom-places"
MOST_ABOVE = 3  # folders above a recording whose folders are looked at


class Description(Protocol):
    """What every `world.toml` says, whichever backend plays the world."""

    @property
    def name(self) -> str:
        """What people call it by; a word."""

    @property
    def title(self) -> str:
        """What it shows, on a line."""

    @property
    def licence(self) -> str:
        """Under which it may be used."""

    @property
    def backend(self) -> str:
        """What plays it: a key of `BACKENDS`."""

    @property
    def frames_per_second(self) -> float:
        """How fast it is played."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """Rows and columns of its frames."""

    @property
    def sampler(self) -> SamplerConfig:
        """How its frames are sampled."""

    @property
    def actions(self) -> ActionSpec:
        """The keys and the mouse that it knows."""

    @property
    def captions(self) -> list[str]:
        """The captions of the starts, in order."""

    @property
    def pictures(self) -> Sequence[str | None]:
        """The files of the starts in `starts/`; None where play begins without a picture."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What plays worlds of one kind, by the name that `world.toml` gives it."""

    read: Callable[[Path], Description]  # a folder's `world.toml`
    world: str  # "module:class", imported when needed: its dependencies hurt nobody else
    batch: str | None = None  # likewise, what plays many sessions of its worlds as one


BACKENDS = {
    "native": Backend(
        read_world_file,
        "worldmodel.worlds.native:NativeWorld",
        "worldmodel.worlds.native_batch:NativeBatch",
    ),
    WAN: Backend(
        read_wan_world,
        "worldmodel.worlds.wan.world:WanWorld",
        "worldmodel.worlds.wan.batch:WanBatch",
    ),
}


class Recorded(Protocol):
    """A header that says in which world something was made."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the world was run; `world` is what the player called it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """`sha256` of its weights, among others."""


def shipped_worlds() -> Path:
    """The folder with the worlds that come with a checkout, or that the wheel has installed."""
    beside_package = Path(__file__).parents[2] / "assets" / "worlds"
    if beside_package.is_dir():
        return beside_package
    return _installed_worlds() or Path("assets/worlds")


def _installed_worlds() -> Path | None:
    """Where the wheel's data files lie, as its own list of files says."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("worldmodel") or ():
            if file.name == WORLD_FILE and file.parts[-4:-2] == ("worldmodel", "worlds"):
                return Path(str(file.locate())).resolve().parents[1]
    return None


def is_shipped(folder: Path) -> bool:
    """Whether a world came with the project."""
    return folder.resolve().parent == shipped_worlds().resolve()


def read_any_world(folder: Path) -> Description:
    """What `world.toml` says, whichever backend plays it; weights are not looked at."""
    return _backend(folder).read(folder)


def list_all_worlds() -> list[tuple[Path, Description]]:
    """The shipped worlds and those imported beside them; a broken one says so when it is opened."""
    worlds = []
    for path in list_files(shipped_worlds(), f"*/{WORLD_FILE}"):
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


def is_world(path: Path) -> bool:
    """Whether there is a world's folder, or a file that may be a released one."""
    return is_file(path / WORLD_FILE) or is_file(path)


def find_world(name: Pathlike | None) -> Path:
    """A world's folder, a released file as it is, a name among the shipped ones, or the default."""
    wanted = str(name or DEFAULT)
    path = to_path(wanted)
    if is_world(path):
        return path
    shipped = shipped_worlds() / wanted
    if is_file(shipped / WORLD_FILE):
        return shipped
    if os.path.exists(path):  # noqa: PTH110  # `Path.exists` raises for names of 300 letters
        raise WorldError(f"{path}: not a world (a folder with {WORLD_FILE} in it)")
    known = ", ".join(folder.name for folder, _ in list_all_worlds()) or "none"
    raise WorldError(
        f"unknown world {shown(wanted)}; there are: {known}, or give a world's folder (a checkout "
        "of the project has all that ship)"
    )


def find_recorded(recorded: Recorded, near: Path) -> str | None:
    """The world that a recording or a moment at `near` was made in, wherever it lies now.

    The one of that name, if it has the weights that were recorded; else whichever has them, of
    those that were played on this machine (`known_folders`), those beside `near`, above it or above
    here, and of those that are shipped. Where none has them
    it is the one of that name: what differs is told when it is opened.
    """
    wanted = recorded.identity.get("sha256")
    name = recorded.settings.get("world")
    name = None if name is None else str(name)
    if not isinstance(wanted, Mapping) or not wanted:
        return _known_by_name(name)
    with contextlib.suppress(UserError):
        if _has_weights(find_world(name), wanted):
            return name
    for folder in _likely_places(name, near):
        if _has_weights(folder, wanted):
            return str(folder)
    return _known_by_name(name)


def find_start_of(start: str, near: Path) -> str:
    """A start of one's own that was recorded by its name: here, or beside or above `near`."""
    places = (Path(), *near.resolve().parents)
    found = (folder / to_path(start) for folder in places)
    return next((str(path) for path in found if is_file(path)), start)


def find_world_of(recorded: Recorded, near: Path) -> str | None:
    """As `find_recorded`; a `WorldError` says which world is missing and how to name it."""
    name = find_recorded(recorded, near)
    try:
        find_world(name)
    except WorldError as error:
        weights = recorded.identity.get("sha256")
        hashes = list(weights.values()) if isinstance(weights, Mapping) else []
        known = f" (sha256 of its weights: {shown(hashes[0])})" if hashes else ""
        raise WorldError(
            f"{near}: made in the world {shown(name)}{known}, which is not found from here: give "
            f"its folder with --world; {error}"
        ) from error
    return name


def _known_by_name(name: str | None) -> str | None:
    """A released file as it is has no `world.toml` to compare: it is known by its name."""
    if name is not None:
        with contextlib.suppress(UserError):
            find_world(name)
            return name
        for known in known_folders():
            if known.name == name and is_world(known):
                return str(known)
    return name


def _likely_places(name: str | None, near: Path) -> Iterator[Path]:
    """Folders that may be the world, the likelier ones first; each once."""
    here = Path.cwd()
    above = list(dict.fromkeys((*near.resolve().parents, here, *here.parents)))
    yield from known_folders()
    tails = [] if name is None else [to_path(name), Path(to_path(name).name)]
    yield from (folder / tail for tail in tails for folder in above)
    for folder in (*near.resolve().parents[:MOST_ABOVE], here, here.parent, shipped_worlds()):
        with contextlib.suppress(OSError):  # a folder that may not be looked into
            for depth in ("*", "*/*"):
                yield from (path.parent for path in list_files(folder, f"{depth}/{WORLD_FILE}"))


def _has_weights(folder: Path, wanted: Mapping[str, str]) -> bool:
    """Whether a `world.toml` names every file that is wanted with the same sha256."""
    with contextlib.suppress(UserError):
        found = read_toml(folder / WORLD_FILE).get("sha256")
        return isinstance(found, Mapping) and wanted.items() <= found.items()
    return False


def open_world(name: Pathlike | None = None, settings: RunSettings | None = None) -> World:
    """Load a world, ready to `reset`."""
    folder = find_world(name)
    backend = BACKENDS[WAN] if is_file(folder) else _backend(folder)
    made = _imported(backend.world)
    return cast(World, made.load(folder, settings or RunSettings()))


def open_batch(world: World, count: int) -> Batch:
    """So many sessions of a world as one, where its backend can; else a `UserError`."""
    kind = f"{type(world).__module__}:{type(world).__name__}"
    for backend in BACKENDS.values():
        if backend.world == kind and backend.batch:
            return cast(Batch, _imported(backend.batch)(world, count))
    raise UserError(f"{world.name}: its backend plays one session at a time; use WorldEnv")


def _imported(path: str) -> Any:
    """The class that "module:class" names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _backend(folder: Path) -> Backend:
    """That of a world's folder; one that this version does not have is a `WorldError`."""
    name = read_toml(folder / WORLD_FILE).get("backend", "native")
    if not isinstance(name, str) or name not in BACKENDS:
        raise WorldError(
            f"{folder / WORLD_FILE}: unknown backend {shown(name)}; "
            f"this version has {', '.join(BACKENDS)}"
        )
    return BACKENDS[name]
