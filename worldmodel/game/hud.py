"""What is drawn over the picture: numbers, pressed keys, marks and the controls.

Everything scales with the window and with the size of the font. What there is no room for beside
the more important is left out: nothing lies over anything else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pygame

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.font import Colour, shortened, width, words, wrapped
from worldmodel.game.fps_meter import PlaySpeed
from worldmodel.game.free_space import FreeSpace
from worldmodel.game.key_overlay import draw_keys
from worldmodel.game.level_map import LevelMap
from worldmodel.game.panels import (
    ACCENT,
    COVERS,
    GREY,
    RED,
    WHITE,
    draw_panel,
    draw_tables,
    line_height,
)
from worldmodel.game.timing_graph import Graph

FEWEST_INPUTS = 20  # below which a 95th percentile would be the slowest one


@dataclass(slots=True)
class Overlay:
    """What there is to draw now; the window's thread changes it."""

    spec: ActionSpec | None = None
    controls: Sequence[tuple[str, str]] = ()
    pad_controls: Sequence[tuple[str, str]] = ()  # where a gamepad is plugged in
    font: float = 1.0
    action: Action = IDLE
    speed: PlaySpeed = field(default_factory=lambda: PlaySpeed(None, None, None, 0))
    caption: str = ""  # big, in the middle: "loading"
    note: str = ""  # small, at the top: the start, a saved file
    hint: str = ""  # below it, in the first seconds: what to press
    waiting: str = ""  # what the world gets ready for, as long as that takes
    slow: str = ""  # what there is to say while the machine is too slow
    graph: Graph = field(default_factory=Graph)
    chart: LevelMap | None = None  # of the level, in a world that knows its place
    known: str = ""  # the state's numbers that a player cares for
    line: str | None = None  # words being typed
    paused: str = ""  # which keys lead on
    is_recording: bool = False
    is_paused: bool = False
    taken: Sequence[pygame.Rect] = ()  # what is written in the picture itself
    shows_numbers: bool = False
    shows_controls: bool = False
    shows_graph: bool = False


class Hud:
    """Draws an overlay on a surface."""

    def draw(self, surface: pygame.Surface, overlay: Overlay) -> FreeSpace:
        """Draw on top of what is there, the most important first; returns what is taken."""
        unit = line_height(surface.get_size(), overlay.font)
        room = FreeSpace(surface.get_size(), overlay.taken)
        if overlay.shows_controls:
            tables = [list(overlay.controls), list(overlay.pad_controls)]
            room.taken.append(draw_tables(surface, [table for table in tables if table], unit))
            return room
        if overlay.line is not None:
            _draw_line(surface, room, overlay.line, unit)
        if overlay.is_paused:
            _draw_caption(surface, room, "paused", overlay.paused, unit)
        if overlay.caption:
            _draw_caption(surface, room, overlay.caption, "", unit)
        if overlay.is_recording:
            _draw_recording(surface, room, unit)
        spec = overlay.spec if overlay.shows_numbers and not overlay.caption else None
        if spec:
            _draw_numbers(surface, room, spec, overlay.speed, unit)
        wide = surface.get_width() - 3 * unit
        if spec and overlay.known:
            _draw_below(surface, room, [shortened(overlay.known, wide, unit)], WHITE, unit)
        if overlay.slow:
            _draw_below(surface, room, wrapped(overlay.slow, wide, unit), ACCENT, unit)
        for text in (overlay.waiting, overlay.note, overlay.hint):
            if text:
                _draw_note(surface, room, text, unit)
        if spec:
            draw_keys(surface, room, spec, overlay.action, unit)
        if overlay.shows_graph:
            overlay.graph.draw(surface, room, unit)
        if overlay.chart and not overlay.caption:
            overlay.chart.draw(surface, room, unit)
        return room


