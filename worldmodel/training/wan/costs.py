"""What a batch of a Wan stage costs: its passes, counted on fake tensors of the full size.

With checkpointing, what is computed again is counted again; of attention, the backward pass
computes the scores once more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.config import load_config
from worldmodel.model.counting import Cost, count, fake_tensors
from worldmodel.training.processes import checkpoint_blocks
from worldmodel.training.self_play import Exit
from worldmodel.training.torch_streams import torch_stream
from worldmodel.training.wan.forward import Conditions, WanClip, packed_velocity, whole_velocity
from worldmodel.training.wan.self_play import self_play
from worldmodel.training.wan.stage_config import (
    WanBidirectionalTraining,
    WanDmdTraining,
    WanStudentTraining,
    WanTraining,
)
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.kv_cache import no_conditions
from worldmodel.wan.lora import LoraTransformer
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.transformer_cost import over_layers

Pass = Callable[[WanTransformer, Conditions], Tensor]


@dataclass(frozen=True, slots=True)
class BatchCost:
    """What a batch costs on one GPU, forward and backward."""

    flops: int  # of a rollout's exits and of both players, the mean
    activations: int  # bytes, a rollout's past among them
    copies: int  # bytes of weights in bfloat16, while they compute


def batch_cost(config: WanTraining) -> BatchCost:
    """What a batch of whichever stage costs."""
    size = config.model.load_size()
    if isinstance(config, WanDmdTraining):
        flops, most = _dmd(config, size)
    else:
        run = whole_clip if isinstance(config, WanBidirectionalTraining) else packed
        most = pass_cost(config, size, partial(run, config), trains=True)
        flops = most.flops
        if isinstance(config, WanStudentTraining):  # the teacher, the average
            answers = 2 if config.guidance == 1.0 else 3
            flops += answers * pass_cost(config, size, partial(run, config)).flops
    clips = config.clips.batch
    return BatchCost(clips * flops, clips * (most.peak_bytes - most.copies), most.copies)


def _dmd(config: WanDmdTraining, size: WanConfig) -> tuple[int, Cost]:
    """Operations of a clip, and what needs most memory: the student in its play, or the critic."""
    plays = [partial(rollout, config, leave) for leave in range(min(config.sampler.steps, 2))]
    first, *later = (pass_cost(config, size, play).flops for play in plays)
    whole = partial(whole_clip, config)
    played, critic = (pass_cost(config, size, run, trains=True) for run in (plays[0], whole))
    # Over all exits alike, each of which adds as much as the second does.
    mean = first + sum(flops - first for flops in later) * (config.sampler.steps - 1) / 2
    asked = pass_cost(config, size, whole).flops
    scored = pass_cost(config, real_size(config.real_size, config), whole).flops
    student = mean - first + played.flops + asked + 2 * scored
    updates = config.critic_updates
    flops = int((updates * (mean + critic.flops) + student) / (updates + 1))
    return flops, max(played, critic, key=lambda cost: cost.peak_bytes)


def pass_cost(config: WanTraining, size: WanConfig, run: Pass, *, trains: bool = False) -> Cost:
    """What one clip's pass costs by a network of a size, and its gradient where it `trains`."""
    window, frames = config.model.window, config.clips.frames

    def at(part: WanConfig) -> Cost:
        with fake_tensors():
            model = LoraTransformer(part, config.lora) if config.lora else WanTransformer(part)
            for parameter in model.parameters():  # as in all batches of a step but the first
                parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
            if config.loop.checkpointing:
                checkpoint_blocks(model)
            given = fake_conditions(part, window, frames)
            work = partial(_run, config, model, given, run, trains=trains)
            return count(work, model.parameters())

    return over_layers(size, at)


def _run(
    config: WanTraining, model: WanTransformer, given: Conditions, run: Pass, *, trains: bool
) -> None:
    is_narrow = config.loop.dtype != "float32"
    with torch.autocast("cpu", torch.bfloat16, enabled=is_narrow), torch.set_grad_enabled(trains):
        found = run(model, given)
    if trains:
        found.square().mean().backward()


def fake_conditions(size: WanConfig, window: WindowConfig, frames: int) -> Conditions:
    """Conditions of the right shapes: words or a picture, cameras, keys and mouse."""
    text = torch.zeros(1, size.read_tokens, size.read_width)
    driven = no_conditions(size, window, frames)
    return Conditions(text, text[0], no_cameras(1, frames), driven)


def _latents(config: WanTraining, model: WanTransformer, given: Conditions) -> tuple[Tensor, ...]:
    """Clips b f c h w and noise levels b f."""
    window, shape = config.model.window, given.cameras.shape[:2]
    channels = model.config.latent_channels
    return torch.zeros(*shape, channels, window.rows, window.columns), torch.ones(shape)


def packed(config: WanTraining, model: WanTransformer, given: Conditions) -> Tensor:
    """Velocities b 1 f c h w of teacher forcing."""
    clean, sigmas = _latents(config, model, given)
    clip, window = WanClip(clean, given), config.model.window
    return packed_velocity(model, clip, clean[:, None], sigmas[:, None], window)


def whole_clip(config: WanTraining, model: WanTransformer, given: Conditions) -> Tensor:
    """Velocities b f c h w of clips whose every frame sees all others."""
    noisy, sigmas = _latents(config, model, given)
    return whole_velocity(model, noisy, sigmas, given, config.model.window)


def rollout(config: WanDmdTraining, leave: int, model: WanTransformer, given: Conditions) -> Tensor:
    """Frames of the student's own play, each done at step `leave`."""
    window, generator = config.model.window, torch_stream("cpu", "costs", "rollout")
    return self_play(model, window, config.sampler, given, Exit(leave, leave), generator)


def real_size(path: Path | None, config: WanTraining) -> WanConfig:
    """The real score model's sizes: the student's where nothing else is said."""
    return load_config(WanConfig, path) if path else config.model.load_size()
