"""Where a Wan session begins: words, a picture or clip of the user's own, or an encoded picture.

Frames of another shape are fitted by the rule of `storage.images`.
"""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.storage.footage import is_episode, is_video, nearest, open_footage
from worldmodel.storage.images import fit, read_picture
from worldmodel.wan.image_encoder import ImageEncoder
from worldmodel.wan.pictures import CHANGING, PictureCondition, encode_picture
from worldmodel.wan.taehv import Taehv
from worldmodel.wan.vae import WanVAE
from worldmodel.worlds.wan.world_file import WanWorldFile


@dataclass(frozen=True, slots=True)
class WanStart:
    """One place to begin at: its first words, and latents of an image or a clip."""

    caption: str
    opening: str  # the prompt
    latents: Tensor | None = None  # 1 f c h w, in whole chunks
    picture: PictureCondition | None = None  # what an image-to-video world begins with


def read_frames(path: Path, most: int, size: tuple[int, int], rate: float) -> NDArray[np.uint8]:
    """Frames t h w 3 of a picture (one); the last, `most` of them, of a video or an episode.

    They come at `rate` a second, fitted to rows and columns one by one: of a large video only
    small frames are kept.
    """
    if not (is_video(path) or is_episode(path)):
        return fit(read_picture(path), *size)[None]
    found = nearest(open_footage(path, most / rate), rate)
    frames = deque((fit(frame, *size) for frame, _ in found), maxlen=most)
    if not frames:
        raise UserError(f"{path}: holds no frames")
    return np.stack(frames)


def encode_picture_start(
    file: WanWorldFile, path: Path, vae: WanVAE, encoder: ImageEncoder
) -> PictureCondition:
    """A picture, or the last frame of a clip, as what an image-to-video world begins with."""
    check_features(file, encoder.config.tokens, encoder.config.width, "the image encoder")
    picture = read_frames(path, 1, file.frame_size, file.frames_per_second)[-1]
    features = encoder.encode(picture)
    found = PictureCondition(features, encode_picture(vae, picture))
    check_picture(file, found, str(path))
    return found


def check_features(file: WanWorldFile, tokens: int, width: int, where: str) -> None:
    """Refuse what gives other features than the model reads, before minutes go into a picture."""
    sizes = file.transformer.picture
    assert sizes is not None
    if (tokens, width) != (sizes.tokens, sizes.width):
        raise UserError(
            f"{where} gives {tokens} x {width} features of a picture, {file.name} reads "
            f"{sizes.tokens} x {sizes.width}; name models_clip_open-clip-xlm-roberta-large-vit-"
            "huge-14.pth of Wan2.1"
        )


def check_picture(file: WanWorldFile, picture: PictureCondition, where: str) -> None:
    """Refuse what another model's encoders made, or for another size."""
    sizes, window = file.transformer.picture, file.window
    assert sizes is not None
    expected = (sizes.tokens, sizes.width)
    latents = (file.transformer.latent_channels, window.rows, window.columns)
    if len(picture.latents) > CHANGING:
        raise UserError(
            f"{where}: encoded as {len(picture.latents)} latent frames; at most {CHANGING} differ"
        )
    if tuple(picture.features.shape) != expected or tuple(picture.latents.shape[1:]) != latents:
        raise UserError(
            f"{where}: encoded as {list(picture.features.shape)} features and latents of "
            f"{list(picture.latents.shape[1:])}, {file.name} reads {list(expected)} and "
            f"{list(latents)}; it was encoded for another model or another size"
        )


def encode_start(
    encoder: WanVAE | Taehv, frames: NDArray[np.uint8], size: tuple[int, int], chunk: int, most: int
) -> Tensor:
    """The last of frames t h w 3 as at most `most` latents, in whole chunks: 1 f c h w.

    f latents show 1 + 4 (f - 1) frames. Too few frames for a chunk: the first is held before them.
    """
    step = encoder.config.frames_per_latent
    latents = max(1, (len(frames) - 1) // step + 1)
    latents = min(most, max(chunk, latents - latents % chunk))
    needed = 1 + step * (latents - 1)
    frames = frames[-needed:]
    still = np.repeat(frames[:1], needed - len(frames), axis=0)
    whole = np.stack([fit(frame, *size) for frame in (*still, *frames)])  # what is not yet
    video = rearrange(torch.from_numpy(whole), "t h w c -> 1 c t h w").float() / 127.5 - 1
    if isinstance(encoder, Taehv):  # which makes a latent of every 4 frames
        video = torch.cat((video[:, :, :1].expand(-1, -1, step - 1, -1, -1), video), dim=2)
    return rearrange(encoder.encode(video), "b c f h w -> b f c h w").float()
