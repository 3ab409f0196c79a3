"""What a process takes of the machine's memory."""

import os
import sys


def resident_mb() -> float:
    """Memory of this process now (Linux), its peak (macOS), not a number (Windows)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # not a file to keep
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        if sys.platform == "win32":
            return float("nan")
        import resource  # Windows has no such module

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e6 if sys.platform == "darwin" else 1e3)
