"""Which physical keys press which of a world's buttons, and what the other keys do.

A controls file is TOML:

    degrees_per_pixel = 0.15      # mouse
    turn_degrees = 6.0            # per frame, arrow keys

    [buttons]
    KeyW = "ArrowUp"              # the world's button <- the key that presses it
    KeyA = ["KeyQ", "Numpad4"]    # or several
"""

import difflib
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, build_config, read_toml
from worldmodel.game.keys import CODES, label


class Command(enum.Enum):
    """What a runtime key asks for; never part of an `Action`."""

    CONTROLS = "show the controls"
    HUD = "numbers on and off"
    RESTART = "restart"
    RECORD = "record on and off"
    BESIDE = "the real game beside the dream"
    FULLSCREEN = "fullscreen"
    SCREENSHOT = "screenshot"
    PAUSE = "pause"
    STEP = "one frame while paused"
    NEXT_START = "next start"
    PROMPT = "say something; Enter says it, Shift+Enter lets it change the past, Esc does not"
    SAVE = "save this moment"
    LOAD = "load the last saved moment"
    REWIND = "hold: go back in time"
    GO_ON = "go on from here"  # the key of REWIND is let go


RUNTIME_KEYS = {
    "F1": Command.CONTROLS,
    "F2": Command.HUD,
    "F4": Command.RESTART,
    "F5": Command.SAVE,
    "F6": Command.RECORD,
    "F7": Command.BESIDE,
    "F9": Command.LOAD,
    "F11": Command.FULLSCREEN,
    "F12": Command.SCREENSHOT,
    "KeyP": Command.PAUSE,
    "Period": Command.STEP,
    "Tab": Command.NEXT_START,
    "Enter": Command.PROMPT,  # in worlds with text
    "Backspace": Command.REWIND,
}

TURN_KEYS = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0)}
LOOK_KEYS = {"ArrowUp": (0, -1), "ArrowDown": (0, 1)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """A person's own settings, for every world they play."""

    degrees_per_pixel: float = 0.15
    turn_degrees: float = 6.0  # per frame that an arrow key is held
    buttons: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for button, keys in self.buttons.items():
            for code in (button, *keys):
                _check_code(code)
        if self.degrees_per_pixel <= 0 or self.turn_degrees <= 0:
            raise ConfigError("degrees_per_pixel and turn_degrees must be above 0")

    def keys_for(self, button: str) -> tuple[str, ...]:
        """The physical keys that press a world's button."""
        return self.buttons.get(button, (button,))


def load_controls(path: Path) -> Controls:
    """Read a controls file; a `ConfigError` names the file, the key and the choices."""
    table = read_toml(path)
    buttons = table.get("buttons")
    if isinstance(buttons, Mapping):
        several = {b: [keys] if isinstance(keys, str) else keys for b, keys in buttons.items()}
        table = {**table, "buttons": several}
    return build_config(Controls, table, str(path))


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyMap:
    """What each physical key does in one world; a key that the world uses is no runtime key."""

    buttons: dict[str, tuple[str, ...]]  # physical key -> the world's buttons
    turns: dict[str, tuple[int, int]]  # physical key -> direction, right and down positive
    commands: dict[str, Command]

    @classmethod
    def of(cls, spec: ActionSpec, controls: Controls) -> "KeyMap":
        """Join a world's buttons with a person's controls."""
        buttons: dict[str, tuple[str, ...]] = {}
        for button in spec.buttons:
            for key in controls.keys_for(button):
                buttons[key] = (*buttons.get(key, ()), button)
        turns = {
            **(TURN_KEYS if spec.look_left_right else {}),
            **(LOOK_KEYS if spec.look_up_down else {}),
        }
        commands = {k: c for k, c in RUNTIME_KEYS.items() if spec.prompts or c != Command.PROMPT}
        return cls(
            buttons=buttons,
            turns={key: way for key, way in turns.items() if key not in buttons},
            commands={key: what for key, what in commands.items() if key not in buttons},
        )


def describe(spec: ActionSpec, controls: Controls) -> list[tuple[str, str]]:
    """Key and meaning, line by line, as the terminal and the F1 overlay show them."""
    keys = KeyMap.of(spec, controls)
    lines = [
        (_labels(controls.keys_for(button)), name)
        for button, name in zip(spec.buttons, spec.names, strict=True)
    ]
    if spec.uses_mouse:
        lines.append(("mouse", "look (click the picture to begin, Esc to end)"))
    if keys.turns:
        lines.append((_labels(tuple(keys.turns)), "turn"))
    return lines + [(label(key), command.value) for key, command in keys.commands.items()]


def _labels(codes: Sequence[str]) -> str:
    return " or ".join(map(label, codes)) if len(codes) < 3 else " ".join(map(label, codes))


def _check_code(code: str) -> None:
    if code == "Escape":
        raise ConfigError("buttons: Escape always releases the mouse and cannot be a button")
    if code not in CODES:
        names = {name.lower(): name for name in sorted(CODES)}
        close = [names[n] for n in difflib.get_close_matches(code.lower(), names, cutoff=0.8)]
        choices = ", ".join(close or ["KeyW", "ArrowUp", "Space", "Digit1", "Mouse0"])
        raise ConfigError(
            f"buttons: no key is called {code[:40]!r}; names are W3C codes: {choices}, …"
        )
