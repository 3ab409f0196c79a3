"""Causal consistency distillation of a Wan teacher (`training.consistency` has the loss)."""

import torch
from torch import Tensor

from worldmodel.model.context import Device
from worldmodel.schedule import sigma_grid
from worldmodel.training.consistency import consistency_loss
from worldmodel.training.teacher_forcing import mean_where
from worldmodel.training.wan.forward import packed_velocity
from worldmodel.training.wan.load_weights import check_sight
from worldmodel.training.wan.stage import WanStage
from worldmodel.training.wan.stage_config import WanStudentTraining


class WanStudentStage(WanStage[WanStudentTraining]):
    """The student, its average, the frozen teacher; all begin as the teacher."""

    def __init__(self, config: WanStudentTraining, device: Device = "cpu") -> None:
        check_sight(config.teacher, "teacher", whole=False)
        super().__init__(config, device)
        self.teacher = self.frozen(config.teacher)
        self.grid = sigma_grid(config.levels, config.level_shift).to(self.device)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Consistency loss of a batch, a level for every chunk."""
        del step
        clips, config, n = self.config.clips, self.config, self.window.chunk_frames
        # Never without words: guidance is distilled into a student that is always given them.
        clip = self.data.draw(clips.batch, clips.frames, 0.0, generator)
        noise = torch.randn(clip.clean[:, None].shape, generator=generator, device=self.device)
        chunks = (clips.batch, 1, clips.frames // n)
        index = torch.randint(config.levels, chunks, generator=generator, device=self.device)
        index = index.repeat_interleave(n, dim=-1)
        error = consistency_loss(
            packed_velocity,
            self.student,
            self.ema,
            self.teacher,
            clip,
            self.grid,
            index,
            noise,
            self.window,
            config.guidance,
        )
        return error.mean(), {"from_noise": mean_where(error.detach(), index == 0)}
