"""What is drawn over the picture: numbers, pressed keys, marks and the controls.

Everything scales with the window and with the size of the font.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pygame

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.game.graph import Graph
from worldmodel.game.keys import label
from worldmodel.game.meter import Speed
from worldmodel.game.paint import (
    ACCENT,
    DARK,
    GREY,
    RED,
    WHITE,
    draw_panel,
    draw_tables,
    line_height,
    shortened,
    words,
    wrapped,
)

# Where keys lie on a keyboard, in key widths: a cluster for each hand, the rest in a row.
_PLACES = {
    "KeyQ": (0, 0), "KeyW": (1, 0), "KeyE": (2, 0), "KeyR": (3, 0),
    "KeyA": (0, 1), "KeyS": (1, 1), "KeyD": (2, 1), "KeyF": (3, 1),
    "ArrowUp": (1, 0), "ArrowLeft": (0, 1), "ArrowDown": (1, 1), "ArrowRight": (2, 1),
}  # fmt: skip


COVERS = 240  # opacity, of 255, of what may lie over keys and graph where letters are large
LARGEST_BESIDE = 1.25  # size of letters with which there is room for keys beside the graph


@dataclass(slots=True)
class Overlay:
    """What there is to draw now; the window's thread changes it."""

    spec: ActionSpec | None = None
    controls: Sequence[tuple[str, str]] = ()
    pad_controls: Sequence[tuple[str, str]] = ()  # where a gamepad is plugged in
    font: float = 1.0
    action: Action = IDLE
    speed: Speed = field(default_factory=lambda: Speed(None, None, None))
    caption: str = ""  # big, in the middle: "loading"
    note: str = ""  # small, at the top: the start, a saved file
    waiting: str = ""  # what the world gets ready for, as long as that takes
    slow: str = ""  # what there is to say while the machine is too slow
    graph: Graph = field(default_factory=Graph)
    line: str | None = None  # words being typed
    paused: str = ""  # which keys lead on
    is_recording: bool = False
    is_paused: bool = False
    is_beside: bool = False  # the real game and a graph are in the picture
    shows_numbers: bool = True
    shows_controls: bool = False
    shows_graph: bool = False


