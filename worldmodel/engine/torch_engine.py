"""The reference engine: eager torch, on any device."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from worldmodel.config import SamplerConfig
from worldmodel.engine import Playing
from worldmodel.model.autoencoder import Autoencoder, channels_last, decode_latents
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import Rollout
from worldmodel.world import Frame

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class ChunkedPlaying:
    """Frame by frame out of a rollout that draws several frames at a time.

    A chunk is drawn when its first frame is asked for, as if the action were held for all of it:
    what a player does while the others are shown counts from the next chunk on. That delay is what
    chunks cost.
    """

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self._shown, self._chunk = 0, torch.empty(0)

    def prime(self, latents: Tensor, actions: Tensor) -> None:
        """Show the worlds their past: clean latents b f c h w and the actions b f (k+2) in it."""
        self.rollout.prime(latents, actions)

    def denoise(self, action: Tensor) -> Tensor:
        """The next frame: action b 1 (k+2) -> clean latent b 1 c h w."""
        if self._shown == 0:
            frames = self.rollout.model.config.chunk_frames
            self._chunk = self.rollout.denoise(action.repeat(1, frames, 1))
        return self._chunk[:, self._shown : self._shown + 1]

    def remember(self) -> None:
        """After the last frame of a chunk, the chunk's clean pass."""
        self._shown += 1
        if self._shown == self._chunk.shape[1]:
            self.rollout.remember()
            self._shown = 0


class TorchEngine:
    """Copies of the models in the dtype and on the device of play."""

    name = "torch"
    version = str(torch.__version__)

    def __init__(
        self,
        model: WorldTransformer,
        autoencoder: Autoencoder,
        sampler: SamplerConfig,
        dtype: str,
        device: torch.device,
    ) -> None:
        self.sampler, self.dtype = sampler, dtype
        self.model = copy.deepcopy(model).to(device=device, dtype=DTYPES[dtype])
        self.autoencoder = copy.deepcopy(autoencoder).to(device=device, dtype=DTYPES[dtype])
        channels_last(self.autoencoder)

    def begin(self, seeds: Sequence[int]) -> Playing:
        """A rollout of the transformer."""
        rollout = Rollout(self.model, self.sampler, seeds)
        return rollout if self.model.config.chunk_frames == 1 else ChunkedPlaying(rollout)

    def decode(self, latents: Tensor) -> Frame:
        """Latents b 1 c h w -> frames uint8 b h w 3."""
        return decode_latents(self.autoencoder, latents)[:, 0].contiguous().cpu().numpy()
