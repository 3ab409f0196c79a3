"""Which physical keys press which of a world's buttons, and what the other keys do.

A controls file is TOML; everything in it may be left out:

    degrees_per_pixel = 0.15      # mouse
    turn_degrees = 6.0            # per frame, arrow keys
    invert_up_down = true         # mouse and right stick

    [gamepad]
    dead_zone = 0.2               # of a stick's range
    look_degrees = 8.0            # per frame, right stick fully out

    [buttons]
    KeyW = "ArrowUp"              # the world's button <- the key that presses it
    KeyA = ["KeyQ", "PadX"]       # or several

    [commands]
    pause = "KeyO"                # what a runtime key does <- the key
"""

import difflib
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, build_config, read_toml
from worldmodel.game.key_names import CODES, PAD_CODES, is_pad, label, labels


class Command(enum.Enum):
    """What a runtime key asks for; never part of an `Action`."""

    CONTROLS = "show the controls"
    HUD = "numbers on and off"
    GRAPH = "graph of frames and latency"
    RESTART = "restart"
    RECORD = "record on and off"
    SIDE_BY_SIDE = "the world and the real game, side by side"
    MAP = "map of the level: small, large, none"
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
    MENU = "menu"

    @property
    def key(self) -> str:
        """What a controls file calls it."""
        return self.name.lower()


RUNTIME_KEYS = {
    "F1": Command.CONTROLS,
    "F2": Command.HUD,
    "F3": Command.GRAPH,
    "F4": Command.RESTART,
    "F5": Command.SAVE,
    "F6": Command.RECORD,
    "F7": Command.SIDE_BY_SIDE,
    "F9": Command.LOAD,
    "F10": Command.MENU,
    "F11": Command.FULLSCREEN,
    "F12": Command.SCREENSHOT,
    "KeyM": Command.MAP,  # in worlds that know their place
    "KeyP": Command.PAUSE,
    "Period": Command.STEP,
    "Tab": Command.NEXT_START,
    "Enter": Command.PROMPT,  # in worlds with text
    "Backspace": Command.REWIND,
}
RUNTIME_PADS = {
    "PadStart": Command.MENU,
    "PadBack": Command.CONTROLS,
    "PadLeftShoulder": Command.REWIND,
    "PadLeftStick": Command.SAVE,
    "PadRightStick": Command.LOAD,
    "PadY": Command.NEXT_START,
}

TURN_KEYS = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0)}
LOOK_KEYS = {"ArrowUp": (0, -1), "ArrowDown": (0, 1)}