class Hud:
    """Draws an overlay on a surface."""

    def draw(self, surface: pygame.Surface, overlay: Overlay) -> None:
        """Draw on top of what is there."""
        unit = line_height(surface.get_size(), overlay.font)
        if overlay.shows_numbers and overlay.spec and not overlay.shows_controls:
            self._draw_numbers(surface, overlay.spec, overlay.speed, unit)
            is_free = overlay.line is None  # words are typed where the keys are
            if is_free and (not overlay.is_beside or overlay.font <= LARGEST_BESIDE):
                self.draw_keys(surface, overlay.spec, overlay.action, unit)
        if overlay.shows_graph:
            overlay.graph.draw(surface, unit, at_top=overlay.is_beside)  # below is another graph
        top = unit * 9 // 2
        if overlay.slow:
            top = self._draw_slow(surface, overlay.slow, unit, below=overlay.shows_numbers)
        if overlay.waiting:
            top = self._draw_note(surface, overlay.waiting, unit, top)
        if overlay.note:
            top = self._draw_note(surface, overlay.note, unit, top)
        if overlay.is_recording:
            self._draw_recording(surface, unit)
        if overlay.is_paused:
            self._draw_caption(surface, "paused", overlay.paused, unit, top)
        if overlay.caption:
            self._draw_caption(surface, overlay.caption, "", unit, top)
        if overlay.shows_controls:
            tables = [list(overlay.controls), list(overlay.pad_controls)]
            draw_tables(surface, [table for table in tables if table], unit)

        if overlay.line is not None:
            self._draw_line(surface, overlay.line, unit)

    def _draw_numbers(
        self, surface: pygame.Surface, spec: ActionSpec, speed: Speed, unit: int
    ) -> None:
        fps = words(_number(speed.frames_per_second, "{:.1f}"), round(unit * 1.5), WHITE)
        together = f", {spec.frames} frames at a time" if spec.frames > 1 else ""
        name = words(f"fps{together}", unit, GREY)
        p50, p95 = _number(speed.latency_p50_ms, "{:.0f}"), _number(speed.latency_p95_ms, "{:.0f}")
        latency = words(f"{p50} ms", unit, WHITE)
        rest = words(f"p50, {p95} ms p95, input to frame", round(unit * 0.8), GREY)
        first, second = fps.get_width() + name.get_width(), latency.get_width() + rest.get_width()
        width = max(11 * unit, first + 2 * unit, second + 3 * unit // 2)
        draw_panel(surface, pygame.Rect(unit // 2, unit // 2, width, round(unit * 3.2)), unit)
        surface.blit(fps, (unit, unit * 3 // 4))
        base = unit * 3 // 4 + fps.get_height()
        surface.blit(name, (unit * 4 // 3 + fps.get_width(), base - round(name.get_height() * 1.1)))
        surface.blit(latency, (unit, base + unit // 6))
        below = base + unit // 6 + latency.get_height() - rest.get_height()
        surface.blit(rest, (unit + latency.get_width() + unit // 2, below))

    def draw_keys(
        self, surface: pygame.Surface, spec: ActionSpec, action: Action, unit: int | None = None
    ) -> None:
        """The keys as they lie on a keyboard, pressed ones lit, and an arrow for the turn."""
        unit = unit or line_height(surface.get_size())
        cap = unit * 2
        bottom, left = surface.get_height() - unit // 2, unit // 2
        for cluster in _clusters(spec.buttons):
            rows = 1 + max(row for _, row in cluster.values())
            texts = [words(label(button), _cap_size(unit), WHITE) for button in cluster]
            width = max(cap, *(text.get_width() + unit for text in texts))
            for button, (column, row) in cluster.items():
                corner = left + column * width, bottom - (rows - row) * cap
                box = pygame.Rect(*corner, width - 4, cap - 4)
                _draw_cap(surface, box, label(button), unit, is_down=button in action.buttons)
            left += (1 + max(column for column, _ in cluster.values())) * width + unit // 2
        if spec.look_left_right:
            self._draw_turn(surface, action.mouse[0] / spec.max_mouse_degrees, unit)

    def _draw_turn(self, surface: pygame.Surface, share: float, unit: int) -> None:
        """An arrow at the lower right, towards the turn; full length is fastest."""
        y, reach = surface.get_height() - unit * 3 // 2, 5 * unit
        middle = surface.get_width() - reach - unit * 3 // 2
        track = pygame.Rect(
            middle - reach - unit // 2, y - unit // 3, 2 * reach + unit, unit * 2 // 3
        )
        draw_panel(surface, track, unit)
        tip = middle + round(reach * max(-1.0, min(1.0, share)))
        pygame.draw.line(surface, GREY, (middle, y - unit // 3), (middle, y + unit // 3), 2)
        if abs(tip - middle) >= 2:
            way = 1 if tip > middle else -1
            half = unit // 2
            pygame.draw.line(surface, ACCENT, (middle, y), (tip, y), max(3, unit // 5))
            points = [(tip + way * half, y), (tip, y - half), (tip, y + half)]
            pygame.draw.polygon(surface, ACCENT, points)

    def _draw_slow(self, surface: pygame.Surface, slow: str, unit: int, *, below: bool) -> int:
        """How slow it is and what would help, under the numbers; returns where that ends."""
        lines = wrapped(slow, surface.get_width() - 3 * unit, unit)
        pictures = [words(line, unit, ACCENT) for line in lines]
        width = max(picture.get_width() for picture in pictures) + unit
        top = unit * 4 if below else unit // 2
        box = pygame.Rect(unit // 2, top, width, len(lines) * round(unit * 1.3) + unit // 2)
        draw_panel(surface, box, unit)
        for i, picture in enumerate(pictures):
            surface.blit(picture, (unit, top + unit // 3 + i * round(unit * 1.3)))
        return box.bottom + unit // 3

    def _draw_note(self, surface: pygame.Surface, note: str, unit: int, top: int) -> int:
        """Something that happened; returns where that ends."""
        room = surface.get_width() - 4 * unit
        texts = wrapped(note, room, unit)
        most = max(1, int((surface.get_height() - top - unit // 2) / (unit * 1.4)))
        if len(texts) > most:  # not beyond the lower edge
            texts[most - 1 :] = [shortened("".join(texts[most - 1 :]), room, unit)]
        lines = [words(text, unit, WHITE) for text in texts]
        width = max(line.get_width() for line in lines) + 2 * unit
        box = pygame.Rect(0, 0, width, len(lines) * round(unit * 1.4) + unit // 2)
        box.midtop = surface.get_width() // 2, top
        draw_panel(surface, box, unit, shade=COVERS)
        for i, line in enumerate(lines):
            top = box.top + unit // 2 + i * round(unit * 1.4)
            surface.blit(line, line.get_rect(midtop=(box.centerx, top)))
        return box.bottom + unit // 3

    def _draw_line(self, surface: pygame.Surface, line: str, unit: int) -> None:
        """Words being typed, at the lower edge; the end of a long line is seen."""
        box = pygame.Rect(unit, surface.get_height() - 3 * unit, 0, 2 * unit)
        box.width = surface.get_width() - 2 * unit
        draw_panel(surface, box, unit, shade=225)
        text = words(f"> {line}_", unit, WHITE)
        inside = box.inflate(-unit, 0)
        area = pygame.Rect(max(0, text.get_width() - inside.width), 0, inside.width, 2 * unit)
        surface.blit(text, (inside.left, box.top + unit // 2), area)

    def _draw_recording(self, surface: pygame.Surface, unit: int) -> None:
        name = words("REC", unit, WHITE)
        box = pygame.Rect(0, unit // 2, name.get_width() + 3 * unit, 2 * unit)
        box.right = surface.get_width() - unit // 2
        draw_panel(surface, box, unit)
        pygame.draw.circle(surface, RED, (box.left + unit * 9 // 8, box.centery), unit * 2 // 5)
        surface.blit(name, name.get_rect(midright=(box.right - unit * 2 // 3, box.centery)))

    def _draw_caption(
        self, surface: pygame.Surface, big: str, small: str, unit: int, top: int
    ) -> None:
        """In the middle, or under what ends at `top` if that reaches so far."""
        lines = [words(big, 2 * unit, WHITE), *([words(small, unit, GREY)] if small else [])]
        box = pygame.Rect(0, 0, max(line.get_width() for line in lines) + 3 * unit, 0)
        box.height = sum(line.get_height() for line in lines) + 3 * unit // 2
        box.center = surface.get_rect().center
        box.top = min(max(box.top, top), surface.get_height() - box.height)
        draw_panel(surface, box, unit, shade=COVERS)
        top = box.top + 3 * unit // 4
        for line in lines:
            surface.blit(line, line.get_rect(midtop=(box.centerx, top)))
            top += line.get_height()


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


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
