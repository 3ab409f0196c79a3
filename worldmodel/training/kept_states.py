"""The last two states of a run: one that is broken costs the minutes since the other.

keep_before(path)            # before a newer state takes the place of the one at `path`
load_newest(state, path)     # the newest that is whole
"""

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from worldmodel.config import UserError
from worldmodel.storage.checkpoint import CheckpointError, holds_numbers
from worldmodel.storage.files import FileWriteError

KEPT = 2  # states of a run, the newest included
MOST_STEPS = 10**9  # of any run


class BrokenStateError(UserError):
    """A state is not whole, or holds what no training leaves."""


class LoadsState(Protocol):
    """What is filled from a file: a training's state (`train_state.TrainState`)."""

    step: int

    def load(self, path: Path) -> None:
        """Fill it; a `BrokenStateError` or `CheckpointError` where the file is not whole."""


def before(path: Path) -> Path:
    """Where the state before the one at `path` is."""
    return path.with_name(f"{path.stem}.before{path.suffix}")


def keep_before(path: Path) -> None:
    """Put the state at `path` aside; until a newer one is there, it stands under both names."""
    if not path.is_file():
        return
    old = before(path)
    try:
        with contextlib.suppress(OSError):
            old.unlink()
        try:
            os.link(path, old)
        except OSError:  # a file system without links
            path.replace(old)
    except OSError as error:
        raise FileWriteError(f"{old}: cannot be written: {error.strerror}") from error


def load_newest(state: LoadsState, path: Path) -> str:
    """Fill a state from the newest file that is whole, if any is there; what is to be said of it.

    A `BrokenStateError` where the only states are broken.
    """
    problems = []
    for place in (path, before(path)):
        if not place.exists() and not place.is_symlink():  # a link may lead to a disk that is away
            continue
        try:
            state.load(place)
        except (BrokenStateError, CheckpointError) as error:
            problems.append(str(error))
            continue
        return f"{problems[0]}; going on from step {state.step}, {place}" if problems else ""
    if problems:
        raise BrokenStateError(
            f"{problems[0]}; no other state is whole: remove {path.parent} to begin again"
        )
    return ""


def check_header(header: Mapping[str, Any], path: Path) -> None:
    """Refuse steps and seconds that no run comes to."""
    for name, value in (("step", header.get("step")), ("steps", header.get("steps", 0))):
        if type(value) is not int or not 0 <= value <= MOST_STEPS:
            raise BrokenStateError(f"{path}: {name} = {str(value)[:40]!r} is no number of steps")
    seconds = header.get("seconds")
    if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise BrokenStateError(f"{path}: seconds = {str(seconds)[:40]!r} is no time")


def check_parts(parts: Mapping[str, Mapping[str, Tensor]], step: int, path: Path) -> None:
    """Refuse values that are no numbers, and a run under way whose optimizer is missing."""
    for part, tensors in parts.items():
        for name, tensor in tensors.items():
            if not holds_numbers(tensor):
                raise BrokenStateError(f"{path}: {part}.{name} holds values that are not numbers")
    if step and not any(part.endswith("optimizer") and held for part, held in parts.items()):
        raise BrokenStateError(f"{path}: is of step {step}, but its optimizer is missing")
