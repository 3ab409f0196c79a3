"""Saved moments: the whole state of a played world in one safetensors file, with its picture.

    path = save_moment(folder / name, moment)
    moment = load_moment(path)               # then `world.load_state(moment.state)`

The header says which world, weights, sampler, engine and dtype the state is of; whether a world
can go on from it is the world's own matter (`World.load_state`). Arrays: `state.NAME` as the world
gave them, `frame` uint8 h w 3 as it was last seen, `held` and `mouse`, the actions since the start.
"""

import contextlib
import json
import math
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from worldmodel.config import ConfigError, UserError, build_config
from worldmodel.storage.action_history import History
from worldmodel.storage.autosave import is_orphan, is_own_kind
from worldmodel.storage.files import write_atomically
from worldmodel.storage.tensor_files import array_file, is_large, mapped, open_tensors
from worldmodel.storage.user_dirs import data_folder
from worldmodel.system.limits import LARGEST_MOMENT, LARGEST_PICTURE, LATEST_FRAME
from worldmodel.system.paths import list_files
from worldmodel.system.printable import counted, shown
from worldmodel.world import Frame, SavedState

FORMAT = "worldmodel moment 1"
ENDING = ".safetensors"
BROKEN = (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError, RecursionError)


class MomentError(UserError):
    """A file is no saved moment, or a broken one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentHeader:
    """What there is to know about a moment before it is loaded."""

    settings: dict[str, Any]  # which world, and how it was run: as in a recording
    identity: dict[str, Any]
    world: str
    caption: str  # of the start
    seed: int
    start: int
    index: int  # frames since the start frame
    seconds: float  # of play since then
    saved_at: float  # seconds since 1970
    sets: tuple[tuple[str, ...], ...]  # of buttons, numbered by the actions
    versions: dict[str, str]

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63 or self.start < 0 or not 0 <= self.index < LATEST_FRAME:
            raise ConfigError(
                f"seed ({self.seed}), start ({self.start}) and index ({self.index}) must be 0 or "
                "more, seed below 2^63, index below 2^40"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A world at rest between two frames, and how it came there."""

    header: MomentHeader
    state: SavedState
    frame: Frame
    history: History


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentEntry:
    """A moment on disk as a list shows it."""

    path: Path
    header: MomentHeader
    frame: Frame  # the picture, in the world's own size
    is_autosave: bool  # of a session that ended without saying so


def save_moment(path: Path, moment: Moment) -> None:
    """Write the file, atomically: one that exists is whole."""
    held, mouse = moment.history.to_arrays()
    arrays: dict[str, NDArray[Any]] = {"frame": moment.frame, "held": held, "mouse": mouse}
    arrays |= {f"state.{name}": array for name, array in moment.state.arrays.items()}
    header = {"format": FORMAT, "moment": json.dumps(asdict(moment.header))}
    write_atomically(path, array_file(arrays, header))


def load_moment(path: Path) -> Moment:
    """Read a moment; a `MomentError` names the file and says what is wrong with it.

    The arrays of a file of gigabytes stay on disk until a world takes them.
    """
    header, arrays = _read(path, None)
    try:
        return Moment(
            header=header,
            state=SavedState(
                header.identity,
                {n.removeprefix("state."): a for n, a in arrays.items() if n.startswith("state.")},
            ),
            frame=np.array(_check_picture(arrays["frame"])),
            history=History.from_arrays(header.sets, arrays["held"], arrays["mouse"], header.index),
        )
    except BROKEN as error:
        raise MomentError(f"{path}: a broken moment: {_told(error)}") from error


def peek(path: Path) -> tuple[MomentHeader, Frame]:
    """Header and picture of a moment, without the rest."""
    header, arrays = _read(path, "frame")
    try:
        return header, _check_picture(arrays["frame"])
    except BROKEN as error:
        raise MomentError(f"{path}: a broken moment: {_told(error)}") from error


def moments_folder() -> Path:
    """Where moments are kept, a folder for each world."""
    return data_folder() / "moments"


def last_sessions_folder() -> Path:
    """Where sessions that ended well leave their last moment, a folder for each world."""
    return data_folder() / "last"


def new_name(folder: Path) -> Path:
    """A name in `folder` that nobody else has, in the order of time."""
    return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}{ENDING}"


def list_moments(world: str | None = None, folder: Path | None = None) -> list[MomentEntry]:
    """Saved moments, newest first, of one world or all; autosaves only of sessions that broke off.

    A file that cannot be read is left out: it says why when it is loaded by name.
    """
    kept = []
    for path in list_files(folder or moments_folder(), f"*/*{ENDING}"):
        is_autosave = is_own_kind(path)
        if is_autosave and not is_orphan(path):
            continue
        with contextlib.suppress(UserError):
            header, frame = peek(path)
            if world in (None, header.world):
                kept.append(
                    MomentEntry(path=path, header=header, frame=frame, is_autosave=is_autosave)
                )
    return sorted(kept, key=lambda one: one.header.saved_at, reverse=True)


def _read(path: Path, only: str | None) -> tuple[MomentHeader, dict[str, NDArray[Any]]]:
    try:
        with open_tensors(path, LARGEST_MOMENT, "np") as file:
            facts = file.metadata() or {}
            if facts.get("format") != FORMAT:
                raise MomentError(
                    f"{path}: not a saved moment of this version: its format is "
                    f"{shown(facts.get('format'))}, expected {FORMAT!r}"
                )
            table = json.loads(facts["moment"])
            names = [name for name in file.keys() if only in (None, name)]  # noqa: SIM118
            _check_size(file.get_slice("frame").get_shape())
            if is_large(path) and not only:
                arrays = {name: mapped(path, name) for name in names}
            else:
                arrays = {name: np.array(file.get_tensor(name)) for name in names}
    except BROKEN as error:
        if isinstance(error, UserError):
            raise
        raise MomentError(f"{path}: a broken moment: {_told(error)}") from error
    return _read_header(path, table), arrays


def _read_header(path: Path, table: Any) -> MomentHeader:
    where = f"{path}: a broken moment: its header"
    try:
        header = build_config(MomentHeader, table, where)
    except ConfigError as error:
        raise MomentError(str(error)) from error
    except BROKEN as error:
        raise MomentError(f"{where}: {_told(error)}") from error
    return header


def _check_picture(frame: NDArray[Any]) -> Frame:
    if frame.ndim != 3 or frame.dtype != np.uint8 or frame.shape[2] != 3 or not frame.size:
        raise MomentError(f"frame is {frame.dtype} {list(frame.shape)}, expected uint8 h w 3")
    return frame


def _check_size(shape: list[int]) -> None:
    if math.prod(shape) > LARGEST_PICTURE:
        raise MomentError(f"its picture has the shape {shape}")


def _told(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or str(error) or type(error).__name__)[:300]


def ago(saved_at: float) -> str:
    """How long ago a moment was saved, in words."""
    minutes = max(0, round((time.time() - saved_at) / 60))
    if minutes < 1:
        return "just now"
    for most, size, name in ((120, 1, "minute"), (2880, 60, "hour")):
        if minutes < most:
            return f"{counted(minutes // size, name)} ago"
    return f"{counted(minutes // 1440, 'day')} ago"
