"""What a game knows about itself, as named numbers a frame: place, heading, health, reward.

A `StateSpec` says what each number means, a `StateTrack` holds the numbers of a stretch of play. In
TOML and in JSON a spec is a table of its numbers, in the order in which they stand in a row:

    [state.x]
    kind = "position"
    unit = "map units"
    low = -160.0
    high = 1120.0

`low` and `high` are the range seen, so a number with low = high told nothing. A heading is in
degrees and wraps at 360, growing to the left. A phase is a clock that advances by itself and wraps
from `high` to `low`: `high` is `low` again, the period is high − low. A velocity has the axes of
the positions. A flag is 0 or 1. An object's numbers say where something else than the player is
(`demon.1.x`, `demon.1.y`), NaN while there is none.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from worldmodel.config import ConfigError, build_config, to_table
from worldmodel.system.limits import LONGEST_UNIT, MOST_NUMBERS

Kind = Literal["position", "heading", "velocity", "number", "count", "flag", "phase", "object"]
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
FULL_TURN = 360.0
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True, slots=True)
class StateNumber:
    """What one number of a state means."""

    kind: Kind
    unit: str = ""
    low: float = 0.0  # the range seen
    high: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ConfigError(f"low ({self.low}) must be a number and at most high ({self.high})")
        if self.kind == "phase" and self.low == self.high:
            raise ConfigError(f"a phase must wrap somewhere: high ({self.high}) must be above low")
        if len(self.unit) > LONGEST_UNIT or not self.unit.isprintable():
            raise ConfigError(f"the unit {self.unit[:80]!r} may hold {LONGEST_UNIT} characters")

    def seen(self, values: NDArray[np.float32]) -> "StateNumber":
        """The same with the range of `values` f; what wraps keeps its range unless it stood still.

        A phase keeps its own always: it is the period.
        """
        known = values[~np.isnan(values)]
        if self.kind == "phase":
            return self
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        if self.kind == "heading" and low < high:
            low, high = 0.0, FULL_TURN
        return replace(self, low=low, high=high)

    def joined(self, other: "StateNumber") -> "StateNumber":
        """The same number, its range wide enough for both."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        if self.kind == "heading" and low < high:
            low, high = 0.0, FULL_TURN
        return replace(self, low=low, high=high)


@dataclass(frozen=True, slots=True)
class StateSpec:
    """The numbers of a state in their order."""

    TABLE = "numbers"  # a table of a spec is the table of its numbers

    numbers: dict[str, StateNumber]

    def __post_init__(self) -> None:
        if not 1 <= len(self.numbers) <= MOST_NUMBERS:
            raise ConfigError(
                f"a state has {len(self.numbers)} numbers: expected 1 to {MOST_NUMBERS}"
            )
        for name in self.numbers:
            if not NAME.fullmatch(name):
                raise ConfigError(
                    f"the number's name {name[:80]!r} may hold 1 to 64 of A-Z a-z 0-9 _ . -"
                )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def width(self) -> int:
        """How many numbers a frame has."""
        return len(self.numbers)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers, in their order."""
        return tuple(self.numbers)

    @property
    def meaning(self) -> tuple[str, ...]:
        """Names, kinds and units, without the ranges: equal for two states of the same numbers."""
        return tuple(
            f"{name} ({number.kind}{', ' if number.unit else ''}{number.unit})"
            for name, number in self.numbers.items()
        )

    @property
    def place(self) -> tuple[int, int, int] | None:
        """Where x, y and the heading stand; None in a state without a place."""
        kinds = [number.kind for number in self.numbers.values()]
        positions = [i for i, kind in enumerate(kinds) if kind == "position"]
        if len(positions) < 2 or "heading" not in kinds:
            return None
        return positions[0], positions[1], kinds.index("heading")

    def index(self, name: str) -> int:
        """Where a number stands; a `ConfigError` lists those that there are."""
        if name not in self.numbers:
            raise ConfigError(f"no number {name!r} in the state; it has {', '.join(self.names)}")
        return self.names.index(name)

    def seen(self, values: NDArray[np.float32]) -> "StateSpec":
        """The same with the ranges of `values` f v."""
        columns = zip(self.numbers.items(), values.T, strict=True)
        return StateSpec({name: number.seen(column) for (name, number), column in columns})

    def joined(self, other: "StateSpec") -> "StateSpec":
        """The ranges of both; a `ConfigError` where they are not of the same numbers."""
        if self.meaning != other.meaning:
            raise ConfigError(
                f"one state has {', '.join(self.meaning)}, another {', '.join(other.meaning)}"
            )
        mine = self.numbers.items()
        return StateSpec({name: number.joined(other.numbers[name]) for name, number in mine})

    def to_json(self) -> str:
        """A table of the numbers, on one line."""
        return json.dumps(to_table(self))


@dataclass(frozen=True, slots=True)
class StateTrack:
    """The state in every frame of a stretch of play; NaN where it was not known."""

    spec: StateSpec
    values: NDArray[np.float32]  # f v

    def __post_init__(self) -> None:
        shape = self.values.shape
        if self.values.dtype != np.float32 or len(shape) != 2 or shape[1] != self.spec.width:
            raise ConfigError(
                f"the state is {self.values.dtype} {shape}, expected float32, rows of "
                f"{self.spec.width} numbers"
            )
        if np.isinf(self.values).any():
            raise ConfigError("the state holds a number beyond all bounds; NaN says 'not known'")

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> NDArray[np.float32]:
        """One number in every frame: f."""
        return self.values[:, self.spec.index(name)]

    def cut(self, first: int, end: int) -> "StateTrack":
        """The rows from `first` until before `end`, in memory of their own."""
        return StateTrack(self.spec, self.values[first:end].copy())


def read_spec(text: str, where: str) -> StateSpec:
    """A spec from JSON; `where` names the place in messages."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} should be JSON: {str(error)[:200]}") from error
    return build_config(StateSpec, table, where)


def track_of(
    spec: StateSpec, rows: Sequence[Sequence[float] | NDArray[np.float32] | None]
) -> StateTrack:
    """One row a frame, None: nothing known in it. The track's spec has the ranges of its rows."""
    unknown = (math.nan,) * spec.width
    values = np.asarray([unknown if row is None else row for row in rows], np.float32)
    values = values.reshape(len(rows), spec.width)
    return StateTrack(spec.seen(values), values)


def to_plain(row: Sequence[float]) -> list[float | None]:
    """A row for JSON: the shortest numbers that are the same in float32, None for NaN."""
    return [None if math.isnan(x) else float(str(np.float32(x))) for x in row]


def from_plain(row: Sequence[float | None]) -> tuple[float, ...]:
    """A row from JSON; a `ValueError` or `TypeError` where it is none."""
    numbers = tuple(math.nan if x is None else float(x) for x in row)
    for given, number in zip(row, numbers, strict=True):
        if given is not None and not abs(number) <= LARGEST:
            raise ValueError(f"the state holds {number}; null says 'not known'")
    return numbers


def join_specs(specs: Iterable[StateSpec]) -> StateSpec:
    """One spec for all, of the same numbers, with the ranges of all: what a data set says."""
    return reduce(StateSpec.joined, specs)
