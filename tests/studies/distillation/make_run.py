"""Finished runs of random weights, as the training leaves them."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch

from tests.conftest import make_lively
from tests.training.tiny_data import MODEL
from worldmodel.config import to_toml
from worldmodel.data_sources.doom import ACTIONS
from worldmodel.model.configs import ModelConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.training.train_loop import CONFIG, STATE

DOOM_MODEL = replace(MODEL, latent_height=3, latent_width=4, buttons=len(ACTIONS.buttons))


def make_run(
    folder: Path,
    model: ModelConfig = DOOM_MODEL,
    *,
    seed: int = 0,
    steps: int = 10,
    done: int | None = None,
    minutes: float = 3.0,
    petaflops: float = 0.5,
) -> Path:
    """A run of `steps` steps that has done all of them, or `done`."""
    torch.manual_seed(seed)
    weights = make_lively(WorldTransformer(model)).state_dict()
    table = {"stage": "student", "model": asdict(model), "actions": asdict(ACTIONS)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(to_toml({**table, "loop": {"steps": steps}}), encoding="utf-8")
    done = steps if done is None else done
    save_tensors(folder / STATE, {f"ema.{k}": v for k, v in weights.items()}, {"step": done})
    if done == steps:
        summary = {"stage": "student", "steps": steps, "minutes": minutes, "petaflops": petaflops}
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n', encoding="utf-8")
    return folder
