"""Stage 2a: causal ODE distillation, a regression on the teacher's stored trajectories.

For a clip of true play and the state x_σ of its trajectory at a level σ of the student's own list,
one level for all frames of the clip (Causal Forcing, arXiv 2602.02214, §4.1):

    L = || f_θ(x_σ, σ | true past, actions) − x₀^φ ||²,   f(x, σ) = x − σ v(x, σ)

x₀^φ is where the teacher's trajectory ends. `trajectories` has made them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import load_config, require_positive
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import Device, TeacherForcing
from worldmodel.schedule import to_clean
from worldmodel.training.latent_stage import LatentStage
from worldmodel.training.shards import check_alike
from worldmodel.training.stage import LoopConfig
from worldmodel.training.teacher_forcing import (
    PackedClip,
    first_taught,
    packed_velocity,
)
from worldmodel.training.torch_streams import host_choices
from worldmodel.training.train_loop import CONFIG
from worldmodel.training.trajectories import OdeTrajectories, TrajectoryShards


@dataclass(frozen=True, kw_only=True, slots=True)
class OdeTraining:
    """Everything that the stage `ode` reads from its TOML file."""

    stage: Literal["ode"]
    heldout: Path
    autoencoder: Path  # the run of the stage `autoencoder`
    teacher: Path  # the run of the stage `teacher`: what the student begins with
    trajectories: Path  # the run of the stage `ode_trajectories`
    actions: ActionSpec
    model: ModelConfig
    batch: int
    loop: LoopConfig

    def __post_init__(self) -> None:
        require_positive(self, "batch")


class OdeStage(LatentStage):
    """The student, its average, and the trajectories on disk."""

    def __init__(self, config: OdeTraining, folder: Path, device: Device = "cpu") -> None:
        del folder
        super().__init__(config, device)
        self.config, self.forward = config, packed_velocity
        self.made = load_config(OdeTrajectories, config.trajectories / CONFIG)
        same = ("model", "actions", "teacher", "autoencoder")
        check_alike(config.trajectories, self.made, config, *same)
        self.shards = TrajectoryShards(config.trajectories, self.made)
        self.reading = self.shards.reading
        self.begin(config.teacher)
        self.context = TeacherForcing(config.model, self.made.frames, device=device)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared distance from the trajectories' ends, the first frames of clips left out."""
        del step
        host, levels = host_choices(generator, "levels"), self.made.sigmas
        index = [host.randrange(len(levels)) for _ in range(self.config.batch)]
        state, end, clean, actions = self.shards.draw(self.config.batch, index, generator)
        level = torch.tensor([levels[i] for i in index]).to(clean.device)
        sigmas = level[:, None].expand(-1, clean.shape[1])
        clip = PackedClip(clean, clean, torch.zeros_like(sigmas), actions, actions)
        velocity = self.forward(self.student, clip, state[:, None], sigmas[:, None], self.context)
        sampled = to_clean(state, velocity[:, 0], sigmas)
        return (sampled - end)[:, first_taught(self.config.model) :].square().mean(), {}
