"""The real game that a world was learned from, as far as play beside it needs to know it.

A real game is a function of its seed and of the actions since, so it can be brought to wherever a
world's start was cut from, and from there to every moment of play:

    frame = bring(game, world.origin.trajectory_to(start))     # what the start's clip ends with
    frame = game.step(action)                # the frame that the world draws from the same keys
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.world import Frame

SLIDES = 8  # actions after a key is let go in which a player still slides on
ALIKE = 30.0  # dB: what another build of the same game draws of the same place, at least


class RealGame(Protocol):
    """A running game; `step` comes after `reset`, and not when the game is over."""

    def reset(self, seed: int) -> Frame:
        """Begin the episode of a seed; its first frame."""

    def step(self, action: Action) -> Frame:
        """The frame that `action` leads to."""

    @property
    def is_over(self) -> bool:
        """Whether the episode has ended: only `reset` can go on."""

    def close(self) -> None:
        """End the game and whatever process it runs in."""


@runtime_checkable
class Mortal(Protocol):
    """A game whose player can die, which is another end than that of a level."""

    @property
    def has_died(self) -> bool:
        """Whether the episode has ended with the player's death."""


OpenReal = Callable[[Mapping[str, Any]], RealGame]  # from `Origin.source`


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceTrajectory:
    """How the real game comes to a start."""

    seed: int
    actions: Sequence[Action]  # all that was done since the seed, up to the start's last frame
    frame: Frame  # what is seen there, to compare

    @property
    def arrives_moving(self) -> bool:
        """Whether a key moved the player until then: the game knows a speed that no picture holds.

        A mouse turns, and stops with the hand.
        """
        keys = (key for action in self.actions[-SLIDES:] for key in action.buttons)
        return any(not key.startswith("Mouse") for key in keys)


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a world comes from: the game it was learned from, and how that comes to its starts."""

    world: str
    source: Mapping[str, Any]  # [game] of its file, `frame_height`, `frame_width`; empty: unknown
    trajectories: Sequence[ReferenceTrajectory | UserError]  # for each start, or why there is none

    def trajectory_to(self, start: int) -> ReferenceTrajectory:
        """How the real game comes to a start; a `UserError` says why it cannot."""
        self.check_known()
        trajectory = self.trajectories[start]
        if isinstance(trajectory, UserError):
            raise trajectory
        return trajectory

    def check_known(self) -> None:
        """A `UserError` if the world's file names no game."""
        if not self.source:
            raise UserError(f"{self.world} names no real game that it was learned from")


@runtime_checkable
class Learned(Protocol):
    """A world that knows which real game it was learned from."""

    @property
    def origin(self) -> Origin:
        """The game, and how its starts are reached."""


def bring(game: RealGame, trajectory: ReferenceTrajectory) -> Frame:
    """Bring a real game to a start; returns what is seen there."""
    frame = game.reset(trajectory.seed)
    for action in trajectory.actions:
        frame = game.step(action)
    return frame


def psnr(frame: Frame, reference: Frame) -> float:
    """Peak signal-to-noise ratio of one frame in dB, as `metrics.psnr` has it, without torch."""
    apart = frame.astype(np.float32) - reference.astype(np.float32)
    return float(10 * np.log10(255.0**2 / max(float(np.square(apart).mean()), 1e-2)))


def is_same_place(frame: Frame, expected: NDArray[np.uint8]) -> bool:
    """Whether two pictures show one place, drawn by the same game or another build of it."""
    return frame.shape == expected.shape and psnr(frame, expected) >= ALIKE
