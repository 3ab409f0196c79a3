"""The real game beside the world, played with the same keys from the same start.

The real game is a function of its seed and actions, so wherever play jumps to, back in time, to
another start, into a saved moment, the game is brought there from its own beginning. All of it runs
in the window's thread and never waits: the game is a process of its own, requests go out and
answers come in whenever the loop turns, and a game that lags behind is caught up with.

    side_by_side = SideBySide(open_real, say)
    side_by_side.toggle(session)              # on, from the next frame
    side_by_side.show(session, step)          # every frame of the world
    if side_by_side.poll(): ...               # the game has drawn one: `view` has changed
    side_by_side.close()
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.game.play_session import Session
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.reference.game import (
    Learned,
    OpenReal,
    Origin,
    ReferenceTrajectory,
    is_same_place,
    psnr,
)
from worldmodel.reference.process import CHUNK, MOST_WAITING, Answer, RealProcess
from worldmodel.reference.side_by_side import Point, View
from worldmodel.state_spec import StateSpec
from worldmodel.world import Frame, HasState, World

MOST_POINTS = 100_000  # of the difference over time; the oldest go first
MOST_BEHIND = 256  # frames that a slow game may lag behind before some are not compared
MOST_BYTES = 64 << 20  # of the game's pictures, for going back
OVER, DIED = "the game's level has an end here", "the player has died in the game"
MOVING = (
    "Where this start was cut from, the game's player was moving and slides on. The start holds "
    "pictures and keys, no velocity: this is where a difference begins."
)
FRESH = "`--start real` begins where it can: with a fresh episode of the game"


@dataclass(frozen=True, slots=True)
class _Request:
    """What an answer will be the answer to."""

    route: int  # counts beginnings; an answer from before the last one is of no use
    index: int | None = None  # of the frame that it stands beside; None: on the way
    world: Frame | None = None
    trajectory: ReferenceTrajectory | None = None  # that ends here: the place is compared
    place: tuple[float, float] | None = None  # of the world's player, x and y


class SideBySide:
    """Feeds the real game what the player does, and compares."""

    def __init__(
        self, open_real: OpenReal | None, say: Callable[[str], None], *, begins: bool = False
    ) -> None:
        self.is_on = self.was_on = False
        self.view: View | None = None  # what there is to draw, while on
        self._open_real, self._say, self._begins = open_real, say, begins
        self._process: RealProcess | None = None
        self._route = 0
        self._waiting: deque[_Request] = deque()  # asked, not answered
        self._wanted: deque[tuple[int | None, Sequence[Action], _Request]] = deque()  # not asked
        self._segment = self._index = -1  # the last step that was passed on
        self._why = ""  # what is known of why a difference begins
        self._rests = False  # it has no way to here, or the level is over
        self._points: deque[Point] = deque(maxlen=MOST_POINTS)
        self._frames: dict[int, Frame] = {}

    def toggle(self, session: Session) -> None:
        """On with the next frame, or off."""
        if self.is_on:
            self.close()
            return
        try:
            self._open(session)
        except UserError as error:
            self._stop(error)
            return
        self.is_on = self.was_on = True

    def toggle_beginning(self) -> bool:
        """Before there is a session: on with its first frame, or not; which of the two."""
        self._begins = not self._begins
        return self._begins

    def show(self, session: Session, step: PlayedFrame) -> None:
        """The world's next frame; the game is asked for the one beside it."""
        if self._begins:  # with the first frame there is
            self._begins = False
            self.toggle(session)
        if not self.is_on:
            return
        real, note = self.view.real if self.view else None, self.view.note if self.view else ""
        if step.is_past:
            real = self._frames.get(step.index)
        self.view = View(
            world=step.frame,
            real=real,
            index=step.index,
            points=self._points,
            frames_per_second=session.world.frames_per_second,
            note="" if step.is_past else note,
            why=self._why,
            apart=None if step.is_past or self.view is None else self.view.apart,
        )
        if step.is_past:
            return
        try:
            self._follow(session, step)
            self._ask()
        except UserError as error:
            self._stop(error)

    def poll(self) -> bool:
        """Take the answers that are there; whether the view has changed."""
        if self._process is None:
            return False
        changed = False
        try:
            self._ask()
            while answer := self._process.poll():
                changed = self._take(answer, self._waiting.popleft()) or changed
                self._ask()
        except UserError as error:
            self._stop(error)
            return True
        return changed

    @property
    def points(self) -> list[Point]:
        """The difference over time: frame and PSNR in dB, of what is played now."""
        return list(self._points)

    def close(self) -> None:
        """Off; the game's process ends."""
        process, self._process = self._process, None
        self.is_on, self.view, self._segment = False, None, -1
        self._waiting.clear()
        self._wanted.clear()
        if process:
            process.close()

    def _open(self, session: Session) -> None:
        if self._open_real is None:
            raise UserError("no real game can be started here")
        trajectory_to_start(session)  # says why not before anything is started
        self._process = RealProcess(self._open_real, origin_of(session.world).source)

    def _stop(self, error: UserError) -> None:
        """The game is gone; the world goes on by itself."""
        self.close()
        self._say(f"the real game is not shown: {error}")

    def _follow(self, session: Session, step: PlayedFrame) -> None:
        """The action that led to the step, or all of them where play has jumped."""
        is_next = step.segment == self._segment and step.index == self._index + 1
        if not is_next or step.back_to is not None:
            self._begin(session, step)
            return
        self._index = step.index
        if not self._rests:
            place = place_in(spec_of(session), step.state)
            request = _Request(self._route, step.index, step.frame, place=place)
            self._wanted.append((None, [step.action], request))

    def _begin(self, session: Session, step: PlayedFrame) -> None:
        """Bring the game to this step from its own beginning."""
        history = session.timeline.history.copy(step.index)
        if step.count and len(history) == step.index - 1:  # the step is not remembered yet
            history.append(step.action)
        if len(history) < step.index:  # play is jumping again in this moment
            self._segment = -1
            return
        self._segment, self._index, self._route = step.segment, step.index, self._route + 1
        self._wanted.clear()
        try:
            trajectory = trajectory_to_start(session)
            if history.unknown:
                raise UserError("what was done since the start of this moment was not kept")
        except UserError as error:
            self._rest(str(error))
            return
        self._rests, self._why = False, why_apart(trajectory, spec_of(session))
        if self.view:
            self.view = replace(self.view, why=self._why)
        kept = [p for p in self._points if p[0] < step.index] if step.back_to is not None else []
        self._points.clear()
        self._points.extend(kept)
        self._frames = {i: f for i, f in self._frames.items() if kept and i < step.index}
        self._tell("the game comes to this place")
        at_start = _Request(self._route, trajectory=trajectory)
        if not step.index:
            at_start = replace(at_start, index=0, world=step.frame)
        self._want(trajectory.seed, trajectory.actions, at_start)
        if step.index:
            done = [history[i] for i in range(step.index)]
            self._want(None, done, _Request(self._route, step.index, step.frame))

    def _want(self, seed: int | None, actions: Sequence[Action], last: _Request) -> None:
        for first in range(0, max(1, len(actions)), CHUNK):
            is_last = first + CHUNK >= len(actions)
            request = last if is_last else _Request(last.route)
            part = actions[first : first + CHUNK]
            self._wanted.append((None if first else seed, part, request))

    def _ask(self) -> None:
        """Send what is wanted, as far as the game keeps up; single actions are put together."""
        while self._process and self._wanted and len(self._waiting) < MOST_WAITING:
            seed, actions, request = self._wanted.popleft()
            while len(self._wanted) > MOST_BEHIND and len(actions) + 1 < CHUNK:
                following, more, later = self._wanted[0]
                if following is not None or len(more) > 1 or request.trajectory is not None:
                    break
                self._wanted.popleft()
                actions, request = [*actions, *more], later
            self._process.send(seed, actions)
            self._waiting.append(request)

    def _take(self, answer: Answer, request: _Request) -> bool:
        if request.route != self._route or self.view is None:
            return False
        if request.trajectory is not None:
            self._compare_places(answer.frame, request.trajectory)
            if self._rests:
                return True
        if request.index is None:
            self._look(answer.frame)
            return True
        if answer.over:
            self._rests = True
            self._tell(f"{ending(answer)}; F4 begins again")
            return True
        if request.world is not None:
            self._points.append((request.index, psnr(request.world, answer.frame)))
            self.view = replace(self.view, apart=apart_in(request.place, answer))
        self._keep(request.index, answer.frame)
        self._look(answer.frame)
        self._tell("")
        return True

    def _compare_places(self, frame: Frame, trajectory: ReferenceTrajectory) -> None:
        if np.array_equal(frame, trajectory.frame):
            return
        if not is_same_place(frame, trajectory.frame):
            self._rest(f"this version of the game does not come to this start; {FRESH}")
            return
        apart = f"{psnr(frame, trajectory.frame):.0f} dB"
        self._say(f"the real game draws this start a little differently: {apart}")

    def _rest(self, why: str) -> None:
        """Nothing to show here; a restart or another start may change that."""
        self._rests, self._why, self._route = True, "", self._route + 1
        self._wanted.clear()
        self._points.clear()
        self._frames.clear()
        if self.view:
            self.view = replace(self.view, real=None, note=why, why="")

    def _keep(self, index: int, frame: Frame) -> None:
        self._frames[index] = frame
        while len(self._frames) * frame.nbytes > MOST_BYTES:
            del self._frames[next(iter(self._frames))]

    def _look(self, frame: Frame) -> None:
        assert self.view is not None
        self.view = replace(self.view, real=frame)

    def _tell(self, text: str) -> None:
        if self.view:
            self.view = replace(self.view, note=text)


