"""Episodes: frames, and the action that led to each of them.

On disk an episode is one safetensors file, `frames` uint8 f h w 3, `buttons` uint8 f k and `mouse`
float32 f 2 (degrees), with a header that says what the numbers mean. Frame 0 was reached by no
action: its row is zeros. A recording made by playing (`NAME.jsonl` beside `NAME.mp4`) reads as an
episode too.

Letters: f frames, h w rows, columns, k buttons.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.files import check_file, write_atomically
from worldmodel.paths import list_files

FORMAT = "worldmodel episode 1"
LARGEST = 16 << 30  # bytes of a file
ENDINGS = (".safetensors", ".jsonl")
BROKEN = (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError, RecursionError)


class EpisodeError(UserError):
    """A file that should hold an episode does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """One stretch of play. `actions[i]` led from `frames[i - 1]` to `frames[i]`."""

    frames: NDArray[np.uint8]  # f h w 3, RGB
    actions: Sequence[Action]  # f
    frames_per_second: float
    buttons: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.actions):
            raise EpisodeError(
                f"an episode has {len(self.frames)} frames but {len(self.actions)} actions"
            )

    def __len__(self) -> int:
        return len(self.frames)


def save_episode(path: Path, episode: Episode) -> None:
    """Write atomically: a file that exists is whole."""
    write_atomically(path, episode_bytes(episode))


def episode_bytes(episode: Episode) -> bytes:
    """The content of an episode file."""
    held = [[button in action.buttons for button in episode.buttons] for action in episode.actions]
    header = {
        "format": FORMAT,
        "frames_per_second": repr(episode.frames_per_second),
        "buttons": json.dumps(episode.buttons),
    }
    arrays: dict[str, NDArray[Any]] = {
        "frames": np.ascontiguousarray(episode.frames),
        "buttons": np.asarray(held, np.uint8),
        "mouse": np.asarray([action.mouse for action in episode.actions], np.float32),
    }
    return bytes(save(arrays, metadata=header))


def load_episode(path: Path) -> Episode:
    """Read an episode file or a recording's JSONL; an `EpisodeError` says what is wrong."""
    if path.suffix == ".jsonl":
        from worldmodel.recording import load_recording  # PyAV only where a video is read

        return load_recording(path)
    try:
        check_file(path, LARGEST)
    except UserError as error:
        raise EpisodeError(str(error)) from error
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise EpisodeError(
                    f"{path}: expected the format {FORMAT!r}, found {header.get('format')!r}"
                )
            names = tuple(map(str, json.loads(header["buttons"])))
            held, mouse = file.get_tensor("buttons"), file.get_tensor("mouse")
            frames = file.get_tensor("frames")
            _check_shapes(path, frames, held, mouse, names)
            return Episode(
                frames=frames,
                actions=to_actions(held, mouse, names),
                frames_per_second=float(header["frames_per_second"]),
                buttons=names,
            )
    except BROKEN as error:
        if isinstance(error, UserError):
            raise
        raise EpisodeError(f"{path}: not an episode: {str(error)[:300]}") from error


def load_actions(path: Path) -> Sequence[Action]:
    """What was done in an episode or a recording; the frames of an episode file are not read."""
    if path.suffix == ".jsonl":
        return load_episode(path).actions
    try:
        check_file(path, LARGEST)
        with safe_open(path, framework="np") as file:
            names = tuple(map(str, json.loads((file.metadata() or {})["buttons"])))
            return to_actions(file.get_tensor("buttons"), file.get_tensor("mouse"), names)
    except BROKEN as error:
        raise EpisodeError(f"{path}: not an episode: {str(error)[:300]}") from error


def find_episodes(folder: Path) -> list[Path]:
    """All episodes under `folder`, in the order of their names."""
    if not folder.is_dir():
        raise EpisodeError(f"{folder}: no such folder; `worldmodel record` makes one")
    paths = [path for path in list_files(folder) if path.suffix.lower() in ENDINGS]
    if not paths:
        raise EpisodeError(f"{folder}: no episodes (*.safetensors) and no recordings (*.jsonl)")
    return paths


def _check_shapes(
    path: Path,
    frames: NDArray[np.uint8],
    held: NDArray[np.uint8],
    mouse: NDArray[np.float32],
    names: tuple[str, ...],
) -> None:
    """Refuse arrays that are no episode, saying which and why."""
    count = len(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not count:
        raise EpisodeError(f"{path}: frames are {frames.dtype} {frames.shape}, not uint8 f h w 3")
    if held.shape != (count, len(names)) or mouse.shape != (count, 2):
        raise EpisodeError(
            f"{path}: {count} frames need buttons {(count, len(names))} and mouse {(count, 2)}; "
            f"found {held.shape} and {mouse.shape}"
        )
    if not np.isfinite(mouse).all():
        raise EpisodeError(f"{path}: mouse travel holds values that are no numbers")


def to_actions(
    held: NDArray[np.uint8], mouse: NDArray[np.float32], names: tuple[str, ...]
) -> list[Action]:
    """Rows of held buttons f k and of mouse travel f 2, degrees, as actions."""
    return [
        Action(
            frozenset(name for name, down in zip(names, row, strict=True) if down),
            (float(travel[0]), float(travel[1])),
        )
        for row, travel in zip(held, mouse, strict=True)
    ]
