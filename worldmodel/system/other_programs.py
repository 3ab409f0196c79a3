"""How much of the machine other programs used while something was measured on it.

    others = Others()
    ...                                  # what is measured
    print(disturbance(others.cores()))   # a sentence, or nothing if they were quiet

Only Linux tells; elsewhere nothing is known, and nothing is said.
"""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
SHARE = 0.1  # of all cores: from there on figures are not this machine's any more
LEAST = 0.2  # cores, below which it is the system itself
EVERY = 2.0  # seconds that `recent` looks back on, at least


class Others:
    """Watches from the moment it is made."""

    def __init__(self) -> None:
        self._recent = 0.0
        self._begin()

    def _begin(self) -> None:
        self._busy, self._began = busy_seconds(), time.perf_counter()
        self._own = time.process_time()

    def cores(self) -> float | None:
        """Cores that were busy with other programs, on average; None if nobody knows."""
        busy, seconds = busy_seconds(), time.perf_counter() - self._began
        if busy is None or self._busy is None or seconds <= 0:
            return None
        own = time.process_time() - self._own
        return round(max(0.0, (busy - self._busy - own) / seconds), 2)

    def recent(self) -> float:
        """The same of the last seconds, for who asks now and then; zero where nobody knows."""
        if time.perf_counter() - self._began >= EVERY:
            self._recent = self.cores() or 0.0
            self._begin()
        return self._recent


def busy_seconds() -> float | None:
    """Seconds of all cores together since the machine started."""
    try:
        first = STAT.read_text(encoding="ascii").partition("\n")[0]
        return busy_in(first) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):  # another system
        return None


def busy_in(line: str) -> int:
    """Ticks in a line `cpu user nice system idle iowait irq softirq steal …`."""
    user, nice, system, _, _, *interrupts = map(int, line.split()[1:9])
    return user + nice + system + sum(interrupts)


def disturbance(cores: float | None, available: int | None = None) -> str:
    """What there is to say about figures that were measured beside other programs."""
    available = available or os.cpu_count() or 1
    if cores is None or cores < max(LEAST, SHARE * available):
        return ""
    return (
        f"disturbed        other programs used {cores:.1f} of {available} cores meanwhile: end "
        "them and measure again, the figures above are slower than this machine"
    )
