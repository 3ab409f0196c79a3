"""How a page of the menu looks: a dimmed world behind it, its title above, its help below."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import pygame

from worldmodel.font import fitted, width, wrapped
from worldmodel.game.menu.layout import Layout, Page, Placed, Section, is_narrow
from worldmodel.game.panels import ACCENT, DARK, GREY, WHITE
from worldmodel.world import Frame

GROUND, RAISED, EDGE = (22, 25, 31), (34, 39, 48), (86, 93, 106)
DIMMED = 225  # opacity of the shade over the world, of 255
KEPT_PICTURES = 200


@dataclass(slots=True)
class Look:
    """Draws; keeps pictures in the size in which they were drawn."""

    _pictures: dict[tuple[int, tuple[int, int]], tuple[Frame, pygame.Surface]] = field(
        default_factory=dict
    )
    _shade: pygame.Surface | None = None

    def draw(
        self, surface: pygame.Surface, page: Page, layout: Layout, focus: str, view: pygame.Rect,
        scroll: int, foot: str, unit: int,
    ) -> None:  # fmt: skip
        """The part of the page that `view` shows, scrolled down by `scroll`."""
        self._dim(surface)
        _draw_title(surface, page, unit)
        surface.set_clip(view)
        for section, y in layout.headlines:
            _draw_headline(surface, section, view.top + y - scroll + unit // 4, unit)
        for one in layout.placed:
            box = one.box.move(0, view.top - scroll)
            if box.colliderect(view):
                self._draw_item(surface, one, box, unit, is_focus=one.item.key == focus)
        surface.set_clip(None)
        if layout.height > view.height:
            _draw_scroll_bar(surface, view, scroll, layout.height, unit)
        line = surface.get_height() - foot_height(surface, foot, unit)
        size, lines = _foot_lines(surface, foot, unit)
        for text in lines:
            surface.blit(
                fitted(text, surface.get_width() - 2 * unit, size, GREY), (unit, line + unit // 4)
            )
            line += round(unit * 1.2)

    def _dim(self, surface: pygame.Surface) -> None:
        if self._shade is None or self._shade.get_size() != surface.get_size():
            self._shade = pygame.Surface(surface.get_size())
            self._shade.fill(DARK)
            self._shade.set_alpha(DIMMED)
        surface.blit(self._shade, (0, 0))

    def _draw_item(
        self, surface: pygame.Surface, one: Placed, box: pygame.Rect, unit: int, *, is_focus: bool
    ) -> None:
        round_by = unit // 3
        pygame.draw.rect(surface, RAISED if is_focus else GROUND, box, border_radius=round_by)
        if one.kind == "tiles":
            self._draw_tile(surface, one, box, unit)
        elif one.kind == "rows":
            _draw_row(surface, one, box, unit)
        else:
            picture = fitted(one.item.text, box.width - unit, unit, WHITE)
            surface.blit(picture, picture.get_rect(center=box.center))
        edge, thick = (ACCENT, max(2, unit // 8)) if is_focus else (EDGE, 1)
        pygame.draw.rect(surface, edge, box, width=thick, border_radius=round_by)

    def _draw_tile(self, surface: pygame.Surface, one: Placed, box: pygame.Rect, unit: int) -> None:
        item, edge = one.item, max(3, unit // 5)
        room = pygame.Rect(box.left + edge, box.top + edge, box.width - 2 * edge, 0)
        room.height = box.width * 3 // 4 - edge
        left, top, wide = box.left + unit // 2, room.bottom + unit // 4, box.width - unit
        if room.bottom > box.bottom:  # a wide tile: words at the right of the picture
            room.size = (box.height - 2 * edge) * 4 // 3, box.height - 2 * edge
            left, top = room.right + unit // 2, box.top + unit // 2
            wide = box.right - left - unit // 2
        pygame.draw.rect(surface, DARK, room)
        if item.picture is not None:
            picture = self._scaled(item.picture, room.size)
            surface.blit(picture, picture.get_rect(center=room.center))
        surface.blit(fitted(item.text, wide, unit, WHITE), (left, top))
        small = round(unit * 0.85)
        for i, line in enumerate(item.details):
            picture = fitted(line, wide, small, GREY)
            surface.blit(picture, (left, top + round(unit * (1.3 + 1.15 * i))))

    def _scaled(self, frame: Frame, room: tuple[int, int]) -> pygame.Surface:
        key = id(frame), room
        if key not in self._pictures:
            if len(self._pictures) >= KEPT_PICTURES:
                self._pictures.clear()
            rows, columns = frame.shape[:2]
            factor = min(room[0] / columns, room[1] / rows)
            size = max(1, round(columns * factor)), max(1, round(rows * factor))
            kind = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
            scaled = cv2.resize(np.ascontiguousarray(frame), size, interpolation=kind)
            picture = pygame.image.frombuffer(scaled.tobytes(), size, "RGB")
            self._pictures[key] = frame, picture  # the frame too: its id must stay its own
        return self._pictures[key][1]


def foot_height(surface: pygame.Surface, foot: str, unit: int) -> int:
    """Rows that the line of help at the bottom takes."""
    return round(unit * (0.5 + 1.2 * len(_foot_lines(surface, foot, unit)[1])))


def _foot_lines(surface: pygame.Surface, foot: str, unit: int) -> tuple[int, list[str]]:
    """Size and text of two lines at most: what is chosen needs the room more."""
    wide = surface.get_width() - 2 * unit
    for share in (0.9, 0.8, 0.7, 0.6):
        size = round(unit * share)
        lines = wrapped(foot, wide, size)
        if len(lines) < 3:
            return size, lines
    return size, [lines[0], " ".join(lines[1:])]


def _draw_title(surface: pygame.Surface, page: Page, unit: int) -> None:
    room = surface.get_width() - 2 * unit
    title = fitted(page.title, room, round(unit * 1.7), WHITE)
    surface.blit(title, (unit, unit // 2))
    left = room - title.get_width() - unit
    if page.status and left > width(page.status, unit) * 3 // 5:
        status = fitted(page.status, left, unit, ACCENT)
        corner = surface.get_width() - unit, unit // 2 + title.get_height()
        surface.blit(status, status.get_rect(bottomright=corner))


def _draw_headline(surface: pygame.Surface, section: Section, y: int, unit: int) -> None:
    """A section's title; above two columns of values, what each of them is."""
    room = pygame.Rect(unit, y, surface.get_width() - 2 * unit, unit)
    row = pygame.Rect(unit, y, min(room.width, 40 * unit), unit)
    if section.heads and not is_narrow(row.width, unit):
        places = _two_values(row, unit)
        for head, place in zip(section.heads, places, strict=True):
            picture = fitted(head, place.width, unit, GREY)
            surface.blit(picture, (place.left, y))
        room.width = places[0].left - room.left - unit // 2
    surface.blit(fitted(section.title, room.width, unit, GREY), (unit, y))


