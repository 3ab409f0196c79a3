"""Wan's two many-step networks: the causal teacher, and the bidirectional model of `dmd`.

    L = E_σ,ε w(σ) || v_θ(x_σ, σ | past, words, cameras) − (ε − x₀) ||²

σ comes from the 1 000 shifted levels that Wan was trained on, w is its bell-shaped weight
(`wan.noise_levels`). The teacher packs a clip once clean and once noisy, with a level for every
chunk (Causal Forcing, arXiv 2602.02214, §3); to the other a clip has one level, and
every frame sees all.
"""

import torch
from torch import Tensor

from worldmodel.schedule import add_noise, velocity_target
from worldmodel.training.teacher_forcing import HIGH, mean_where
from worldmodel.training.wan.forward import packed_velocity, whole_velocity
from worldmodel.training.wan.stage import WanStage
from worldmodel.training.wan.stage_config import WanBidirectionalTraining, WanTeacherTraining
from worldmodel.wan.noise_levels import draw_levels


class WanTeacherStage(WanStage[WanTeacherTraining]):
    """The causal teacher of a Wan world, trained by teacher forcing."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted error of every frame's velocity, given the clean frames before its chunk."""
        del step
        clips = self.config.clips
        clip = self.data.draw(clips.batch, clips.frames, clips.prompt_dropout, generator)
        n = self.window.chunk_frames
        levels = draw_levels((clips.batch, clips.frames // n), generator, clips.shift)
        sigmas, weights = (x.repeat_interleave(n, dim=1) for x in levels)
        noise = torch.randn(clip.clean.shape, generator=generator, device=generator.device)
        noisy = add_noise(clip.clean, noise, sigmas)
        found = packed_velocity(self.student, clip, noisy[:, None], sigmas[:, None], self.window)
        error = squared(found[:, 0], clip.clean, noise)
        return (weights * error).mean(), {"high_noise": mean_where(error.detach(), sigmas > HIGH)}


class WanBidirectionalStage(WanStage[WanBidirectionalTraining]):
    """Diffusion over whole clips."""

    whole = True

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted error of a clip's velocity at one level for all of it."""
        del step
        clips = self.config.clips
        clip = self.data.draw(clips.batch, clips.frames, clips.prompt_dropout, generator)
        level, weight = draw_levels((clips.batch, 1), generator, clips.shift)
        sigmas = level.expand(-1, clips.frames)
        noise = torch.randn(clip.clean.shape, generator=generator, device=generator.device)
        noisy = add_noise(clip.clean, noise, sigmas)
        found = whole_velocity(self.student, noisy, sigmas, clip.conditions, self.window)
        error = squared(found, clip.clean, noise)
        return (weight * error).mean(), {"high_noise": mean_where(error.detach(), sigmas > HIGH)}


def squared(velocity: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of each frame's velocity, in fp32: b f c h w -> b f."""
    return (velocity - velocity_target(clean, noise)).square().mean(dim=(2, 3, 4))
