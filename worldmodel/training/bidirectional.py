"""Bidirectional diffusion over whole clips: what scores the play of a student.

Every frame of a clip sees all others, later ones too; one noise level for all that is to be sampled
(Causal Forcing++, arXiv 2605.15141, stage 0; rectified flow, arXiv 2209.03003, Eq. 1):

    L = E_σ,ε w(σ) || v_φ(x_σ, σ | known frames, actions) − (ε − x₀) ||²

The first frames of part of the clips stay clean: what they are, is known, and they do not count in
the loss. With none of them known, the same network says how likely a stretch of play is anywhere
in the game. Part of the clips are not given their actions, so that sampling and scoring can be
guided by them (classifier-free guidance, arXiv 2207.12598, Algorithm 1).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, require_positive
from worldmodel.model.action_encoder import unconditional
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.context import Context, Device, WholeClip
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import denoise
from worldmodel.schedule import (
    add_noise,
    residual_weight,
    sample_sigmas,
    sigma_grid,
    velocity_target,
)
from worldmodel.training.latent_stage import LatentStage
from worldmodel.training.stage import LoopConfig
from worldmodel.training.teacher_forcing import HIGH, mean_where
from worldmodel.training.torch_streams import seed_default, torch_stream


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeClips:
    """How whole clips are sampled and noised."""

    batch: int
    frames: int
    known: int  # at most so many frames at the beginning are shown clean
    known_share: float = 0.7  # of the clips, with 1 to `known` of them; the rest have none
    sigma_shift: float = 3.0  # above 1: more of the noise levels are high
    frame_levels: float = 0.0  # share of clips whose frames have a level each
    action_dropout: float = 0.1  # share of clips that are not given their actions

    def __post_init__(self) -> None:
        require_positive(self, "batch")
        shares = (self.known_share, self.frame_levels, self.action_dropout)
        if not all(0 <= share <= 1 for share in shares) or self.sigma_shift <= 0:
            raise ConfigError(
                f"the shares {list(shares)} must be between 0 and 1, sigma_shift "
                f"({self.sigma_shift}) above 0"
            )
        if not 1 <= self.known < self.frames:
            raise ConfigError(
                f"known ({self.known}) must be at least 1 and below frames ({self.frames})"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class BidirectionalTraining:
    """Everything that the stage `bidirectional` reads from its TOML file."""

    stage: Literal["bidirectional"]
    data: Path
    heldout: Path
    autoencoder: Path  # the run of the stage `autoencoder`
    actions: ActionSpec
    model: ModelConfig
    clips: WholeClips
    loop: LoopConfig
    start: Path | None = None  # a finished run of the same shape whose weights it begins with


def whole_velocity(
    model: WorldTransformer, noisy: Tensor, sigmas: Tensor, actions: Tensor, known: Tensor
) -> Tensor:
    """Velocity b f c h w of clips of which the first `known` b frames are clean, at σ = 0."""
    return model(noisy, sigmas, actions, WholeClip(model.config, noisy.shape[1], known))


def unknown(known: Tensor, frames: int) -> Tensor:
    """Which frames b f are to be sampled, given how many b at the beginning are known."""
    return torch.arange(frames, device=known.device) >= known[:, None]


class BidirectionalStage(LatentStage):
    """Holds the latents and the model; gives the loop its loss."""

    def __init__(self, config: BidirectionalTraining, folder: Path, device: Device = "cpu") -> None:
        super().__init__(config, device)
        self.config, self.forward = config, whole_velocity
        self.data = self.encode(config.data, folder)
        self.reading = self.data.reading
        seed_default(config.loop.seed, config.stage, "weights")
        self.begin(config.start)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch over the frames that are not known."""
        del step
        clips, device = self.config.clips, generator.device
        clean, actions = self.data.clips(clips.batch, clips.frames, 0, generator)
        rolls = torch.rand(4, clips.batch, 1, generator=generator, device=device)
        actions = torch.where(
            (rolls[0] < clips.action_dropout)[..., None], unconditional(actions), actions
        )
        known = (1 + rolls[1, :, 0] * clips.known).long() * (rolls[2, :, 0] < clips.known_share)
        levels = sample_sigmas((clips.batch, clips.frames), clips.sigma_shift, generator)
        levels = torch.where(rolls[3] < clips.frame_levels, levels, levels[:, :1])
        sampled = unknown(known, clips.frames)
        sigmas = levels * sampled
        noise = torch.randn(clean.shape, generator=generator, device=device)
        velocity = self.forward(
            self.student, add_noise(clean, noise, sigmas), sigmas, actions, known
        )
        error = (velocity - velocity_target(clean, noise)).square().mean(dim=(2, 3, 4))
        error = residual_weight(sigmas, self.config.model.frame_change) * error
        high = mean_where(error.detach(), sampled & (sigmas > HIGH))
        return mean_where(error, sampled), {"high_noise": high}

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Clips sampled whole after a few true frames, with the averaged weights."""
        clips, probe = self.config.clips, self.probe
        before = max(0, probe.prime - clips.known)
        first = before + clips.known  # of the frames that are sampled
        latents, actions = (
            x[:, before : before + clips.frames] for x in (probe.latents, probe.actions)
        )
        rows: list[Tensor] = []
        figures: dict[str, float] = {}
        for steps in (8, 24):
            grid = tuple(sigma_grid(steps, clips.sigma_shift).tolist())
            sampler = SamplerConfig(sigmas=grid, renoise=False)
            sampled = draw_whole(self.ema, sampler, latents[:, : clips.known], actions)
            rows.append(probe.decode(sampled, first))
            figures |= probe.score(rows[-1], first, f"whole_{steps}")
        probe.save(folder, step, rows, first)
        return figures


def draw_whole(
    model: WorldTransformer, sampler: SamplerConfig, known: Tensor, actions: Tensor
) -> Tensor:
    """All frames b f c h w that follow the known ones b k c h w under conditions b (k+f) z."""
    generator = torch_stream("cpu", "whole clips")
    batch, count = known.shape[:2]
    shape = (batch, actions.shape[1] - count, *known.shape[2:])
    context = WholeClip(
        model.config, actions.shape[1], torch.full((batch,), count, device=known.device)
    )

    def velocity(x: Tensor, sigmas: Tensor, acts: Tensor, context: Context) -> Tensor:
        clean = sigmas.new_zeros(batch, count)
        levels = torch.cat((clean, sigmas), dim=1)
        return model(torch.cat((known, x), dim=1), levels, acts, context)[:, count:]

    def noise() -> Tensor:
        return torch.randn(shape, generator=generator).to(known.device)

    return denoise(velocity, noise, sampler, actions, context)
