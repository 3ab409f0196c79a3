"""Distribution matching for a Wan student (`training.dmd` has the equations).

The student plays whole clips from the words and cameras of true ones, which it never sees; the
bidirectional model and the critic say what those clips should have been.
"""

import torch
from torch import Tensor

from worldmodel.config import load_config
from worldmodel.model.context import Device
from worldmodel.random_streams import choices, seed_of
from worldmodel.training.matching import DistributionMatching, PlayedClips
from worldmodel.training.self_play import Exit
from worldmodel.training.stage import Critic
from worldmodel.training.wan.forward import Conditions, whole_velocity
from worldmodel.training.wan.load_weights import check_sight, load_network, make_student
from worldmodel.training.wan.self_play import self_play
from worldmodel.training.wan.stage import WanStage, frozen_dtype
from worldmodel.training.wan.stage_config import WanDmdTraining
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.transformer import WanTransformer


class WanDmdStage(DistributionMatching[WanTransformer, Conditions], WanStage[WanDmdTraining]):
    """The student and its average, the frozen teacher, the critic."""

    def __init__(self, config: WanDmdTraining, device: Device = "cpu") -> None:
        check_sight(config.real, "real", whole=True)
        super().__init__(config, device)
        self.levels = config
        size = load_config(WanConfig, config.real_size) if config.real_size else self.size
        real = load_network(config.real, size, device)
        self.real = real.to(frozen_dtype(config)).eval()
        begin = load_network(config.critic or config.real, self.size, device)
        self.fake = make_student(
            begin, config.lora, seed_of(config.loop.seed, config.stage, "critic")
        )
        self.critic = Critic(self.fake, config.critic_updates, config.critic_learning_rate)

    def forward(
        self,
        model: WanTransformer,
        noisy: Tensor,
        sigmas: Tensor,
        conditions: Conditions,
        known: Tensor,
    ) -> Tensor:
        """Velocity b f c h w of whole clips; none of their frames is known."""
        del known
        return whole_velocity(model, noisy, sigmas, conditions, self.window)

    def unconditional(self, played: PlayedClips[Conditions]) -> Conditions:
        """The same cameras without words."""
        return played.conditions.unconditional

    def play(self, step: int, generator: torch.Generator) -> PlayedClips[Conditions]:
        """One exit for all batches of a step: processes must pass as often as one another."""
        clips, sampler = self.config.clips, self.config.sampler
        host = choices(self.config.loop.seed, self.config.stage, step, "rollout")
        leave = Exit.draw(sampler, host)
        conditions = self.data.draw(clips.batch, clips.frames, 0.0, generator).conditions
        latents = self_play(self.student, self.window, sampler, conditions, leave, generator)
        return PlayedClips(
            latents, conditions, torch.zeros(len(latents), device=self.device).long()
        )
