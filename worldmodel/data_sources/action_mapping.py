"""Keys and mouse of one environment: a player's action to the environment's, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.config import UserError

Keys = frozenset[str]

FULL_TURN = 6.0  # degrees per frame that reach the end of a Box: an arrow key held, by default
MOST_PAIRS = 64  # combinations of two keys that a scripted player tries


class ActionMapping(Protocol):
    """The keys and the mouse of one environment."""

    @property
    def spec(self) -> ActionSpec:
        """What a world learned from it will understand."""

    @property
    def choices(self) -> Sequence[Keys]:
        """What a scripted player may hold; the first is nothing."""

    def to_env(self, action: Action) -> Any:
        """The environment's action that a player's action means."""

    def from_env(self, value: Any) -> Action:
        """The player's action that means `value`; a `UserError` if no key does."""


@dataclass(frozen=True, slots=True)
class KeyTable:
    """Combinations of keys, each with an action of the environment."""

    spec: ActionSpec
    table: Mapping[Keys, Any]
    noop: Any

    @property
    def choices(self) -> list[Keys]:
        """Nothing, then every combination."""
        return [frozenset(), *(keys for keys in self.table if keys)]

    def to_env(self, action: Action) -> Any:
        """The action of exactly these keys, else `noop`."""
        return self.table.get(action.buttons, self.noop)

    def from_env(self, value: Any) -> Action:
        """The first combination with this action."""
        if np.array_equal(value, self.noop):
            return IDLE
        for keys, action in self.table.items():
            if np.array_equal(action, value):
                return Action(keys)
        raise UserError(
            f"the policy chose {value!r}, for which there is no key; give it one with --keys"
        )


@dataclass(frozen=True, slots=True)
class KeyGroups:
    """A MultiBinary or MultiDiscrete space: `groups[g][v - 1]` is the key for value v of part g."""

    spec: ActionSpec
    groups: Sequence[Sequence[str]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    least: NDArray[Any]  # the lowest value of each part

    @property
    def choices(self) -> list[Keys]:
        """Nothing, every key, and pairs of keys of different groups."""
        single = [frozenset({key}) for group in self.groups for key in group]
        pairs = [
            frozenset({one, other})
            for g, group in enumerate(self.groups)
            for one in group
            for others in self.groups[g + 1 :]
            for other in others
        ]
        return [frozenset(), *single, *pairs[:MOST_PAIRS]]

    def to_env(self, action: Action) -> Any:
        """One value for each part; of two keys of a group the first counts."""
        values = [
            next((v for v, key in enumerate(group, start=1) if key in action.buttons), 0)
            for group in self.groups
        ]
        return (np.asarray(values) + self.least).astype(self.dtype).reshape(self.shape)

    def from_env(self, value: Any) -> Action:
        """The keys of all parts that are not at their lowest value."""
        values = np.asarray(value).reshape(-1) - self.least
        pairs = zip(self.groups, values.tolist(), strict=True)
        return Action(frozenset(group[int(v) - 1] for group, v in pairs if v > 0))


@dataclass(frozen=True, slots=True)
class MouseAxes:
    """A Box of one or two numbers: full speed of the mouse is the end of the range."""

    spec: ActionSpec
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    space: spaces.Box

    @property
    def choices(self) -> list[Keys]:
        """No keys: the mouse does everything."""
        return [frozenset()]

    def to_env(self, action: Action) -> Any:
        """Mouse right, then down, on the Box's range."""
        share = np.asarray(action.mouse[: len(self.low)]) / FULL_TURN
        middle, reach = (self.low + self.high) / 2, (self.high - self.low) / 2
        value = middle + reach * np.clip(share, -1, 1)
        return value.astype(self.space.dtype).reshape(self.space.shape)

    def from_env(self, value: Any) -> Action:
        """The mouse travel that means this value; beyond the range is its end."""
        middle, reach = (self.low + self.high) / 2, (self.high - self.low) / 2
        share = np.clip((np.asarray(value, np.float64).reshape(-1) - middle) / reach, -1, 1)
        right, down = (*(FULL_TURN * share).tolist(), 0.0)[:2]
        return Action(mouse=(right, down))
