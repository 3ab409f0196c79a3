"""A world and the real game side by side: a picture of both, and how far they are apart over time.

The window, clips and the evaluation show the same picture: the world at the left, the game at the
right, below them the PSNR of every frame against the game's, with the last figure in words.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pygame
from numpy.typing import NDArray

from worldmodel.font import Colour, ascent, width, words, wrapped
from worldmodel.reference.game import psnr
from worldmodel.storage.video import VideoWriter
from worldmodel.world import Frame

WHITE, GREY, DIM, ACCENT = (255, 255, 255), (178, 184, 194), (58, 62, 70), (255, 196, 61)
LEVELS = (10.0, 20.0, 30.0, 40.0)  # dB, the lines of the graph
LOWEST, HIGHEST = 6.0, 42.0
FEWEST_SECONDS, MOST_SECONDS = 10.0, 30.0  # of the graph; older points leave it at the left
SMALLEST = 16  # rows and columns; in less nothing can be told apart
CLIP_SIZE = (540, 960)  # rows, columns
RECENT = 8  # frames: a figure older than that is not told
LARGEST_FONT = 2.0  # times the usual letters; larger ones would leave no room for a graph

Point = tuple[int, float]  # number of the frame, dB
Box = tuple[int, int, int, int]  # left, top, width, height


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What there is to see of both at one frame."""

    world: Frame
    real: Frame | None  # None: the game is not there yet
    index: int  # the frame's number since the start
    points: Sequence[Point]  # up to this frame
    frames_per_second: float
    note: str = ""  # over the game: what it waits for, why it does not go on
    why: str = ""  # below both: why a difference begins
    apart: float | None = None  # map units between the two players, where both places are known


@dataclass(frozen=True, slots=True)
class AnnotatedPicture:
    """A picture, and where in it something is written or plotted."""

    picture: NDArray[np.uint8]  # h w 3
    written: list[Box]

    def write(self, text: str, corner: tuple[int, int], size: float, colour: Colour = GREY) -> None:
        """Text on a line whose left end is `corner`, with a dark edge around it."""
        inner, edge = _masks(text, max(6, round(size)))
        top, left = corner[1] - ascent(max(6, round(size))) - 1, corner[0] - 1
        rows = slice(max(0, top), max(0, top + len(inner)))
        columns = slice(max(0, left), max(0, left + inner.shape[1]))
        place = self.picture[rows, columns]
        high, wide = place.shape[:2]
        part = slice(rows.start - top, rows.start - top + high)
        across = slice(columns.start - left, columns.start - left + wide)
        mixed = place * (1 - edge[part, across]) + inner[part, across] * np.array(colour)
        place[:] = np.clip(mixed, 0, 255)
        self.written.append((columns.start, rows.start, wide, high))


