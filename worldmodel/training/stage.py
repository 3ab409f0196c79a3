"""What a stage brings to the training loop, and how long and how fast the loop trains it."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args, get_type_hints, runtime_checkable

import torch
from torch import Tensor, nn

from worldmodel.config import ConfigError, require_no_less, require_positive
from worldmodel.system.limits import MOST_BATCH, MOST_COUNTED
from worldmodel.training.row_files import ReadSpeed

NEVER = 2**62  # a step that no run comes to
K = TypeVar("K")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long and how fast to train."""

    steps: int = 0  # updates, a critic's included; or else
    minutes: float = 0.0  # of this run, from reading data to the last state (`budget`)
    learning_rate: float  # AdamW
    muon_learning_rate: float = 0.0  # for hidden matrices; 0 leaves them to AdamW
    betas: tuple[float, float] = (0.9, 0.99)  # of AdamW
    weight_decay: float = 0.01
    warmup_steps: int = 100
    decay_fraction: float = 0.5  # the last part of the run, over which the rates fall to 0
    gradient_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    micro_batches: int = 1  # a step's batches, whose gradients are averaged
    checkpointing: bool = False  # compute activations twice instead of keeping them
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: what multiplies faster here
    compile: bool = False  # needs a C++ compiler; a quarter faster
    log_every: int = 10
    save_every: int = 200
    sample_every: int = 1000

    def __post_init__(self) -> None:
        require_positive(self, "log_every", "save_every", "sample_every", "micro_batches")
        if self.steps < 0 or self.minutes < 0 or bool(self.steps) == bool(self.minutes):
            raise ConfigError(
                f"steps = {self.steps} and minutes = {self.minutes}: expected one of the two, "
                "above 0"
            )
        if not 0 <= self.decay_fraction <= 1 or not 0 <= self.ema_decay < 1:
            raise ConfigError(
                f"decay_fraction ({self.decay_fraction}) must be in [0, 1], "
                f"ema_decay ({self.ema_decay}) in [0, 1)"
            )
        require_no_less(self, 0, "learning_rate", "muon_learning_rate", "weight_decay")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas ({list(self.betas)}) must be in [0, 1)")

    def rate(self, step: int) -> float:
        """The factor on every learning rate: linear warm-up, flat, linear decay to 0.

        While the number of steps is not known yet, there is no decay.
        """
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if not self.steps:
            return warmup
        left = (self.steps - step) / max(1.0, self.decay_fraction * self.steps)
        return min(warmup, left, 1.0)

    def in_dtype(self, dtype: str) -> "LoopConfig":
        """The settings with the dtype that `auto` means on this device."""
        return replace(self, dtype="bfloat16" if dtype == "bfloat16" else "float32")

    def of_steps(self, steps: int) -> "LoopConfig":
        """The same with the number of steps that was found to fit.

        Pictures are made when that is found and at the end: they take their time.
        """
        return replace(self, steps=steps, minutes=0.0, sample_every=NEVER, save_every=NEVER)


# Fields of the stages' own tables that count something, wherever they stand
COUNTS = {
    "batch": MOST_BATCH,
    "clips": MOST_COUNTED,
    "columns": MOST_COUNTED,
    "copies": MOST_BATCH,
    "frame_stride": MOST_COUNTED,
    "frames": MOST_COUNTED,
    "shard": MOST_COUNTED,
    "start_frames": MOST_COUNTED,
    "unroll": MOST_COUNTED,
}


def by_name(kinds: Iterable[type[K]]) -> dict[str, type[K]]:
    """Configs by the stage that each says it is of."""
    return {get_args(get_type_hints(kind)["stage"])[0]: kind for kind in kinds}


def check_counts(config: Any, where: str) -> None:
    """Refuse a stage that reads nothing at a time, or more than any machine holds."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value) and type(value).__module__.startswith("worldmodel.training."):
            check_counts(value, f"{where}: {field.name}")
        most = COUNTS.get(field.name)
        if most and isinstance(value, int) and not 1 <= value <= most:
            raise ConfigError(f"{where}: {field.name} = {value}: expected 1 to {most}")


class Stage(Protocol):
    """What a training stage brings to the loop."""

    @property
    def student(self) -> nn.Module:
        """The model that is trained."""

    @property
    def ema(self) -> nn.Module:
        """Its moving average; some stages use it as the target."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch of a step, and figures worth logging.

        `generator` is the only source of chance, itself or by streams beside it (`torch_streams`);
        it lives on the model's device, and is fresh.
        """

    def compile(self) -> None:
        """Make `loss` faster from here on."""

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Write samples to look at; returns figures measured on unseen data."""


@dataclass(frozen=True, slots=True)
class Critic:
    """A second player, with optimizers of its own; the loss of its steps is its own too."""

    model: nn.Module
    updates: int  # before each one of the student
    learning_rate: float  # AdamW
    muon_learning_rate: float = 0.0

    def has_turn(self, step: int) -> bool:
        """Whether a step is the critic's."""
        return step % (self.updates + 1) < self.updates


@runtime_checkable
class CriticisedStage(Protocol):
    """A stage whose student learns from a critic that learns from the student."""

    @property
    def critic(self) -> Critic:
        """The second player of DMD, which is trained as well."""


@runtime_checkable
class CostedStage(Protocol):
    """A stage that knows what a batch costs: counting would take a step of a large network."""

    @property
    def flops(self) -> int:
        """Operations of a batch's forward and backward passes."""


@runtime_checkable
class ReadingStage(Protocol):
    """A stage that says how fast its data comes."""

    @property
    def reading(self) -> ReadSpeed:
        """All reads so far, and how long they took."""
