"""Keys as other programs number them: W3C names beside SDL's key codes, on a US keyboard.

Gymnasium's `get_keys_to_action` speaks in key codes or characters; worlds speak in W3C names.
"""

import string

_SCANCODE_BIT = 1 << 30  # SDL: keys that write no character count from here

KEYCODES: dict[str, int] = {
    **{f"Key{letter}": ord(letter.lower()) for letter in string.ascii_uppercase},
    **{f"Digit{digit}": ord(digit) for digit in string.digits},
    "Space": ord(" "),
    "Enter": 13,
    "Tab": 9,
    "Backspace": 8,
    "Comma": ord(","),
    "Period": ord("."),
    "Slash": ord("/"),
    "Minus": ord("-"),
    "Equal": ord("="),
    "Semicolon": ord(";"),
    "Quote": ord("'"),
    "BracketLeft": ord("["),
    "BracketRight": ord("]"),
    "ArrowRight": _SCANCODE_BIT | 79,
    "ArrowLeft": _SCANCODE_BIT | 80,
    "ArrowDown": _SCANCODE_BIT | 81,
    "ArrowUp": _SCANCODE_BIT | 82,
    "ControlLeft": _SCANCODE_BIT | 224,
    "ShiftLeft": _SCANCODE_BIT | 225,
    "AltLeft": _SCANCODE_BIT | 226,
}

# The arrows of pygame 1, which some environments still name.
_OLD_ARROWS = {273: "ArrowUp", 274: "ArrowDown", 275: "ArrowRight", 276: "ArrowLeft"}
_NAMES = {**_OLD_ARROWS, **{code: name for name, code in KEYCODES.items()}}


def key_name(key: int | str) -> str | None:
    """The W3C name of a key code or of a character; None for one that has no name here."""
    if isinstance(key, str):
        if len(key) != 1:
            return None
        key = ord(key.lower())
    return _NAMES.get(key)
