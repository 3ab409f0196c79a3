"""What it means to be playable: the role that every backend fills and the game plays.

    frame = world.reset(start=0, seed=0)
    frame = world.generate(action)     # denoise and decode: show it at once
    world.remember()                   # the clean pass that makes it the past; then the next one

`generate` without `remember` after it, or the other way round, is a mistake of the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action, ActionSpec

Frame = NDArray[np.uint8]  # h w 3, RGB


@dataclass(frozen=True, slots=True)
class Split:
    """Where the time of the last frame went, in milliseconds."""

    denoise: float = 0.0
    decode: float = 0.0
    clean: float = 0.0


class World(Protocol):
    """A world that can be played frame by frame, from one thread at a time."""

    @property
    def name(self) -> str:
        """What the world is called."""

    @property
    def frames_per_second(self) -> float:
        """The speed it was learned at."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """Rows, columns."""

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

    @property
    def split(self) -> Split:
        """Times of the last frame."""

    @property
    def identity(self) -> dict[str, Any]:
        """What a replay must match: name, weights' sha256, sampler, dtype, device, threads."""

    @property
    def running_on(self) -> str:
        """For people: device, dtype, threads, and why these."""


@runtime_checkable
class Tells(Protocol):
    """A world that has something to tell its player at times: words it did not understand."""

    def take_notice(self) -> str:
        """What there is to tell since the last time; mostly nothing."""


def step(world: World, action: Action) -> Frame:
    """One whole frame, for callers who need not see it early."""
    frame = world.generate(action)
    world.remember()
    return frame
