"""Clips and models for the tests of the transformer, its contexts and its cache."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import TINY, make_lively
from worldmodel.model.configs import ModelConfig
from worldmodel.model.transformer import WorldTransformer

# Window 3 and one sink make four slots: nine frames go twice around the ring.
FRAMES = 9
CONFIGS = [
    pytest.param(replace(TINY, sink_frames=sinks, action_tokens=m), id=f"sinks{sinks}-actions{m}")
    for sinks, m in ((0, 1), (1, 1), (2, 2))
]
# Chunks of 3 and 4: window and sinks are whole chunks, the clip goes twice around the ring.
CONFIGS += [
    pytest.param(
        replace(TINY, sink_frames=sinks, context_frames=2 * n, chunk_frames=n),
        id=f"sinks{sinks}-chunk{n}",
    )
    for sinks, n in ((0, 3), (3, 3), (4, 4))
]
CONFIGS.append(pytest.param(replace(TINY, latent_width=4, patch=2), id="patch2"))
# Layers 2 and 4 of five see other frames, the others their own alone.
SPARSE = replace(TINY, layers=5, time_attention_every=2)
CONFIGS.append(pytest.param(SPARSE, id="time-in-every-2nd"))
CONFIGS.append(
    pytest.param(
        replace(SPARSE, sink_frames=3, context_frames=6, chunk_frames=3),
        id="time-in-every-2nd-chunk3",
    )
)


def clip_frames(config: ModelConfig) -> int:
    return FRAMES if config.chunk_frames == 1 else 7 * config.chunk_frames


def random_clip(config: ModelConfig, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator, frames = torch.Generator().manual_seed(2), clip_frames(config)
    latents = torch.randn(batch, frames, *config.latent_shape, generator=generator)
    sigmas = torch.rand(batch, frames, generator=generator)
    actions = torch.randn(batch, frames, config.buttons + 2, generator=generator)
    return latents, sigmas, actions


def make_model(config: ModelConfig) -> WorldTransformer:
    torch.manual_seed(0)
    return make_lively(WorldTransformer(config)).requires_grad_(False)
