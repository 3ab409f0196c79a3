"""A small environment of our own: a square on a grey floor that goes where it is pushed."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

SPACES: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "from_one": spaces.Discrete(3, start=1),
    "bits": spaces.MultiBinary(2),
    "parts": spaces.MultiDiscrete([3, 2]),
    "axis": spaces.Box(-2.0, 2.0, (1,), np.float32),
    "axes": spaces.Box(np.array([0.0, -1.0], np.float32), np.array([1.0, 1.0], np.float32)),
    "three": spaces.Box(-1.0, 1.0, (3,), np.float32),
    "endless": spaces.Box(-np.inf, np.inf, (1,), np.float32),
    "both": spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2))),
}
SEEING: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}
BLIND: dict[str, Any] = {"render_modes": ["human", "ansi"]}


class Squares(gymnasium.Env[NDArray[np.float64], Any]):
    """`kind` names the action space; an episode ends after `length` steps."""

    metadata = SEEING

    def __init__(
        self, kind: str = "discrete", length: int = 25, render_mode: str | None = None
    ) -> None:
        self.action_space = SPACES[kind]
        self.observation_space = spaces.Box(-100.0, 100.0, (1,), np.float64)
        self.length, self.render_mode = length, render_mode
        self.seen: list[Any] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.place, self.steps = int(self.np_random.integers(20)), 0
        return np.array([float(self.place)]), {}

    def step(self, action: Any) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.seen.append(action)
        self.place += int(np.sum(action))
        self.steps += 1
        return np.array([float(self.place)]), 1.0, self.steps >= self.length, False, {}

    def render(self) -> NDArray[np.uint8]:
        picture = np.full((30, 60, 3), 90, np.uint8)
        left = self.place % 50
        picture[10:20, left : left + 10] = (220, 180, 30)
        return picture


class KeyedSquares(Squares):
    """Names its own keys, as Gymnasium's `play` wants them."""

    def get_keys_to_action(self) -> dict[Any, int]:
        return {("a",): 1, "d": 2, (ord("a"), ord("d")): 0}


class Blind(Squares):
    """Cannot draw itself."""

    metadata = BLIND


def register() -> None:
    for name in ("Squares", "KeyedSquares", "Blind"):
        identity = f"tests/{name}-v0"
        if identity not in gymnasium.registry:
            gymnasium.register(id=identity, entry_point=f"{__name__}:{name}")


def random_policy(env: "gymnasium.Env[Any, Any]") -> Any:
    """What `--player tests.data_sources.squares:random_policy` names."""
    return lambda observation: int(observation[0]) % env.action_space.n  # type: ignore[attr-defined]


register()
