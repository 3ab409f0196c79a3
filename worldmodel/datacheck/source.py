"""One file of a data set, read block by block."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.episodes import FORMAT, LARGEST, EpisodeError, to_actions
from worldmodel.files import check_file
from worldmodel.recording import read_frames, read_recording

Frames = NDArray[np.uint8]  # n h w 3

BLOCK = 256  # frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What a file says about itself; `read_blocks` gives its frames."""

    path: Path
    size: tuple[int, int]  # rows, columns
    rate: float  # frames per second
    buttons: tuple[str, ...]
    actions: Sequence[Action]  # one for each frame that the file says it has


def open_source(path: Path) -> Source:
    """Read everything but the frames; a `UserError` names a file that cannot be read."""
    return _open_recording(path) if path.suffix == ".jsonl" else _open_episode(path)


def read_blocks(source: Source) -> Iterator[Frames]:
    """The frames, in blocks; a `UserError` when they break off in the middle of an episode file."""
    if source.path.suffix != ".jsonl":
        yield from _read_episode(source.path)
        return
    small = read_frames(source.path.with_suffix(".mp4"), source.size)
    while block := list(islice(small, BLOCK)):
        yield np.stack(block)


def _open_recording(path: Path) -> Source:
    header, rows = read_recording(path)
    if not path.with_suffix(".mp4").is_file():
        raise EpisodeError(f"{path}: the video {path.with_suffix('.mp4').name} is missing")
    return Source(
        path=path,
        size=header.frame_size,
        rate=header.frames_per_second,
        buttons=header.buttons,
        actions=[IDLE, *(row.action for row in rows[1:])][: len(rows)],
    )


def _open_episode(path: Path) -> Source:
    try:
        check_file(path, LARGEST)
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise EpisodeError(
                    f"{path}: expected the format {FORMAT!r}, found {header.get('format')!r}"
                )
            names = tuple(map(str, json.loads(header["buttons"])))
            rate = float(header["frames_per_second"])
            held, mouse = file.get_tensor("buttons"), file.get_tensor("mouse")
            frames = file.get_slice("frames")
            shape, kind = tuple(frames.get_shape()), frames.get_dtype()
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise EpisodeError(f"{path}: not an episode: {error}") from error
    if kind != "U8" or len(shape) != 4 or shape[3] != 3 or not all(shape):
        raise EpisodeError(f"{path}: frames are {kind} {shape}, not U8 f h w 3")
    if held.shape != (shape[0], len(names)) or mouse.shape != (shape[0], 2):
        raise EpisodeError(
            f"{path}: {shape[0]} frames, but buttons {held.shape} and mouse {mouse.shape}"
        )
    if not np.isfinite(mouse).all() or not 0 < rate < float("inf"):
        raise EpisodeError(f"{path}: mouse travel or frames_per_second is no number")
    return Source(
        path=path,
        size=(shape[1], shape[2]),
        rate=rate,
        buttons=names,
        actions=to_actions(held, mouse, names),
    )


def _read_episode(path: Path) -> Iterator[Frames]:
    try:
        with safe_open(path, framework="np") as file:
            frames = file.get_slice("frames")
            count = frames.get_shape()[0]
            for first in range(0, count, BLOCK):
                yield frames[first : min(first + BLOCK, count)]
    except (OSError, SafetensorError) as error:
        raise EpisodeError(f"{path}: breaks off: {error}") from error
