"""The one training loop: every stage gives a loss, everything else is here.

A step is a function of (weights, optimizer state, seed, step number): data, noise and dropout are
drawn from a generator seeded with the last two. So a run that was killed and resumed on the same
kind of device takes the same steps as one that was not, and no random state has to be stored.

A run's folder holds `state.safetensors` (weights, EMA, optimizer, step; written atomically),
`metrics.jsonl`, TensorBoard events and `samples/`.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from worldmodel.checkpoint import load_tensors, save_tensors
from worldmodel.config import ConfigError, UserError, require_positive
from worldmodel.training.metrics import MetricsLog

STATE = "state.safetensors"
CONFIG = "config.toml"  # what the run was started with, resolved


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long and how fast to train."""

    steps: int
    learning_rate: float  # AdamW
    muon_learning_rate: float = 0.0  # for hidden matrices; 0 leaves them to AdamW
    weight_decay: float = 0.01
    warmup_steps: int = 100
    decay_fraction: float = 0.5  # the last part of the run, over which the rates fall to 0
    gradient_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    compile: bool = False  # needs a C++ compiler; a quarter faster
    log_every: int = 10
    save_every: int = 200
    sample_every: int = 1000

    def __post_init__(self) -> None:
        require_positive(self, "steps", "log_every", "save_every", "sample_every")
        if not 0 <= self.decay_fraction <= 1 or not 0 <= self.ema_decay < 1:
            raise ConfigError(
                f"decay_fraction ({self.decay_fraction}) must be in [0, 1], "
                f"ema_decay ({self.ema_decay}) in [0, 1)"
            )

    def rate(self, step: int) -> float:
        """The factor on every learning rate: linear warm-up, flat, linear decay to 0."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = (self.steps - step) / max(1.0, self.decay_fraction * self.steps)
        return min(warmup, left, 1.0)


class Stage(Protocol):
    """What a training stage brings to the loop."""

    @property
    def student(self) -> nn.Module:
        """What is trained."""

    @property
    def ema(self) -> nn.Module:
        """Its moving average; some stages use it as the target."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one step, and figures worth logging.

        `generator` is the only source of chance; it lives on the model's device.
        """

    def compile(self) -> None:
        """Make `loss` faster from here on."""

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Write samples to look at; returns figures measured on unseen data."""


class UnfinishedError(UserError):
    """A run was asked to stop, or has not come to its end yet."""


class DivergedError(UserError):
    """The loss is not a number; the last good state is on disk."""


def make_optimizers(model: nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's blocks, AdamW for everything else."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [
        p for name, p in named if config.muon_learning_rate and p.ndim == 2 and "blocks." in name
    ]
    chosen = {id(p) for p in hidden}
    rest = [p for _, p in named if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest, config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
    ]
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden,
                config.muon_learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="original",
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


class TrainState:
    """Everything that changes while a stage trains, saved and loaded as one file."""

    def __init__(self, stage: Stage, config: LoopConfig) -> None:
        self.step = 0
        self.seconds = 0.0  # of training so far, over all sessions
        self.student, self.ema = stage.student, stage.ema
        self.device = next(stage.student.parameters()).device
        self.optimizers = make_optimizers(stage.student, config)

    def save(self, path: Path) -> None:
        """Write atomically."""
        tensors = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for o, optimizer in enumerate(self.optimizers):
            for i, slots in optimizer.state_dict()["state"].items():
                tensors |= {
                    f"optimizer.{o}.{i}.{key}": torch.as_tensor(v) for key, v in slots.items()
                }
        save_tensors(path, tensors, {"step": self.step, "seconds": self.seconds})

    def load(self, path: Path) -> None:
        """Go on where a run stopped; a state of another model is an error."""
        tensors, header = load_tensors(path)
        parts: dict[str, dict[str, Tensor]] = {"student": {}, "ema": {}, "optimizer": {}}
        for key, tensor in tensors.items():
            part, _, rest = key.partition(".")
            parts[part][rest] = tensor
        try:
            self.student.load_state_dict(parts["student"])
            self.ema.load_state_dict(parts["ema"])
        except RuntimeError as error:
            raise ConfigError(
                f"{path}: holds another model than this config describes; train into another "
                f"folder or restore the config. {error}"
            ) from error
        for o, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in parts["optimizer"].items():
                which, index, name = key.split(".")
                if int(which) == o:
                    state.setdefault(int(index), {})[name] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step, self.seconds = int(header["step"]), float(header["seconds"])


