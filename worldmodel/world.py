"""What it means to be playable: the role that every backend fills and the game plays.

    frame = world.reset(start=0, seed=0)
    frame = world.generate(action)     # denoise and decode: show it at once
    world.remember()                   # the clean pass that makes it the past; then the next one

`generate` without `remember` after it, or the other way round, is a mistake of the caller.

    state = world.save_state()         # after `reset` or `remember`, never in between
    world.load_state(state)            # later, in this process or another: goes on bit for bit
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action, ActionSpec
from worldmodel.config import UserError
from worldmodel.state_spec import StateSpec

Frame = NDArray[np.uint8]  # h w 3, RGB


@dataclass(frozen=True, slots=True)
class Split:
    """Where the time of the last frame went, in milliseconds."""

    denoise: float = 0.0
    decode: float = 0.0
    clean: float = 0.0


class StateError(UserError):
    """A state is broken, or this world cannot go on from it."""


class WorldFaultError(RuntimeError):
    """The world broke in the middle of play: what is wrong, and where."""


class Later(Protocol):
    """An array that is brought to the host when somebody looks at it, from any thread."""

    @property
    def nbytes(self) -> int:
        """How many bytes its array takes on the host."""

    def array(self) -> NDArray[Any]:
        """The numbers; the same memory every time."""


class LazyArrays(Mapping[str, "NDArray[Any]"]):
    """Arrays by name, some of which are not on the host yet."""

    def __init__(self, held: Mapping[str, NDArray[Any] | Later]) -> None:
        self.held = held

    def __getitem__(self, name: str) -> NDArray[Any]:
        found = self.held[name]
        return found if isinstance(found, np.ndarray) else found.array()

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)


@dataclass(frozen=True, slots=True)
class SavedState:
    """All that changes in play, as it is between two frames.

    Nobody writes to its arrays again; what did not change from one frame to the next is the same
    memory in both states.
    """

    identity: Mapping[str, Any]  # of the world that it was taken from
    arrays: Mapping[str, NDArray[Any]]

    def bytes_beside(self, before: "SavedState | None") -> int:
        """Bytes of the arrays that are not the same memory in an earlier state; fetches none."""
        held, known = _held(self), _held(before) if before else {}
        return sum(x.nbytes for name, x in held.items() if not _is_same(x, known.get(name)))


class World(Protocol):
    """A world that can be played frame by frame, from one thread at a time."""

    @property
    def name(self) -> str:
        """What the world is called, for people."""

    @property
    def frames_per_second(self) -> float:
        """The speed it was learned at."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """Rows and columns of its frames."""

    @property
    def actions(self) -> ActionSpec:
        """What the world understands."""

    @property
    def starts(self) -> Sequence[str]:
        """A caption for each place to begin at."""

    def reset(self, start: int, seed: int) -> Frame:
        """Begin again at a start; the frames that follow depend on start, seed and actions."""

    def generate(self, action: Action) -> Frame:
        """The frame that `action` leads to."""

    def remember(self) -> None:
        """Make the generated frame part of the past."""

    def save_state(self) -> SavedState:
        """All that changes in play; cheap enough for every frame."""

    def load_state(self, state: SavedState) -> None:
        """Go on from a state; after a `StateError`, which says why not, all is as it was."""

    @property
    def split(self) -> Split:
        """Milliseconds that each part of the last frame took."""

    @property
    def identity(self) -> dict[str, Any]:
        """What a replay must match: name, weights' sha256, sampler, dtype, device, threads."""

    @property
    def running_on(self) -> str:
        """For people: device, dtype, threads, and why these."""


class Batch(Protocol):
    """Sessions of one world that are played together, all as old as each other."""

    def begin(self, starts: Sequence[int], seeds: Sequence[int]) -> Frame:
        """The first frame of every session, b h w 3."""

    def step(self, actions: Sequence[Action]) -> Frame:
        """The next frame of every session, b h w 3."""

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """What the world knows of every session: by name, a number each; else nothing."""


@runtime_checkable
class Ending(Protocol):
    """A world whose play can come to an end, as a real game's does; a learned one goes on."""

    @property
    def is_over(self) -> bool:
        """Whether only `reset` can go on."""


@runtime_checkable
class HasState(Protocol):
    """A world that may know more of a frame than its picture: place, health, reward."""

    @property
    def state_spec(self) -> StateSpec | None:
        """What its numbers are; None: it knows none."""

    @property
    def state(self) -> NDArray[np.float32] | None:
        """The numbers of the last frame, NaN: not known; never written to again."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A place to stand at: map units, and degrees that grow to the left."""

    x: float
    y: float
    heading: float

    def __str__(self) -> str:
        return f"{round(self.x)}, {round(self.y)}, {round(self.heading) % 360}°"


@dataclass(frozen=True, slots=True)
class Level:
    """A level's map: where one can walk."""

    free: NDArray[np.uint8]  # x y, 1: the player's middle can be there
    low: tuple[float, float]  # x, y of the map's first cell
    cell: float  # map units that a cell is wide

    def holds(self, x: float, y: float) -> bool:
        """Whether one can stand there."""
        i, j = (int((v - low) // self.cell) for v, low in zip((x, y), self.low, strict=True))
        wide, high = self.free.shape
        return 0 <= i < wide and 0 <= j < high and bool(self.free[i, j])

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The middle of the nearest cell in which one can stand; of the map, if there is none."""
        cells = np.argwhere(self.free > 0)
        if not len(cells):
            cells = np.array([self.free.shape]) // 2
        middles = (cells + 0.5) * self.cell + np.array(self.low)
        x, y = middles[np.square(middles - (x, y)).sum(axis=1).argmin()]
        return float(x), float(y)


@runtime_checkable
class Walkable(Protocol):
    """A world that may know where one can walk, and in which one can then begin anywhere."""

    @property
    def level(self) -> Level | None:
        """Its map; None: it knows none."""

    def stand(self, spot: Spot, seed: int) -> Frame:
        """Begin at a spot, standing still; a `UserError` says why one cannot."""


@runtime_checkable
class HasNotices(Protocol):
    """A world that has something to tell its player at times: words it did not understand."""

    def take_notice(self) -> str:
        """What there is to tell since the last time; mostly nothing."""


@runtime_checkable
class PreparesWords(Protocol):
    """A world that must get ready for some words: play need not stop for that.

    Who cannot know how long it takes (a replay, a timeline) leaves `follow` out and waits.
    """

    def follow(self, action: Action) -> Action:
        """The part of an action that can be followed now, and what was kept back and now can."""

    @property
    def waiting(self) -> str:
        """What it gets ready for, for people; mostly nothing."""


def _held(state: SavedState) -> Mapping[str, NDArray[Any] | Later]:
    return state.arrays.held if isinstance(state.arrays, LazyArrays) else state.arrays


def _is_same(one: NDArray[Any] | Later, other: NDArray[Any] | Later | None) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.may_share_memory(one, other)
    return one is other


def step(world: World, action: Action) -> Frame:
    """One whole frame, for callers who need not see it early."""
    frame = world.generate(action)
    world.remember()
    return frame
