"""`worldmodel train CONFIG --estimate`: memory and time of a Wan stage, before any GPU is rented.

What a batch costs is counted on fake tensors (`costs`). The time is what a GPU of the data sheet
would take if it reached 40 % of it: expected, not measured.
"""

from dataclasses import dataclass, replace
from typing import Any

from worldmodel.config import ConfigError
from worldmodel.training.wan.costs import batch_cost
from worldmodel.training.wan.memory import memory
from worldmodel.training.wan.stage_config import WanTraining
from worldmodel.wan.lora import LoraConfig

PEAK = 989e12  # dense bfloat16 operations a second of an H100 or H200 SXM, by the data sheet
SHARE = 0.4  # of it that such a training reaches; an assumption
GPUS = (1, 4, 8)
LORA = LoraConfig(rank=32, alpha=32.0)


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
