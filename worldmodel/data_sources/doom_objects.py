"""Where Doom's monsters and missiles are, as numbers of the state.

A level is told of so many objects of each name. One that comes takes the first place that is free
among those of its name, and keeps it until it is gone; where all are taken, nobody is told of it.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldmodel.state_spec import StateNumber

if TYPE_CHECKING:
    import vizdoom

PLACE = StateNumber(kind="object", unit="map units")


class ObjectSlots:
    """The objects of a running level."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._slots: dict[str, list[int | None]] = {n: [None] * c for n, c in counts.items()}

    @property
    def numbers(self) -> dict[str, StateNumber]:
        """`demon.1.x`, `demon.1.y`, …: what the numbers are that `see` gives."""
        names = (
            f"{name.lower()}.{slot + 1}"
            for name, ids in self._slots.items()
            for slot in range(len(ids))
        )
        return {f"{name}.{axis}": PLACE for name in names for axis in "xy"}

    def forget(self) -> None:
        """The level begins anew: nobody is where he was."""
        self._slots = {name: [None] * len(ids) for name, ids in self._slots.items()}

    def see(self, objects: "Iterable[vizdoom.Object]") -> NDArray[np.float32]:
        """The numbers of a frame with these objects; NaN in places that nobody has."""
        places: list[tuple[float, float]] = []
        known = {(o.name, o.id): (o.position_x, o.position_y) for o in objects}
        for name, ids in self._slots.items():
            here = sorted(key for n, key in known if n == name)
            ids[:] = [key if key in here else None for key in ids]
            for new in (key for key in here if key not in ids):
                if None in ids:
                    ids[ids.index(None)] = new
            places += [(np.nan, np.nan) if key is None else known[name, key] for key in ids]
        return np.array(places, np.float32).reshape(-1)