_DIRECTIONS = ("Up", "Down", "Left", "Right")
_FORMERLY = {"beside": "side_by_side"}  # commands that files still call by the old name
_WASD = ("KeyW", "KeyS", "KeyA", "KeyD")
_ARROWS = ("ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight")
# For what is no direction, the best place first: the trigger for the mouse's button.
_PAD_PLACES = (
    "PadRightTrigger", "PadA", "PadX", "PadB", "PadRightShoulder", "PadLeftTrigger", "PadY",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class GamepadControls:
    """How far a stick must move to count, and how fast it turns the view."""

    dead_zone: float = 0.2  # of a stick's range, in which it counts as let go
    look_degrees: float = 8.0  # per frame, with the right stick fully out

    def __post_init__(self) -> None:
        if not 0 <= self.dead_zone < 0.95 or not 0 < self.look_degrees <= 180:
            raise ConfigError(
                f"dead_zone ({self.dead_zone}) must be from 0 to below 0.95, look_degrees "
                f"({self.look_degrees}) above 0, at most 180"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """A person's own settings, for every world they play."""

    degrees_per_pixel: float = 0.15
    turn_degrees: float = 6.0  # per frame that an arrow key is held
    invert_left_right: bool = False  # mouse and right stick
    invert_up_down: bool = False
    gamepad: GamepadControls = GamepadControls()
    buttons: dict[str, tuple[str, ...]] = field(default_factory=dict)
    commands: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for button, keys in self.buttons.items():
            _check_code("buttons", button, CODES)
            for code in keys:
                _check_code("buttons", code, CODES | PAD_CODES)
        names = [command.key for command in Command if command is not Command.GO_ON]
        for name, keys in self.commands.items():
            if name not in names:
                raise ConfigError(
                    f"commands: nothing is called {name!r}; choose from {', '.join(names)}"
                )
            for code in keys:
                _check_code("commands", code, CODES | PAD_CODES)
        if self.degrees_per_pixel <= 0 or self.turn_degrees <= 0:
            raise ConfigError("degrees_per_pixel and turn_degrees must be above 0")


def load_controls(path: Path) -> Controls:
    """Read a controls file; a `ConfigError` names the file, the key and the choices."""
    table = read_toml(path)
    for name in ("buttons", "commands"):
        if isinstance(inner := table.get(name), Mapping):
            several = {b: [keys] if isinstance(keys, str) else keys for b, keys in inner.items()}
            table = {
                **table,
                name: {_FORMERLY.get(key, key): keys for key, keys in several.items()},
            }
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
        for button, keys in button_keys(spec, controls).items():
            for key in keys:
                buttons[key] = (*buttons.get(key, ()), button)
        turns = {
            **(TURN_KEYS if spec.look_left_right else {}),
            **(LOOK_KEYS if spec.look_up_down else {}),
        }
        usual = command_keys(controls).items()
        commands = {k: c for k, c in usual if spec.prompts or c != Command.PROMPT}
        return cls(
            buttons=buttons,
            turns={key: way for key, way in turns.items() if key not in buttons},
            commands={key: what for key, what in commands.items() if key not in buttons},
        )

    def keys_of(self, wanted: "str | Command", *, pad: bool) -> list[str]:
        """What presses a world's button or asks for a command: on a gamepad, or on the rest."""
        if isinstance(wanted, Command):
            found = [key for key, command in self.commands.items() if command is wanted]
        else:
            found = [key for key, buttons in self.buttons.items() if wanted in buttons]
        return [key for key in found if is_pad(key) == pad]


def button_keys(spec: ActionSpec, controls: Controls) -> dict[str, tuple[str, ...]]:
    """The physical keys of each of a world's buttons.

    What a person chose counts for the device that it names, keyboard and mouse or gamepad; the
    other one keeps its usual key.
    """
    pads = _usual_pads(spec)
    return {
        button: _chosen(controls.buttons.get(button, ()), (button,), pads.get(button, ()))
        for button in spec.buttons
    }


def command_keys(controls: Controls) -> dict[str, Command]:
    """Physical key -> command; a chosen key is taken away from the command that usually has it."""
    usual = {**RUNTIME_KEYS, **RUNTIME_PADS}
    found: dict[str, Command] = {}
    for command in Command:
        chosen = controls.commands.get(command.key, ())
        keys = [key for key, what in usual.items() if what is command]
        pads = [key for key in keys if is_pad(key)]
        for key in _chosen(chosen, [key for key in keys if not is_pad(key)], pads):
            if key in chosen or key not in found:
                found[key] = command
    order = list(usual)
    return dict(
        sorted(found.items(), key=lambda one: order.index(one[0]) if one[0] in order else 0)
    )


def describe(spec: ActionSpec, controls: Controls, *, pad: bool = False) -> list[tuple[str, str]]:
    """Key or part of a gamepad, and meaning, as the terminal and the F1 overlay show them."""
    keys = KeyMap.of(spec, controls)
    names = zip(spec.buttons, spec.names, strict=True)
    lines = [(labels(keys.keys_of(button, pad=pad)), name) for button, name in names]
    look = ("mouse", "look (click the picture to begin, Esc to end)")
    if spec.uses_mouse:
        lines.append(("right stick", "look") if pad else look)
    if keys.turns and not pad:
        lines.append((labels(tuple(keys.turns)), "turn"))
    rest = keys.commands.items()
    return lines + [(label(key), command.value) for key, command in rest if is_pad(key) == pad]


def hint(spec: ActionSpec, keys: KeyMap, *, has_pad: bool) -> str:
    """What a newcomer must know, in one line."""
    hints = ["click to look"] if spec.uses_mouse else []
    for command, what in ((Command.CONTROLS, "keys"), (Command.MENU, "menu")):
        pads = keys.keys_of(command, pad=True) if has_pad else []
        first = ["Escape"] if command is Command.MENU else keys.keys_of(command, pad=False)[:1]
        if shown := [*first, *pads[:1]]:
            hints.append(f"{labels(shown)}: {what}")
    return ", ".join(hints)


def describe_pause(spec: ActionSpec, controls: Controls) -> str:
    """What leads on while the world rests."""
    keys = KeyMap.of(spec, controls)
    on, step = (labels(keys.keys_of(one, pad=False)) for one in (Command.PAUSE, Command.STEP))
    return f"{on} to go on      {step}  one frame"


def _usual_pads(spec: ActionSpec) -> dict[str, tuple[str, ...]]:
    """The left stick and the d-pad are directions; all other buttons get a place each."""
    pads: dict[str, tuple[str, ...]] = {}
    hands = [hand for hand in (_WASD, _ARROWS) if set(hand) & set(spec.buttons)]
    for i, hand in enumerate(hands):
        for button, direction in zip(hand, _DIRECTIONS, strict=True):
            both = (f"PadStick{direction}", f"PadDp{direction}")
            pads[button] = both if len(hands) == 1 else (both[i],)
    others = [button for button in spec.buttons if button not in pads]
    others.sort(key=lambda button: button != "Mouse0")
    for button, place in zip(others, _PAD_PLACES, strict=False):
        pads[button] = (place,)
    return pads


def _chosen(
    chosen: "tuple[str, ...]",
    keys: "tuple[str, ...] | list[str]",
    pads: "tuple[str, ...] | list[str]",
) -> tuple[str, ...]:
    own_keys = [key for key in chosen if not is_pad(key)] or keys
    own_pads = [key for key in chosen if is_pad(key)] or pads
    return (*own_keys, *own_pads)


def _check_code(where: str, code: str, known: frozenset[str]) -> None:
    if code == "Escape":
        raise ConfigError(f"{where}: Escape always releases the mouse and cannot be a button")
    if code not in known:
        names = {name.lower(): name for name in sorted(known)}
        close = [names[n] for n in difflib.get_close_matches(code.lower(), names, cutoff=0.8)]
        choices = ", ".join(close or ["KeyW", "ArrowUp", "Space", "Digit1", "Mouse0"])
        raise ConfigError(
            f"{where}: no key is called {code[:40]!r}; names are W3C codes: {choices}, …"
        )
