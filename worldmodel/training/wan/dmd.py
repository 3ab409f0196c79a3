"""Distribution matching for a Wan student (`training.dmd` has the equations).

The student plays whole clips from the words and cameras of true ones, which it never sees; the
bidirectional judge and the critic say what those clips should have been.
"""

from pathlib import Path

import torch
from torch import Tensor

from worldmodel.config import load_config
from worldmodel.model.context import Device
from worldmodel.streams import choices, seed_of
from worldmodel.training.loop import Critic
from worldmodel.training.matching import DistributionMatching, Judged
from worldmodel.training.self_play import Exit
from worldmodel.training.wan.config import WanDmdTraining
from worldmodel.training.wan.costs import dmd_flops
from worldmodel.training.wan.forward import Told, whole_velocity
from worldmodel.training.wan.self_play import self_play
from worldmodel.training.wan.stage import WanStage, frozen_dtype
from worldmodel.training.wan.start import load_network, make_student
from worldmodel.wan.config import WanConfig
from worldmodel.wan.transformer import WanTransformer


class WanDmdStage(DistributionMatching[WanTransformer, Told], WanStage):
    """The student and its average, the frozen teacher, the critic."""

    def __init__(self, config: WanDmdTraining, folder: Path, device: Device = "cpu") -> None:
        del folder
        WanStage.__init__(self, config, config.student, device)
        self.config = self.levels = config
        size = load_config(WanConfig, config.real_size) if config.real_size else self.size
        real = load_network(config.real, size, device)
        self.real = real.to(frozen_dtype(config)).eval()
        begin = load_network(config.critic or config.real, self.size, device)
        self.fake = make_student(
            begin, config.lora, seed_of(config.loop.seed, config.stage, "critic")
        )
        self.critic = Critic(self.fake, config.critic_updates, config.critic_learning_rate)
        self.flops = dmd_flops(config, size)

    def forward(
        self, model: WanTransformer, noisy: Tensor, sigmas: Tensor, told: Told, known: Tensor
    ) -> Tensor:
        """Velocity b f c h w of whole clips; none of their frames is known."""
        del known
        return whole_velocity(model, noisy, sigmas, told, self.window)

    def untold(self, judged: Judged[Told]) -> Told:
        """The same cameras without words."""
        return judged.told.untold

    def play(self, step: int, generator: torch.Generator) -> Judged[Told]:
        """One exit for all batches of a step: processes must pass as often as one another."""
        clips, sampler = self.config.clips, self.config.sampler
        host = choices(self.config.loop.seed, self.config.stage, step, "rollout")
        leave = Exit.draw(sampler, host)
        told = self.data.draw(clips.batch, clips.frames, 0.0, generator).told
        latents = self_play(self.student, self.window, sampler, told, leave, generator)
        return Judged(latents, told, torch.zeros(len(latents), device=self.device).long())
