"""Stage 2: causal consistency distillation of the teacher (Causal Forcing++, arXiv 2605.15141).

On the packed clip of stage 1, with N noise levels σ₀ = 1 > … > σ_N = 0 and an index i of its own
for every chunk, drawn from 0 … N−1 (the last interval, which ends in the data, included):

    x_s = (1 − σ_i) x₀ + σ_i ε                       s = σ_i, r = σ_{i+1}
    x_r = x_s + (σ_{i+1} − σ_i) v_φ(x_s, σ_i)        one online ODE step of the frozen teacher φ
    L   = || f_θ(x_s, σ_i) − sg f_θ⁻(x_r, σ_{i+1}) ||²,   f(x, σ) = x − σ v(x, σ)

with θ⁻ the moving average of θ, errors weighed as in stage 1 where little moves. At σ_N = 0, f is
the identity: the loss is anchored in the data. σ and its differences are fp32 throughout. With a
`guidance` g above 1, v_φ = v_u + g (v_c − v_u), v_u being given no action of the noisy frames.
Where histories drift (`drifted_history`), the teacher's does not: the student learns to come back.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import Device, TeacherForcing
from worldmodel.schedule import add_noise, euler_step, guided, sigma_grid, to_clean
from worldmodel.training.latent_stage import LatentStage
from worldmodel.training.stage import LoopConfig
from worldmodel.training.teacher_forcing import (
    ClipTraining,
    check_clips,
    draw_clip,
    first_taught,
    mean_where,
    packed_velocity,
    per_chunk,
    stillness_weight,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentTraining:
    """Everything that the stage `student` reads from its TOML file."""

    stage: Literal["student"]
    data: Path
    heldout: Path
    autoencoder: Path  # the run of stage 0
    teacher: Path  # the run of stage 1
    actions: ActionSpec
    model: ModelConfig
    clips: ClipTraining
    loop: LoopConfig
    levels: int = 16  # N
    level_shift: float = 1.0
    guidance: float = 1.0  # of the teacher on the action

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise ConfigError(f"levels ({self.levels}) must be at least 2")


C = TypeVar("C")  # a clip
F = TypeVar("F", bound="ForcedClip")
M = TypeVar("M")  # a transformer
X = TypeVar("X")  # what the packed forward is given besides


class ForcedClip(Protocol):
    """What the loss needs to know of a clip; the rest is between it and the packed forward."""

    @property
    def clean(self) -> Tensor:
        """The true latents b f c h w."""

    @property
    def unconditional(self: C) -> C:
        """The clip for the velocity without a condition, for guidance."""


def consistency_loss(
    packed: Callable[[M, F, Tensor, Tensor, X], Tensor],
    student: M,
    target: M,
    teacher: M,
    clip: F,
    grid: Tensor,
    index: Tensor,
    noise: Tensor,
    context: X,
    guidance: float = 1.0,
    teacher_clip: F | None = None,
) -> Tensor:
    """The squared error of every copy and frame, b r f, at level indices b r f of the grid.

    The teacher sees `teacher_clip`, if there is one: the same frames after a better history.
    """
    teacher_clip = teacher_clip or clip
    clean = clip.clean[:, None].expand_as(noise)
    sigmas, next_sigmas = grid[index], grid[index + 1]
    x = add_noise(clean, noise, sigmas)
    with torch.no_grad():
        velocity = guided(
            lambda given: packed(teacher, given, x, sigmas, context),
            teacher_clip,
            teacher_clip.unconditional,
            guidance,
        )
        y = euler_step(x, velocity, sigmas, next_sigmas)
        velocity = packed(target, clip, y, next_sigmas, context)
        goal = to_clean(y, velocity, next_sigmas)  # exactly y where the next level is 0
    velocity = packed(student, clip, x, sigmas, context)
    return (to_clean(x, velocity, sigmas) - goal).square().mean(dim=(3, 4, 5))


class StudentStage(LatentStage):
    """Three transformers of one shape: the student, its average, the frozen teacher."""

    def __init__(self, config: StudentTraining, folder: Path, device: Device = "cpu") -> None:
        super().__init__(config, device)
        self.config, self.forward = config, packed_velocity
        check_clips(config.model, config.clips)
        self.data = self.encode(config.data, folder)
        self.reading = self.data.reading
        self.begin(config.teacher)
        self.teacher = copy.deepcopy(self.ema)
        self.grid = sigma_grid(config.levels, config.level_shift).to(device)
        clips = config.clips
        self.context = TeacherForcing(config.model, clips.frames, clips.copies, device)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Consistency loss of a batch, of the same frames as the teacher's."""
        del step
        clips = self.config.clips
        clip = draw_clip(self.forward, self.student, self.data, clips, generator)
        shape = (clips.batch, clips.copies, *clip.clean.shape[1:])
        noise = torch.randn(shape, generator=generator, device=generator.device)
        levels = self.config.levels
        model = self.config.model
        chunks = (*shape[:2], clips.frames // model.chunk_frames)
        index = torch.randint(levels, chunks, generator=generator, device=generator.device)
        index = per_chunk(index, model)
        error = consistency_loss(
            self.forward,
            self.student,
            self.ema,
            self.teacher,
            clip,
            self.grid,
            index,
            noise,
            self.context,
            self.config.guidance,
            clip.undrifted,
        )
        error = error * stillness_weight(clip.clean, model.frame_change)[:, None]
        first = first_taught(model)
        error, index = error[:, :, first:], index[:, :, first:]
        return error.mean(), {"from_noise": mean_where(error.detach(), index == 0)}
