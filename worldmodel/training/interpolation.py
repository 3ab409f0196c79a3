"""After distillation: weights between those that a run began with and those that it ended with.

    θ = (1 − share) θ_before + share θ_after

Distribution matching makes pictures crisp and lively and moves them away from the one future that
really came. Its runs are short and their weights stay so close to where they began that every point
on the line between is a working model (Wortsman et al., "Robust fine-tuning of zero-shot models",
arXiv 2109.01903, §3), and one near its end is better than either: nearer to the truth than the one,
as lively as the other. Nothing is trained: it takes a second.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from worldmodel.checkpoint import save_tensors
from worldmodel.config import ConfigError, read_toml, to_toml
from worldmodel.files import write_atomically
from worldmodel.training.loop import CONFIG, STATE
from worldmodel.training.runs import lineage, load_transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightInterpolation:
    """Everything that the stage `interpolation` reads from its TOML file."""

    stage: Literal["interpolation"]
    student: Path  # the run that ended in θ_after
    start: Path  # a run that led to it, for θ_before
    share: float  # of θ_after

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"share ({self.share}) must be between 0 and 1")


@torch.no_grad()
def interpolate(config: WeightInterpolation, folder: Path) -> dict[str, Any]:
    """Write a run that later stages, rows and worlds can name; returns its summary.

    `ConfigError` where the one run has not led to the other, their models differ, or the folder
    holds a run of another stage.
    """
    if (folder / CONFIG).is_file() and read_toml(folder / CONFIG).get("stage") != config.stage:
        raise ConfigError(f"{folder} holds a run of another stage; name another folder")
    after, before = lineage(config.student), lineage(config.start)
    if config.start not in after.runs[:-1]:
        led = ", ".join(str(run) for run in after.runs[:-1])
        raise ConfigError(
            f"start = {str(config.start)!r}: expected a run that led to {config.student} ({led}); "
            "between weights that training did not lead through there is no working model"
        )
    if before.model != after.model:
        raise ConfigError(f"{config.start} and {config.student} have models of different settings")
    begun = load_transformer(config.start, after.model).state_dict()
    ended = load_transformer(config.student, after.model).state_dict()
    weights = {name: torch.lerp(begun[name], ended[name], config.share) for name in ended}
    facts = {
        **asdict(config),
        "autoencoder": after.autoencoder,
        "actions": asdict(after.actions),
        "model": asdict(after.model),
    }
    folder.mkdir(parents=True, exist_ok=True)
    # No step to come and none gone: a state is of a run's last step, and this run has none.
    save_tensors(folder / STATE, {f"ema.{name}": w for name, w in weights.items()}, {"step": 0})
    write_atomically(folder / CONFIG, to_toml(facts).encode())
    summary = {
        "stage": config.stage,
        "share": config.share,
        "minutes": 0.0,
        "petaflops": 0.0,
        "parameters": sum(w.numel() for w in weights.values()),
    }
    write_atomically(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    return summary
