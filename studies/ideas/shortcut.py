"""Shortcut forcing: few steps without a teacher (Dreamer 4, arXiv 2509.24527, Eq. 7).

A network is told how long its steps are, d = 2^-n with n = 0 … N, and learns two things at once:

    the finest, d = 2^-N:   v_θ(x_σ, σ, d) ≈ ε − x₀                        as the stage `teacher`
    any longer one:         v_θ(x_σ, σ, d) ≈ sg (v' + v'') / 2             σ in {d, 2d, …, 1}
                            v'  = v_θ⁻(x_σ, σ, d/2),  x' = x_σ − d/2 v'
                            v'' = v_θ⁻(x', σ − d/2, d/2)

with θ⁻ the moving average (shortcut models, arXiv 2410.12557, Eq. 4). In play a frame has steps of
one length, so that is a number of its condition, told beside those of the game's state.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from worldmodel.config import ConfigError
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import Device
from worldmodel.model.state_configs import ConditionNumber
from worldmodel.model.state_numbers import encode_state_numbers
from worldmodel.schedule import (
    add_noise,
    euler_step,
    residual_weight,
    sample_sigmas,
    velocity_target,
)
from worldmodel.training.probe import Probe
from worldmodel.training.teacher_forcing import (
    ClipSource,
    PackedClip,
    TeacherStage,
    TeacherTraining,
    draw_clip,
    first_taught,
    mean_where,
    per_chunk,
    stillness_weight,
)

HALVINGS = "halvings"  # n: what the transformer is told, beside numbers of the state


@dataclass(frozen=True, kw_only=True, slots=True)
class ShortcutTraining(TeacherTraining):
    """Everything that the stage `shortcut` reads: as the stage `teacher`, and its few steps."""

    stage: Literal["shortcut"]  # type: ignore[assignment]  # what a config is told by
    finest: int = 3  # N: eight steps
    share: float = 0.25  # of the clips, that learn steps longer than that

    def __post_init__(self) -> None:
        if not 1 <= self.finest <= 10 or not 0 < self.share < 1:
            raise ConfigError(
                f"finest ({self.finest}) must be from 1 to 10, share ({self.share}) between 0 and 1"
            )

    @property
    def number(self) -> ConditionNumber:
        """The number of a frame's condition that says how long its steps are."""
        return ConditionNumber(name=HALVINGS, kind="number", low=0.0, high=float(self.finest))

    @property
    def told_model(self) -> ModelConfig:
        """The shape of the transformer, which is given that number too."""
        return replace(self.model, state_numbers=(*self.model.state_numbers, self.number))

    def halvings(self, device: Device) -> Tensor:
        """n of every clip of a batch, b: `finest`, but for the last ones, which have all others."""
        longer = max(1, round(self.share * self.clips.batch))
        found = torch.full((self.clips.batch,), self.finest, device=device)
        found[-longer:] = torch.arange(longer, device=device) % self.finest
        return found

    def tell(self, halvings: Tensor, conditions: Tensor) -> Tensor:
        """Conditions b f z with the number n of each clip, b, behind the state."""
        seen = self.model.seen_features
        values = halvings[:, None, None].expand(-1, conditions.shape[1], 1)
        features = encode_state_numbers((self.number,), (HALVINGS,), values)
        return torch.cat((conditions[..., :seen], features, conditions[..., seen:]), dim=-1)

    def untell(self, conditions: Tensor) -> Tensor:
        """The conditions b f z as they were before `tell`."""
        seen = self.model.seen_features
        return torch.cat(
            (conditions[..., :seen], conditions[..., seen + self.number.features :]), dim=-1
        )


@dataclass(frozen=True, slots=True)
class ToldClips:
    """Clips of a data set that are told how long their steps are."""

    data: ClipSource
    config: ShortcutTraining

    def clips(
        self, batch: int, frames: int, sinks: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Latents b f c h w and conditions b f z."""
        latents, conditions = self.data.clips(batch, frames, sinks, generator)
        return latents, self.config.tell(self.config.halvings(generator.device), conditions)


class ShortcutProbe(Probe):
    """Tells a sampler of so many steps how long they are."""

    def __init__(self, config: ShortcutTraining, autoencoder: Autoencoder) -> None:
        super().__init__(config.heldout, autoencoder, config.actions, config.model)
        self.tell = config.tell

    def conditions(self, steps: int) -> Tensor:
        """What a model is told of the unseen clips, b f z, whose frames have so many steps."""
        halvings = torch.full((len(self.actions),), math.log2(steps), device=self.actions.device)
        return self.tell(halvings, self.actions)


class ShortcutStage(TeacherStage):
    """One transformer and its average; no teacher."""

    config: ShortcutTraining

    def __init__(self, config: ShortcutTraining, folder: Path, device: Device = "cpu") -> None:
        super().__init__(config, folder, device)
        self.probe = ShortcutProbe(config, self.autoencoder)
        self.told = ToldClips(self.data, config)

    def begin(self, run: Path | None) -> None:
        """The transformer, which is given how long its steps are, and its average."""
        self._shared = replace(self.config, model=self.config.told_model)
        super().begin(run)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Both losses of one batch, errors weighed as the teacher's."""
        del step
        config, model, device = self.config, self.config.model, generator.device
        clip = draw_clip(self.forward, self.student, self.told, config.clips, generator)
        clean = clip.clean[:, None].expand(-1, config.clips.copies, -1, -1, -1, -1)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        shape = (*clean.shape[:2], clean.shape[2] // model.chunk_frames)
        halvings = config.halvings(device)
        steps = (2**halvings)[:, None, None]  # to a frame
        places = torch.rand(shape, generator=generator, device=device)
        on_grid = ((places * steps).floor() + 1) / steps
        anywhere = sample_sigmas(shape, config.clips.sigma_shift, generator)
        is_long = (halvings < config.finest)[:, None, None]
        sigmas = per_chunk(torch.where(is_long, on_grid, anywhere), model)
        noisy = add_noise(clean, noise, sigmas)
        goal = velocity_target(clean, noise)
        longer = int(is_long.sum())
        goal[-longer:] = self._half_steps(clip, halvings, noisy, sigmas, longer)
        velocity = self.forward(self.student, clip, noisy, sigmas, self.context)
        error = (velocity - goal).square().mean(dim=(3, 4, 5))
        error = residual_weight(sigmas, model.frame_change) * error
        error = error * stillness_weight(clip.clean, model.frame_change)[:, None]
        error = error[:, :, first_taught(model) :]
        is_long = is_long.expand_as(error)
        return error.mean(), {"long_steps": mean_where(error.detach(), is_long)}

    @torch.no_grad()
    def _half_steps(
        self, clip: PackedClip, halvings: Tensor, noisy: Tensor, sigmas: Tensor, longer: int
    ) -> Tensor:
        """(v' + v'') / 2 of the last clips of a batch, by two steps of half the length."""
        noisy, sigmas, halvings = noisy[-longer:], sigmas[-longer:], halvings[-longer:]
        told = self.config.tell(halvings + 1, self.config.untell(clip.actions[-longer:]))
        half = PackedClip(
            clip.clean[-longer:],
            clip.history[-longer:],
            clip.history_sigmas[-longer:],
            actions=told,
            conditions=told,
        )
        middle = sigmas - 0.5 ** (halvings + 1)[:, None, None]
        first = self.forward(self.ema, half, noisy, sigmas, self.context)
        reached = euler_step(noisy, first, sigmas, middle)
        return (first + self.forward(self.ema, half, reached, middle, self.context)) / 2
