"""What both the heads-up display and the menu draw with: panels, tables, colours."""

from collections.abc import Sequence
from functools import lru_cache

import pygame

from worldmodel import font
from worldmodel.font import words

WHITE, GREY, DARK = (255, 255, 255), (178, 184, 194), (12, 14, 18)
ACCENT, RED = (255, 196, 61), (238, 62, 62)
COVERS = 240  # opacity of what is read whatever lies behind it, of 255
SHADE = 210  # opacity of panels, of 255: grey letters can be read over a white wall


def line_height(size: tuple[int, int], font: float = 1.0) -> int:
    """Height of a line of text in a window of some size; everything else is measured in it."""
    return round(max(14, min(size[1] // 36, size[0] // 40)) * font)


def draw_panel(surface: pygame.Surface, box: pygame.Rect, unit: int, shade: int = SHADE) -> None:
    """A dark ground that things can be read on."""
    surface.blit(_shade(box.width, box.height, unit // 3, shade), box)


@lru_cache(maxsize=64)
def _shade(width: int, height: int, radius: int, shade: int) -> pygame.Surface:
    panel = pygame.Surface((width, height), pygame.SRCALPHA)
    pygame.draw.rect(panel, (*DARK, shade), panel.get_rect(), border_radius=radius)
    return panel


def draw_tables(
    surface: pygame.Surface, tables: Sequence[Sequence[tuple[str, str]]], unit: int
) -> pygame.Rect:
    """Keys and meanings in as many columns as make the letters largest, in the middle.

    Returns where they are.
    """
    size, columns = max(
        (_fit_columns(surface, _columns(tables, count), unit) for count in (1, 2, 3)),
        key=lambda fit: fit[0],
    )
    widths = [_column_width(column, size) for column in columns]
    rows = max(map(len, columns))
    box = pygame.Rect(0, 0, sum(widths) + size, round(rows * 1.6 * size) + 2 * size)
    box.center = surface.get_rect().center
    draw_panel(surface, box, unit, shade=225)
    left = box.left + size
    for column, width in zip(columns, widths, strict=True):
        split = max(words(keys, size, ACCENT).get_width() for keys, _ in column) + size
        for i, (keys, meaning) in enumerate(column):
            y = box.top + size + round(i * 1.6 * size)
            surface.blit(words(keys, size, ACCENT), (left, y))
            surface.blit(words(meaning, size, WHITE), (left + split, y))
        left += width
    return box


def _columns(
    tables: Sequence[Sequence[tuple[str, str]]], count: int
) -> list[Sequence[tuple[str, str]]]:
    """Every table begins a column of its own."""
    columns = []
    for table in tables:
        rows = -(-len(table) // count)
        columns += [table[i : i + rows] for i in range(0, len(table), rows)]
    return columns


def _fit_columns(
    surface: pygame.Surface, columns: list[Sequence[tuple[str, str]]], unit: int
) -> tuple[int, list[Sequence[tuple[str, str]]]]:
    """The largest size of letters, up to `unit`, with which the columns fit."""
    rows = max(map(len, columns))
    high = surface.get_height() * 0.94 / (1.6 * rows + 2)
    wide = (sum(_column_width(column, unit) for column in columns) + unit) / unit
    return max(6, int(min(unit, high, surface.get_width() * 0.96 / wide))), columns


def _column_width(column: Sequence[tuple[str, str]], size: int) -> int:
    keys, meanings = (max(font.width(line[i], size) for line in column) for i in (0, 1))
    return keys + meanings + 2 * size
