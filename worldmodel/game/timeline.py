"""Where a session has been: what it takes to go back there.

Every frame leaves its picture and the world's state in a ring of bounded memory. States share what
did not change between them, so a frame costs the slot that it wrote (176 KB in the shipped world).
What has left the ring can still be reached by playing the same actions again from the beginning.

    timeline = Timeline(world)
    timeline.begin(first, History())         # after `world.reset`
    timeline.add(action, frame)              # after `world.remember`
    frame = timeline.go_to(index)            # the world is there again, the rest is forgotten
"""

from collections import deque
from dataclasses import dataclass

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.storage.action_history import History
from worldmodel.world import Frame, SavedState, World, step

MEGABYTES = 256  # of states and pictures; what is older is forgotten


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """The world right after one frame."""

    index: int
    action: Action
    frame: Frame
    state: SavedState
    size: int  # bytes that no older one holds


class Timeline:
    """The past of one beginning, up to the newest frame."""

    def __init__(self, world: World, megabytes: float = MEGABYTES) -> None:
        self.world = world
        self.history = History()
        self._most = int(megabytes * 2**20)
        self._ring: deque[TimelineEntry] = deque()
        self._size = 0
        self._first: TimelineEntry | None = None  # where this past begins

    @property
    def oldest(self) -> int:
        """The first frame that can be gone back to at once."""
        return self._ring[0].index

    @property
    def newest(self) -> TimelineEntry:
        """The frame that was added last."""
        return self._ring[-1]

    @property
    def megabytes(self) -> float:
        """Memory that the ring holds."""
        return self._size / 2**20

    def begin(self, first: TimelineEntry, history: History) -> None:
        """A beginning: nothing before it can be gone back to."""
        self._ring.clear()
        self._size, self._first, self.history = 0, first, history
        self._keep(first)

    def add(self, action: Action, frame: Frame) -> None:
        """The newest frame, already remembered by the world."""
        newest = self.newest
        state = self.world.save_state()
        size = frame.nbytes + state.bytes_beside(newest.state)
        self.history.append(action)
        self._keep(TimelineEntry(newest.index + 1, action, frame, state, size))

    def at(self, index: int) -> TimelineEntry:
        """The frame of the ring with that index."""
        return self._ring[index - self.oldest]

    def go_to(self, index: int) -> Frame:
        """Make the world what it was right after frame `index`, and forget what came later."""
        assert self._first is not None, "begin comes first"
        if not self._first.index <= index <= self.newest.index:
            raise UserError(
                f"frame {index} cannot be gone back to: this play goes from frame "
                f"{self._first.index} to {self.newest.index}"
            )
        if index < self.oldest:
            return self._play_again(self._first, index)
        self.world.load_state(self.at(index).state)
        while self.newest.index > index:
            self._size -= self._ring.pop().size
        self.history.cut(index)
        return self.newest.frame

    def _play_again(self, first: TimelineEntry, index: int) -> Frame:
        """The long way: the same actions from the beginning give the same frames."""
        history = self.history
        history.cut(index)
        actions = [history[i] for i in range(first.index, index)]
        self.world.load_state(first.state)
        history.cut(first.index)
        self.begin(first, history)
        for action in actions:
            self.add(action, step(self.world, action))
        return self.newest.frame

    def _keep(self, past: TimelineEntry) -> None:
        self._ring.append(past)
        self._size += past.size
        while self._size > self._most and len(self._ring) > 1:
            self._size -= self._ring.popleft().size


def first_past(index: int, action: Action, frame: Frame, state: SavedState) -> TimelineEntry:
    """The past as it is where it begins."""
    return TimelineEntry(index, action, frame, state, frame.nbytes + state.bytes_beside(None))
