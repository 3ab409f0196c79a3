"""Which numbers of a Gymnasium environment are recorded beside its frames.

Always `reward`, the sum of what a frame's steps gave, and `terminated`. A `--state` names others:

    speed=info.speed:velocity      a key of `info`; a velocity, where nothing is said a number
    x=info.position.0:position     the first of several
    angle=obs.2                    of an observation that is one array
    fuel=obs.tank.level            of one that is a dictionary

A number that is missing in a frame, or is none, is NaN in it; what is there neither after the reset
nor after the first step is an error that lists what there is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from worldmodel.config import ConfigError, UserError
from worldmodel.state_spec import FULL_TURN, LARGEST, Kind, StateNumber, StateSpec

ALWAYS = {"reward": StateNumber(kind="number"), "terminated": StateNumber(kind="flag")}
ROOTS = ("info", "obs")
KINDS = tuple(kind for kind in get_args(Kind) if kind != "phase")  # nobody says its period
MOST_LISTED = 40  # paths in a message
MOST_ENTRIES = 8  # of one array in it


@dataclass(frozen=True, slots=True)
class StatePath:
    """Where one number is found."""

    parts: tuple[str, ...]  # the first one is `info` or `obs`
    kind: Kind

    @classmethod
    def parse(cls, name: str, text: str) -> "StatePath":
        """Read PATH or PATH:KIND; `name` is what the number will be called."""
        path, has_kind, kind = text.partition(":")
        parts = tuple(path.split("."))
        if parts[0] not in ROOTS or not all(parts):
            raise ConfigError(
                f"state {name}={text}: expected info.KEY or obs.KEY, for instance info.speed, "
                "info.position.0 or obs.3"
            )
        if has_kind and kind not in KINDS:
            raise ConfigError(f"state {name}={text}: choose a kind from {', '.join(KINDS)}")
        if name in ALWAYS:
            raise ConfigError(f"state {name}={text}: {name} is recorded already; choose a name")
        return cls(parts, kind if has_kind else "number")  # type: ignore[arg-type]  # just checked

    @property
    def number(self) -> StateNumber:
        """What it means; the range is not known yet."""
        if self.kind == "heading":
            return StateNumber(kind="heading", unit="degrees", high=FULL_TURN)
        return StateNumber(kind=self.kind)

    def look(self, tree: Mapping[str, Any]) -> float | None:
        """The number, NaN if it is none that can be written down, or None if nothing is there."""
        found: Any = tree
        for part in self.parts:
            found = _child(found, part)
            if found is None:
                return None
        return _as_number(found)


class StateReader:
    """Reads the numbers after every frame, and says once what cannot be found."""

    def __init__(self, state: Mapping[str, str], where: str) -> None:
        self.paths = parse_paths(state)
        self.spec = spec_of(self.paths)
        self._where = where
        self._missing = set(self.paths)  # never found so far

    def begin(self, observation: Any, info: Mapping[str, Any]) -> NDArray[np.float32]:
        """After a reset: nothing was rewarded yet."""
        return self._read(observation, info, 0.0, is_terminated=False)

    def after_step(
        self, observation: Any, info: Mapping[str, Any], reward: float, *, is_terminated: bool
    ) -> NDArray[np.float32]:
        """After a frame's steps; a `UserError` names what has never been there."""
        state = self._read(observation, info, reward, is_terminated=is_terminated)
        if self._missing:
            name = min(self._missing)
            path = ".".join(self.paths[name].parts)
            there = list(_leaves({"info": info, "obs": observation}))
            more = f" and {len(there) - MOST_LISTED} more" if len(there) > MOST_LISTED else ""
            raise UserError(
                f"{self._where}: --state {name}={path}: no number there after the first step; "
                f"there are {', '.join(there[:MOST_LISTED]) or 'none'}{more}"
            )
        return state

    def _read(
        self, observation: Any, info: Mapping[str, Any], reward: float, *, is_terminated: bool
    ) -> NDArray[np.float32]:
        tree = {"info": info, "obs": observation}
        found = {name: path.look(tree) for name, path in self.paths.items()}
        self._missing -= {name for name, number in found.items() if number is not None}
        others = (math.nan if number is None else number for number in found.values())
        return np.array([_bounded(float(reward)), float(is_terminated), *others], np.float32)


def parse_paths(state: Mapping[str, str]) -> dict[str, StatePath]:
    """Where each number is; a `ConfigError` says what cannot be meant."""
    return {name: StatePath.parse(name, text) for name, text in state.items()}


def spec_of(paths: Mapping[str, StatePath]) -> StateSpec:
    """What a frame's numbers are, in their order."""
    return StateSpec({**ALWAYS, **{name: path.number for name, path in paths.items()}})


def _child(found: Any, part: str) -> Any:
    """What a key or a number leads to; None: nothing."""
    if isinstance(found, Mapping):
        return found.get(part)
    if part.isdecimal() and _is_list(found) and int(part) < len(found):
        return found[int(part)]
    return None


def _is_list(found: Any) -> bool:
    if isinstance(found, np.ndarray):
        return found.ndim > 0
    return isinstance(found, Sequence) and not isinstance(found, str | bytes)


def _as_number(found: Any) -> float | None:
    """A number, a truth value or an array of one of these; None: it is something else."""
    if isinstance(found, np.ndarray) and found.size == 1:
        found = found.reshape(-1)[0]
    if isinstance(found, bool | int | float | np.bool_ | np.integer | np.floating):
        return _bounded(float(found))
    return None


def _bounded(number: float) -> float:
    return number if abs(number) <= LARGEST else math.nan


def _leaves(found: Any, path: str = "") -> Iterator[str]:
    """The paths of all numbers, arrays cut short."""
    if _as_number(found) is not None:
        yield path
        return
    if isinstance(found, Mapping):
        for key, value in found.items():
            if isinstance(key, str):
                yield from _leaves(value, f"{path}.{key}" if path else key)
    if not _is_list(found):
        return
    for i in range(min(len(found), MOST_ENTRIES)):
        yield from _leaves(found[i], f"{path}.{i}")
    if len(found) > MOST_ENTRIES:
        yield f"… {path}.{len(found) - 1}"
