"""Whether the machine keeps up with the world, and what would help if it does not.

Where other programs take the processor, no smaller world helps: then that is what is said.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

LOOKS_BACK = 2.0  # seconds
SLOW, FAST = 0.9, 0.95  # share of the rate below which it is too slow, from which it is well again
PATIENCE = 3.0  # seconds that it lasts before it is said
MUCH = 0.3  # of a core, that other programs take


class Pace:
    """Fed with the time of every frame that was shown; `slow` is what there is to say."""

    def __init__(
        self, rate: float, help_with: str, others: Callable[[], float] = lambda: 0.0
    ) -> None:
        """A rate of 0: nothing to keep up with. `others`: cores that other programs take."""
        self.slow = ""
        self._rate, self._help, self._others = rate, help_with, others
        self._times: deque[float] = deque()
        self._slow_since: float | None = None

    def add(self, now: float) -> None:
        """A frame was on the screen."""
        times = self._times
        times.append(now)
        while len(times) > 2 and now - times[1] >= LOOKS_BACK:
            times.popleft()
        span = now - times[0]
        if not self._rate or len(times) < 2 or span < LOOKS_BACK:
            return
        reached = (len(times) - 1) / span
        if reached >= FAST * self._rate:
            self._slow_since, self.slow = None, ""
        elif reached < SLOW * self._rate and self._slow_since is None:
            self._slow_since = now
        if self._slow_since is not None and (self.slow or now - self._slow_since >= PATIENCE):
            self.slow = f"{reached:.1f} of {self._rate:g} fps: {self._what_helps()}"

    def _what_helps(self) -> str:
        others, cores = self._others(), os.cpu_count() or 1
        if others < MUCH:
            return self._help
        return f"other programs take {others:.1f} of {cores} cores; end them"

    def interrupt(self) -> None:
        """Play rested: what comes next is measured anew, what was found still holds."""
        self._times.clear()


def what_would_help(identity: Mapping[str, Any]) -> str:
    """Only what is not done already: fewer steps, another world, another device."""
    sampler = identity.get("sampler")
    sigmas = sampler.get("sigmas", ()) if isinstance(sampler, Mapping) else ()
    fewer = ["--steps 1"] if len(sigmas) != 2 else []
    device = "a GPU" if identity.get("device") == "cpu" else "a faster GPU"
    ways = [*fewer, "a smaller world"]
    return f"{', '.join(ways)}{',' if fewer else ''} or {device}"