def spec_of(session: Session) -> StateSpec | None:
    """What the numbers of the world's state are."""
    return session.world.state_spec if isinstance(session.world, HasState) else None


def place_in(
    spec: StateSpec | None, state: "Sequence[float] | NDArray[np.float32] | None"
) -> tuple[float, float] | None:
    """x and y of a state; None where they are not known."""
    if spec is None or state is None or spec.place is None:
        return None
    x, y = float(state[spec.place[0]]), float(state[spec.place[1]])
    return (x, y) if math.isfinite(x) and math.isfinite(y) else None


def apart_in(place: tuple[float, float] | None, answer: Answer) -> float | None:
    """Map units between the world's player and the game's."""
    real = place_in(answer.spec, answer.state)
    return math.dist(place, real) if place and real else None


def ending(answer: Answer) -> str:
    """How the game's episode ended."""
    return DIED if answer.died else OVER


def why_apart(trajectory: ReferenceTrajectory, spec: StateSpec | None) -> str:
    """What is known of why the game and the world part after a start; nothing if nothing is."""
    knows_speed = spec and any(one.kind == "velocity" for one in spec.numbers.values())
    return MOVING if trajectory.arrives_moving and not knows_speed else ""


def origin_of(world: World) -> Origin:
    """The real game that a world was learned from; a `UserError` if none is known."""
    if not isinstance(world, Learned):
        raise UserError(f"{world.name} was not learned from a game that is known here")
    return world.origin


def trajectory_to_start(session: Session) -> ReferenceTrajectory:
    """How the real game comes to where play began; a `UserError` says why it cannot."""
    origin = origin_of(session.world)
    if not session.knows_start:
        raise UserError("the start that this moment was played from is not one of those here")
    try:
        return origin.trajectory_to(session.start)
    except UserError as error:
        raise UserError(f"{error}; {FRESH}" if origin.source else str(error)) from error
