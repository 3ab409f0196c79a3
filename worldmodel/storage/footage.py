"""Frames out of episodes, recordings and videos alike, at the rate that is wanted.

    for frame, actions in nearest(open_footage(path), 16.0): ...

Whatever the rate of a file, and if it has none: of every moment the nearest frame is taken, and
what was done in frames that are left out counts as done by then.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.storage.episodes import ENDINGS as EPISODES
from worldmodel.storage.episodes import load_episode, load_rate
from worldmodel.storage.video import ENDINGS as VIDEOS
from worldmodel.storage.video import watch
from worldmodel.system.paths import closed_folder, list_files

SAME = 1e-6  # seconds; moments closer than that are one
LONGEST_STILL = 3600.0  # seconds that a frame may stand
MOST_NAMED = 5  # of the files that are left out
BESIDE = (".txt", ".mp4", ".moment", ".way", ".md", ".json", ".toml", ".csv")

Moment = tuple[NDArray[np.uint8], tuple[Action, ...]]  # a frame h w 3, and what led to it


class Timed(NamedTuple):
    """A frame, when it is shown, and what led to it."""

    seconds: float
    frame: NDArray[np.uint8]  # h w 3
    actions: tuple[Action, ...]


def is_video(path: Path) -> bool:
    """Whether a file is a video that can be read, by its name."""
    return path.suffix.lower() in VIDEOS


def is_episode(path: Path) -> bool:
    """Whether a file is an episode or a recording, by its name."""
    return path.suffix.lower() in EPISODES


def open_footage(path: Path, last: float | None = None) -> Iterator[Timed]:
    """The frames of a file in their order; of a video nobody knows what was done in it.

    Of an episode that becomes the past of a world only the `last` seconds are read.
    """
    if is_video(path):
        return (Timed(seconds, frame, (IDLE,)) for seconds, frame in watch(path))
    count = None if last is None else 1 + math.ceil(last * load_rate(path))
    episode = load_episode(path, count)
    rate = episode.frames_per_second
    pairs = enumerate(zip(episode.frames, episode.actions, strict=True))
    return (Timed(number / rate, frame, (action,)) for number, (frame, action) in pairs)


def nearest(footage: Iterator[Timed], rate: float) -> Iterator[Moment]:
    """The frame nearest to each moment, `rate` of them a second, with all that was done since.

    Of two that are equally near the one of even number: none of them always wins. The last frame
    stands for as long as the one before it did.
    """
    done: list[Action] = []
    last: Timed | None = None
    lasts, count, number = 1 / rate, 0, 0  # seconds of a frame; frames seen, moments given
    for timed in footage:
        if last is not None:
            lasts = timed.seconds - last.seconds
            if lasts > LONGEST_STILL:
                raise UserError(f"a frame stands for {lasts / 3600:.1f} hours; cut the video there")
            while _is_before(number / rate, last.seconds + lasts / 2, count - 1):
                yield last.frame, tuple(done)
                done, number = [], number + 1
        done.extend(timed.actions)
        last, count = timed, count + 1
    while last is not None and _is_before(number / rate, last.seconds + lasts / 2, count - 1):
        yield last.frame, tuple(done)
        done, number = [], number + 1


def _is_before(moment: float, middle: float, index: int) -> bool:
    """Whether a moment is nearer to frame `index` than to the next one."""
    if abs(moment - middle) < SAME:
        return index % 2 == 0
    return moment < middle


def find_footage(folder: Path) -> list[Path]:
    """All episodes, recordings and videos under a folder; a recording's own video is not twice."""
    if closed := closed_folder(folder):
        raise UserError(f"{closed}; make it readable, or move it out of the data")
    paths = [path for path in list_files(folder) if is_episode(path) or is_video(path)]
    recordings = {path.with_suffix("") for path in paths if path.suffix.lower() == ".jsonl"}
    return [p for p in paths if not (is_video(p) and p.with_suffix("") in recordings)]


def left_out(folder: Path, taken: Sequence[Path]) -> str:
    """A sentence about the files of a folder that nobody reads; nothing where there are none."""
    stems = {path.with_suffix("") for path in taken}
    others = [
        path.relative_to(folder).as_posix()
        for path in list_files(folder)
        if path not in taken
        and not (path.suffix.lower() in BESIDE and path.with_suffix("") in stems)
    ]
    if not others:
        return ""
    more = len(others) - MOST_NAMED
    named = ", ".join(others[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{folder}: left out, because they are of no kind that is read here: {named}"
