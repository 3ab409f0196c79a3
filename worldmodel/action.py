"""What a player does during one frame, and which of it a world understands.

Buttons are W3C `KeyboardEvent.code` names ("KeyW", "ArrowLeft") and "Mouse0", "Mouse1", …: they
name places on the keyboard, whatever its language. Mouse travel is in degrees of view per frame,
right and down positive, so that a recording means the same at every mouse sensitivity.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldmodel.config import ConfigError
from worldmodel.system.limits import LONGEST_BUTTON, LONGEST_PROMPT, MOST_BUTTONS


@dataclass(frozen=True, slots=True)
class Prompt:
    """Words that steer the world from the next frame on."""

    text: str
    renew: bool = False  # whether what is remembered is read again under the new words


@dataclass(frozen=True, slots=True)
class Action:
    """Everything the player did during one frame."""

    buttons: frozenset[str] = frozenset()
    mouse: tuple[float, float] = (0.0, 0.0)  # degrees, right and down positive
    prompt: Prompt | None = None  # said during this frame


IDLE = Action()

DEGREES = (1e-3, 1e6)  # what a mouse's travel in a frame can be


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionSpec:
    """The actions a world was trained on, in the order of its action vector."""

    buttons: tuple[str, ...]
    names: tuple[str, ...]  # what each button does, for people: "forward", "strafe left"
    mouse_degrees: float  # mouse travel that becomes 1.0 in the action vector
    max_mouse_degrees: float  # the fastest turn in training; faster ones are held to it
    look_up_down: bool = False  # whether vertical mouse travel means anything here
    look_left_right: bool = True  # whether horizontal travel does
    prompts: bool = False  # whether words steer the world
    frames: int = 1  # what is shown for one action; the actions of several frames come together

    def __post_init__(self) -> None:
        if len(self.names) != len(self.buttons) or len(set(self.buttons)) != len(self.buttons):
            raise ConfigError(
                f"{len(self.buttons)} buttons and {len(self.names)} names must pair up, "
                "each button once"
            )
        if len(self.buttons) > MOST_BUTTONS:
            raise ConfigError(f"{len(self.buttons)} buttons, at most {MOST_BUTTONS}")
        if any(len(button) > LONGEST_BUTTON for button in self.buttons):
            raise ConfigError(f"buttons: a name has {LONGEST_BUTTON} letters at most")
        if any("\0" in name or len(name) > LONGEST_PROMPT for name in self.names):
            raise ConfigError(f"names: each has {LONGEST_PROMPT} letters at most, none of them NUL")
        if not 1 <= self.frames <= 1024:
            raise ConfigError(f"frames = {self.frames}: 1 to 1024 are shown for one action")
        if not all(DEGREES[0] <= x <= DEGREES[1] for x in self._degrees):
            raise ConfigError(
                f"mouse_degrees ({self.mouse_degrees}) and max_mouse_degrees "
                f"({self.max_mouse_degrees}) must be from {DEGREES[0]} to {DEGREES[1]}"
            )

    @property
    def _degrees(self) -> tuple[float, float]:
        return self.mouse_degrees, self.max_mouse_degrees

    @property
    def uses_mouse(self) -> bool:
        """Whether any mouse travel means something here."""
        return self.look_left_right or self.look_up_down

    @property
    def width(self) -> int:
        """Entries of the action vector: buttons, mouse right, mouse down."""
        return len(self.buttons) + 2

    def known(self, action: Action) -> Action:
        """The part of `action` that this world understands, mouse held to the trained range.

        Where several frames come together, one of them may hold the travel of all.
        """
        limit = self.max_mouse_degrees * self.frames
        buttons = action.buttons.intersection(self.buttons)
        right, down = (min(max(degrees, -limit), limit) for degrees in action.mouse)
        prompt = action.prompt if self.prompts else None
        mouse = right if self.look_left_right else 0.0, down if self.look_up_down else 0.0
        return Action(buttons, mouse, prompt)

    def encode(self, actions: Sequence[Action]) -> NDArray[np.float32]:
        """Action vectors f (k+2): 1.0 for each held button, then mouse right and down, scaled."""
        vectors = np.zeros((len(actions), self.width), np.float32)
        for vector, action in zip(vectors, map(self.known, actions), strict=True):
            vector[:-2] = [button in action.buttons for button in self.buttons]
            vector[-2:] = np.asarray(action.mouse) / self.mouse_degrees
        return vectors
