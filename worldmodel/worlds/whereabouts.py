"""Where the players of a world are: their states, what is seen from there, what a model is told.

    where = Whereabouts(engine, motion, plan)
    where.begin(states)                        # as the start's clip ends
    conditions, sight = where.step(actions)    # moves everybody on
    frame = engine.decode(playing.denoise(conditions), sight)

In a world that does not know its place, a condition is the action alone and there is no sight.

Letters: b batch (players), n numbers of a state, k buttons, z numbers of a condition.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.config import PlanConfig
from worldmodel.engine import Engine
from worldmodel.model.motion import Motion
from worldmodel.model.plan import Sight, seen_rays
from worldmodel.world import StateError

STATE = "place"  # under which the numbers are kept in a saved state


class Whereabouts:
    """The states of a batch of players, moved on with their actions."""

    def __init__(self, engine: Engine, motion: Motion | None, plan: PlanConfig | None) -> None:
        self.engine, self.motion = engine, motion
        self._told = None if plan is None else seen_rays(plan)  # columns whose rays a model is told
        self.state: Tensor | None = None  # b n, fp32, on the CPU

    def begin(self, states: Tensor | None) -> None:
        """Players stand where the states b n say; none in a world without places."""
        self.state = None if states is None else states.float().cpu()

    def step(self, actions: Tensor) -> tuple[Tensor, Sight | None]:
        """Everybody does b 1 (k+2): the conditions b 1 z of the next frame, and what is seen."""
        if self.motion is None or self.state is None:
            return actions, None
        with torch.inference_mode():
            self.state = self.motion(self.state, actions[:, 0].float().cpu())
        sight = self.look()
        assert sight is not None
        rays = sight.rays[:, self._told].flatten(1)[:, None]
        return torch.cat((rays.to(actions), actions), dim=-1), sight

    def look(self) -> Sight | None:
        """What is seen from where everybody is."""
        if self.motion is None or self.state is None:
            return None
        return self.engine.look(self.motion.views(self.state))

    def save(self) -> dict[str, NDArray[np.float32]]:
        """The states, by name, for a saved state."""
        return {} if self.state is None else {STATE: self.state.numpy().copy()}

    def read(self, array: NDArray[np.float32] | None, players: int, numbers: int) -> Tensor | None:
        """What `save` gave, as `begin` takes it; a `StateError` if it is none of this world's."""
        if self.motion is None:
            if array is not None:
                raise StateError("it knows a place, and this world has none")
            return None
        expected = (players, numbers)
        if array is None or array.shape != expected or array.dtype != np.float32:
            found = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise StateError(f"{STATE} is {found}, this world needs float32 {list(expected)}")
        if not np.isfinite(array[:, list(self.motion.roles.view)]).all():
            raise StateError(f"{STATE} holds values that are not numbers")
        return torch.from_numpy(np.array(array))
