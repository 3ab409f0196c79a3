"""The action space of a learned world, and what its values mean.

`keys`: one bit for each of the world's buttons, then turn left, turn right and, where the world
knows them, look up and look down: what a person does without a mouse. `mouse`: the buttons' bits,
and the mouse in degrees a frame, right and down positive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.config import ConfigError
from worldmodel.system.keycodes import KEYCODES

Kind = Literal["keys", "mouse"]

TURNS = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0)}
LOOKS = {"ArrowUp": (0, -1), "ArrowDown": (0, 1)}
HELD_AT_ONCE = 4  # keys in one combination of `get_keys_to_action`


@dataclass(frozen=True, slots=True)
class WorldControls:
    """Values of the action space, as actions of the world."""

    spec: ActionSpec
    kind: Kind
    turn_degrees: float  # per frame that a turning key is held

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"actions = {self.kind!r}: choose from {', '.join(get_args(Kind))}")
        if not self.turn_degrees > 0:
            raise ConfigError(f"turn_degrees = {self.turn_degrees}: must be above 0")

    @property
    def turns(self) -> list[tuple[str, tuple[int, int]]]:
        """Keys that turn, each with its direction right and down."""
        if not self.spec.uses_mouse:
            return []
        return [*TURNS.items(), *(LOOKS.items() if self.spec.look_up_down else ())]

    @property
    def space(self) -> "spaces.Space[Any]":
        """The action space of one environment."""
        buttons = len(self.spec.buttons)
        if self.kind == "keys":
            return spaces.MultiBinary(buttons + len(self.turns))
        parts: dict[str, spaces.Space[Any]] = {"mouse": spaces.Box(-1.0, 1.0, (2,), np.float32)}
        if buttons:
            parts["buttons"] = spaces.MultiBinary(buttons)
        return spaces.Dict(parts)

    def action(self, value: Any) -> Action:
        """A value of the space as an action; a plain 0, as `play` sends it, is doing nothing."""
        if self.kind == "mouse":
            return self._with_mouse(value)
        bits = np.asarray(value)
        if bits.shape == () and not bits:
            return IDLE
        count = len(self.spec.buttons)
        right = down = 0.0
        for (_, way), bit in zip(self.turns, bits[count:].tolist(), strict=True):
            right += self.turn_degrees * way[0] * bool(bit)
            down += self.turn_degrees * way[1] * bool(bit)
        return self.spec.known(Action(self._held(bits[:count]), (right, down)))

    def keys_to_action(self) -> dict[tuple[int, ...], NDArray[np.int8]]:
        """Key codes held together, and the value that they mean, for `gymnasium.utils.play`."""
        if self.kind != "keys":
            raise ConfigError('a person\'s keys need actions = "keys"')
        taken = set(self.spec.buttons)
        names = [*self.spec.buttons, *(key if key not in taken else "" for key, _ in self.turns)]
        codes = {i: KEYCODES[name] for i, name in enumerate(names) if name in KEYCODES}
        table = {}
        for held in range(1, HELD_AT_ONCE + 1):
            for bits in combinations(codes, held):
                value = np.zeros(len(names), np.int8)
                value[list(bits)] = 1
                table[tuple(sorted(codes[bit] for bit in bits))] = value
        return table

    def _with_mouse(self, value: Mapping[str, Any]) -> Action:
        travel = self.spec.max_mouse_degrees * np.asarray(value["mouse"], np.float64)
        right, down = travel.tolist()
        held = self._held(np.asarray(value.get("buttons", ())))
        return self.spec.known(Action(held, (right, down)))

    def _held(self, bits: NDArray[Any]) -> frozenset[str]:
        pairs = zip(self.spec.buttons, bits.tolist(), strict=True)
        return frozenset(button for button, bit in pairs if bit)