@lru_cache(maxsize=128)
def _masks(text: str, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How much of a pixel is a letter, and how much a letter or its edge: h w 1 each, 0 to 1."""
    alpha = pygame.surfarray.array_alpha(words(text, size, WHITE)).T
    inner = np.pad(alpha, 1).astype(np.float32) / np.float32(255)
    edge = np.asarray(cv2.dilate(inner, np.ones((3, 3), np.uint8)), np.float32)
    return inner[..., None], edge[..., None]


def views_of(
    frames_of_world: Iterable[Frame], reals: Iterable[Frame], frames_per_second: float
) -> Iterator[tuple[float, View]]:
    """Seconds and view, one after the other, of two rows of frames that are complete."""
    points: list[Point] = []
    for index, (world, real) in enumerate(zip(frames_of_world, reals, strict=True)):
        points.append((index, psnr(world, real)))
        view = View(
            world=world,
            real=real,
            index=index,
            points=points,
            frames_per_second=frames_per_second,
        )
        yield index / frames_per_second, view


def save_side_by_side(
    path: Path, views: Iterable[tuple[float, View]], frames_per_second: float
) -> None:
    """Write views, each from so many seconds on, as a clip; it replaces nothing."""
    writer = VideoWriter(path, CLIP_SIZE, frames_per_second)
    try:
        for seconds, view in views:
            writer.write(draw_side_by_side(view, CLIP_SIZE).picture, seconds)
    except BaseException:
        writer.abandon()
        raise
    writer.close()


def draw_side_by_side(view: View, size: tuple[int, int], font: float = 1.0) -> AnnotatedPicture:
    """A view in any size, rows and columns, its letters `font` times the usual ones."""
    rows, columns = size
    drawn = AnnotatedPicture(np.zeros((rows, columns, 3), np.uint8), [])
    if min(rows, columns) < SMALLEST:
        return drawn
    unit = round(max(10, rows // 36) * min(font, LARGEST_FONT))
    small, lines = _why_lines(view.why, columns - 2 * unit, unit)
    below = 6 * unit + len(lines) * _line(small)
    top = _draw_frames(drawn, view, unit, below if below < rows // 2 else 6 * unit)
    if rows - top >= below:
        for line in lines:
            top += _line(small)
            drawn.write(line, (unit, top), small)
    if rows - top > 4 * unit:
        _draw_graph(drawn, view, top, unit)
    return drawn


def _why_lines(why: str, wide: int, unit: int) -> tuple[int, list[str]]:
    """Size and text of two lines, if letters that can be read are small enough for that."""
    if not why:
        return unit, []
    for share in (1.0, 0.8, 0.6):
        size = round(unit * share)
        lines = wrapped(why, max(unit, wide), size)
        if len(lines) <= 2:
            break
    return size, lines


def _line(size: int) -> int:
    """From one line of letters to the next."""
    return size * 3 // 2


def _draw_frames(drawn: AnnotatedPicture, view: View, unit: int, below: int) -> int:
    """Both frames as large as they fit, `below` free below them; returns where they end."""
    rows, columns = drawn.picture.shape[:2]
    height, width = view.world.shape[:2]
    factor = min((columns - 2) / 2 / width, (rows - below) / height)
    size = max(1, int(width * factor)), max(1, int(height * factor))
    left = columns // 2 - 1 - size[0], columns // 2 + 1
    for corner, frame, name in zip(left, (view.world, view.real), ("world", "game"), strict=True):
        place = drawn.picture[: size[1], corner : corner + size[0]]
        if frame is not None:
            content = np.ascontiguousarray(frame)
            place[:] = cv2.resize(content, size, interpolation=cv2.INTER_CUBIC)
        if frame is None or (name == "game" and view.note):
            place[:] = place // 3
        drawn.write(name, (corner + unit, size[1] - unit), unit, WHITE)
    if view.note:
        corner, room = (left[1] + unit, 2 * unit), (size[0] - 2 * unit, size[1] - 5 * unit)
        _write_lines(drawn, view.note, corner, room, unit)
    return size[1]


def _draw_graph(drawn: AnnotatedPicture, view: View, top: int, unit: int) -> None:
    """PSNR over the last seconds; higher is nearer to the game."""
    picture = drawn.picture
    rows, columns = picture.shape[:2]
    below = 5 * unit if rows - top > 14 * unit else unit  # in a window the keys are drawn there
    box = 3 * unit, top + unit, columns - 10 * unit, rows - below  # left, top, right, bottom
    drawn.written.append((box[0], box[1], max(0, box[2] - box[0]), max(0, box[3] - box[1])))

    def height(db: float) -> float:
        share = (min(max(db, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
        return box[3] - share * (box[3] - box[1])

    for level in LEVELS:
        y = round(height(level))
        cv2.line(picture, (box[0], y), (box[2], y), DIM, 1)
        drawn.write(f"{level:.0f}", (unit // 2, y + unit // 3), unit * 0.7)
    rate = view.frames_per_second
    shown = min(max(float(view.index), FEWEST_SECONDS * rate), MOST_SECONDS * rate)
    begins = max(0.0, view.index - shown)
    recent = islice(reversed(view.points), int(shown) + 2)
    points = [point for point in recent if begins <= point[0] <= view.index][::-1]
    thick = max(2, unit // 7)
    before: tuple[int, tuple[int, int]] | None = None  # frame, and where it is in quarter pixels
    for index, db in points:
        x = box[0] + (index - begins) / shown * (box[2] - box[0])
        place = round(4 * x), round(4 * height(db))
        if before and index - before[0] == 1:  # a gap is a gap: nobody knows what was between
            cv2.line(picture, before[1], place, ACCENT, thick, cv2.LINE_AA, shift=2)
        before = index, place
    _write_figures(drawn, view, points[-1] if points else None, box, unit)


def _write_figures(
    drawn: AnnotatedPicture,
    view: View,
    newest: Point | None,
    box: tuple[int, int, int, int],
    unit: int,
) -> None:
    """At the right of the graph; the game may be some frames behind."""
    left, middle, room = box[2] + unit, (box[1] + box[3]) // 2, 9 * unit
    lines = [(f"frame {view.index}, {view.index / view.frames_per_second:.1f} s", 0.8, 1.5, GREY)]
    if newest and view.index - newest[0] <= RECENT:
        lines.append(("PSNR to the game", 0.8, -2.0, GREY))
        lines.append((f"{newest[1]:.1f} dB", 1.6, 0.0, WHITE))
        if view.apart is not None:
            lines.append((f"places {view.apart:.1f} units apart", 0.8, -3.5, GREY))
    for text, share, down, colour in lines:
        size = unit * share
        size = min(size, size * room / max(1, width(text, round(size))))
        drawn.write(text, (left, middle + round(down * unit)), size, colour)


def _write_lines(
    drawn: AnnotatedPicture, text: str, corner: tuple[int, int], room: tuple[int, int], size: int
) -> None:
    """Lines one below the other, as many as fit into `room`, columns and rows."""
    for number, line in enumerate(wrapped(text, max(size, room[0]), size)):
        down = number * _line(size)
        if number and down > room[1]:
            break
        drawn.write(line, (corner[0], corner[1] + down), size, WHITE)
