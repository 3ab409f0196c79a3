"""Frames and latency over the last seconds, as bars and a line (F3)."""

from collections import deque

import pygame

from worldmodel.font import words
from worldmodel.game.free_space import FreeSpace
from worldmodel.game.panels import ACCENT, GREY, RED, WHITE, draw_panel

FRAMES = 180  # that are remembered
BLUE = (86, 156, 238)


class Graph:
    """Fed with every frame that was shown."""

    def __init__(self) -> None:
        self.period_ms = 0.0  # of the rate that is played at; 0: as fast as it goes
        self._frames: deque[tuple[float, float | None]] = deque(maxlen=FRAMES)
        self._last: float | None = None

    def add(self, now: float, latency_ms: float | None) -> None:
        """A frame was on the screen at `now` (seconds); its latency, if there was an input."""
        if self._last is not None:
            self._frames.append((1000 * (now - self._last), latency_ms))
        self._last = now

    def interrupt(self) -> None:
        """Play rested: the next interval between frames is not drawn."""
        self._last = None

    @property
    def top_ms(self) -> float:
        """What the upper edge stands for: twice the usual, at least what is seen there."""
        values = [value for pair in self._frames for value in pair if value is not None]
        usual = sorted(values)[len(values) * 19 // 20] if values else 0.0
        return max(20.0, 2 * self.period_ms, 1.25 * usual)

    def draw(self, surface: pygame.Surface, room: FreeSpace, unit: int) -> None:
        """A bar from frame to frame, red where one came late, and the latencies as dots."""
        wide, high = surface.get_size()
        box = pygame.Rect(0, 0, min(24 * unit, wide * 3 // 5), min(8 * unit, high // 4))
        box.bottomright = surface.get_width() - unit // 2, surface.get_height() - 3 * unit
        if not room.take(box):
            box.top = 3 * unit
            if not room.drop(box, unit // 3):
                return
        draw_panel(surface, box, unit, shade=200)
        inner = pygame.Rect(box.left + unit // 2, box.top + unit * 3 // 2, box.width - unit, 0)
        inner.height = box.bottom - unit // 2 - inner.top
        top = self.top_ms
        if self.period_ms:
            y = inner.bottom - round(inner.height * self.period_ms / top)
            pygame.draw.line(surface, GREY, (inner.left, y), (inner.right, y))
        step = inner.width / FRAMES
        for i, (frame_ms, latency_ms) in enumerate(self._frames):
            left = inner.right - round((len(self._frames) - i) * step)
            is_late = self.period_ms and frame_ms > 1.5 * self.period_ms
            height = round(inner.height * min(1.0, frame_ms / top))
            bar = pygame.Rect(left, inner.bottom - height, max(1, int(step)), height)
            pygame.draw.rect(surface, RED if is_late else BLUE, bar)
            if latency_ms is not None:
                y = inner.bottom - round(inner.height * min(1.0, latency_ms / top))
                pygame.draw.circle(surface, ACCENT, (left, y), max(2, unit // 8))
        self._draw_legend(surface, box, unit, top)

    def _draw_legend(
        self, surface: pygame.Surface, box: pygame.Rect, unit: int, top: float
    ) -> None:
        size, left = min(round(unit * 0.8), box.width // 22), box.left + unit // 2
        due = f", due {self.period_ms:.0f}" if self.period_ms else ""
        for text, colour in ((f"frame ms{due}", BLUE), ("input to frame ms", ACCENT)):
            picture = words(text, size, colour)
            surface.blit(picture, (left, box.top + unit // 2))
            left += picture.get_width() + unit
        picture = words(f"{top:.0f} ms", size, WHITE)
        surface.blit(
            picture, picture.get_rect(topright=(box.right - unit // 2, box.top + unit // 2))
        )
