"""What a page of the menu holds, where it lies, and which direction leads from one to the next.

Everything is measured in `unit`, the height of a line of text. Positions are those on the whole
page; what is seen of it is `style`'s matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pygame

from worldmodel.font import width
from worldmodel.world import Frame

Direction = tuple[int, int]  # right and down positive
Kind = Literal["tiles", "rows", "buttons"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing that can be chosen."""

    key: str  # tells it from all others of the page
    text: str
    details: Sequence[str] = ()  # of a tile, line by line
    value: str = ""  # of a row
    second: str | None = None  # value in a column of its own: the gamepad's
    help: str = ""  # at the foot of the page while it is in focus
    picture: Frame | None = None
    press: Callable[[], None] | None = None
    change: Callable[[int], None] | None = None  # one step up or down


@dataclass(frozen=True, slots=True)
class Section:
    """Things of one kind under a headline."""

    title: str
    kind: Kind
    items: Sequence[Item]
    heads: tuple[str, str] | None = None  # above the values of rows, where there are two


@dataclass(frozen=True, slots=True)
class Page:
    """What the menu shows at once: a title and items."""

    title: str
    sections: Sequence[Section]
    first: str = ""  # key of the item that is in focus at the beginning
    status: str = ""  # at the right of the title: what is going on


class Placed(NamedTuple):
    """An item and the rectangle in which it is drawn."""

    item: Item
    kind: Kind
    box: pygame.Rect


class Layout(NamedTuple):
    """Where each item of a page stands, in pixels."""

    placed: Sequence[Placed]
    headlines: Sequence[tuple[Section, int]]  # and where they begin
    height: int

    def find(self, key: str) -> Placed | None:
        """The item with that key; None where no item has it."""
        return next((one for one in self.placed if one.item.key == key), None)

    def at(self, point: tuple[int, int]) -> Placed | None:
        """The item under a point of the window."""
        return next((one for one in self.placed if one.box.collidepoint(point)), None)


def lay_out(page: Page, room: tuple[int, int], unit: int) -> Layout:
    """Sections below one another; tiles and buttons side by side as long as there is room.

    A tile is never higher than what is seen at once.
    """
    placed: list[Placed] = []
    headlines: list[tuple[Section, int]] = []
    y, gap = unit // 2, max(4, unit // 2)
    for section in page.sections:
        if section.title:
            headlines.append((section, y))
            y += unit * 7 // 4
        if not section.items:
            continue
        for item, box in zip(section.items, _boxes(section, room, unit, gap), strict=True):
            placed.append(Placed(item, section.kind, box.move(0, y)))
        y = placed[-1].box.bottom + unit
    return Layout(placed, headlines, y)


def is_narrow(wide: int, unit: int) -> bool:
    """Whether a row has no room for a name and two values side by side."""
    return wide < 30 * unit


def next_one(layout: Layout, key: str, direction: Direction) -> str:
    """The key of the nearest item in a direction; at the edge the same one."""
    here = layout.find(key)
    if here is None:
        return layout.placed[0].item.key if layout.placed else ""
    best, least = key, float("inf")
    for one in layout.placed:
        along, aside = _distance(here.box, one.box, direction)
        if along > 0 and (cost := along + 3 * aside) < least:
            best, least = one.item.key, cost
    return best


def _distance(here: pygame.Rect, there: pygame.Rect, direction: Direction) -> tuple[float, float]:
    """From edge to edge in the direction (0 or less: not there), and aside of it."""
    if direction[0]:
        if min(here.bottom, there.bottom) <= max(here.top, there.top):
            return 0.0, 0.0  # another line
        return (there.centerx - here.centerx) * direction[0], 0.0
    along = there.top - here.bottom if direction[1] > 0 else here.top - there.bottom
    if along < 0:
        return 0.0, 0.0
    aside = max(there.left - here.right, here.left - there.right, 0)
    return along + 1.0 + abs(there.left - here.left) / 1000, aside / 1000


def _grid(
    count: int, columns: int, size: tuple[int, int], left: int, gap: int
) -> list[pygame.Rect]:
    """Boxes of one size, row by row."""
    wide, high = size
    return [
        pygame.Rect(left + i % columns * (wide + gap), i // columns * (high + gap), wide, high)
        for i in range(count)
    ]


def _boxes(section: Section, room: tuple[int, int], unit: int, gap: int) -> list[pygame.Rect]:
    inner, left, count = room[0] - 2 * unit, unit, len(section.items)
    if section.kind == "rows":
        wide, high = min(inner, 40 * unit), unit * 2
        if section.heads and is_narrow(wide, unit):  # the values get a line of their own
            high *= 2
        return _grid(count, 1, (wide, high), left, gap // 3)
    if section.kind == "tiles":
        lines = max(len(item.details) for item in section.items)
        text_high = round(unit * (1.9 + 1.15 * lines))
        least = min(10 * unit, (room[1] * 4 // 5 - text_high) * 4 // 3)
        is_beside = least < 6 * unit  # letters this large leave room for a picture beside them only
        least = 18 * unit if is_beside else least
        columns = max(1, (inner + gap) // (least + gap))
        wide = (inner - (columns - 1) * gap) // columns
        if is_beside:
            return _grid(count, columns, (wide, max(2 * unit, min(5 * unit, room[1]))), left, gap)
        wide = min(wide, least * 6 // 5)
        return _grid(count, columns, (wide, wide * 3 // 4 + text_high), left, gap)
    boxes: list[pygame.Rect] = []
    x = y = 0
    for item in section.items:
        wide = min(inner, width(item.text, unit) + 2 * unit)
        if x and x + wide > inner:
            x, y = 0, y + unit * 2 + gap
        boxes.append(pygame.Rect(left + x, y, wide, unit * 2))
        x += wide + gap
    return boxes