@torch.no_grad()
def update_ema(ema: nn.Module, student: nn.Module, decay: float) -> None:
    """θ⁻ ← decay θ⁻ + (1 − decay) θ; buffers are copied."""
    averages: list[Tensor] = list(ema.parameters())
    weights: list[Tensor] = list(student.parameters())
    torch._foreach_lerp_(averages, weights, 1 - decay)
    for average, buffer in zip(ema.buffers(), student.buffers(), strict=True):
        average.copy_(buffer)


def train(stage: Stage, config: LoopConfig, folder: Path) -> TrainState:
    """Train until `config.steps`; resume if `folder` holds a state. SIGTERM saves, then stops."""
    state = resume(stage, config, folder)
    loss_of = _loss_function(stage, config, state.device)
    with (
        MetricsLog(folder, state.step) as log,
        tqdm(total=config.steps, initial=state.step, unit="step", smoothing=0.05) as progress,
        _stop_on_sigterm() as stopping,
    ):
        while state.step < config.steps and not stopping():
            began = time.perf_counter()
            figures = _step(state, loss_of, config)
            state.seconds += time.perf_counter() - began
            progress.update(1)
            if state.step % config.log_every == 0 or state.step == config.steps:
                values = {key: float(value.detach()) for key, value in figures.items()}
                progress.set_postfix(loss=f"{values['loss']:.4f}")
                log.write(state.step, {**values, "seconds": state.seconds})
            if state.step % config.save_every == 0:
                state.save(folder / STATE)
            if state.step % config.sample_every == 0 or state.step == config.steps:
                log.write(state.step, stage.sample(folder / "samples", state.step))
    state.save(folder / STATE)
    return state


def resume(stage: Stage, config: LoopConfig, folder: Path) -> TrainState:
    """The state in `folder`, or a fresh one; a state of another model is an error."""
    state = TrainState(stage, config)
    if (folder / STATE).exists():
        state.load(folder / STATE)
    return state


LossFunction = Callable[[int, torch.Generator], tuple[Tensor, dict[str, Tensor]]]


def _loss_function(stage: Stage, config: LoopConfig, device: torch.device) -> LossFunction:
    def loss_of(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            return stage.loss(step, generator)

    return loss_of


def _step(state: TrainState, loss_of: LossFunction, config: LoopConfig) -> dict[str, Tensor]:
    generator = torch.Generator(state.device).manual_seed(config.seed * 1_000_003 + state.step)
    torch.manual_seed(config.seed * 1_000_003 + state.step)
    loss, figures = loss_of(state.step, generator)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.student.parameters(), config.gradient_norm)
    if not math.isfinite(float(norm)):
        raise DivergedError(
            f"step {state.step}: the gradient is not finite (loss {float(loss.detach())}); the "
            "last good state is on disk. Lower the learning rates and start again."
        )
    rate = config.rate(state.step)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    # A young average would otherwise remember the initial weights: ramp as (1 + t) / (10 + t).
    decay = min(config.ema_decay, (1 + state.step) / (10 + state.step))
    update_ema(state.ema, state.student, decay)
    state.step += 1
    return {"loss": loss.detach(), "gradient_norm": norm, **figures}


@contextmanager
def _stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a flag, so that the loop ends between two steps and saves."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # signal's signature
        nonlocal asked
        asked = True

    before = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def count_flops(stage: Stage) -> int:
    """Floating-point operations of one step's forward and backward passes."""
    counter = FlopCounterMode(display=False)
    device = next(stage.student.parameters()).device
    with counter:
        loss, _ = stage.loss(0, torch.Generator(device).manual_seed(0))
        loss.backward()
    stage.student.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())
