"""What happens to the numbers of a world's players: drawn, frame by frame, and kept in a state.

    happenings = Happenings(events)
    happenings.begin(recent, seeds)            # as the start's clip ends
    states = happenings.step(moved, actions)   # what happens in the next frame
    happenings.saw(latents)                    # and how it looks

What is drawn follows from a player's seed and the number of the frame alone: play that goes on from
a saved state draws what unbroken play would.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.model.events import Events
from worldmodel.model.events import Recent as Recent  # what a player has seen, for whoever begins
from worldmodel.random_streams import arrays
from worldmodel.system.limits import LATEST_FRAME
from worldmodel.world import StateError

STATES, ACTIONS, LATENTS = "happened.states", "happened.actions", "happened.latents"
CHANCE = "happened.chance"  # b 2: the player's seed, and the frames that were drawn
NAMES = (STATES, ACTIONS, LATENTS, CHANCE)


def join_recent(parts: Sequence[Recent]) -> Recent | None:
    """Several players as one batch; None of nobody."""
    if not parts:
        return None
    return Recent(
        torch.cat([part.states for part in parts]),
        torch.cat([part.actions for part in parts]),
        torch.cat([part.latents for part in parts]),
    )


class Happenings:
    """The last frames of a batch of players, and their chances."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self._recent: Recent | None = None
        self._chance = np.zeros((0, 2), np.int64)

    def begin(self, recent: Recent, seeds: Sequence[int]) -> None:
        """Players have seen `recent`, each has a seed."""
        recent = Recent(*(x.float().cpu() for x in (recent.states, recent.actions, recent.latents)))
        self._recent = recent
        self._chance = np.array([[seed % 2**63, 0] for seed in seeds], np.int64)

    def step(self, moved: Tensor, actions: Tensor) -> Tensor:
        """States b v after motion, the actions b (k+2) of the next frame: its states b v."""
        assert self._recent is not None, "begin comes first"
        self._chance = self._chance + np.array([0, 1])
        drawn = self.events.chances
        chance = [
            arrays("events", int(s), int(t)).random(drawn, np.float32) for s, t in self._chance
        ]
        actions = actions.float().cpu()
        with torch.inference_mode():
            states = self.events(self._recent, moved, actions, torch.from_numpy(np.stack(chance)))
            self._recent = self._recent.after(states, actions)
        return states

    def saw(self, latents: Tensor) -> None:
        """How the frame looks that the last step led to: b c h w."""
        assert self._recent is not None, "begin comes first"
        with torch.inference_mode():
            self._recent = self._recent.seeing(latents.float().cpu())

    def save(self) -> dict[str, NDArray[Any]]:
        """Everything that goes on, by name, for a saved state."""
        if self._recent is None:
            return {}
        recent = self._recent
        found: dict[str, NDArray[Any]] = {
            STATES: recent.states.numpy().copy(),
            ACTIONS: recent.actions.numpy().copy(),
            LATENTS: recent.latents.numpy().copy(),
        }
        return {**found, CHANCE: self._chance}

    def load(self, saved: Mapping[str, NDArray[Any]], players: int) -> None:
        """Go on from what `save` gave; a `StateError`, before anything changes, if it does not fit.

        `check` alone says so too.
        """
        self.check(saved, players)
        parts = (torch.from_numpy(np.array(saved[name])) for name in (STATES, ACTIONS, LATENTS))
        self._recent, self._chance = Recent(*parts), np.array(saved[CHANCE])

    def check(self, saved: Mapping[str, NDArray[Any]], players: int) -> None:
        """Refuse arrays that are none of this world's."""
        config, numbers = self.events.config, self.events.spec.width
        expected = {
            STATES: (players, config.frames, numbers),
            ACTIONS: (players, config.frames, config.buttons + 2),
            LATENTS: (players, config.seen, *config.latent_shape),
            CHANCE: (players, 2),
        }
        for name, shape in expected.items():
            array, dtype = saved.get(name), np.int64 if name == CHANCE else np.float32
            if array is None or array.shape != shape or array.dtype != dtype:
                found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
                raise StateError(
                    f"{name} is {found}, this world needs {np.dtype(dtype)} {list(shape)}"
                )
            if name != STATES and not np.isfinite(array).all():
                raise StateError(f"{name} holds values that are not numbers")
        chance = saved[CHANCE]
        if chance.min() < 0 or chance[:, 1].max() >= LATEST_FRAME:
            raise StateError(f"{CHANCE} holds a seed or a frame out of range")
