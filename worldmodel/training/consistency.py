"""Stage 2: causal consistency distillation of the teacher (Causal Forcing++, arXiv 2605.15141).

On the packed clip of stage 1, with N noise levels σ₀ = 1 > … > σ_N = 0 and an index i of its own
for every chunk, drawn from 0 … N−1 (the last interval, which ends in the data, included):

    x_s = (1 − σ_i) x₀ + σ_i ε                       s = σ_i, r = σ_{i+1}
    x_r = x_s + (σ_{i+1} − σ_i) v_φ(x_s, σ_i)        one online ODE step of the frozen teacher φ
    L   = || f_θ(x_s, σ_i) − sg f_θ⁻(x_r, σ_{i+1}) ||²,   f(x, σ) = x − σ v(x, σ)

with θ⁻ the moving average of θ, errors weighed as in stage 1 where little moves. At σ_N = 0, f is
the identity: the loss is anchored in the data. σ and its differences are fp32 throughout. With a
`guidance` g above 1, v_φ = v_u + g (v_c − v_u), v_u being told no action of the noisy frames.
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
from worldmodel.schedule import add_noise, euler_step, sigma_grid, to_clean
from worldmodel.training.clips import LatentEpisodes
from worldmodel.training.probe import Probe
from worldmodel.training.runs import load_autoencoder, load_transformer
from worldmodel.training.stage import LoopConfig
from worldmodel.training.teacher_forcing import (
    ClipTraining,
    PackedForward,
    check_shapes,
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
) -> Tensor:
    """The squared error of every copy and frame, b r f, at level indices b r f of the grid."""
    clean = clip.clean[:, None].expand_as(noise)
    sigmas, next_sigmas = grid[index], grid[index + 1]
    x = add_noise(clean, noise, sigmas)
    with torch.no_grad():
        velocity = packed(teacher, clip, x, sigmas, context)
        if guidance != 1.0:
            without = packed(teacher, clip.unconditional, x, sigmas, context)
            velocity = without + guidance * (velocity - without)
        y = euler_step(x, velocity, sigmas, next_sigmas)
        velocity = packed(target, clip, y, next_sigmas, context)
        goal = to_clean(y, velocity, next_sigmas)  # exactly y where the next level is 0
    velocity = packed(student, clip, x, sigmas, context)
    return (to_clean(x, velocity, sigmas) - goal).square().mean(dim=(3, 4, 5))


class StudentStage:
    """Three transformers of one shape: the student, its average, the frozen teacher."""

    def __init__(self, config: StudentTraining, folder: Path, device: Device = "cpu") -> None:
        self.config = config
        self.autoencoder = load_autoencoder(config.autoencoder).to(device)
        check_shapes(config.actions, config.model, config.clips, self.autoencoder)
        self.data = LatentEpisodes.encode(
            config.data,
            self.autoencoder,
            config.actions,
            folder.parent / "latents.safetensors",
            config.model.state_numbers,
        )
        self.reading = self.data.reading
        self.packed: PackedForward = packed_velocity
        self.teacher = load_transformer(config.teacher, config.model).to(device)
        self.student = copy.deepcopy(self.teacher).requires_grad_(requires_grad=True)
        self.ema = copy.deepcopy(self.teacher)
        self.grid = sigma_grid(config.levels, config.level_shift).to(device)
        self.context = TeacherForcing(
            config.model, config.clips.frames, config.clips.copies, device
        )
        self.probe = Probe(config.heldout, self.autoencoder, config.actions, config.model)

    def compile(self) -> None:
        """Fuse the forward and backward passes; the first steps then take minutes."""
        self.packed = torch.compile(packed_velocity)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Consistency loss of a batch, of the same frames as the teacher's."""
        del step
        clips = self.config.clips
        clip = draw_clip(self.packed, self.student, self.data, clips, generator)
        shape = (clips.batch, clips.copies, *clip.clean.shape[1:])
        noise = torch.randn(shape, generator=generator, device=generator.device)
        levels = self.config.levels
        model = self.config.model
        chunks = (*shape[:2], clips.frames // model.chunk_frames)
        index = torch.randint(levels, chunks, generator=generator, device=generator.device)
        index = per_chunk(index, model)
        error = consistency_loss(
            self.packed,
            self.student,
            self.ema,
            self.teacher,
            clip,
            self.grid,
            index,
            noise,
            self.context,
            self.config.guidance,
        )
        error = error * stillness_weight(clip.clean, model.frame_change)[:, None]
        first = first_taught(model)
        error, index = error[:, :, first:], index[:, :, first:]
        return error.mean(), {"from_noise": mean_where(error.detach(), index == 0)}

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Roll out on unseen episodes with the averaged weights; write a picture."""
        return self.probe.measure(self.ema, folder, step, renoise=True)
