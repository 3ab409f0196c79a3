"""Clips of pixels for the Wan autoencoder, out of recordings, episodes and videos.

Whatever the rate of a source, clips come at one rate: of every moment the nearest frame is taken,
and what was done in frames that are left out counts as done by then. The words of NAME.mp4 (or
.jsonl, .safetensors) are in NAME.txt beside it.

Letters: t pixel frames, h w rows, columns, f latent frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.episodes import EpisodeError, load_episode
from worldmodel.files import FileReadError, read_text
from worldmodel.limits import LARGEST_CAPTION
from worldmodel.video import read_rate, read_video
from worldmodel.worlds.wan_drive import Drive
from worldmodel.worlds.wan_file import CameraConfig
from worldmodel.worlds.wan_start import fit

Moment = tuple[NDArray[np.uint8], tuple[Action, ...]]  # a frame h w 3, and what led to it


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of a source at the rate of the world."""

    frames: NDArray[np.uint8]  # t h w 3
    actions: tuple[tuple[Action, ...], ...]  # t, what was done since the frame before

    def video(self, rows: int, columns: int) -> Tensor:
        """As the autoencoder takes it: 1 3 t h w in [-1, 1]; scaled to cover, cut at the sides."""
        fitted = np.stack([fit(frame, rows, columns) for frame in self.frames])
        return rearrange(torch.from_numpy(fitted), "t h w c -> 1 c t h w").float() / 127.5 - 1

    def cameras(self, camera: CameraConfig, frames_per_latent: int) -> Tensor:
        """Projections f 4 4: at first it stands; then each latent frame moves it as in play."""
        drive = Drive(camera, block_frames=1)
        seen = [drive.first_cameras(1)]
        for first in range(1, len(self.actions), frames_per_latent):
            for done in self.actions[first : first + frames_per_latent]:
                for action in done:
                    drive.feed(action)
            seen.append(drive.cameras())
        return torch.cat(seen, dim=1)[0]


def find_sources(folder: Path) -> list[Path]:
    """All episodes, recordings and videos under a folder; a recording's own video is not twice."""
    if not folder.is_dir():
        raise EpisodeError(f"{folder}: no such folder; expected episodes, recordings or videos")
    kinds = (".safetensors", ".jsonl", ".mp4")
    paths = [path for path in folder.rglob("*") if path.suffix in kinds and path.is_file()]
    paths = [p for p in paths if p.suffix != ".mp4" or not p.with_suffix(".jsonl").exists()]
    if not paths:
        raise EpisodeError(f"{folder}: no episodes, no recordings (*.jsonl), no videos (*.mp4)")
    return sorted(paths)


def caption_of(source: Path, otherwise: str) -> str:
    """The words beside a source, or those for sources without."""
    path = source.with_suffix(".txt")
    if not path.is_file():
        return otherwise
    try:
        return read_text(path, LARGEST_CAPTION).strip()
    except FileReadError as error:
        raise UserError(f"{error}; it should hold the words of {source.name}") from error


def read_clips(source: Path, rate: float, length: int, every: int) -> Iterator[Clip]:
    """Clips of `length` frames, one beginning `every` frames after the other; a rest is left."""
    frames: list[NDArray[np.uint8]] = []
    actions: list[tuple[Action, ...]] = []
    skip = 0
    own_rate, moments = open_source(source)
    for frame, done in at_rate(moments, own_rate, rate):
        if skip:
            skip -= 1
            continue
        frames.append(frame)
        actions.append(done)
        if len(frames) == length:
            yield Clip(np.stack(frames), tuple(actions))
            skip = max(0, every - length)
            frames, actions = frames[every:], actions[every:]


def at_rate(moments: Iterator[Moment], rate: float, wanted: float) -> Iterator[Moment]:
    """The frame nearest to each moment of the wanted rate, with all that was done since."""
    done: list[Action] = []
    number = 0  # of the frame that is wanted next
    for index, (frame, actions) in enumerate(moments):
        done.extend(actions)
        while round(number * rate / wanted) == index:
            yield frame, tuple(done)
            done = []
            number += 1


def open_source(source: Path) -> tuple[float, Iterator[Moment]]:
    """Frames a second of a source, and its frames with what led to each."""
    if source.suffix == ".mp4":
        return read_rate(source), ((picture, (IDLE,)) for picture in read_video(source))
    episode = load_episode(source)
    pairs = zip(episode.frames, episode.actions, strict=True)
    return episode.frames_per_second, ((picture, (action,)) for picture, action in pairs)
