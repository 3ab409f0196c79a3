"""Who uses the processor: this game, or other programs beside it?

Linux counts the time that all programs together took (`/proc/stat`); what is not this process's own
is others'. Elsewhere nobody says, and nothing is claimed.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

STAT = Path("/proc/stat")
EVERY = 2.0  # seconds that a measurement looks back on, at least
IDLE = (3, 4)  # columns of idling and of waiting for a disk
GUESTS = 8  # columns before those that are counted in others already


class Used(NamedTuple):
    """Seconds of processor time until now."""

    wall: float
    own: float
    everyone: float


def read_used(stat: Path = STAT) -> Used | None:
    """From the system; None where it does not say."""
    try:
        line = stat.read_text(encoding="ascii").splitlines()[0].split()
        ticks = list(map(int, line[1 : 1 + GUESTS]))
        hertz = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    busy = sum(t for i, t in enumerate(ticks) if i not in IDLE)
    return Used(time.perf_counter(), time.process_time(), busy / hertz)


class Load:
    """Cores that other programs take, looked at now and then."""

    def __init__(self, read: Callable[[], Used | None] = read_used) -> None:
        self._read = read
        self._before = read()
        self._others = 0.0

    def others(self) -> float:
        """Cores, on average over the last seconds; zero where nobody knows."""
        now, before = self._read(), self._before
        if now and before and now.wall - before.wall >= EVERY:
            span = now.wall - before.wall
            both, own = now.everyone - before.everyone, now.own - before.own
            self._others = max(0.0, both - own) / span
            self._before = now
        return self._others
