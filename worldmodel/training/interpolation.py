"""After distillation: weights between those that a run began with and those that it ended with.

    θ = θ_base + share (θ_after − θ_before),   θ_base = θ_before unless another is named

Distribution matching makes pictures crisp and lively and moves them away from the one future that
really came. Its runs are short and their weights stay so close to where they began that every point
on the line between is a working model, and one near its end is better than either (Wortsman et al.,
"Robust fine-tuning of zero-shot models", arXiv 2109.01903, §3). With a base that has gone on from
θ_before by itself, what one run has learned is added to another (Ilharco et al., "Editing models
with task arithmetic", arXiv 2212.04089, §2). Nothing is trained: it takes a second.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from worldmodel.config import ConfigError, read_toml, to_toml
from worldmodel.model.configs import ModelConfig
from worldmodel.storage.files import write_atomically
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.training.runs import lineage, load_transformer
from worldmodel.training.train_loop import CONFIG, STATE


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightInterpolation:
    """Everything that the stage `interpolation` reads from its TOML file."""

    stage: Literal["interpolation"]
    student: Path  # the run that ended in θ_after
    start: Path  # a run that led to it, for θ_before
    share: float  # of what changed between them
    base: Path | None = None  # a run that began with θ_before too; none: θ_before

    def __post_init__(self) -> None:
        most = 1.0 if self.base else 0.999  # all of it, and no base, would be the run itself
        if not 0 < self.share <= most:
            raise ConfigError(f"share ({self.share}) must be above 0 and at most {most:g}")


@torch.no_grad()
def interpolate(config: WeightInterpolation, folder: Path) -> dict[str, Any]:
    """Write a run that later stages, rows and worlds can name; returns its summary.

    `ConfigError` where the one run has not led to the other, their models differ, or the folder
    holds a run of another stage.
    """
    if (folder / CONFIG).is_file() and read_toml(folder / CONFIG).get("stage") != config.stage:
        raise ConfigError(f"{folder} holds a run of another stage; name another folder")
    after = lineage(config.student)
    for run in (config.student, *([config.base] if config.base else [])):
        _check_led(config.start, run, after.model)
    base, begun, ended = (
        load_transformer(run, after.model).state_dict()
        for run in (config.base or config.start, config.start, config.student)
    )
    weights = {name: w + config.share * (ended[name] - begun[name]) for name, w in base.items()}
    facts = {
        **{key: value for key, value in asdict(config).items() if value is not None},
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


def _check_led(start: Path, run: Path, model: ModelConfig) -> None:
    """The run must have begun with the weights of `start`, however many runs lie between."""
    led = lineage(run).runs[:-1]
    if start not in led:
        raise ConfigError(
            f"start = {str(start)!r}: expected a run that led to {run} "
            f"({', '.join(map(str, led))}); between weights that training did not lead through "
            "there is no working model"
        )
    if any(lineage(other).model != model for other in (start, run)):
        raise ConfigError(f"{start} and {run} have models of different settings")
