"""`worldmodel train CONFIG --estimate`: memory and time of a Wan stage, before any GPU is rented.

What a batch costs is counted on fake tensors (`costs`); what stays in memory beside it follows from
the sizes. The time is what a GPU of the data sheet
would take if it reached 40 % of it: expected, not measured.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from worldmodel.config import ConfigError
from worldmodel.training.wan.costs import BatchCost, batch_cost, real_size
from worldmodel.training.wan.stage_config import WanDmdTraining, WanStudentTraining, WanTraining
from worldmodel.wan.lora import LoraConfig, LoraTransformer
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.transformer_cost import parameters

PEAK = 989e12  # dense bfloat16 operations a second of an H100 or H200 SXM, by the data sheet
SHARE = 0.4  # of it that such a training reaches; an assumption
GPUS = (1, 4, 8)
LORA = LoraConfig(rank=32, alpha=32.0)
WIDE = 4  # bytes of an fp32 number


@dataclass(frozen=True, slots=True)
class StageMemory:
    """Bytes of a stage on one GPU, part by part."""

    weights: int  # fp32 masters of what is trained, and what is frozen beside it
    gradients: int
    optimizer: int  # AdamW's two moments
    average: int
    others: int  # teacher, real score model, critic's own state
    copies: int  # bfloat16 weights while they compute, sums of a rollout's gradients
    activations: int  # a rollout's past among them

    @property
    def whole(self) -> int:
        """All bytes of a training step together."""
        states = self.weights + self.gradients + self.optimizer + self.average + self.others
        return states + self.copies + self.activations


def memory(config: WanTraining, batch: BatchCost, gpus: int = 1) -> StageMemory:
    """Bytes on one of `gpus` GPUs, each of which computes such batches."""
    size, lora = config.model.load_size(), config.lora
    all_of_it, learned = parameters(size), trained_parameters(size, lora)
    number = 2 if config.loop.dtype != "float32" else WIDE
    frozen = all_of_it if lora else 0
    others = 0
    if isinstance(config, WanStudentTraining):
        others = number * all_of_it
    if isinstance(config, WanDmdTraining):
        real = parameters(real_size(config.real_size, config))
        others = number * real + WIDE * (frozen + 4 * learned)  # the critic trains as well
    # Of weights that are split over GPUs, two chunks are gathered at a time.
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


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """Memory and time of one way to run a stage."""

    gpus: int
    kind: str  # full, or LoRA and its rank
    gigabytes: float  # on each GPU
    activations: float  # gigabytes of those
    petaflops: float  # a step, all GPUs together
    seconds: float  # a step
    hours: float  # the whole stage


def estimate(config: WanTraining) -> list[StageEstimate]:
    """Full training and LoRA on 1, 4 and 8 GPUs, with the config's global batch."""
    rows = []
    for lora in (None, config.lora or LORA):
        other = replace(config, lora=lora)
        batch = batch_cost(other)
        for gpus in GPUS:
            batches = -(-config.loop.micro_batches // gpus) * gpus
            flops = batches * batch.flops
            need = memory(other, batch, gpus)
            seconds = flops / (gpus * PEAK * SHARE)
            rows.append(
                StageEstimate(
                    gpus,
                    f"LoRA {lora.rank}" if lora else "full",
                    need.whole / 1e9,
                    need.activations / 1e9,
                    flops / 1e15,
                    seconds,
                    seconds * config.loop.steps / 3600,
                )
            )
    return rows


def describe(config: Any) -> list[str]:
    """The lines that the command shows."""
    if not isinstance(config, WanTraining):
        raise ConfigError("--estimate is for stages that train a Wan transformer")
    loop, clips = config.loop, config.clips
    lines = [
        f"{config.stage}, {config.model.size.stem}: {loop.micro_batches} x {clips.batch} clips of "
        f"{clips.frames} latent frames a step, {loop.steps} steps, {loop.dtype}, checkpointing "
        f"{'on' if loop.checkpointing else 'off'}",
        "trained   GPUs   GB each   of it activations   PFLOP a step   s a step   hours",
    ]
    lines += [
        f"{row.kind:8} {row.gpus:5} {row.gigabytes:9.1f} {row.activations:19.1f} "
        f"{row.petaflops:14.2f} {row.seconds:10.1f} {row.hours:7.1f}"
        for row in estimate(config)
    ]
    return [
        *lines,
        f"expected, not measured: {SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s (H100, H200 SXM)",
    ]
