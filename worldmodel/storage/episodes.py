"""Episodes: frames, and the action that led to each of them.

On disk an episode is one safetensors file, `frames` uint8 f h w 3, `buttons` uint8 f k and `mouse`
float32 f 2 (degrees), with a header that says what the numbers mean. Frame 0 was reached by no
action: its row is zeros. Where the game told its state there is `state` too, float32 f v, NaN where
a number was not known, and in the header, as JSON, what each number is (`StateSpec`). A recording
made by playing (`NAME.jsonl` beside `NAME.mp4`) reads as an episode too.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from worldmodel.action import Action
from worldmodel.config import ConfigError, UserError
from worldmodel.state_spec import StateTrack, read_spec
from worldmodel.storage.episode import Episode, EpisodeError
from worldmodel.storage.files import write_atomically
from worldmodel.storage.tensor_files import DTYPES, is_large, mapped, open_tensors
from worldmodel.system.limits import (
    FASTEST,
    LARGEST_EPISODE,
    LONGEST_BUTTON,
    MOST_BUTTONS,
    MOST_FRAMES,
    MOST_HELD,
    SLOWEST,
)
from worldmodel.system.paths import closed_folder, list_files
from worldmodel.system.printable import shown

FORMAT = "worldmodel episode 1"
ENDINGS = (".safetensors", ".jsonl")
HALVED = 8  # pixels: an autoencoder halves a frame's sides three times or more
BROKEN = (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError, RecursionError)


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
    header = {
        "format": FORMAT,
        "frames_per_second": repr(episode.frames_per_second),
        "buttons": json.dumps(episode.buttons),
    }
    arrays: dict[str, NDArray[Any]] = {
        "frames": np.ascontiguousarray(episode.frames),
        **actions_as_arrays(episode.actions, episode.buttons),
    }
    if episode.state is not None:
        header["state"] = episode.state.spec.to_json()
        arrays["state"] = np.ascontiguousarray(episode.state.values)
    return bytes(save(arrays, metadata=header))


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What an episode file says beside its frames."""

    shape: tuple[int, ...]  # of the frames, f h w 3
    actions: list[Action]
    frames_per_second: float
    buttons: tuple[str, ...]
    state: StateTrack | None


def load_episode(path: Path, last: int | None = None) -> Episode:
    """Read an episode file or a recording's JSONL; an `EpisodeError` says what is wrong.

    Of an episode that becomes the past of a world only the `last` frames are read.
    """
    if path.suffix.lower() == ".jsonl":
        from worldmodel.storage.recording import load_recording  # PyAV only where a video is read

        return load_recording(path, last)
    with _opened(path) as file:
        facts = read_facts(path, file)
        first = max(0, facts.shape[0] - last) if last else 0
        if is_large(path):  # memory need not hold all of it
            frames: NDArray[np.uint8] = mapped(path, "frames")[first:]
        else:
            frames = file.get_slice("frames")[first:]
        return Episode(
            frames=frames,
            actions=facts.actions[first:],
            frames_per_second=facts.frames_per_second,
            buttons=facts.buttons,
            state=facts.state.cut(first, facts.shape[0]) if facts.state else None,
        )


def load_actions(path: Path) -> Sequence[Action]:
    """What was done in an episode or a recording; the frames of an episode file are not read."""
    if path.suffix.lower() == ".jsonl":
        return load_episode(path).actions
    return load_facts(path).actions


def load_rate(path: Path) -> float:
    """Frames a second of an episode or a recording; its frames are not read."""
    if path.suffix.lower() == ".jsonl":
        from worldmodel.storage.recording import read_recording

        return read_recording(path)[0].frames_per_second
    return load_facts(path).frames_per_second


