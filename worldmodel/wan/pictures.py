"""What an image-to-video model is given of the picture that a session begins with.

    start = PictureCondition(features, latents)
    channels = start.channels(now, frames=3)      # mask and latents beside the noise of a chunk
    save_pictures(path, {"a forest": start}); load_pictures(path)

The latents are those of a clip: the picture, then grey. They depend on the picture ever less and
from the 30th on not at all, so that the last of 30 stands for all that follow. A file of them
spares play the image encoder and the video encoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.storage.checkpoint import CheckpointError, load_tensors
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.system.limits import LARGEST_PICTURES, MOST_SAID
from worldmodel.system.printable import shown
from worldmodel.wan.vae import WanVAE

FORMAT = 1
PARTS = ("features", "latents")
CHANGING = 30  # latent frames after which all are the same


@dataclass(frozen=True, slots=True)
class PictureCondition:
    """One picture, encoded."""

    features: Tensor  # u d, of the image encoder
    latents: Tensor  # f c h w, of the picture and grey after it

    def channels(self, now: int, frames: int, mask: int) -> Tensor:
        """Beside the noise of the latent frames from `now` on: 1 f (mask c) h w.

        The mask is 1 on the first frame of a session and 0 later.
        """
        last = len(self.latents) - 1
        chosen = [min(now + frame, last) for frame in range(frames)]
        latents = self.latents[chosen].float()
        known = latents.new_zeros(frames, mask, *latents.shape[2:])
        if now == 0:
            known[0] = 1
        return torch.cat((known, latents), dim=1)[None]


@torch.no_grad()
def encode_picture(vae: WanVAE, picture: NDArray[np.uint8], frames: int = CHANGING) -> Tensor:
    """A fitted picture h w 3 and grey after it as latents f c h w, fp32 on the CPU."""
    shown = rearrange(torch.from_numpy(picture), "h w c -> 1 c 1 h w").float() / 127.5 - 1
    after = vae.config.frames_per_latent * (frames - 1)
    grey = shown.new_zeros(1, 3, after, *shown.shape[3:])
    latents = vae.encode(torch.cat((shown, grey), dim=2), desc="the picture is encoded")
    return rearrange(latents, "1 c f h w -> f c h w").float().cpu()


def save_pictures(path: Path, pictures: Mapping[str, PictureCondition]) -> str:
    """Write encoded pictures by name, atomically; the file's sha256."""
    tensors: dict[str, Tensor] = {}
    for number, picture in enumerate(pictures.values()):
        tensors[f"picture.{number:05}.features"] = picture.features.contiguous()
        tensors[f"picture.{number:05}.latents"] = picture.latents.contiguous()
    return save_tensors(path, tensors, {"format": FORMAT, "pictures": list(pictures)})


def load_pictures(path: Path) -> dict[str, PictureCondition]:
    """Encoded pictures by name, in the order in which they were saved."""
    tensors, header = load_tensors(path, LARGEST_PICTURES)
    names = header.get("pictures")
    if header.get("format") != FORMAT or not isinstance(names, list) or len(names) > MOST_SAID:
        raise CheckpointError(
            f"{path}: not a file of pictures (format {shown(header.get('format'))}, expected "
            f"{FORMAT})"
        )
    expected = [f"picture.{n:05}.{part}" for n in range(len(names)) for part in PARTS]
    if sorted(tensors) != expected or len(set(map(str, names))) != len(names):
        raise CheckpointError(
            f"{path}: {len(names)} pictures in the header, {len(tensors)} tensors; expected "
            f"{' and '.join(PARTS)} of each, no picture twice"
        )
    found = {}
    for number, name in enumerate(names):
        features, latents = (tensors[f"picture.{number:05}.{part}"] for part in PARTS)
        right = features.ndim == 2 and latents.ndim == 4 and features.numel() and latents.numel()
        both = features, latents
        right = right and all(x.is_floating_point() for x in both)
        if not right or not all(bool(torch.isfinite(x).all()) for x in both):
            raise CheckpointError(
                f"{path}: {shown(name)}: expected finite features of tokens x width and latents of "
                f"frames x channels x rows x columns, found {list(features.shape)} and "
                f"{list(latents.shape)}"
            )
        found[str(name)] = PictureCondition(features.float(), latents.float())
    return found
