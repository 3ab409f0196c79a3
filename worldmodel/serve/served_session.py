"""One player's session: its world, what was pressed since the last frame, moments to go back to."""

import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from worldmodel.action import IDLE, Action, Prompt
from worldmodel.serve.session_store import KeptSession
from worldmodel.world import Frame, HasNotices, HasState, PreparesWords, SavedState, World


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame of a session, shown by its world after `action`."""

    number: int
    frame: Frame
    action: Action
    time: float  # the client's, of the newest action in it; 0: none was new
    state: tuple[float, ...] | None = None  # what the world knows of it, NaN: not known


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell everybody who sees a session; after the last one nothing follows."""

    kind: str  # "parked", "going", "notice", "ended"
    why: str


@dataclass(frozen=True, slots=True)
class ServedMoment:
    """Where a session can go back to."""

    number: int
    frame: Frame
    state: SavedState


Listener = Callable[[Picture | Note], None]


class ServedSession:
    """Input comes from any thread; frames and moments belong to the ticking one."""

    def __init__(self, world: World, start: int, seed: int, moments: int) -> None:
        self.world, self.start, self.seed = world, start, seed
        self.key, self.watch_key = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.picture: Picture | None = None  # what is shown; None before the first frame
        self.listeners: set[Listener] = set()
        self.orders: deque[str] = deque()
        self.parked = ""  # why it stands still
        self.parked_at = self.touched_at = 0.0
        self.owner: object | None = None  # the socket that plays
        self._lock = threading.Lock()
        self._held: frozenset[str] = frozenset()
        self._tapped: frozenset[str] = frozenset()
        self._travel = (0.0, 0.0)
        self._time = 0.0
        self._prompt: Prompt | None = None
        self._waiting = ""  # what the world gets ready for, as it was told last
        self._saved: ServedMoment | None = None
        self._kept: KeptSession | None = None  # to go on from
        self._past: deque[ServedMoment] = deque(maxlen=moments)

    def act(self, action: Action, time: float) -> None:
        """Buttons are held until the next call; a tap counts for a frame, mouse travel adds up."""
        known = self.world.actions.known(action)
        with self._lock:
            self._held = known.buttons
            self._tapped |= known.buttons
            self._travel = (self._travel[0] + known.mouse[0], self._travel[1] + known.mouse[1])
            self._time = time

    def say(self, prompt: Prompt) -> None:
        """Words of the player, for the next frame."""
        with self._lock:
            self._prompt = prompt

    def release(self) -> None:
        """Let go of all keys that the page held."""
        with self._lock:
            self._held = self._tapped = frozenset()
            self._travel, self._time = (0.0, 0.0), 0.0

    def go_on_from(self, kept: KeptSession) -> None:
        """Be the session that another server has kept."""
        self.key, self.watch_key, self._kept = kept.key, kept.watch_key, kept

    def kept(self, world: str, moment: ServedMoment) -> KeptSession:
        """All that another server needs to go on from a moment."""
        return KeptSession(
            world=world,
            key=self.key,
            watch_key=self.watch_key,
            start=self.start,
            seed=self.seed,
            number=moment.number,
            frame=moment.frame,
            state=moment.state,
        )

    def begin(self) -> None:
        """The start's frame, or that which was kept."""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            self.world.load_state(kept.state)
            self._publish(kept.number, kept.frame)
            return
        frame = self.world.reset(self.start, self.seed)
        self._publish(0, frame)

    def take(self) -> tuple[Action, float]:
        """Everything that was done since the last call, and the client's time of it."""
        with self._lock:
            action = Action(self._held | self._tapped, self._travel, self._prompt)
            time, self._time = self._time, 0.0
            self._tapped, self._travel, self._prompt = frozenset(), (0.0, 0.0), None
        return self._followed(self.world.actions.known(action)), time

    def show(self, frame: Frame, action: Action, time: float) -> None:
        """One frame on; the world remembers it after that."""
        assert self.picture is not None, "begin comes first"
        self._publish(self.picture.number + 1, frame, action, time)
        if isinstance(self.world, HasNotices) and (notice := self.world.take_notice()):
            self.tell(Note("notice", notice))

    def keep(self) -> ServedMoment:
        """Remember this moment for rewinding."""
        self._past.append(self._moment())
        return self._past[-1]

    def obey(self, order: str) -> None:
        """Save, load or rewind, between two frames."""
        match order:
            case "save":
                self._saved = self._moment()
                self.tell(Note("notice", "saved"))
            case "load" if self._saved is not None:
                self._go_back(self._saved)
                self.tell(Note("notice", "loaded"))
            case "load":
                self.tell(Note("notice", "nothing was saved yet: F5 saves"))
            case "rewind" if self._past:
                self._go_back(self._past.pop())
            case "rewind":
                self.tell(Note("notice", "there is nothing further back"))

    @property
    def moments(self) -> tuple[ServedMoment, ...]:
        """What can be rewound to, the latest last."""
        return tuple(self._past)

    def tell(self, what: Picture | Note) -> None:
        """Send a message to everybody who sees the session."""
        for listener in tuple(self.listeners):
            listener(what)

    def _moment(self) -> ServedMoment:
        assert self.picture is not None, "begin comes first"
        return ServedMoment(self.picture.number, self.picture.frame, self.world.save_state())

    def _go_back(self, moment: ServedMoment) -> None:
        self.world.load_state(moment.state)
        self._past = deque(
            (m for m in self._past if m.number < moment.number), maxlen=self._past.maxlen
        )
        self.release()
        self._publish(moment.number, moment.frame)

    def _publish(self, number: int, frame: Frame, action: Action = IDLE, time: float = 0.0) -> None:
        """Show a frame, which the world has just made or gone back to."""
        known = self.world.state if isinstance(self.world, HasState) else None
        state = None if known is None else tuple(known.tolist())
        self.picture = Picture(number, frame, action, time, state)
        self.tell(self.picture)

    def _followed(self, action: Action) -> Action:
        """What the world can follow now: it may have to get ready for words."""
        if not isinstance(self.world, PreparesWords):
            return action
        action = self.world.follow(action)
        if self.world.waiting != self._waiting:
            self._waiting = self.world.waiting
            self.tell(Note("notice", self._waiting))
        return action
