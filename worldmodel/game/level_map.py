"""A map of the level on the screen: where one can walk, where one was, where one is.

Small it lies in a corner; large it covers the picture, and a click on it begins there.

    chart = LevelMap(world.level, world.state_spec)
    chart.follow(step)                      # every frame
    chart.draw(surface, room, unit)
    spot = chart.spot_at(mouse)             # on the large map; None beside what one can walk on
"""

import math
from collections import deque

import numpy as np
import pygame

from worldmodel.game.free_space import FreeSpace
from worldmodel.game.panels import ACCENT, COVERS, GREY, draw_panel
from worldmodel.game.played_frame import PlayedFrame
from worldmodel.state_spec import StateSpec
from worldmodel.world import Level, Spot

SMALL, LARGE = "small", "large"
SIZES = ("", SMALL, LARGE)  # as the key goes through them
GROUND, EDGE = (74, 80, 92), (128, 136, 150)
CORNERS = ("bottomright", "topright", "bottomleft")  # for the small map, the best first
CORNER = 0.26  # of the window's shorter side
WHOLE = 0.86
MOST_POINTS = 20_000  # of the way that was walked; the oldest go first
FAR = 3.0  # map units: nearer ones are one point
MARGIN = 12  # cells around what one can walk on


class LevelMap:
    """What is known of the level, and of the player in it."""

    def __init__(self, level: Level, spec: StateSpec) -> None:
        self.size = ""
        self._level = level
        self._roles = spec.place
        cells = np.argwhere(level.free > 0)
        if len(cells):
            first, last = cells.min(axis=0) - MARGIN, cells.max(axis=0) + MARGIN
        else:
            first, last = np.zeros(2, int), np.array(level.free.shape) - 1
        self._first = np.maximum(first, 0)
        self._free = level.free[self._first[0] : last[0] + 1, self._first[1] : last[1] + 1] > 0
        self._walked: deque[tuple[float, float] | None] = deque(maxlen=MOST_POINTS)
        self._here: Spot | None = None
        self._segment = -1
        self._ground: pygame.Surface | None = None  # drawn for the last size
        self._box = pygame.Rect(0, 0, 0, 0)  # of the map in the window

    def toggle(self) -> None:
        """The next size of the map: none, small, large, none."""
        self.size = SIZES[(SIZES.index(self.size) + 1) % len(SIZES)]

    def follow(self, step: PlayedFrame) -> None:
        """Where the player is in this frame."""
        if step.state is None or self._roles is None:
            return
        x, y, heading = (step.state[role] for role in self._roles)
        if not all(map(math.isfinite, (x, y, heading))):
            return
        self._here = Spot(x, y, heading)
        if step.segment != self._segment or step.back_to is not None:
            self._segment = step.segment
            self._walked.append(None)  # nobody walked from there to here
        last = self._walked[-1] if self._walked else None
        if last is None or math.dist(last, (x, y)) >= FAR:
            self._walked.append((x, y))

    def spot_at(self, place: tuple[int, int]) -> Spot | None:
        """Where a click on the large map leads, with the heading of now."""
        if self.size != LARGE or not self._box.collidepoint(place):
            return None
        scale, cell = self._scale(), self._level.cell
        x = self._level.low[0] + cell * (self._first[0] + (place[0] - self._box.left) / scale)
        y = self._level.low[1] + cell * (self._first[1] + (self._box.bottom - place[1]) / scale)
        if not self._level.holds(x, y):
            return None
        return Spot(float(x), float(y), self._here.heading if self._here else 0.0)

    def draw(self, surface: pygame.Surface, room: FreeSpace, unit: int) -> None:
        """The map, if it is shown and there is room for it."""
        if not self.size:
            return
        share = CORNER if self.size == SMALL else WHOLE
        wide, high = self._free.shape
        most = share * min(surface.get_size()) / max(wide, high)
        size = max(1, round(wide * most)), max(1, round(high * most))
        self._box = pygame.Rect((0, 0), size)
        if self.size == LARGE:
            self._box.center = surface.get_rect().center
        else:
            inside = surface.get_rect().inflate(-2 * unit, -2 * unit)
            for corner in CORNERS:
                setattr(self._box, corner, getattr(inside, corner))
                if room.take(self._box.inflate(unit, unit)):
                    break
            else:
                return
        draw_panel(surface, self._box.inflate(unit, unit), unit, shade=COVERS)
        if self._ground is None or self._ground.get_size() != size:
            self._ground = _drawn(self._free, size)
        surface.blit(self._ground, self._box)
        self._draw_way(surface)
        if self._here:
            self._draw_player(surface, self._here, max(4, round(unit * 0.5)))

    def _draw_way(self, surface: pygame.Surface) -> None:
        line: list[tuple[float, float]] = []
        for point in (*self._walked, None):
            if point is not None:
                line.append(self._on_screen(*point))
                continue
            if len(line) > 1:
                pygame.draw.lines(surface, GREY, closed=False, points=line, width=1)
            line = []

    def _draw_player(self, surface: pygame.Surface, here: Spot, size: int) -> None:
        """An arrow where one looks."""
        x, y = self._on_screen(here.x, here.y)
        angles = (here.heading, here.heading + 140, here.heading - 140)
        corners = [
            (
                x + size * math.cos(math.radians(angle)),
                y - size * math.sin(math.radians(angle)),
            )
            for angle in angles
        ]
        pygame.draw.polygon(surface, ACCENT, corners)

    def _on_screen(self, x: float, y: float) -> tuple[float, float]:
        scale, low, cell = self._scale(), self._level.low, self._level.cell
        return (
            self._box.left + scale * ((x - low[0]) / cell - self._first[0]),
            self._box.bottom - scale * ((y - low[1]) / cell - self._first[1]),
        )

    def _scale(self) -> float:
        return self._box.width / self._free.shape[0]


def _drawn(
    free: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]", size: tuple[int, int]
) -> pygame.Surface:
    """What one can walk on, with a lighter edge, on nothing."""
    inside = free.copy()
    for axis in (0, 1):
        inside &= np.roll(free, 1, axis) & np.roll(free, -1, axis)
    picture = pygame.Surface(free.shape, pygame.SRCALPHA)
    colours = np.where(inside[..., None], GROUND, EDGE).astype(np.uint8)
    pygame.surfarray.blit_array(picture, colours[:, ::-1])
    alpha = pygame.surfarray.pixels_alpha(picture)
    alpha[:] = np.where(free[:, ::-1], 255, 0)
    del alpha
    return pygame.transform.smoothscale(picture, size)
