"""One file of a data set, read block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from worldmodel.action import IDLE, Action
from worldmodel.state_spec import StateTrack, track_of
from worldmodel.storage.episode import EpisodeError
from worldmodel.storage.episodes import load_facts
from worldmodel.storage.recording import read_frames, read_recording
from worldmodel.storage.tensor_files import open_tensors
from worldmodel.system.limits import LARGEST_EPISODE

Frames = NDArray[np.uint8]  # n h w 3

BLOCK = 256  # frames


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """What a file says about itself; `read_blocks` gives its frames."""

    path: Path
    size: tuple[int, int]  # rows, columns
    rate: float  # frames per second
    buttons: tuple[str, ...]
    actions: Sequence[Action]  # one for each frame that the file says it has
    state: StateTrack | None  # as many rows


def open_source(path: Path) -> DataFile:
    """Read everything but the frames; a `UserError` names a file that cannot be read."""
    return _open_recording(path) if path.suffix.lower() == ".jsonl" else _open_episode(path)


def read_blocks(source: DataFile) -> Iterator[Frames]:
    """The frames, in blocks; a `UserError` when they break off in the middle of an episode file."""
    if source.path.suffix.lower() != ".jsonl":
        yield from _read_episode(source.path)
        return
    small = read_frames(source.path.with_suffix(".mp4"), source.size)
    while block := list(islice(small, BLOCK)):
        yield np.stack(block)


def _open_recording(path: Path) -> DataFile:
    header, rows = read_recording(path)
    if not path.with_suffix(".mp4").is_file():
        raise EpisodeError(f"{path}: the video {path.with_suffix('.mp4').name} is missing")
    return DataFile(
        path=path,
        size=header.frame_size,
        rate=header.frames_per_second,
        buttons=header.buttons,
        actions=[IDLE, *(row.action for row in rows[1:])][: len(rows)],
        state=track_of(header.state, [row.state for row in rows]) if header.state else None,
    )


def _open_episode(path: Path) -> DataFile:
    facts = load_facts(path)
    return DataFile(
        path=path,
        size=(facts.shape[1], facts.shape[2]),
        rate=facts.frames_per_second,
        buttons=facts.buttons,
        actions=facts.actions,
        state=facts.state,
    )


def _read_episode(path: Path) -> Iterator[Frames]:
    try:
        with open_tensors(path, LARGEST_EPISODE, "np") as file:
            frames = file.get_slice("frames")
            count = frames.get_shape()[0]
            for first in range(0, count, BLOCK):
                yield frames[first : min(first + BLOCK, count)]
    except (OSError, SafetensorError) as error:
        raise EpisodeError(f"{path}: breaks off: {error}") from error