def _two_values(box: pygame.Rect, unit: int) -> tuple[pygame.Rect, pygame.Rect]:
    """Where a row's values are: at its right, or as a line of their own below its name."""
    if is_narrow(box.width, unit):
        wide, line = (box.width - 3 * unit // 2) // 2, box.height // 2
        first = pygame.Rect(box.left + unit // 2, box.centery - unit // 4, wide, line)
    else:
        wide = box.width // 4
        first = pygame.Rect(box.right - 2 * wide - unit, box.top, wide, box.height)
    return first, first.move(first.width + unit // 2, 0)


def arrows_of(box: pygame.Rect, unit: int) -> tuple[pygame.Rect, pygame.Rect]:
    """Where a row's value is made less and more with the mouse."""
    wide = unit * 3 // 2
    more = pygame.Rect(box.right - wide, box.top, wide, box.height)
    return more.move(-_value_width(box, unit) - wide, 0), more


def _value_width(box: pygame.Rect, unit: int) -> int:
    return min(11 * unit, box.width * 2 // 5)


def _draw_row(surface: pygame.Surface, one: Placed, box: pygame.Rect, unit: int) -> None:
    item = one.item
    if item.second is not None:
        _draw_key_row(surface, one, box, unit)
        return
    less, more = arrows_of(box, unit)
    if item.change:
        for room, way in ((less, -1), (more, 1)):
            x, y, half = room.centerx, room.centery, unit // 3
            points = [(x + way * half, y), (x - way * half, y - half), (x - way * half, y + half)]
            pygame.draw.polygon(surface, ACCENT, points)
        middle = pygame.Rect(less.right, box.top, more.left - less.right, box.height)
    else:
        wide = box.width * 13 // 20
        middle = pygame.Rect(box.right - unit // 2 - wide, box.top, wide, box.height)
    value = fitted(item.value, middle.width, unit, ACCENT)
    place = value.get_rect(center=middle.center)
    if not item.change:
        place.midright = middle.midright
    surface.blit(value, place)
    left = box.left + unit // 2
    end = less.left if item.change else place.left
    name = fitted(item.text, end - left - unit // 2, unit, WHITE)
    surface.blit(name, name.get_rect(midleft=(left, box.centery)))


def _draw_key_row(surface: pygame.Surface, one: Placed, box: pygame.Rect, unit: int) -> None:
    """A name, the keyboard's keys, the gamepad's buttons."""
    places = _two_values(box, unit)
    for text, place in zip((one.item.value, one.item.second or ""), places, strict=True):
        picture = fitted(text, place.width, unit, ACCENT)
        surface.blit(picture, picture.get_rect(midleft=place.midleft))
    left, line = box.left + unit // 2, box.centery
    end = places[0].left - unit // 2
    if is_narrow(box.width, unit):
        line, end = box.top + unit, box.right - unit // 2
    name = fitted(one.item.text, end - left, unit, WHITE)
    surface.blit(name, name.get_rect(midleft=(left, line)))


def _draw_scroll_bar(
    surface: pygame.Surface, view: pygame.Rect, scroll: int, height: int, unit: int
) -> None:
    wide = max(3, unit // 4)
    bar = pygame.Rect(view.right - wide - unit // 4, 0, wide, view.height * view.height // height)
    bar.top = view.top + view.height * scroll // height
    pygame.draw.rect(surface, GREY, bar, border_radius=wide // 2)
