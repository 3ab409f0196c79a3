"""The reference engine: eager torch, on any device."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from worldmodel.checkpoint import broken_weight
from worldmodel.config import SamplerConfig
from worldmodel.model.autoencoder import Autoencoder, channels_last, decode_latents
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import Rollout
from worldmodel.world import Frame

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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

    def begin(self, seeds: Sequence[int]) -> Rollout:
        """A rollout of the transformer."""
        return Rollout(self.model, self.sampler, seeds)

    def decode(self, latents: Tensor) -> Frame:
        """Latents b 1 c h w -> frames uint8 b h w 3."""
        return decode_latents(self.autoencoder, latents)[:, 0].contiguous().cpu().numpy()

    def broken_weight(self) -> str | None:
        """The first weight that holds values that are not numbers."""
        return broken_weight(self.model) or broken_weight(self.autoencoder)
