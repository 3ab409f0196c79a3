"""In which slot a frame of the past is kept: the sinks first and for good, then a ring."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class FrameRing:
    """Slots fill from the front, so what is kept is always a prefix of them."""

    sinks: int  # the first frames, which stay
    frames: int  # the newest ones, of which the oldest makes room
    tokens: int  # p

    @property
    def slots(self) -> int:
        """How many frames are kept."""
        return self.sinks + self.frames

    def slot(self, time: int) -> int:
        """In which slot the frame at `time` is kept."""
        return time if time < self.sinks else self.sinks + (time - self.sinks) % self.frames

    def place(self, slot: int, count: int = 1) -> slice:
        """The tokens of `count` slots from `slot` on."""
        return slice(slot * self.tokens, (slot + count) * self.tokens)


class SlotCopies:
    """What slots hold, on the CPU, where nobody writes to it again.

    A slot that two calls of `save` found unchanged is the very same tensor in both answers: a
    second of play costs a second's slots, not copies of the whole cache.
    """

    def __init__(self) -> None:
        self._copies: dict[str, Tensor] = {}
        self._changed: set[int] = set()  # slots, since they were copied

    def change(self, slots: Iterable[int]) -> None:
        """These have been written to."""
        self._changed.update(slots)

    def save(self, copy: Callable[[int], Tensor]) -> dict[str, Tensor]:
        """Every slot that was ever written to, by name; `copy` gives a slot's k and v."""
        for slot in self._changed:
            self._copies[slot_name(slot)] = copy(slot).cpu()
        self._changed.clear()
        return dict(self._copies)

    def load(self, saved: Mapping[str, Tensor], slots: int) -> None:
        """The first `slots` slots hold what was saved."""
        names = map(slot_name, range(slots))
        self._copies, self._changed = {name: saved[name] for name in names}, set()


def slot_name(slot: int) -> str:
    """Under which a slot is saved."""
    return f"slot.{slot}"
