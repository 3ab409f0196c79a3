"""Environments that tell more than their picture: in `info`, in a dictionary, and in an array."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}


class Telling(gymnasium.Env[Any, Any]):
    """A dot that goes right with action 1; it is at the end after `length` steps."""

    metadata = METADATA

    def __init__(self, length: int = 6, render_mode: str | None = None) -> None:
        self.action_space = spaces.Discrete(2)
        self.observation_space = spaces.Dict(
            {"velocity": spaces.Box(-9, 9, (2,)), "armed": spaces.Discrete(2)}
        )
        self.length, self.render_mode = length, render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.x, self.steps = 0, 0
        return self._observe(0), {"position": (0.0, 3.0)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += int(action)
        self.steps += 1
        info: dict[str, Any] = {"position": (float(self.x), 3.0), "name": "dot"}
        info["speed"] = np.float64(action) if self.steps % 2 else np.inf
        if self.steps % 3 == 0:
            del info["position"]  # not told now and then
        done = self.steps >= self.length
        return self._observe(int(action)), 0.5 * self.steps, done, False, info

    def render(self) -> NDArray[np.uint8]:
        picture = np.full((8, 16, 3), 60, np.uint8)
        picture[2:6, self.x % 14 : self.x % 14 + 3] = (220, 180, 30)
        return picture

    def _observe(self, velocity: int) -> dict[str, Any]:
        return {"velocity": np.array([velocity, -1.0], np.float32), "armed": self.steps > 2}
