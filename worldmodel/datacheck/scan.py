"""Everything that is kept of a file after one pass over its frames."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import Action
from worldmodel.datacheck.picture_motion import FIGURES, Numbers, motion, small_grey
from worldmodel.datacheck.source import Frames, open_source, read_blocks
from worldmodel.state_spec import StateTrack

FLAT = 2.0  # spread of brightness, of 255, below which a frame shows nothing
STILL_DEGREES = 0.1  # a mouse that moves less rests


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
        """The same of the frames that an action led to."""
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
    held, mouse = _arrays(source.actions, source.buttons)
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


def _arrays(
    actions: Sequence[Action], buttons: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    held = [[button in action.buttons for button in buttons] for action in actions]
    mouse = [action.mouse for action in actions]
    return (
        np.asarray(held, np.bool_).reshape(len(actions), len(buttons)),
        np.asarray(mouse, np.float32).reshape(len(actions), 2),
    )
