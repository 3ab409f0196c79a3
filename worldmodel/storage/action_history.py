"""Everything a player has done since the start, in a few bytes a frame.

A session may last for days, so actions are kept as numbers: which set of buttons was held (there
are few different ones), and the mouse as it was, exactly. What was said counts as
held.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action, Prompt
from worldmodel.config import UserError
from worldmodel.system.limits import MOST_ACTIONS, MOST_SETS

SAID, RENEWED = "say: ", "say anew: "  # no button is called so


class HistoryError(UserError):
    """Arrays that should be a history are none."""


@dataclass(slots=True)
class History:
    """Actions in the order of their frames; the first one led to frame 1.

    Of the first `unknown` frames nobody knows what was done.
    """

    unknown: int = 0
    sets: list[frozenset[str]] = field(default_factory=list)
    _held: "array[int]" = field(default_factory=lambda: array("L"))  # numbers of `sets`
    _mouse: "array[float]" = field(default_factory=lambda: array("d"))  # right, down, right, …
    _numbers: dict[frozenset[str], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.unknown + len(self._held)

    def __getitem__(self, i: int) -> Action:
        i -= self.unknown
        if i < 0:
            raise HistoryError(f"what led to frame {i + self.unknown + 1} was not kept")
        held, mouse = self.sets[self._held[i]], (self._mouse[2 * i], self._mouse[2 * i + 1])
        said = {entry for entry in held if entry.startswith((SAID, RENEWED))}
        return Action(held - said, mouse, _prompt(min(said)) if said else None)

    def append(self, action: Action) -> None:
        """Note the action of one more frame."""
        held = action.buttons
        if prompt := action.prompt:
            held |= {f"{RENEWED if prompt.renew else SAID}{prompt.text}"}
        if held not in self._numbers:
            self._numbers[held] = len(self.sets)
            self.sets.append(held)
        self._held.append(self._numbers[held])
        self._mouse.extend(action.mouse)

    def cut(self, length: int) -> None:
        """Forget what came after the first `length` frames."""
        length = max(0, length - self.unknown)
        del self._held[length:], self._mouse[2 * length :]

    def copy(self, length: int) -> "History":
        """The first `length` actions on their own."""
        length = max(0, length - self.unknown)
        held, mouse = self._held[:length], self._mouse[: 2 * length]
        return History(self.unknown, list(self.sets), held, mouse, dict(self._numbers))

    def to_arrays(self) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """Copies: number of the held set f, mouse in degrees f 2."""
        mouse = np.array(self._mouse, np.float64).reshape(-1, 2)
        return np.array(self._held, np.uint32), mouse

    @classmethod
    def from_arrays(
        cls, sets: Sequence[Sequence[str]], held: NDArray[Any], mouse: NDArray[Any], length: int
    ) -> "History":
        """What `to_arrays` gave of `length` frames; a `HistoryError` says why it cannot be."""
        count = len(held) if held.ndim else 0
        if count > length:
            raise HistoryError(f"{count} actions led to {length} frames")
        if count > MOST_ACTIONS:
            raise HistoryError(f"{count} actions, at most {MOST_ACTIONS} are read")
        if held.shape != (count,) or held.dtype != np.uint32:
            raise HistoryError(f"held sets are {held.dtype} {list(held.shape)}, expected uint32 f")
        if mouse.shape != (count, 2) or mouse.dtype != np.float64:
            raise HistoryError(
                f"mouse is {mouse.dtype} {list(mouse.shape)}, expected float64 {[count, 2]}"
            )
        if not np.isfinite(mouse).all() or (count and int(held.max()) >= len(sets)):
            raise HistoryError("the actions hold values that mean nothing")
        if len(sets) > MOST_SETS:
            raise HistoryError(f"{len(sets)} different sets of buttons, at most {MOST_SETS}")
        known = [frozenset(buttons) for buttons in sets]
        numbers = {buttons: i for i, buttons in enumerate(known)}
        held_sets, travel = array("L"), array("d", np.ascontiguousarray(mouse).tobytes())
        held_sets.frombytes(held.astype(f"u{held_sets.itemsize}").tobytes())
        return cls(length - count, known, held_sets, travel, numbers)


def _prompt(entry: str) -> Prompt:
    """What an entry of a set says."""
    renews = entry.startswith(RENEWED)
    return Prompt(entry.removeprefix(RENEWED if renews else SAID), renew=renews)
