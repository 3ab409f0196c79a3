"""Letters: the one font of everything that is written over a picture, in any size.

A letter is drawn several times as large and made smaller: the font's own hinting moves letters to
whole pixels, which tears short words apart ("f ps"). Text is rendered once and kept while in use.
"""

import os
from functools import lru_cache

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

Colour = tuple[int, int, int]

FINE = 8  # times as large as they are shown, the small ones
FINEST = 200  # size up to which that is worth its time
EM = 1.25  # size of the font for a line of height 1


def start_fonts() -> None:
    """Be ready to write, with no font from before somebody's `pygame.font.quit`."""
    pygame.font.init()
    _font.cache_clear()


@lru_cache(maxsize=512)
def words(text: str, size: int, colour: Colour) -> pygame.Surface:
    """A picture of what is written, `size` pixels high."""
    large, fine = _font(size).render(text, True, colour), _fine(size)  # noqa: FBT003  # antialias
    wide, high = -(-large.get_width() // fine), -(-large.get_height() // fine)
    whole = pygame.Surface((fine * wide, fine * high), pygame.SRCALPHA)
    whole.fill((*colour, 0))  # an edge is this colour, less of it
    whole.blit(large, (0, 0), special_flags=pygame.BLEND_RGBA_MAX)
    return pygame.transform.smoothscale(whole, (wide, high))


def width(text: str, size: int) -> int:
    """How wide `words` is, without drawing it."""
    return -(-_font(size).size(text)[0] // _fine(size))


def ascent(size: int) -> int:
    """Rows of `words` above the line that letters stand on."""
    return round(_font(size).get_ascent() / _fine(size))


def wrapped(text: str, wide: int, size: int) -> list[str]:
    """Lines that are at most `wide` pixels wide; a longer word is cut into pieces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width(longer, size) <= wide:
            lines[-1] = longer
            continue
        rest = word
        while width(rest, size) > wide and len(rest) > 1:
            fitting = max(1, _fitting(rest, wide, size))
            lines.append(rest[:fitting])
            rest = rest[fitting:]
        lines.append(rest)
    return [line for line in lines if line] or [""]


def shortened(text: str, wide: int, size: int) -> str:
    """As much of a text as is `wide` pixels wide."""
    if width(text, size) <= wide:
        return text
    fitting = _fitting(text, wide - width("…", size), size)
    return f"{text[:fitting].rstrip()}…"


def fitted(text: str, wide: int, size: int, colour: Colour) -> pygame.Surface:
    """`words` in letters small enough for a room; only below three fifths is the end cut off."""
    least = max(1, size * 3 // 5)
    fitting = min(size, size * wide // max(1, width(text, size)))
    while fitting > least and width(text, fitting) > wide:
        fitting -= 1
    size = max(least, fitting)
    return words(shortened(text, wide, size), size, colour)


@lru_cache(maxsize=32)
def _font(size: int) -> pygame.font.Font:
    if not pygame.font.get_init():
        pygame.font.init()
    pygame.register_quit(_font.cache_clear)  # a font is of no use after somebody's `pygame.quit`
    points = round(_fine(size) * size * EM)
    return pygame.font.Font(None, points)  # pygame's own, the same everywhere


def _fine(size: int) -> int:
    return max(1, min(FINE, FINEST // size))


def _fitting(text: str, wide: int, size: int) -> int:
    """How many letters fit."""
    return next((n for n in range(len(text), 0, -1) if width(text[:n], size) <= wide), 0)
