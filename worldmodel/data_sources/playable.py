"""A real game as a `World`: a person plays it in the window that worlds are played in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action, ActionSpec
from worldmodel.data_sources.gym import GymGame
from worldmodel.state_spec import StateSpec
from worldmodel.world import Frame, SavedState, Split, StateError


class PlayableGame:
    """An environment behind the role; it keeps its state to itself, so nobody can go back in it."""

    def __init__(self, game: GymGame) -> None:
        self.game, self.name, self.frame_size = game, game.name, game.config.size
        self.frames_per_second = game.frames_per_second
        self.actions: ActionSpec = game.actions
        self.state_spec: StateSpec = game.state_spec
        self.starts: Sequence[str] = ["a new episode"]
        self.split = Split()  # a real game denoises nothing
        self.identity: dict[str, Any] = game.identity
        self.running_on = f"gymnasium {self.identity['gymnasium']}"

    def reset(self, start: int, seed: int) -> Frame:
        """A new episode; everything random in it comes from the seed."""
        del start
        return self.game.reset(seed)

    def generate(self, action: Action) -> Frame:
        """Hold an action for one frame; the last frame of an episode is a frame too."""
        return self.game.step(action)

    def remember(self) -> None:
        """The game has done it already."""

    def save_state(self) -> SavedState:
        """Nothing that could be gone on from."""
        return SavedState({"world": self.name}, {})

    def load_state(self, state: SavedState) -> None:
        """A `StateError`: a real game cannot go back to a state."""
        del state
        raise StateError(f"{self.name} is a real game: it cannot be gone back in")

    @property
    def is_over(self) -> bool:
        """Whether only `reset` can go on."""
        return self.game.is_over

    @property
    def state(self) -> NDArray[np.float32]:
        """What the game says of itself in the last frame."""
        return self.game.state
