"""One file of a data set, read block by block, and everything that is kept of one pass over it."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from worldmodel.action import IDLE, Action
from worldmodel.datacheck.picture_motion import FIGURES, Numbers, motion, small_grey
from worldmodel.state_spec import StateTrack, track_of
from worldmodel.storage.episode import EpisodeError
from worldmodel.storage.episodes import actions_as_arrays, load_facts
from worldmodel.storage.recording import read_frames, read_recording
from worldmodel.storage.tensor_files import open_tensors
from worldmodel.system.limits import LARGEST_EPISODE

FLAT = 2.0  # spread of brightness, of 255, below which a frame shows nothing
STILL_DEGREES = 0.1  # a mouse that moves less rests
BLOCK = 256  # frames that are read at once
Frames = NDArray[np.uint8]  # n h w 3


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """One episode in numbers; rows of `actions` and `motion` belong to frames."""

    path: Path
    frames: int  # that could be read
    rows: int  # actions in the file
    size: tuple[int, int]
    rate: float
    buttons: tuple[str, ...]
    hashes: NDArray[np.uint64]  # n, equal for equal frames
    motion: NDArray[np.float32]  # n 5, row 0 of no meaning; or none
    held: NDArray[np.bool_]  # n k
    mouse: NDArray[np.float32]  # n 2, degrees
    state: StateTrack | None  # n rows
    flat: int  # frames of one colour
    black: int  # of these, dark ones

    @property
    def idle(self) -> NDArray[np.bool_]:
        """Whether nothing was done: n."""
        moves = np.abs(self.mouse).max(axis=1, initial=0.0) >= STILL_DEGREES
        return ~(self.held.any(axis=1) | moves)

    @property
    def repeated(self) -> NDArray[np.bool_]:
        """Whether a frame is the one before, bit for bit: n − 1."""
        return np.asarray(self.hashes[1:] == self.hashes[:-1])

    @property
    def repeated_in_action(self) -> NDArray[np.bool_]:
        """Whether each frame that an action led to is the one before, bit for bit."""
        rows = len(self.held)
        return self.repeated[: max(0, rows - 1)][~self.idle[1:]]


def scan_file(path: Path, *, keeps_motion: bool = True) -> Scan:
    """Read a file once; a `UserError` names one that cannot be read."""
    source = open_source(path)
    hashes: list[NDArray[np.uint64]] = []
    motions: list[Numbers] = [np.zeros((1, FIGURES))]
    last: Numbers | None = None
    frames = flat = black = 0
    for block in read_blocks(source):
        hashes.append(_hash(block))
        spread = block.std(axis=(1, 2)).mean(axis=1)
        flat += int((spread < FLAT).sum())
        black += int(((spread < FLAT) & (block.mean(axis=(1, 2, 3)) < 16)).sum())
        frames += len(block)
        if keeps_motion:
            grey = small_grey(block)
            motions.append(motion(grey if last is None else np.concatenate((last, grey))))
            last = grey[-1:]
    done = actions_as_arrays(source.actions, source.buttons)
    held, mouse = done["buttons"].astype(np.bool_), done["mouse"]
    both = min(frames, len(held))
    return Scan(
        path=path,
        frames=frames,
        rows=len(held),
        size=source.size,
        rate=source.rate,
        buttons=source.buttons,
        hashes=np.concatenate(hashes) if hashes else np.zeros(0, np.uint64),
        motion=np.concatenate(motions)[: both if keeps_motion else 0].astype(np.float32),
        held=held[:both],
        mouse=mouse[:both],
        state=source.state.cut(0, both) if source.state else None,
        flat=flat,
        black=black,
    )


def _hash(block: Frames) -> NDArray[np.uint64]:
    digests = [hashlib.blake2b(frame.tobytes(), digest_size=8).digest() for frame in block]
    return np.frombuffer(b"".join(digests), np.uint64)
