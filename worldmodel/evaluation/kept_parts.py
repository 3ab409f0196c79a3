"""A long measurement, part by part: what is being done, how long it took, what is known so far.

parts = Parts(3, out, say)
with parts.part("next frame, 5 samplers"):
    ...
parts.keep("next_frame", {...})     # on disk from here on, whatever happens afterwards
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worldmodel.storage.files import write_atomically

FILE = "figures.json"


def say_nothing(line: str) -> None:
    """For who calls as a library."""
    del line


class KeptParts:
    """Counts the parts that begin, and writes every figure as soon as it is known."""

    def __init__(self, total: int, out: Path | None, say: Callable[[str], None]) -> None:
        self.total, self.out, self.say = total, out, say
        self.known: dict[str, Any] = {}
        self._begun = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Say that a part begins, and when it is over."""
        self._begun += 1
        place, began = f"[{self._begun}/{self.total}]", time.perf_counter()
        self.say(f"{place} {name} …")
        yield
        self.say(f"{place} {name}: {time.perf_counter() - began:.0f} s")

    def keep(self, name: str, figures: Any) -> None:
        """Write a figure beside those that are known already."""
        self.known[name] = figures
        if self.out is not None:
            content = {**self.known, "parts": f"{self._begun} of {self.total}"}
            write_atomically(self.out / FILE, (json.dumps(content, indent=1) + "\n").encode())