def _draw_numbers(
    surface: pygame.Surface, room: FreeSpace, spec: ActionSpec, speed: PlaySpeed, unit: int
) -> None:
    """Only what has been measured, in letters that fit."""
    for size in (unit, unit * 4 // 5, unit * 3 // 5, unit * 2 // 5):
        panel = _numbers(spec, speed, size)
        box = panel.get_rect(topleft=(unit // 2, unit // 2))
        if room.take(box):
            draw_panel(surface, box, unit)
            surface.blit(panel, box)
            return


def _numbers(spec: ActionSpec, speed: PlaySpeed, unit: int) -> pygame.Surface:
    together = f", {spec.frames} frames at a time" if spec.frames > 1 else ""
    number = "" if speed.frames_per_second is None else f"{speed.frames_per_second:.1f}"
    fps = words(number, round(unit * 1.5), WHITE)
    name = words(f"{'fps' if number else 'measuring'}{together}", unit, GREY)
    latency, rest = (words(text, size, colour) for text, size, colour in _latency(speed, unit))
    half, gaps = unit // 2, [unit // 3 if number else 0, unit // 2 if latency.get_width() else 0]
    first = fps.get_width() + gaps[0] + name.get_width()
    second = latency.get_width() + gaps[1] + rest.get_width()
    wide = max(11 * unit, first + unit, second + unit)
    panel = pygame.Surface((wide, round(unit * 3.2)), pygame.SRCALPHA)
    panel.blit(fps, (half, unit // 4))
    base = unit // 4 + fps.get_height()
    panel.blit(name, (half + fps.get_width() + gaps[0], base - round(name.get_height() * 1.1)))
    panel.blit(latency, (half, base + unit // 6))
    below = base + unit // 6 + latency.get_height() - rest.get_height()
    panel.blit(rest, (half + latency.get_width() + gaps[1], below))
    return panel


def _latency(
    speed: PlaySpeed, unit: int
) -> tuple[tuple[str, int, Colour], tuple[str, int, Colour]]:
    """A number and what it is: of a few inputs the middle, of none a word."""
    p50, p95, inputs, small = (
        speed.latency_p50_ms, speed.latency_p95_ms, speed.inputs, round(unit * 0.8)
    )  # fmt: skip
    if p50 is None or p95 is None:
        return ("", unit, WHITE), ("input to frame: press a key", small, GREY)
    if inputs < FEWEST_INPUTS:
        what = f"{inputs} inputs" if inputs > 1 else "1 input"
        rest = f"input to frame, {what} so far"
    else:
        rest = f"p50, {p95:.0f} ms p95, input to frame"
    return (f"{p50:.0f} ms", unit, WHITE), (rest, small, GREY)


def _draw_below(
    surface: pygame.Surface, room: FreeSpace, lines: Sequence[str], colour: Colour, unit: int
) -> None:
    """Lines under the numbers."""
    pictures = [words(line, unit, colour) for line in lines]
    wide = max(picture.get_width() for picture in pictures) + unit
    box = pygame.Rect(unit // 2, unit // 2, wide, len(lines) * round(unit * 1.3) + unit // 2)
    if not room.drop(box, unit // 3):
        return
    draw_panel(surface, box, unit)
    for i, picture in enumerate(pictures):
        surface.blit(picture, (unit, box.top + unit // 3 + i * round(unit * 1.3)))


def _draw_note(surface: pygame.Surface, room: FreeSpace, note: str, unit: int) -> None:
    """Something that happened, at the top; in smaller letters, then shorter, to find room."""
    for texts, size in _ways_to_write(note, surface.get_width() - 2 * unit, unit):
        lines = [words(text, size, WHITE) for text in texts]
        wide = max(line.get_width() for line in lines) + size
        box = pygame.Rect(0, 0, wide, len(lines) * round(size * 1.4) + size // 2)
        box.midtop = surface.get_width() // 2, unit * 9 // 2
        if room.drop(box, unit // 3):
            break
    else:
        return
    draw_panel(surface, box, unit, shade=COVERS)
    for i, line in enumerate(lines):
        top = box.top + size // 2 + i * round(size * 1.4)
        surface.blit(line, line.get_rect(midtop=(box.centerx, top)))


def _ways_to_write(text: str, room: int, unit: int) -> Iterator[tuple[list[str], int]]:
    """Lines and their size, the best first."""
    size = unit
    for size in (unit, unit * 4 // 5, unit * 3 // 5):
        yield wrapped(text, room - size, size), size
    lines = wrapped(text, room - size, size)
    while len(lines) > 1:
        lines = [*lines[:-2], shortened(f"{lines[-2]} {lines[-1]}", room - size, size)]
        yield lines, size


def _draw_line(surface: pygame.Surface, room: FreeSpace, line: str, unit: int) -> None:
    """Words being typed, at the lower edge or where it is free; the end of a long line is seen."""
    box = pygame.Rect(unit, surface.get_height() - 3 * unit, 0, 2 * unit)
    box.width = surface.get_width() - 2 * unit
    if not room.take(box):
        box.top = unit // 2
        if not room.drop(box, unit // 3):
            return
    draw_panel(surface, box, unit, shade=COVERS)
    text = words(f"> {line}_", unit, WHITE)
    inside = box.inflate(-unit, 0)
    area = pygame.Rect(max(0, text.get_width() - inside.width), 0, inside.width, 2 * unit)
    surface.blit(text, (inside.left, box.top + unit // 2), area)


def _draw_recording(surface: pygame.Surface, room: FreeSpace, unit: int) -> None:
    name = words("REC", unit, WHITE)
    box = pygame.Rect(0, unit // 2, name.get_width() + 3 * unit, 2 * unit)
    box.right = surface.get_width() - unit // 2
    if not room.drop(box, unit // 3):
        return
    draw_panel(surface, box, unit)
    pygame.draw.circle(surface, RED, (box.left + unit * 9 // 8, box.centery), unit * 2 // 5)
    surface.blit(name, name.get_rect(midright=(box.right - unit * 2 // 3, box.centery)))


def _draw_caption(
    surface: pygame.Surface, room: FreeSpace, big: str, small: str, unit: int
) -> None:
    """In the middle, in letters that fit; without the small ones where that is not enough."""
    inner = surface.get_width() - 4 * unit
    size = max(unit, min(2 * unit, 2 * unit * inner // max(1, width(big, 2 * unit))))
    lines = [words(shortened(big, inner, size), size, WHITE)]
    lines += [words(shortened(small, inner, unit), unit, GREY)] if small else []
    for shown in (lines, lines[:1]):
        box = pygame.Rect(0, 0, max(line.get_width() for line in shown) + 3 * unit, 0)
        box.height = sum(line.get_height() for line in shown) + 3 * unit // 2
        box.center = surface.get_rect().center
        if room.drop(box, unit // 3):
            break
        box.midtop = surface.get_rect().centerx, unit // 2
        if room.drop(box, unit // 3):
            break
    else:
        return
    draw_panel(surface, box, unit, shade=COVERS)
    top = box.top + 3 * unit // 4
    for line in shown:
        surface.blit(line, line.get_rect(midtop=(box.centerx, top)))
        top += line.get_height()
