"""Where a Wan session begins: words alone, or words and a picture or clip of the user's own.

A picture is fitted by one rule: scaled until it covers the frame, and cut off evenly at the sides
that are too long. Nothing is stretched.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.episodes import load_episode
from worldmodel.pictures import read_picture
from worldmodel.video import read_video
from worldmodel.wan.taehv import Taehv
from worldmodel.wan.vae import WanVAE

EPISODES = (".safetensors", ".jsonl")
VIDEOS = (".mp4", ".mkv", ".webm", ".mov", ".avi")


@dataclass(frozen=True, slots=True)
class Start:
    """One place to begin at."""

    caption: str
    opening: str  # the prompt
    latents: Tensor | None = None  # 1 f c h w, in whole blocks


def fit(frame: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """A frame h w 3 as rows x columns: scaled to cover, then cropped around its middle."""
    height, width = frame.shape[:2]
    factor = max(rows / height, columns / width)
    size = max(columns, round(width * factor)), max(rows, round(height * factor))
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    covered = cv2.resize(np.ascontiguousarray(frame), size, interpolation=way)
    top, left = (covered.shape[0] - rows) // 2, (covered.shape[1] - columns) // 2
    return np.asarray(covered[top : top + rows, left : left + columns], np.uint8)


def read_frames(path: Path, most: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Frames t h w 3 of a picture (one); the last, `most` of them, of a video or an episode.

    They are fitted to rows and columns one by one: of a large video only small frames are kept.
    """
    if path.suffix in EPISODES:
        found: Iterable[NDArray[np.uint8]] = load_episode(path, most).frames
    elif path.suffix.lower() in VIDEOS:
        found = read_video(path)
    else:
        found = (read_picture(path),)
    frames = deque((fit(frame, *size) for frame in found), maxlen=most)
    if not frames:
        raise UserError(f"{path}: holds no frames")
    return np.stack(frames)


def encode_start(
    encoder: WanVAE | Taehv, frames: NDArray[np.uint8], size: tuple[int, int], block: int, most: int
) -> Tensor:
    """The last of frames t h w 3 as at most `most` latents, in whole blocks: 1 f c h w.

    f latents show 1 + 4 (f - 1) frames. Too few frames for a block: the first is held before them.
    """
    step = encoder.config.frames_per_latent
    latents = max(1, (len(frames) - 1) // step + 1)
    latents = min(most, max(block, latents - latents % block))
    needed = 1 + step * (latents - 1)
    frames = frames[-needed:]
    still = np.repeat(frames[:1], needed - len(frames), axis=0)
    fitted = np.stack([fit(frame, *size) for frame in (*still, *frames)])  # what is not yet
    video = rearrange(torch.from_numpy(fitted), "t h w c -> 1 c t h w").float() / 127.5 - 1
    if isinstance(encoder, Taehv):  # which makes a latent of every 4 frames
        video = torch.cat((video[:, :, :1].expand(-1, -1, step - 1, -1, -1), video), dim=2)
    return rearrange(encoder.encode(video), "b c f h w -> b f c h w").float()
