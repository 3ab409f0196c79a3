"""When the next frame is due, and how long was played.

Pauses do not count as play, and neither does sleep: a closed laptop, a stopped process, a window
that somebody holds by its title bar for minutes.

    clock.begin(); ...; clock.seconds_to_wait()
    began = clock.tick(); ...; ready = clock.ready()     # around the making of a frame
"""

import time

LONGEST_WAIT = 5.0  # seconds; what takes that much longer than usual was sleep


class PlayClock:
    """Counts in `time.perf_counter`."""

    def __init__(self, rate: float) -> None:
        self.period = 1 / rate if rate else 0.0  # rate 0: as fast as the world goes
        self.played = 0.0  # seconds up to the last frame
        self._began = self._due = self._ticked = self._ready = 0.0
        self._took: float | None = None  # to make a frame, the last time

    def begin(self) -> float:
        """Play begins now, with a frame that is there already."""
        now = time.perf_counter()
        self._began = self._ready = now
        self._due, self.played = now + self.period, 0.0
        return now

    def go_on(self) -> None:
        """Time begins to count again where it stopped."""
        now = time.perf_counter()
        self._began, self._due, self._ready = now - self.played, now, now

    def seconds_to_wait(self) -> float:
        """Until the next frame should be made."""
        return max(0.0, self._due - time.perf_counter())

    def tick(self, slowest: float = 0.0) -> float:
        """A frame is being made from now on; the next one not before `slowest` seconds."""
        now, period = time.perf_counter(), max(self.period, slowest)
        self._leave_out_sleep(self._ready, now, period + (self._took or 0.0))
        self._due = max(self._due, now - period) + period  # makes up for one at most
        self._ticked = now
        return now

    def ready(self) -> float:
        """Note that the frame has been made."""
        now = time.perf_counter()
        if self._took is not None:
            self._leave_out_sleep(self._ticked, now, self._took)
        self._took = min(now - self._ticked, LONGEST_WAIT)
        self._ready, self.played = now, now - self._began
        return now

    def _leave_out_sleep(self, since: float, now: float, usual: float) -> None:
        if now - since > LONGEST_WAIT + 10 * usual:
            self._began += now - since - usual
