"""Places on keyboard and gamepad: scancodes, W3C `KeyboardEvent.code` names, short labels."""

import string
from collections.abc import Sequence

import pygame

from worldmodel.game.keyboard_layout import written_on

_NAMED = {
    "Enter": pygame.KSCAN_RETURN,
    "Escape": pygame.KSCAN_ESCAPE,
    "Backspace": pygame.KSCAN_BACKSPACE,
    "Tab": pygame.KSCAN_TAB,
    "Space": pygame.KSCAN_SPACE,
    "Minus": pygame.KSCAN_MINUS,
    "Equal": pygame.KSCAN_EQUALS,
    "BracketLeft": pygame.KSCAN_LEFTBRACKET,
    "BracketRight": pygame.KSCAN_RIGHTBRACKET,
    "Backslash": pygame.KSCAN_BACKSLASH,
    "Semicolon": pygame.KSCAN_SEMICOLON,
    "Quote": pygame.KSCAN_APOSTROPHE,
    "Backquote": pygame.KSCAN_GRAVE,
    "Comma": pygame.KSCAN_COMMA,
    "Period": pygame.KSCAN_PERIOD,
    "Slash": pygame.KSCAN_SLASH,
    "CapsLock": pygame.KSCAN_CAPSLOCK,
    "Insert": pygame.KSCAN_INSERT,
    "Home": pygame.KSCAN_HOME,
    "PageUp": pygame.KSCAN_PAGEUP,
    "Delete": pygame.KSCAN_DELETE,
    "End": pygame.KSCAN_END,
    "PageDown": pygame.KSCAN_PAGEDOWN,
    "ArrowRight": pygame.KSCAN_RIGHT,
    "ArrowLeft": pygame.KSCAN_LEFT,
    "ArrowDown": pygame.KSCAN_DOWN,
    "ArrowUp": pygame.KSCAN_UP,
    "ControlLeft": pygame.KSCAN_LCTRL,
    "ShiftLeft": pygame.KSCAN_LSHIFT,
    "AltLeft": pygame.KSCAN_LALT,
    "MetaLeft": pygame.KSCAN_LGUI,
    "ControlRight": pygame.KSCAN_RCTRL,
    "ShiftRight": pygame.KSCAN_RSHIFT,
    "AltRight": pygame.KSCAN_RALT,
    "MetaRight": pygame.KSCAN_RGUI,
    "NumpadEnter": pygame.KSCAN_KP_ENTER,
    "NumpadAdd": pygame.KSCAN_KP_PLUS,
    "NumpadSubtract": pygame.KSCAN_KP_MINUS,
    "NumpadMultiply": pygame.KSCAN_KP_MULTIPLY,
    "NumpadDivide": pygame.KSCAN_KP_DIVIDE,
    "NumpadDecimal": pygame.KSCAN_KP_PERIOD,
    "IntlBackslash": pygame.KSCAN_NONUSBACKSLASH,
}

_SCANCODES = {
    **{f"Key{c}": pygame.KSCAN_A + i for i, c in enumerate(string.ascii_uppercase)},
    **{f"Digit{c}": pygame.KSCAN_1 + i for i, c in enumerate("1234567890")},
    **{f"F{i + 1}": pygame.KSCAN_F1 + i for i in range(12)},
    **{f"Numpad{c}": pygame.KSCAN_KP_1 + i for i, c in enumerate("1234567890")},
    **_NAMED,
}

_WRITING = frozenset(  # keys whose names depend on the layout
    (
        *(f"Key{c}" for c in string.ascii_uppercase),
        "Minus", "Equal", "BracketLeft", "BracketRight", "Backslash", "Semicolon", "Quote",
        "Backquote", "Comma", "Period", "Slash", "IntlBackslash",
    )
)  # fmt: skip

KEYS = {scancode: code for code, scancode in _SCANCODES.items()}  # scancode -> W3C code

MOUSE_BUTTONS = {1: "Mouse0", 2: "Mouse1", 3: "Mouse2", 6: "Mouse3", 7: "Mouse4"}  # 4, 5: wheel

# Buttons of a gamepad in SDL's order, sticks as the directions they are pushed in.
PAD_BUTTONS = (
    "PadA", "PadB", "PadX", "PadY", "PadBack", "PadGuide", "PadStart", "PadLeftStick",
    "PadRightStick", "PadLeftShoulder", "PadRightShoulder", "PadDpUp", "PadDpDown", "PadDpLeft",
    "PadDpRight",
)  # fmt: skip
PAD_TRIGGERS = {4: "PadLeftTrigger", 5: "PadRightTrigger"}  # SDL's axis -> code
PAD_STICK = ("PadStickUp", "PadStickDown", "PadStickLeft", "PadStickRight")  # the left one
PAD_CODES = frozenset((*PAD_BUTTONS, *PAD_TRIGGERS.values(), *PAD_STICK))

CODES = frozenset(_SCANCODES) | frozenset(MOUSE_BUTTONS.values())

_LABELS = {
    "ArrowLeft": "Left",
    "ArrowRight": "Right",
    "ArrowUp": "Up",
    "ArrowDown": "Down",
    "Mouse0": "left click",
    "Mouse1": "middle click",
    "Mouse2": "right click",
    "ShiftLeft": "Shift",
    "ControlLeft": "Ctrl",
    "AltLeft": "Alt",
    "Escape": "Esc",
    "Period": ".",
    "Comma": ",",
    "Slash": "/",
    "Minus": "-",
    "Equal": "=",
    "Semicolon": ";",
    "Quote": "'",
    "PadLeftShoulder": "LB",
    "PadRightShoulder": "RB",
    "PadLeftTrigger": "LT",
    "PadRightTrigger": "RT",
    "PadLeftStick": "left stick press",
    "PadRightStick": "right stick press",
    "PadDpUp": "d-pad up",
    "PadDpDown": "d-pad down",
    "PadDpLeft": "d-pad left",
    "PadDpRight": "d-pad right",
    "PadStickUp": "stick up",
    "PadStickDown": "stick down",
    "PadStickLeft": "stick left",
    "PadStickRight": "stick right",
}


def label(code: str) -> str:
    """What people call a key: "W" for "KeyW" ("Z" in France), "left click" for "Mouse0"."""
    if code in _WRITING and (letter := written_on(_SCANCODES[code])):
        return letter
    return _LABELS.get(code) or code.removeprefix("Key").removeprefix("Digit").removeprefix("Pad")


def labels(codes: Sequence[str]) -> str:
    """Several keys for the same thing; a dash where there is none."""
    if len(codes) > 2:
        return " ".join(map(label, codes))
    return " or ".join(map(label, codes)) or "–"


def is_pad(code: str) -> bool:
    """Whether a code belongs to a gamepad."""
    return code in PAD_CODES
