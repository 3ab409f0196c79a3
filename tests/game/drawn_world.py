"""A world drawn with numpy: a floor of coloured squares that moves with the actions."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from worldmodel.action import Action, ActionSpec
from worldmodel.world import Frame, SavedState, Split, StateError

SPEC = ActionSpec(
    buttons=("KeyW", "KeyS", "KeyA", "KeyD"),
    names=("forward", "back", "strafe left", "strafe right"),
    mouse_degrees=15.0,
    max_mouse_degrees=15.0,
)


class DrawnWorld:
    """Deterministic, milliseconds, no torch. `calls` says what was asked of it, in order."""

    def __init__(self, seconds: float = 0.0, breaks_at: int | None = None) -> None:
        self.name, self.frames_per_second = "drawn", 30.0
        self.frame_size = (48, 64)
        self.actions = SPEC
        self.starts: Sequence[str] = ["the red room", "the blue room"]
        self.calls: list[str] = []
        self.seconds, self.breaks_at = seconds, breaks_at
        self.frames = 0
        self._place = np.zeros(3)  # right, forward, degrees
        self._split = Split()

    def reset(self, start: int, seed: int) -> Frame:
        self.calls.append("reset")
        self.frames = 0
        self._place = np.array([40.0 * start, float(seed), 0.0])
        return self._draw()

    def generate(self, action: Action) -> Frame:
        self.calls.append("generate")
        self.frames += 1
        if self.frames == self.breaks_at:
            raise RuntimeError("the world broke")
        time.sleep(self.seconds)
        held = [button in action.buttons for button in SPEC.buttons]
        self._place += (held[3] - held[2], held[0] - held[1], action.mouse[0])
        self._split = Split(denoise=2.0, decode=1.0)
        return self._draw()

    def remember(self) -> None:
        self.calls.append("remember")
        self._split = Split(denoise=2.0, decode=1.0, clean=0.5)

    def save_state(self) -> SavedState:
        place, frames = self._place.copy(), np.array(self.frames)
        return SavedState(self.identity, {"place": place, "frames": frames})

    def load_state(self, state: SavedState) -> None:
        if state.identity != self.identity:
            raise StateError(f"it belongs to {state.identity}")
        if state.arrays.keys() != {"place", "frames"} or state.arrays["place"].shape != (3,):
            raise StateError("it holds something else")
        self._place, self.frames = state.arrays["place"].copy(), int(state.arrays["frames"])

    @property
    def split(self) -> Split:
        return self._split

    @property
    def running_on(self) -> str:
        return "paper"

    @property
    def identity(self) -> dict[str, Any]:
        return {"world": "drawn", "sha256": {"squares": "0"}, "dtype": "float32", "device": "cpu"}

    def _draw(self) -> Frame:
        rows, columns = self.frame_size
        right, forward, degrees = self._place
        y, x = np.mgrid[:rows, :columns]
        depth = 20.0 / (np.abs(y - rows / 2) + 1.0)
        u = (x - columns / 2) * depth / 12 + right + degrees / 4
        v = depth * 3 + forward / 2
        squares = (np.floor(u / 3) + np.floor(v)) % 2
        light = np.clip(1.4 - depth / 14, 0.15, 1.0)
        floor = (y > rows / 2)[..., None]
        colour = np.where(floor, (186, 128, 84), (82, 104, 148)) * (0.6 + 0.4 * squares[..., None])
        return np.asarray(colour * light[..., None], np.uint8)
