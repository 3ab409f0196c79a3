"""Worlds that draw several frames at a time are played one frame at a time all the same."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import make_lively
from tests.training.tiny_data import AUTOENCODER, MODEL
from worldmodel.engine import EngineError
from worldmodel.engine.openvino import OpenVinoEngine
from worldmodel.engine.torch_engine import TorchEngine
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import Rollout

CHUNKED = replace(MODEL, chunk_frames=3, context_frames=6, sink_frames=3)
SAMPLER = SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True)


def make_engine(config: ModelConfig) -> TorchEngine:
    torch.manual_seed(0)
    model, device = make_lively(WorldTransformer(config)).eval(), torch.device("cpu")
    model.requires_grad_(requires_grad=False)
    return TorchEngine(model, Autoencoder(AUTOENCODER).eval(), SAMPLER, "float32", device)


def test_the_action_at_the_start_of_a_chunk_is_held_for_all_of_it() -> None:
    engine = make_engine(CHUNKED)
    past, acts = torch.randn(1, 6, *MODEL.latent_shape), torch.randn(1, 6, 4)
    actions = torch.randn(1, 9, 4)
    playing = engine.begin([0])
    playing.prime(past, acts)
    frames = []
    for action in actions.split(1, dim=1):
        frames.append(playing.denoise(action))
        playing.remember()

    rollout = Rollout(engine.model, SAMPLER, [0])
    rollout.prime(past, acts)
    held = actions[:, ::3].repeat_interleave(3, dim=1)
    chunks = [rollout.step(chunk) for chunk in held.split(3, dim=1)]
    assert torch.equal(torch.cat(frames, dim=1), torch.cat(chunks, dim=1))


@pytest.mark.parametrize(
    ("config", "sampler", "named"),
    [
        (CHUNKED, SAMPLER, "chunk_frames = 3"),
        (MODEL, replace(SAMPLER, first_sigmas=(1.0, 0.7, 0.3, 0.0)), "first_sigmas"),
        (MODEL, replace(SAMPLER, cache_from_last_step=True), "cache_from_last_step"),
    ],
)
def test_openvino_says_what_it_cannot_play(
    config: ModelConfig, sampler: SamplerConfig, named: str
) -> None:
    model, autoencoder = WorldTransformer(config), Autoencoder(AUTOENCODER)
    with pytest.raises(EngineError, match=f"does not know {named}.*--engine torch"):
        OpenVinoEngine(model, autoencoder, sampler, "float32", 1, "key")
