"""One episode in memory: frames, the actions that led to them, and the state of the game."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.state_spec import StateTrack

RATES_AGREE = 0.01  # relative: frames a second of episodes that are used together


class EpisodeError(UserError):
    """A file that should hold an episode does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """One stretch of play. `actions[i]` led from `frames[i - 1]` to `frames[i]`."""

    frames: NDArray[np.uint8]  # f h w 3, RGB
    actions: Sequence[Action]  # f
    frames_per_second: float
    buttons: tuple[str, ...]
    state: StateTrack | None = None  # f v, of each frame; None where the game did not tell

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.actions):
            raise EpisodeError(
                f"an episode has {len(self.frames)} frames but {len(self.actions)} actions"
            )
        if self.state is not None and len(self.state) != len(self.frames):
            raise EpisodeError(
                f"an episode has {len(self.frames)} frames but the state of {len(self.state)}"
            )

    def __len__(self) -> int:
        return len(self.frames)

    def cut(self, first: int, end: int) -> "Episode":
        """From frame `first` until before frame `end`, in memory of its own."""
        return replace(
            self,
            frames=self.frames[first:end].copy(),  # a view would keep the whole episode
            actions=list(self.actions[first:end]),
            state=None if self.state is None else self.state.cut(first, end),
        )
