"""Everything that changes while a stage trains: weights, averages, optimizers, the step."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from worldmodel.config import ConfigError
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.training.kept_states import (
    BrokenStateError,
    check_header,
    check_parts,
    keep_before,
)
from worldmodel.training.processes import local, whole

if TYPE_CHECKING:
    from worldmodel.training.stage import LoopConfig, Stage

STUDENT, CRITIC = "student", "critic"
SLOTS: dict[type[torch.optim.Optimizer], set[str]] = {  # what each keeps of a weight
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.Muon: {"momentum_buffer"},
}
NOT_NEGATIVE = {"step", "exp_avg_sq"}


def make_optimizers(
    model: nn.Module, config: "LoopConfig", learning_rate: float, muon_learning_rate: float
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's blocks, AdamW for everything else."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in named if muon_learning_rate and p.ndim == 2 and "blocks." in name]
    chosen = {id(p) for p in hidden}
    rest = [p for _, p in named if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest,
            learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=rest[0].device.type == "cuda",  # one kernel for all weights
        )
    ]
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden,
                muon_learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="original",
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


class TrainState:
    """One or two players, the student's average, and how far they have come."""

    def __init__(self, stage: "Stage", config: "LoopConfig") -> None:
        from worldmodel.training.stage import CriticisedStage

        self.step = 0
        self.steps = config.steps  # at which the run ends; 0 until that is known (`budget`)
        self.seconds = 0.0  # of training so far, over all sessions
        self._on_disk = 0  # the step of the state that was read or written last
        self.parts_step = 0  # the same of parts that several processes write (`sharded`)
        self.ema = stage.ema
        self.device = next(stage.student.parameters()).device
        self.players: dict[str, nn.Module] = {STUDENT: stage.student}
        rates = {STUDENT: (config.learning_rate, config.muon_learning_rate)}
        if isinstance(stage, CriticisedStage):
            self.players[CRITIC] = stage.critic.model
            rates[CRITIC] = (stage.critic.learning_rate, stage.critic.muon_learning_rate)
        self.optimizers = {
            name: make_optimizers(model, config, *rates[name])
            for name, model in self.players.items()
        }

    @property
    def student(self) -> nn.Module:
        """The weights as they are trained, not their average."""
        return self.players[STUDENT]

    def save(self, path: Path, *, leads: bool = True) -> None:
        """Write one file, atomically: raw weights, their average, optimizers, step.

        Of several processes all must call it, and the one that leads writes.
        """
        tensors = {f"ema.{k}": whole(v) for k, v in trained_weights(self.ema).items()}
        for name, model in self.players.items():
            tensors |= {f"{name}.{k}": whole(v) for k, v in trained_weights(model).items()}
            for o, optimizer in enumerate(self.optimizers[name]):
                for i, slots in optimizer.state_dict()["state"].items():
                    prefix = f"{_slots_of(name)}.{o}.{i}"
                    tensors |= {
                        f"{prefix}.{key}": whole(torch.as_tensor(v)) for key, v in slots.items()
                    }
        if leads:
            header = {"step": self.step, "steps": self.steps, "seconds": self.seconds}
            if self._on_disk != self.step:  # the same step again would push out an older one
                keep_before(path)
            save_tensors(path, tensors, header)
        self._on_disk = self.step

    def load(self, path: Path) -> None:
        """Go on where a run stopped; a state of another model is an error.

        A `BrokenStateError` comes before anything has changed.
        """
        tensors, header = load_tensors(path)
        check_header(header, path)
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            part, _, rest = key.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        check_parts(parts, int(header["step"]), path)
        try:
            for name, model in {**self.players, "ema": self.ema}.items():
                _check_weights(model, parts.get(name, {}), f"{path}: {name}")
            for name, model in {**self.players, "ema": self.ema}.items():
                _load_model(model, parts.get(name, {}))
            for name, optimizers in self.optimizers.items():
                for o, optimizer in enumerate(optimizers):
                    _load_optimizer(optimizer, parts.get(_slots_of(name), {}), o, path)
            self.step, self.seconds = int(header["step"]), float(header["seconds"])
            self._on_disk = self.step
            self.steps = self.steps or int(header.get("steps", 0))
        except BrokenStateError:
            raise
        except (RuntimeError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(
                f"{path}: holds another model than this config describes; train into another "
                f"folder or restore the config. {error}"
            ) from error


def _slots_of(player: str) -> str:
    """The prefix of a player's optimizer in a file: the student's came first and has no name."""
    return "optimizer" if player == STUDENT else f"{player}_optimizer"


@runtime_checkable
class PartlyTrained(Protocol):
    """A model of which only some weights change; the others lie where its training began."""

    @property
    def trained(self) -> frozenset[str]:
        """Names of those that change."""


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """What a state keeps of a model."""
    weights: dict[str, Tensor] = model.state_dict()
    if not isinstance(model, PartlyTrained):
        return weights
    trained = model.trained
    return {name: tensor for name, tensor in weights.items() if name in trained}


def _check_weights(model: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse a part that is missing, and whole numbers in the place of weights."""
    if not tensors:
        raise BrokenStateError(f"{what}, a part of every state, is missing")
    own = model.state_dict()
    for name, tensor in tensors.items():
        if name in own and own[name].is_floating_point() != tensor.is_floating_point():
            raise BrokenStateError(f"{what}.{name} is {tensor.dtype}, not {own[name].dtype}")


def _load_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a model, which may be split over processes, with whole tensors."""
    own = model.state_dict()
    split = {k: _split_like(v, own.get(k, v)) for k, v in tensors.items()}
    if isinstance(model, PartlyTrained) and split.keys() == model.trained:
        split = {**own, **split}
    model.load_state_dict(split)


def _split_like(tensor: Tensor, own: Tensor) -> Tensor:
    """A whole tensor, split over processes as one of its shape is."""
    if not isinstance(own, DTensor) or tensor.shape != own.shape:
        return tensor
    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements)


def _load_optimizer(
    optimizer: torch.optim.Optimizer, slots: Mapping[str, Tensor], number: int, path: Path
) -> None:
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in slots.items():
        which, _, rest = key.partition(".")
        index, _, name = rest.partition(".")
        if which != str(number):
            continue
        of = weights[int(index)] if index.isdecimal() and int(index) < len(weights) else None
        if of is None or tensor.shape != (() if name == "step" else of.shape):
            raise BrokenStateError(f"{path}: the optimizer's {key} belongs to no weight")
        if name in NOT_NEGATIVE and bool((tensor < 0).any()):
            raise BrokenStateError(f"{path}: the optimizer's {key} is below 0")
        state.setdefault(int(index), {})[name] = _split_like(tensor, of)
    for at, held in state.items():
        if missing := sorted(SLOTS[type(optimizer)] ^ held.keys()):
            raise BrokenStateError(
                f"{path}: the optimizer's {number}.{at} is not whole: {missing[0]!r}"
            )
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


@torch.no_grad()
def update_ema(ema: nn.Module, student: nn.Module, decay: float) -> None:
    """θ⁻ ← decay θ⁻ + (1 − decay) θ; buffers are copied."""
    averages: list[Tensor] = [local(p) for p in ema.parameters()]
    weights: list[Tensor] = [local(p) for p in student.parameters()]
    torch._foreach_lerp_(averages, weights, 1 - decay)
    for average, buffer in zip(ema.buffers(), student.buffers(), strict=True):
        average.copy_(buffer)
