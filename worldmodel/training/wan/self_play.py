"""A Wan student's own play, for training: play's sampler, a past that gradients cannot disturb.

Every chunk leaves at the rollout's exit step (Self Forcing, arXiv 2506.08009, Algorithm 1), with a
gradient through that step alone; then the clean pass, without gradient, makes it the past.
"""

import torch
from torch import Tensor

from worldmodel.model.configs import SamplerConfig
from worldmodel.rollout import denoise
from worldmodel.training.self_play import Exit
from worldmodel.training.wan.forward import Conditions
from worldmodel.wan.model_config import WindowConfig
from worldmodel.wan.training_context import GrowingCache
from worldmodel.wan.transformer import WanTransformer


def self_play(
    model: WanTransformer,
    window: WindowConfig,
    sampler: SamplerConfig,
    conditions: Conditions,
    leave: Exit,
    generator: torch.Generator,
) -> Tensor:
    """Frames b f c h w of play from words alone, as many as `conditions` have cameras for."""
    device, n = generator.device, window.chunk_frames
    batch, frames = conditions.cameras.shape[:2]
    shape = (batch, n, model.config.latent_channels, window.rows, window.columns)
    cache = GrowingCache(
        model.config, window, frames, conditions.text, batch, compute_dtype(device.type), device,
        conditions.per_frame,
    )  # fmt: skip

    def noise() -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    sampled: list[Tensor] = []
    for number, cameras in enumerate(conditions.cameras.split(n, dim=1)):
        now = number * n
        levels, exit_step = (sampler, leave.rest) if number else (sampler.first, leave.first)
        sampled.append(denoise(model, noise, levels.until(exit_step), cameras, cache.at(now)))
        if now + n < frames:
            with torch.no_grad():
                clean = sampled[-1].detach()
                sigmas = clean.new_zeros(clean.shape[:2])
                model(clean, sigmas, cameras, cache.at(now, keeps=True))
    return torch.cat(sampled, dim=1)


def full_play(
    model: WanTransformer,
    window: WindowConfig,
    sampler: SamplerConfig,
    conditions: Conditions,
    generator: torch.Generator,
) -> Tensor:
    """Play to the last step of every chunk, as a player would see it: b f c h w."""
    last = Exit(sampler.first.steps - 1, sampler.steps - 1)
    with torch.no_grad():
        return self_play(model, window, sampler, conditions, last, generator)


def compute_dtype(kind: str) -> torch.dtype:
    """In what a kind of device computes under the autocast around it, if there is one."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
