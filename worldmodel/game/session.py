"""One played world: what a turn is, whoever calls it and from whichever thread.

    session = Session(world, take, seed=0)
    step = session.begin()              # the start frame
    step = session.turn(command)        # the next frame; None when the command makes none
    session.remember()                  # after the frame was handed over, never before

The player's action is read at the last moment before the frame is made, so waiting for the next
frame's time comes first.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from worldmodel.action import IDLE, Action
from worldmodel.game.controls import Command
from worldmodel.game.input import Taken
from worldmodel.world import Frame, Split, Tells, World

Take = Callable[[int], Taken]  # what the player does to make frame i


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One frame, the action that led to it and when that happened."""

    segment: int  # counts beginnings: restarts and changes of start
    start: int
    index: int  # 0 is the start frame, which no action led to
    action: Action  # the part that the world understood
    frame: Frame
    event_time: float | None  # oldest input event in the action; time.perf_counter
    sampled_time: float  # when the action was taken
    ready_time: float  # when the frame was made
    time: float  # seconds of play since the start frame, pauses left out
    split: Split  # clean is that of the frame before
    notice: str = ""  # what the world tells the player


class Session:
    """Owns a world while it is played; one thread at a time."""

    def __init__(
        self, world: World, take: Take, *, start: int = 0, seed: int = 0, rate: float = 0.0
    ) -> None:
        self.world, self.take, self.start, self.seed = world, take, start, seed
        self.identity = dict(world.identity)  # asked here: torch counts threads per thread
        self.running_on = world.running_on
        self.paused = False
        self.segment = self.index = 0
        self.is_remembered = True
        self._period = 1 / rate if rate else 0.0  # rate 0: as fast as the world goes
        self._began = self._due = self._time = self._clean_ms = 0.0

    def begin(self) -> Step:
        """Show the start again from its first frame."""
        sampled = time.perf_counter()
        frame = self.world.reset(self.start, self.seed)
        now = time.perf_counter()
        self.segment, self.index, self.is_remembered = self.segment + 1, 0, True
        self._began, self._due, self._clean_ms = now, now + self._period, 0.0
        return self._step(Taken(IDLE, None), frame, sampled, now)

    def turn(self, command: Command | None) -> Step | None:
        """Obey a command, or make the next frame when there is none."""
        match command:
            case None:
                return self._advance()
            case Command.RESTART:
                return self.begin()
            case Command.NEXT_START:
                self.start = (self.start + 1) % len(self.world.starts)
                return self.begin()
            case Command.PAUSE:
                self.paused = not self.paused
                self._go_on()
            case Command.STEP if self.paused:
                self._go_on()
                return replace(self._advance(), event_time=None)
            case _:
                pass
        return None

    def remember(self) -> None:
        """Make the frame of the last turn part of the past."""
        if not self.is_remembered:
            self.world.remember()
            self._clean_ms, self.is_remembered = self.world.split.clean, True

    def seconds_to_wait(self) -> float | None:
        """Until the next frame should be made; None while only a command can go on."""
        return None if self.paused else max(0.0, self._due - time.perf_counter())

    def _advance(self) -> Step:
        sampled = time.perf_counter()
        self._due = (
            max(self._due, sampled - self._period) + self._period
        )  # makes up for one frame at most
        taken = self.take(self.index + 1)
        taken = taken._replace(action=self.world.actions.known(taken.action))
        frame = self.world.generate(taken.action)
        self.index, self.is_remembered = self.index + 1, False
        return self._step(taken, frame, sampled, time.perf_counter())

    def _step(self, taken: Taken, frame: Frame, sampled: float, ready: float) -> Step:
        self._time = ready - self._began
        return Step(
            segment=self.segment,
            start=self.start,
            index=self.index,
            action=taken.action,
            frame=frame,
            event_time=taken.event_time,
            sampled_time=sampled,
            ready_time=ready,
            time=self._time,
            split=replace(self.world.split, clean=self._clean_ms),
            notice=self.world.take_notice() if isinstance(self.world, Tells) else "",
        )

    def _go_on(self) -> None:
        """Time begins to count again where it stopped."""
        now = time.perf_counter()
        self._began, self._due = now - self._time, now
