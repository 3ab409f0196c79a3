"""A dream beside the real game: one picture of both, and of how far they are apart over time.

The window, clips and the evaluation show the same picture: the dream at the left, the game at the
right, below them the PSNR of every frame against the game's, with the last figure in words.

Letters: h w rows, columns.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.real import psnr
from worldmodel.video import VideoWriter
from worldmodel.world import Frame

WHITE, GREY, DIM, ACCENT = (255, 255, 255), (178, 184, 194), (58, 62, 70), (255, 196, 61)
LEVELS = (10.0, 20.0, 30.0, 40.0)  # dB, the lines of the graph
LOWEST, HIGHEST = 6.0, 42.0
FEWEST_SECONDS, MOST_SECONDS = 10.0, 30.0  # of the graph; older points leave it at the left
SMALLEST = 16  # rows and columns; in less nothing can be told apart
CLIP_SIZE = (540, 960)  # rows, columns
FONT = cv2.FONT_HERSHEY_DUPLEX
LARGEST_FONT = 2.0  # times the usual letters; larger ones would leave no room for a graph

Point = tuple[int, float]  # number of the frame, dB


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What there is to see of both at one frame."""

    dream: Frame
    real: Frame | None  # None: the game is not there yet
    index: int  # the frame's number since the start
    points: Sequence[Point]  # up to this frame
    frames_per_second: float
    told: str = ""  # below the game: what it waits for, why it does not go on


def views_of(
    dreams: Iterable[Frame], reals: Iterable[Frame], frames_per_second: float, first: int = 0
) -> Iterator[tuple[float, View]]:
    """Seconds and view, one after the other, of two rows of frames that are complete."""
    points: list[Point] = []
    for index, (dream, real) in enumerate(zip(dreams, reals, strict=True), start=first):
        points.append((index, psnr(dream, real)))
        view = View(
            dream=dream,
            real=real,
            index=index,
            points=points,
            frames_per_second=frames_per_second,
        )
        yield (index - first) / frames_per_second, view


def save_beside(path: Path, views: Iterable[tuple[float, View]], frames_per_second: float) -> None:
    """Write views, each from so many seconds on, as a clip; it replaces nothing."""
    writer = VideoWriter(path, CLIP_SIZE, frames_per_second)
    try:
        for seconds, view in views:
            writer.write(draw_beside(view, CLIP_SIZE), seconds)
    except BaseException:
        writer.abandon()
        raise
    writer.close()


def draw_beside(view: View, size: tuple[int, int], font: float = 1.0) -> NDArray[np.uint8]:
    """The picture h w 3 of a view in any size, its letters `font` times the usual ones."""
    rows, columns = size
    picture = np.zeros((rows, columns, 3), np.uint8)
    if min(rows, columns) < SMALLEST:
        return picture
    unit = round(max(10, rows // 36) * min(font, LARGEST_FONT))
    top = _draw_frames(picture, view, unit)
    if rows - top > 4 * unit:
        _draw_graph(picture, view, top, unit)
    return picture


def _draw_frames(picture: NDArray[np.uint8], view: View, unit: int) -> int:
    """Both frames as large as they fit above the graph; returns where that may begin."""
    rows, columns = picture.shape[:2]
    height, width = view.dream.shape[:2]
    factor = min((columns - 2) / 2 / width, (rows - 6 * unit) / height)
    size = max(1, int(width * factor)), max(1, int(height * factor))
    left = columns // 2 - 1 - size[0], columns // 2 + 1
    for corner, frame, name in zip(left, (view.dream, view.real), ("dream", "game"), strict=True):
        place = picture[: size[1], corner : corner + size[0]]
        if frame is not None:
            content = np.ascontiguousarray(frame)
            place[:] = cv2.resize(content, size, interpolation=cv2.INTER_CUBIC)
        if frame is None or (name == "game" and view.told):
            place[:] = place // 3
        _write(picture, name, (corner + unit, size[1] - unit), unit, WHITE)
    if view.told:
        _write_lines(picture, view.told, (left[1] + unit, 2 * unit), size[0] - 2 * unit, unit)
    return size[1]


def _draw_graph(picture: NDArray[np.uint8], view: View, top: int, unit: int) -> None:
    """PSNR over the last seconds; higher is nearer to the game."""
    rows, columns = picture.shape[:2]
    below = 5 * unit if rows - top > 14 * unit else unit  # in a window the keys are drawn there
    box = 3 * unit, top + unit, columns - 10 * unit, rows - below  # left, top, right, bottom

    def height(db: float) -> float:
        share = (min(max(db, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
        return box[3] - share * (box[3] - box[1])

    for level in LEVELS:
        y = round(height(level))
        cv2.line(picture, (box[0], y), (box[2], y), DIM, 1)
        _write(picture, f"{level:.0f}", (unit // 2, y + unit // 3), unit * 0.7, GREY)
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
    right, middle = box[2] + unit, (box[1] + box[3]) // 2
    newest = points[-1] if points else None
    figure = f"{newest[1]:.1f} dB" if newest and newest[0] == view.index else "- dB"
    _write(picture, figure, (right, middle), unit * 1.5, WHITE)
    seconds = view.index / rate
    _write(
        picture, f"frame {view.index}, {seconds:.1f} s", (right, middle + 3 * unit // 2), unit * 0.7
    )
    _write(picture, "PSNR to the game", (right, middle - 2 * unit), unit * 0.7)


def _write_lines(
    picture: NDArray[np.uint8], text: str, corner: tuple[int, int], width: int, unit: int
) -> None:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _width(longer, unit) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    for number, line in enumerate(lines):
        _write(picture, line, (corner[0], corner[1] + number * 3 * unit // 2), unit, WHITE)


def _write(
    picture: NDArray[np.uint8],
    text: str,
    corner: tuple[int, int],
    height: float,
    colour: tuple[int, int, int] = GREY,
) -> None:
    """Text whose capitals are about `height` tall with its lower left corner there."""
    plain = text.encode("ascii", "replace").decode()  # what this font has
    scale, stroke = height / 30, max(1, round(height / 16))
    cv2.putText(picture, plain, corner, FONT, scale, (0, 0, 0), stroke + 2, cv2.LINE_AA)
    cv2.putText(picture, plain, corner, FONT, scale, colour, stroke, cv2.LINE_AA)


def _width(text: str, height: float) -> int:
    return int(cv2.getTextSize(text, FONT, height / 30, 1)[0][0])
