"""How fast it is played: frames per second, and from an input event to the frame that shows it."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RECENT = 120  # frames that the numbers on the screen look back on


@dataclass(frozen=True, slots=True)
class PlaySpeed:
    """The numbers of a stretch of play; None while there is nothing to measure."""

    frames_per_second: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    inputs: int  # that the latencies are of


class Meter:
    """Fed with every frame that was shown."""

    def __init__(self, recent: int | None = RECENT) -> None:
        self._last: float | None = None  # when the frame before was shown, if play went on since
        self._spans: deque[float] = deque(maxlen=recent)  # seconds from frame to frame
        self._latencies: deque[float] = deque(maxlen=recent)

    def add(self, time: float, latency_ms: float | None) -> None:
        """A frame was on the screen at `time`; its latency, if there was an input to show."""
        if self._last is not None:
            self._spans.append(time - self._last)
        self._last = time
        if latency_ms is not None:
            self._latencies.append(latency_ms)

    def interrupt(self) -> None:
        """Play rested: the time until the next frame says nothing about speed."""
        self._last = None

    def speed(self) -> PlaySpeed:
        """Numbers over the frames remembered."""
        seconds = sum(self._spans)
        return PlaySpeed(
            len(self._spans) / seconds if seconds > 0 else None,
            percentile(self._latencies, 50),
            percentile(self._latencies, 95),
            len(self._latencies),
        )


def percentile(values: Iterable[float], percent: float) -> float | None:
    """The smallest value that at least `percent` of the values do not exceed."""
    ordered: Sequence[float] = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
