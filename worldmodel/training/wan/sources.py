"""Clips of pixels for the Wan autoencoder, out of recordings, episodes and videos.

Whatever the rate of a source, clips come at one rate (`footage`). The words of NAME.mp4 (or .mov,
.jsonl, .safetensors, …) are in NAME.txt beside it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.action import Action, ActionSpec
from worldmodel.config import UserError
from worldmodel.storage.episode import EpisodeError
from worldmodel.storage.files import FileReadError, read_text
from worldmodel.storage.footage import find_footage, nearest, open_footage
from worldmodel.storage.images import fit
from worldmodel.storage.video import ENDINGS as VIDEOS
from worldmodel.system.limits import LARGEST_CAPTION
from worldmodel.worlds.wan.camera_control import Drive
from worldmodel.worlds.wan.row_control import key_row, mouse_row
from worldmodel.worlds.wan.world_file import CameraConfig, WanWorldFile


@dataclass(frozen=True, slots=True)
class PixelClip:
    """A stretch of a source at the rate of the world."""

    frames: NDArray[np.uint8]  # g h w 3
    actions: tuple[tuple[Action, ...], ...]  # g, what was done since the frame before

    def video(self, rows: int, columns: int) -> Tensor:
        """As the autoencoder takes it: 1 3 g h w in [-1, 1]; scaled to cover, cut at the sides."""
        fitted = np.stack([fit(frame, rows, columns) for frame in self.frames])
        return rearrange(torch.from_numpy(fitted), "g h w c -> 1 c g h w").float() / 127.5 - 1

    def rows(self, world: WanWorldFile) -> tuple[Tensor, Tensor]:
        """Rows of keys t k and of the mouse t 2, as a world's devices make them.

        Row t is what was done while frame t was on the screen; the last one acts on no frame.
        """
        controls = world.controls
        assert controls is not None
        keys, mouse = [], []
        for done in (*self.actions[1:], ()):
            held, travel = _held(done), _travel(done)
            keys.append(key_row(controls, held))
            mouse.append(mouse_row(controls, world.actions, held, travel))
        return torch.tensor(keys), torch.tensor(mouse)

    def not_in_rows(self, spec: ActionSpec) -> Counter[str]:
        """What rows cannot say: a world's unknown buttons and too fast turns, in frames of each."""
        found: Counter[str] = Counter()
        most = spec.max_mouse_degrees
        for done in self.actions[1:]:
            found.update(_held(done).difference(spec.buttons))
            right, down = _travel(done)
            turn = max(abs(right) * spec.look_left_right, abs(down) * spec.look_up_down)
            if spec.uses_mouse and turn > most:
                found[f"turns of more than {most:g} degrees"] += 1
        return found

    def cameras(self, camera: CameraConfig, frames_per_latent: int) -> Tensor:
        """Projections f 4 4: at first it stands; then each latent frame moves it as in play."""
        drive = Drive(camera, chunk_frames=1)
        seen = [drive.first_cameras(1)]
        for first in range(1, len(self.actions), frames_per_latent):
            for done in self.actions[first : first + frames_per_latent]:
                for action in done:
                    drive.feed(action)
            seen.append(drive.cameras())
        return torch.cat(seen, dim=1)[0]


def _held(done: tuple[Action, ...]) -> frozenset[str]:
    """Buttons that were down at all."""
    return frozenset[str]().union(*(action.buttons for action in done))


def _travel(done: tuple[Action, ...]) -> tuple[float, float]:
    """Degrees of the mouse, right and down."""
    return sum(action.mouse[0] for action in done), sum(action.mouse[1] for action in done)


def find_sources(folder: Path) -> list[Path]:
    """All episodes, recordings and videos under a folder; a recording's own video is not twice."""
    if not folder.is_dir():
        raise EpisodeError(f"{folder}: no such folder; expected episodes, recordings or videos")
    paths = find_footage(folder)
    if not paths:
        raise EpisodeError(
            f"{folder}: no episodes, no recordings (*.jsonl), no videos ({', '.join(VIDEOS)})"
        )
    return paths


def caption_of(source: Path, otherwise: str) -> str:
    """The words beside a source, or those for sources without."""
    path = source.with_suffix(".txt")
    if not path.is_file():
        return otherwise
    try:
        return read_text(path, LARGEST_CAPTION).strip()
    except FileReadError as error:
        raise UserError(f"{error}; it should hold the words of {source.name}") from error


def read_clips(source: Path, rate: float, length: int, every: int) -> Iterator[PixelClip]:
    """Clips of `length` frames, one beginning `every` frames after the other; a rest is left."""
    frames: list[NDArray[np.uint8]] = []
    actions: list[tuple[Action, ...]] = []
    skip = 0
    for frame, done in nearest(open_footage(source), rate):
        if skip:
            skip -= 1
            continue
        frames.append(frame)
        actions.append(done)
        if len(frames) == length:
            yield PixelClip(np.stack(frames), tuple(actions))
            skip = max(0, every - length)
            frames, actions = frames[every:], actions[every:]
