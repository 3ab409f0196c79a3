"""Episodes: frames, and the action that led to each of them.

On disk an episode is one safetensors file, `frames` uint8 f h w 3, `buttons` uint8 f k and `mouse`
float32 f 2 (degrees), with a header that says what the numbers mean. Frame 0 was reached by no
action: its row is zeros. Where the game told its state there is `state` too, float32 f n, NaN where
a number was not known, and in the header, as JSON, what each number is (`StateSpec`). A recording
made by playing (`NAME.jsonl` beside `NAME.mp4`) reads as an episode too.

Letters: f frames, h w rows, columns, k buttons, n numbers of the state.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from worldmodel.action import Action
from worldmodel.config import ConfigError, UserError
from worldmodel.files import check_file, write_atomically
from worldmodel.state_spec import StateTrack, read_spec

FORMAT = "worldmodel episode 1"
LARGEST = 16 << 30  # bytes of a file
HALVED = 8  # pixels: an autoencoder halves a frame's sides three times or more
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
    state: StateTrack | None = None  # f n, of each frame; None where the game did not tell

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.actions):
            raise EpisodeError(
                f"an episode has {len(self.frames)} frames but {len(self.actions)} actions"
            )
        if self.state is not None and len(self.state) != len(self.frames):
            raise EpisodeError(
                f"an episode has {len(self.frames)} frames but the state of {len(self.state)}"
            )

    def __len__(self) -> int:
        return len(self.frames)

    def cut(self, first: int, end: int) -> "Episode":
        """From frame `first` until before frame `end`, in memory of its own."""
        return replace(
            self,
            frames=self.frames[first:end].copy(),  # a view would keep the whole episode
            actions=list(self.actions[first:end]),
            state=None if self.state is None else self.state.cut(first, end),
        )


def save_episode(path: Path, episode: Episode) -> None:
    """Write atomically: a file that exists is whole."""
    write_atomically(path, episode_bytes(episode))


def episode_bytes(episode: Episode) -> bytes:
    """The content of an episode file."""
    frames = episode.frames
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise EpisodeError(
            f"an episode's frames are {frames.dtype} {frames.shape}; expected uint8 f h w 3, or "
            "nobody could read the file"
        )
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
    if episode.state is not None:
        header["state"] = episode.state.spec.to_json()
        arrays["state"] = np.ascontiguousarray(episode.state.values)
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
                state=read_state(path, file, len(frames)),
            )
    except BROKEN as error:
        if isinstance(error, UserError):
            raise
        raise EpisodeError(f"{path}: not an episode: {str(error)[:300]}") from error


def read_state(path: Path, file: Any, frames: int) -> StateTrack | None:
    """The state in an open episode file of so many frames; an `EpisodeError` if it is none."""
    text = (file.metadata() or {}).get("state")
    if (text is None) != ("state" not in file.keys()):  # noqa: SIM118  # a file is no mapping
        raise EpisodeError(f"{path}: of the state there is only the {'header' if text else 'rows'}")
    if text is None:
        return None
    try:
        track = StateTrack(read_spec(text, f"{path}: state"), file.get_tensor("state"))
    except ConfigError as error:
        told = str(error)
        raise EpisodeError(told if told.startswith(str(path)) else f"{path}: {told}") from error
    if len(track) != frames:
        raise EpisodeError(f"{path}: {frames} frames, but the state of {len(track)}")
    return track


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


def load_state(path: Path) -> StateTrack | None:
    """The state in an episode or a recording; the frames of an episode file are not read."""
    if path.suffix == ".jsonl":
        return load_episode(path).state
    try:
        check_file(path, LARGEST)
        with safe_open(path, framework="np") as file:
            return read_state(path, file, file.get_slice("frames").get_shape()[0])
    except BROKEN as error:
        if isinstance(error, EpisodeError):
            raise
        raise EpisodeError(f"{path}: not an episode: {str(error)[:300]}") from error


def told_sizes(size: tuple[int, int]) -> str:
    """Which sizes (rows, columns) training takes, and the nearest one, for people."""
    rows, columns = (max(HALVED, round(side / HALVED) * HALVED) for side in size)
    return f"sides are multiples of {HALVED}, better of 16, for instance {columns}x{rows}"


def find_episodes(folder: Path) -> list[Path]:
    """All episodes under `folder`, in the order of their names."""
    if not folder.is_dir():
        raise EpisodeError(f"{folder}: no such folder; `worldmodel record` makes one")
    paths = [*folder.rglob("*.safetensors"), *folder.rglob("*.jsonl")]
    if not paths:
        raise EpisodeError(f"{folder}: no episodes (*.safetensors) and no recordings (*.jsonl)")
    return sorted(paths)


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