def load_facts(path: Path) -> Facts:
    """Everything of an episode file but its frames."""
    with _opened(path) as file:
        return read_facts(path, file)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open file; what goes wrong with it is an `EpisodeError`."""
    try:
        with open_tensors(path, LARGEST_EPISODE, "np") as file:
            yield file
    except EpisodeError:
        raise
    except BROKEN as error:
        is_explained = isinstance(error, UserError)
        message = str(error) if is_explained else f"{path}: not an episode: {str(error)[:300]}"
        raise EpisodeError(message) from error


def read_facts(path: Path, file: Any) -> Facts:
    """What an open file says; shapes are looked at before anything is read."""
    header = file.metadata() or {}
    if header.get("format") != FORMAT:
        raise EpisodeError(
            f"{path}: expected the format {FORMAT!r}, found {shown(header.get('format'))}"
        )
    names = tuple(map(str, json.loads(header["buttons"])))
    if len(names) > MOST_BUTTONS or any(len(name) > LONGEST_BUTTON for name in names):
        raise EpisodeError(
            f"{path}: {len(names)} buttons, at most {MOST_BUTTONS} are read, of "
            f"{LONGEST_BUTTON} letters each"
        )
    if len(set(names)) < len(names):
        raise EpisodeError(f"{path}: a button is named twice: {shown(', '.join(names))}")
    shape = _check_shapes(path, file, names)
    rate = float(header["frames_per_second"])
    if not SLOWEST <= rate <= FASTEST:
        raise EpisodeError(
            f"{path}: {rate} frames a second, expected from {SLOWEST} to {FASTEST:g}"
        )
    held, mouse = file.get_tensor("buttons"), file.get_tensor("mouse")
    if not np.isfinite(mouse).all():
        raise EpisodeError(f"{path}: mouse travel holds values that are no numbers")
    return Facts(
        shape=shape,
        actions=to_actions(held, mouse, names),
        frames_per_second=rate,
        buttons=names,
        state=_read_state(path, file, shape[0]),
    )


def _read_state(path: Path, file: Any, frames: int) -> StateTrack | None:
    """The state in an open episode file of so many frames; an `EpisodeError` if it is none."""
    text = (file.metadata() or {}).get("state")
    if (text is None) != ("state" not in file.keys()):  # noqa: SIM118  # a file is no mapping
        raise EpisodeError(f"{path}: of the state there is only the {'header' if text else 'rows'}")
    if text is None:
        return None
    try:
        spec = read_spec(text, f"{path}: state")
        shape = tuple(file.get_slice("state").get_shape())
        if len(shape) == 2 and shape[0] != frames:
            raise EpisodeError(f"{path}: {frames} frames, but the state of {shape[0]}")
        if shape != (frames, spec.width):
            raise EpisodeError(
                f"{path}: the state is {shape}, expected rows of {spec.width} numbers"
            )
        return StateTrack(spec, file.get_tensor("state"))
    except ConfigError as error:
        message = str(error)
        where = "" if message.startswith(str(path)) else f"{path}: "
        raise EpisodeError(where + message) from error


def load_state(path: Path) -> StateTrack | None:
    """The state in an episode or a recording; the frames of an episode file are not read."""
    if path.suffix.lower() == ".jsonl":
        return load_episode(path).state
    return load_facts(path).state


def told_sizes(size: tuple[int, int]) -> str:
    """Which sizes (rows, columns) training takes, and the nearest one, for people."""
    rows, columns = (max(HALVED, round(side / HALVED) * HALVED) for side in size)
    return f"sides are multiples of {HALVED}, better of 16, for instance {columns}x{rows}"


def find_episodes(folder: Path) -> list[Path]:
    """All episodes under `folder`, in the order of their names."""
    if folder.is_file():
        raise EpisodeError(f"{folder}: a file; expected a folder of episodes")
    if not folder.is_dir():
        raise EpisodeError(f"{folder}: no such folder; `worldmodel record` makes one")
    if closed := closed_folder(folder):
        raise EpisodeError(f"{closed}; make it readable, or move it out of the data")
    paths = [path for path in list_files(folder) if path.suffix.lower() in ENDINGS]
    if not paths:
        raise EpisodeError(f"{folder}: no episodes (*.safetensors) and no recordings (*.jsonl)")
    return paths


def _check_shapes(path: Path, file: Any, names: tuple[str, ...]) -> tuple[int, ...]:
    """Refuse arrays that are no episode, saying which and why; the frames' shape."""
    frames, held, mouse = (file.get_slice(name) for name in ("frames", "buttons", "mouse"))
    shape, kind = tuple(frames.get_shape()), frames.get_dtype()
    if kind != "U8" or len(shape) != 4 or shape[3] != 3 or not all(shape):
        raise EpisodeError(
            f"{path}: frames are {DTYPES.get(kind, kind)} {shape}, not uint8 f h w 3"
        )
    count = shape[0]
    if count > MOST_FRAMES or count * len(names) > MOST_HELD:
        raise EpisodeError(
            f"{path}: {count} frames of {len(names)} buttons, at most {MOST_FRAMES} are read, "
            f"and {MOST_HELD} times a button"
        )
    shapes = tuple(held.get_shape()), tuple(mouse.get_shape())
    if shapes != ((count, len(names)), (count, 2)):
        raise EpisodeError(
            f"{path}: {count} frames need buttons {(count, len(names))} and mouse {(count, 2)}; "
            f"found {shapes[0]} and {shapes[1]}"
        )
    return shape


def actions_as_arrays(actions: Sequence[Action], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """What `to_actions` reads: `buttons` uint8 f k and `mouse` float32 f 2."""
    held = [[name in action.buttons for name in names] for action in actions]
    return {
        "buttons": np.asarray(held, np.uint8).reshape(len(actions), len(names)),
        "mouse": np.asarray([a.mouse for a in actions], np.float32).reshape(len(actions), 2),
    }


def to_actions(
    held: NDArray[np.uint8], mouse: NDArray[np.float32], names: tuple[str, ...]
) -> list[Action]:
    """Rows of held buttons f k and of mouse travel f 2, degrees, as actions."""
    known: dict[bytes, frozenset[str]] = {}  # few sets are different
    actions = []
    for row, (right, down) in zip(held, mouse.tolist(), strict=True):
        key = row.tobytes()
        if key not in known:
            known[key] = frozenset(n for n, down in zip(names, row, strict=True) if down)
        actions.append(Action(known[key], (float(right), float(down))))
    return actions
