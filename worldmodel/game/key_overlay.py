"""The world's keys on the screen, as they lie on a keyboard, and an arrow for the turn."""

from collections.abc import Sequence

import pygame

from worldmodel.action import Action, ActionSpec
from worldmodel.font import width, words
from worldmodel.game.free_space import FreeSpace
from worldmodel.game.key_names import label
from worldmodel.game.panels import ACCENT, DARK, GREY, WHITE, draw_panel

# Where keys lie on a keyboard, in key widths: a cluster for each hand, the rest in a row.
_PLACES = {
    "KeyQ": (0, 0), "KeyW": (1, 0), "KeyE": (2, 0), "KeyR": (3, 0),
    "KeyA": (0, 1), "KeyS": (1, 1), "KeyD": (2, 1), "KeyF": (3, 1),
    "ArrowUp": (1, 0), "ArrowLeft": (0, 1), "ArrowDown": (1, 1), "ArrowRight": (2, 1),
}  # fmt: skip


def draw_keys(
    surface: pygame.Surface, room: FreeSpace, spec: ActionSpec, action: Action, unit: int
) -> None:
    """At the lower edge, pressed ones lit; a hand's keys, or the arrow, only where room is."""
    cap = unit * 2
    bottom, left = surface.get_height() - unit // 2, unit // 2
    for cluster in _clusters(spec.buttons):
        rows = 1 + max(row for _, row in cluster.values())
        texts = [width(label(button), _cap_size(unit)) for button in cluster]
        wide = max(cap, *(text + unit for text in texts))
        boxes = {
            button: pygame.Rect(left + x * wide, bottom - (rows - y) * cap, wide - 4, cap - 4)
            for button, (x, y) in cluster.items()
        }
        if room.take(*boxes.values()):
            for button, box in boxes.items():
                _draw_cap(surface, box, label(button), unit, is_down=button in action.buttons)
        left += (1 + max(column for column, _ in cluster.values())) * wide + unit // 2
    if spec.look_left_right:
        _draw_turn(surface, room, action.mouse[0] / spec.max_mouse_degrees, unit)


def _draw_turn(surface: pygame.Surface, room: FreeSpace, share: float, unit: int) -> None:
    """An arrow at the lower right, towards the turn; full length is fastest."""
    y, reach = surface.get_height() - unit * 3 // 2, 5 * unit
    middle = surface.get_width() - reach - unit * 3 // 2
    track = pygame.Rect(middle - reach - unit // 2, y - unit // 3, 2 * reach + unit, unit * 2 // 3)
    if not room.take(track.inflate(0, unit // 3)):  # the arrow is higher than its ground
        return
    draw_panel(surface, track, unit)
    tip = middle + round(reach * max(-1.0, min(1.0, share)))
    pygame.draw.line(surface, GREY, (middle, y - unit // 3), (middle, y + unit // 3), 2)
    if abs(tip - middle) >= 2:
        way = 1 if tip > middle else -1
        half = unit // 2
        pygame.draw.line(surface, ACCENT, (middle, y), (tip, y), max(3, unit // 5))
        points = [(tip + way * half, y), (tip, y - half), (tip, y + half)]
        pygame.draw.polygon(surface, ACCENT, points)


def _clusters(buttons: Sequence[str]) -> list[dict[str, tuple[int, int]]]:
    """Buttons with their places: WASD and its neighbours, arrows, then all others in a row."""
    hands = [
        {b: _PLACES[b] for b in buttons if b in _PLACES and b.startswith(kind)}
        for kind in ("Key", "Arrow")
    ]
    others = [{b: (0, 0)} for b in buttons if b not in _PLACES]
    return [_move_to_corner(cluster) for cluster in (*hands, *others) if cluster]


def _move_to_corner(cluster: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    left = min(column for column, _ in cluster.values())
    top = min(row for _, row in cluster.values())
    return {button: (column - left, row - top) for button, (column, row) in cluster.items()}


def _cap_size(unit: int) -> int:
    return round(unit * 0.9)


def _draw_cap(
    surface: pygame.Surface, box: pygame.Rect, text: str, unit: int, *, is_down: bool
) -> None:
    if is_down:
        pygame.draw.rect(surface, ACCENT, box, border_radius=unit // 3)
    else:
        draw_panel(surface, box, unit)
        pygame.draw.rect(surface, GREY, box, width=1, border_radius=unit // 3)
    cap = words(text, _cap_size(unit), DARK if is_down else WHITE)
    surface.blit(cap, cap.get_rect(center=box.center))
