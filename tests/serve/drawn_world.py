"""A world that is drawn, not learned: large frames that cost nothing, and turn when one turns."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.world import Frame, SavedState, Split

WIDE = 4096  # pixels all around
SPEC = ActionSpec(
    buttons=("KeyW", "KeyS", "KeyA", "KeyD"),
    names=("forward", "back", "left", "right"),
    mouse_degrees=10.0,
    max_mouse_degrees=20.0,
)


def _around(rows: int, fine: float) -> Frame:
    """Soft spots of all sizes and colours, as wide as the horizon."""
    rng, found = np.random.default_rng(0), np.full((rows, WIDE, 3), 128.0, np.float32)
    for cells in (8, 32, 128, 512, 2048):
        depth = 22 if cells < 512 else fine
        spots = rng.normal(0, depth, (max(1, rows * cells // WIDE), cells, 3)).astype(np.float32)
        found += cv2.resize(spots, (WIDE, rows), interpolation=cv2.INTER_CUBIC)
    return np.clip(found, 0, 255).astype(np.uint8)


@dataclass
class DrawnWorld:
    """A world of one session at a time."""

    frame_size: tuple[int, int] = (480, 640)
    frames_per_second: float = 30.0
    name: str = "drawn"
    actions: ActionSpec = SPEC
    starts: tuple[str, ...] = ("north", "south")
    running_on: str = "paper"
    split: Split = field(default_factory=Split)
    identity: dict[str, Any] = field(default_factory=lambda: {"world": "drawn"})
    heading: float = 0.0  # pixels
    fine: float = 0.0  # how deep its finest texture is, of 255

    def __post_init__(self) -> None:
        self._around = _around(self.frame_size[0], self.fine)

    def reset(self, start: int, seed: int) -> Frame:
        """Look north or south."""
        self.heading = start * WIDE / 2 + seed % 2
        return self._show()

    def generate(self, action: Action) -> Frame:
        """Turns a little by itself, so that no frame is the one before."""
        known = self.actions.known(action)
        self.heading += 3 + 4 * known.mouse[0] + 8 * len(known.buttons)
        return self._show()

    def remember(self) -> None:
        """Nothing is kept."""

    def save_state(self) -> SavedState:
        """Where it looks."""
        return SavedState(self.identity, {"heading": np.array(self.heading)})

    def load_state(self, state: SavedState) -> None:
        """Look there."""
        self.heading = float(state.arrays["heading"])

    def _show(self) -> Frame:
        at = int(self.heading) % WIDE
        columns = np.arange(at, at + self.frame_size[1]) % WIDE
        return np.take(self._around, columns, axis=1)


def psnr(one: Frame, other: Frame) -> float:
    """Decibels."""
    return float(10 * np.log10(255**2 / np.mean(np.square(one.astype(float) - other))))


def play_alone(world: DrawnWorld, start: int, seed: int, frames: int) -> list[Frame]:
    """Frames without any input."""
    return [world.reset(start, seed), *(world.generate(IDLE) for _ in range(frames))]
