"""Play for a while at full speed: does a frame cost in the end what it cost at the beginning?"""

import statistics
import time
from dataclasses import dataclass

from worldmodel.game.play_session import Session
from worldmodel.selftest.trials import SelftestError, session_of
from worldmodel.system.memory import resident_mb
from worldmodel.world import World

LOOK_AT = 300  # frames at each end
WARM_UP = 300  # frames before the first look
MOST_GROWTH = 64.0  # MB beside the ring of states


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a long session was like."""

    frames: int
    first_ms: float  # median of a frame, at the beginning
    last_ms: float
    first_mb: float  # memory of the process without the ring
    last_mb: float
    ring_mb: float

    def __str__(self) -> str:
        return (
            f"{self.frames} frames; {self.first_ms:.2f} -> {self.last_ms:.2f} ms a frame; "
            f"{self.first_mb:.0f} -> {self.last_mb:.0f} MB beside a ring of {self.ring_mb:.0f} MB"
        )


def soak(world: World, seconds: float) -> Soaked:
    """One session of random play; a `SelftestError` if memory grew."""
    session = session_of(world, seed=11, megabytes=64)
    session.begin()
    _play(session, WARM_UP)
    first, first_mb = _play(session, LOOK_AT), resident_mb() - session.timeline.megabytes
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        _play(session, 50)
    last = _play(session, LOOK_AT)
    ring = session.timeline.megabytes
    done = Soaked(session.index, first, last, first_mb, resident_mb() - ring, ring)
    if done.last_mb > done.first_mb + MOST_GROWTH:
        raise SelftestError(f"memory grew: {done}")
    return done


def _play(session: Session, frames: int) -> float:
    """The median of a frame's milliseconds."""
    times = []
    for _ in range(frames):
        began = time.perf_counter()
        session.advance()
        session.remember()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)
