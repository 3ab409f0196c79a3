"""What the active keyboard layout writes on each key: keys act by place, people read letters.

SDL knows the layout; pygame passes on only the way from a letter to its place. So every letter
that a key may carry is asked for its place. That takes a millisecond, and is kept until SDL says
that the layout has changed (`pygame.KEYMAPCHANGED`).
"""

from collections.abc import Mapping
from functools import lru_cache

import pygame

LETTERS = range(33, 0x530)  # Latin, Greek, Cyrillic: what the font has
DIGITS = range(pygame.KSCAN_1, pygame.KSCAN_0 + 1)  # called so everywhere, whatever they write
SCANCODES = 512


def written_on(scancode: int) -> str | None:
    """The letter on a key, as its cap shows it; None where the layout is unknown or has none."""
    if scancode in DIGITS or not pygame.display.get_init():
        return None
    return _letters().get(scancode)


def forget_layout() -> None:
    """Ask again: a window was opened, or the layout has changed."""
    _letters.cache_clear()


@lru_cache(maxsize=1)
def _letters() -> Mapping[int, str]:
    """Scancode -> letter, of all keys that write one."""
    # By key code: its scancode. The class is meant for whether keys are held.
    places = pygame.key.ScancodeWrapper(tuple(range(SCANCODES)))  # type: ignore[arg-type]
    found: dict[int, str] = {}
    for number in LETTERS:
        letter = chr(number)
        if letter.isprintable() and (scancode := places[number]):
            found.setdefault(scancode, _capital(letter))
    return found


def _capital(letter: str) -> str:
    """As keyboards show it: ß and ς have no capital of their own."""
    capital = letter.upper()
    return capital if capital.lower() == letter else letter
