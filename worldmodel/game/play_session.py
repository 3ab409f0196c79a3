"""One played world: what a turn is, whoever calls it and from whichever thread.

    session = Session(world, take, seed=0)
    step = session.begin()              # the start frame
    step = session.advance()            # the next frame
    step = session.turn(command)        # what a command shows; None where it shows no frame
    session.remember()                  # after the frame was handed over, never before

The player's action is read at the last moment before the frame is made, so waiting for the next
frame's time comes first. Where the session has been is in its `Timeline`; with a `SaveWorker` its
moments get to disk, and a fault of the world costs a frame instead of the session.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from worldmodel.action import IDLE
from worldmodel.config import UserError
from worldmodel.game.controls import Command
from worldmodel.game.input import Taken
from worldmodel.game.jumps import Order, ToMoment, ToSpot, ToStart
from worldmodel.game.play_clock import PlayClock
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.game.save_worker import SaveWorker
from worldmodel.game.timeline import MEGABYTES, Timeline, TimelineEntry, first_past
from worldmodel.storage.action_history import History
from worldmodel.storage.moments import Moment, MomentHeader, load_moment
from worldmodel.system.paths import to_path
from worldmodel.system.versions import installed_versions
from worldmodel.world import (
    Ending,
    Frame,
    HasNotices,
    HasState,
    PreparesWords,
    Spot,
    StateError,
    Walkable,
    World,
)

Take = Callable[[int], Taken]  # what the player does to make frame i

FASTEST_REWIND = 4  # frames back at a time


class LostWorldError(UserError):
    """The world broke and does not come back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """What a session keeps of itself, and where."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # which world, how it is run
    save_worker: SaveWorker | None = (
        None  # None: nothing gets to disk, and a fault ends the session
    )
    megabytes: float = MEGABYTES  # of memory for going back


class Session:
    """Owns a world while it is played; one thread at a time."""

    def __init__(
        self,
        world: World,
        take: Take,
        *,
        start: int = 0,
        seed: int = 0,
        rate: float = 0.0,
        keeping: Keeping | None = None,
        moment: Moment | None = None,
        spot: Spot | None = None,
    ) -> None:
        keeping = keeping or Keeping()
        self.world, self.take, self.start, self.seed = world, take, start, seed
        self.save_worker = keeping.save_worker
        self.identity = dict(world.identity)  # asked here: torch counts threads per thread
        self.settings = resolved(keeping.settings, self.identity)
        self.running_on, self.rate = world.running_on, rate
        self.spot = spot  # where play begins, in place of a start
        self.knows_start = True  # whether play began at `start`; a moment may be from elsewhere
        self.paused = False
        self.segment = self.index = 0
        self.frame: Frame | None = None  # the last one
        self.is_remembered = True
        self.timeline = Timeline(world, keeping.megabytes)
        self._clock = PlayClock(rate)
        self._moment = moment  # to begin with
        self._newest: PlayedFrame | None = None
        self._clean_ms = 0.0
        self._count = self._faults = 0
        self._back_to: int | None = None  # where play went back to since the last frame
        self._cursor: int | None = None  # the frame that is seen while going back
        self._back_frames = 0  # seen since going back began

    def begin(self) -> PlayedFrame:
        """Show the start again from its first frame; the first time, a moment if there is one."""
        moment, self._moment = self._moment, None
        if moment:
            return self.load(moment)
        sampled, self.knows_start = time.perf_counter(), self.spot is None
        if self.spot is None:
            frame = self.world.reset(self.start, self.seed)
        elif isinstance(self.world, Walkable):
            frame = self.world.stand(self.spot, self.seed)
        else:
            raise UserError(f"{self.world.name} does not know places: it begins at its starts")
        first = first_past(0, IDLE, frame, self.world.save_state())
        return self._begin_with(first, History(), sampled)

    def load(self, moment: Moment) -> PlayedFrame:
        """Go on from a saved moment; after a `UserError` all is as it was."""
        sampled, header = time.perf_counter(), moment.header
        if moment.frame.shape[:2] != self.world.frame_size:
            raise StateError(
                f"its picture is {list(moment.frame.shape[:2])}, those of {self.world.name} are "
                f"{list(self.world.frame_size)}"
            )
        self.world.load_state(moment.state)
        self.seed, self.spot = header.seed, None
        self.start = header.start if header.start < len(self.world.starts) else 0
        self.knows_start = self.world.starts[self.start] == header.caption
        first = first_past(header.index, IDLE, moment.frame, moment.state)
        history = moment.history.copy(header.index)
        return self._begin_with(first, history, sampled)

    def turn(self, command: Order) -> PlayedFrame | None:
        """Obey a command; the frame that it shows, if it shows one."""
        match command:
            case Command.RESTART:
                return self.begin()
            case Command.NEXT_START:
                self.start, self.spot = (self.start + 1) % len(self.world.starts), None
                return self.begin()
            case ToStart(start):
                self.start, self.spot = start % len(self.world.starts), None
                return self.begin()
            case ToSpot(spot):
                return self._stand(spot)
            case ToMoment(path) if self.save_worker:
                self._let_go()
                return self._load_from(self.save_worker, lambda: load_moment(path))
            case Command.PAUSE:
                self.paused = not self.paused
                self._clock.go_on()
            case Command.STEP if self.paused:
                self._let_go()
                step = self.advance()
                return replace(step, event_time=None) if step else None
            case Command.REWIND if self._can_go_back:
                self._cursor, self._back_frames = self.index, 0
                self._clock.go_on()
            case Command.GO_ON:
                self._let_go()
            case Command.SAVE | Command.LOAD if self.save_worker:
                self._let_go()
                if command is Command.LOAD:
                    save_worker, name = self.save_worker, self.world.name
                    return self._load_from(save_worker, lambda: save_worker.newest(name))
                self.save_worker.save(self.moment())
            case _:
                pass
        return None

    @property
    def _can_go_back(self) -> bool:
        """Whether earlier frames can be gone on from: not those of a real game."""
        return not isinstance(self.world, Ending)

    def advance(self) -> PlayedFrame | None:
        """The next frame; while going back, the one before; after an end, the next episode."""
        if isinstance(self.world, Ending) and self.world.is_over:
            self.seed += 1  # the next episode is another one
            return self.begin()
        if self._cursor is not None:
            return self._step_back()
        sampled = self._clock.tick()
        taken = self.take(self.index + 1)
        if taken.back_to is not None:
            self._go_to(taken.back_to)
        taken = taken._replace(action=self.world.actions.known(taken.action))
        try:
            frame = self.world.generate(taken.action)
        except Exception as error:  # noqa: BLE001  # told to the player, who goes on before it
            self._fall_back(self.index + 1, error)
            return None
        self.index, self.is_remembered, self._count = self.index + 1, False, self._count + 1
        step = self._step(taken, frame, sampled, self._clock.ready())
        self._newest, self._back_to = replace(step, back_to=self._back_to), None
        return self._newest

    def remember(self) -> None:
        """Make the frame of the last turn part of the past."""
        if self.is_remembered:
            return
        assert self._newest is not None
        self.is_remembered = True
        try:
            self.world.remember()
            self.timeline.add(self._newest.action, self._newest.frame)
        except Exception as error:  # noqa: BLE001  # told to the player, who goes on before it
            self._fall_back(self.index, error)
            return
        self._clean_ms, self._faults = self.world.split.clean, 0
        if self.save_worker and self.save_worker.autosave_is_due():
            self.save_worker.autosave(self.moment())

    def moment(self, past: TimelineEntry | None = None) -> Moment:
        """The newest frame that the world remembers, as it can be kept.

        Another frame, from any thread; without the actions that led to it if play jumps just then.
        """
        if past:
            history = self.timeline.history.copy(past.index)
            if len(history) != past.index or (past.index and not _ends_with(history, past)):
                history = History(past.index)
        else:
            past = self.timeline.newest
            history = self.timeline.history.copy(past.index)
        header = MomentHeader(
            settings=self.settings,
            identity=self.identity,
            world=self.world.name,
            caption=self.world.starts[self.start],
            seed=self.seed,
            start=self.start,
            index=past.index,
            seconds=past.index / self.world.frames_per_second,
            saved_at=time.time(),
            sets=tuple(tuple(sorted(buttons)) for buttons in history.sets),
            versions=installed_versions(),
        )
        return Moment(header=header, state=past.state, frame=past.frame, history=history)

    def seconds_to_wait(self) -> float | None:
        """Until the next frame should be made; None while only a command can go on."""
        is_resting = self.paused and self._cursor is None
        return None if is_resting else self._clock.seconds_to_wait()

    def _begin_with(self, first: TimelineEntry, history: History, sampled: float) -> PlayedFrame:
        self.timeline.begin(first, history)
        self.segment, self.index, self.is_remembered = self.segment + 1, first.index, True
        self._clean_ms, self._count, self._faults = 0.0, 0, 0
        self._back_to = self._cursor = None
        ready = self._clock.begin()
        return self._step(Taken(IDLE, None), first.frame, sampled, ready)

    def _stand(self, spot: Spot) -> PlayedFrame | None:
        before, self.spot = self.spot, spot
        try:
            return self.begin()
        except UserError as error:
            self.spot = before
            if self.save_worker is None:
                raise
            self.save_worker.tell(str(error))
            return None

    def _step_back(self) -> PlayedFrame | None:
        """The frame before the one that is seen, faster the longer it goes on."""
        assert self._cursor is not None
        sampled = self._clock.tick(1 / self.world.frames_per_second)
        self._back_frames += 1
        seconds = self._back_frames / self.world.frames_per_second
        cursor = max(self.timeline.oldest, self._cursor - min(FASTEST_REWIND, 1 + int(seconds)))
        if cursor == self._cursor:
            return None
        self._cursor, past = cursor, self.timeline.at(cursor)
        step = self._step(Taken(past.action, None), past.frame, sampled, time.perf_counter())
        return replace(step, index=cursor, is_past=True, state=None)

    def _let_go(self) -> None:
        """Play goes on from the frame that is seen."""
        cursor, self._cursor = self._cursor, None
        if cursor is not None and cursor < self.index:
            self._go_to(cursor)
        self._clock.go_on()

    def _go_to(self, index: int) -> None:
        self.timeline.go_to(index)
        self.index = self._back_to = index

    def _load_from(self, save_worker: SaveWorker, read: Callable[[], Moment]) -> PlayedFrame | None:
        try:
            return self.load(read())
        except UserError as error:
            save_worker.tell(f"not loaded: {error}")
            return None

    def _fall_back(self, index: int, error: Exception) -> None:
        """The world broke while it made frame `index`: once it tries again, then it rests."""
        if self.save_worker is None or isinstance(error, UserError):
            raise error
        fault = f"frame {index}: {type(error).__name__}: {str(error)[:300]}"
        good, self._faults = self.timeline.newest.index, self._faults + 1
        try:
            self.timeline.go_to(good)
        except Exception as again:  # noqa: BLE001  # a device that is gone
            raise LostWorldError(
                f"{fault}; the world does not come back ({type(again).__name__}), so play ended "
                f"at frame {good}, which is kept: --load goes on from there"
            ) from error
        if good < self.index:
            self.index = self._back_to = good
        self.paused = self.paused or self._faults > 1
        what = "paused there, P continues" if self.paused else "it continues from there"
        self._clock.go_on()
        self.save_worker.tell(f"{fault}; back at frame {good}, {what}")

    def _step(self, taken: Taken, frame: Frame, sampled: float, ready: float) -> PlayedFrame:
        self.frame = frame
        return PlayedFrame(
            segment=self.segment,
            start=self.start,
            seed=self.seed,
            index=self.index,
            action=taken.action,
            frame=frame,
            event_time=taken.event_time,
            sampled_time=sampled,
            ready_time=ready,
            time=self._clock.played,
            split=replace(self.world.split, clean=self._clean_ms),
            count=self._count,
            past=self.timeline.newest,
            notice=self.world.take_notice() if isinstance(self.world, HasNotices) else "",
            waiting=self.world.waiting if isinstance(self.world, PreparesWords) else "",
            state=self._known(),
        )

    def _known(self) -> tuple[float, ...] | None:
        """What the world knows of its last frame."""
        known = self.world.state if isinstance(self.world, HasState) else None
        return None if known is None else tuple(known.tolist())


def _ends_with(history: History, past: TimelineEntry) -> bool:
    is_known = history.unknown < len(history)
    return is_known and history[len(history) - 1] == past.action


def resolved(settings: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with what the world made of every `auto`, as they may be shared.

    Of an absolute path only the last name is kept: nobody learns where it lay on this machine.
    """
    chosen = {key: identity[key] for key in settings.keys() & identity.keys() - {"world"}}
    named = {key: _last_name(settings[key]) for key in ("world", "start") if key in settings}
    return {**settings, **chosen, **named}


def _last_name(place: str | None) -> str | None:
    """A path without the folders that only this machine has; anything else as it is."""
    if place is None:
        return None
    path = to_path(place)
    return path.name if path.is_absolute() or ".." in path.parts else place
