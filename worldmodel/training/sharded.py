"""A state that several processes write part by part (`torch.distributed.checkpoint`).

A run's folder then holds `sharded/STEP/`, the last one only, and `sharded/latest.json`, which is
written when a step's parts are all there. Any number of processes, one too, goes on from it.
"""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from worldmodel.config import ConfigError
from worldmodel.files import FileWriteError, read_text, write_atomically
from worldmodel.training.processes import Processes
from worldmodel.training.state import PartlyTrained, TrainState

FOLDER, LATEST = "sharded", "latest.json"


def sharded_step(folder: Path) -> int | None:
    """The step whose parts are all there, if any is."""
    path = folder / FOLDER / LATEST
    if not path.exists():
        return None
    content = read_text(path)
    try:
        return int(json.loads(content)["step"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {str(error)[:200]}; remove it") from error


def save_sharded(state: TrainState, folder: Path, processes: Processes) -> None:
    """Write this process's part; the step counts once all have."""
    place = folder / FOLDER / f"{state.step:08d}"
    try:
        save(_parts(state), checkpoint_id=place)
    except (OSError, RuntimeError) as error:
        raise FileWriteError(f"{place}: cannot be written: {error}") from error
    processes.wait()
    if processes.leads:
        header = {"step": state.step, "seconds": state.seconds}
        write_atomically(folder / FOLDER / LATEST, json.dumps(header).encode())
        for other in (folder / FOLDER).iterdir():
            if other.is_dir() and other != place:
                shutil.rmtree(other, ignore_errors=True)


def load_sharded(state: TrainState, folder: Path) -> None:
    """Go on from the last step whose parts are all there."""
    header = json.loads(read_text(folder / FOLDER / LATEST))
    parts = _parts(state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says when one process reads alone, which is meant
        load(parts, checkpoint_id=folder / FOLDER / f"{header['step']:08d}")
    for name, model in {**state.players, "ema": state.ema}.items():
        part = StateDictOptions(strict=not isinstance(model, PartlyTrained))
        set_model_state_dict(model, parts[name], options=part)
        if name in state.optimizers:
            set_optimizer_state_dict(model, state.optimizers[name], parts[f"{name}_optimizer"])
    state.step, state.seconds = int(header["step"]), float(header["seconds"])


def _parts(state: TrainState) -> dict[str, Any]:
    parts: dict[str, Any] = {"ema": _weights(state.ema)}
    for name, model in state.players.items():
        parts[name] = _weights(model)
        parts[f"{name}_optimizer"] = get_optimizer_state_dict(model, state.optimizers[name])
    return parts


def _weights(model: nn.Module) -> dict[str, Any]:
    weights = get_model_state_dict(model)
    if not isinstance(model, PartlyTrained):
        return weights
    trained = model.trained
    return {name: tensor for name, tensor in weights.items() if name in trained}
