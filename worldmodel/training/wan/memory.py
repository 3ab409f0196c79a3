"""Bytes that a Wan stage needs on each GPU: what stays, and beside it what a batch was counted."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from worldmodel.training.wan.costs import BatchCost, judge_size
from worldmodel.training.wan.stage_config import WanDmdTraining, WanStudentTraining, WanTraining
from worldmodel.wan.lora import LoraConfig, LoraTransformer
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.transformer_cost import parameters

WIDE = 4  # bytes of an fp32 number


@dataclass(frozen=True, slots=True)
class StageMemory:
    """Bytes of a stage on one GPU, part by part."""

    weights: int  # fp32 masters of what is trained, and what is frozen beside it
    gradients: int
    optimizer: int  # AdamW's two moments
    average: int
    others: int  # teacher, judge, critic's own state
    copies: int  # bfloat16 weights while they compute, sums of a rollout's gradients
    activations: int  # a rollout's past among them

    @property
    def whole(self) -> int:
        """All bytes together."""
        states = self.weights + self.gradients + self.optimizer + self.average + self.others
        return states + self.copies + self.activations


def memory(config: WanTraining, batch: BatchCost, gpus: int = 1) -> StageMemory:
    """Of one of `gpus` GPUs, each of which computes such batches."""
    size, lora = config.model.load_size(), config.lora
    all_of_it, learned = parameters(size), trained_parameters(size, lora)
    number = 2 if config.loop.dtype != "float32" else WIDE
    frozen = all_of_it if lora else 0
    others = 0
    if isinstance(config, WanStudentTraining):
        others = number * all_of_it
    if isinstance(config, WanDmdTraining):
        judge = parameters(judge_size(config.real_size, config))
        others = number * judge + WIDE * (frozen + 4 * learned)  # the critic trains as well
    # Of weights that are split over GPUs, two blocks are gathered at a time.
    gathered = 2 * number * all_of_it // size.layers if number == 2 else 0
    # Frozen weights are shared with the average, unless each is split by itself.
    average = WIDE * (learned + (frozen if gpus > 1 else 0))
    return StageMemory(
        weights=WIDE * (frozen + learned) // gpus,
        gradients=WIDE * learned // gpus,
        optimizer=2 * WIDE * learned // gpus,
        average=average // gpus,
        others=others // gpus,
        copies=gathered if gpus > 1 else batch.copies,
        activations=batch.activations,
    )


@lru_cache(maxsize=16)
def trained_parameters(size: WanConfig, lora: LoraConfig | None) -> int:
    """How many numbers of the weights are trained."""
    if lora is None:
        return parameters(size)
    with torch.device("meta"):
        model = LoraTransformer(size, lora)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
