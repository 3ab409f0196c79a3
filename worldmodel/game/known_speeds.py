"""How fast each world played on this machine, remembered from one time to the next.

A convenience: a file that cannot be read or written only means that nothing is remembered.
"""

import contextlib
import json
import platform
from pathlib import Path
from typing import Any

from worldmodel.config import UserError
from worldmodel.storage.files import read_text, write_atomically
from worldmodel.storage.user_dirs import data_folder

LARGEST = 1 << 20  # bytes


def remember_speed(world: str, frames_per_second: float) -> None:
    """Keep what was measured last."""
    machines = _read()
    machines.setdefault(platform.node(), {})[world] = round(frames_per_second, 2)
    with contextlib.suppress(UserError):
        write_atomically(_path(), json.dumps(machines).encode())


def speeds_here() -> dict[str, float]:
    """World -> frames per second, on this machine."""
    return _read().get(platform.node(), {})


def _path() -> Path:
    return data_folder() / "speeds.json"


def _read() -> dict[str, dict[str, float]]:
    try:
        table: Any = json.loads(read_text(_path(), LARGEST))
        return {
            str(machine): {str(world): float(speed) for world, speed in speeds.items()}
            for machine, speeds in table.items()
        }
    except (UserError, ValueError, AttributeError, TypeError, RecursionError):
        return {}
