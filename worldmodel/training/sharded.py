"""A state that several processes write part by part (`torch.distributed.checkpoint`).

A run's folder then holds `sharded/STEP/`, the last two, and `sharded/latest.json`, which is written
when a step's parts are all there; what it said before is in `latest.before.json`. Any number of
processes, one too, goes on from the newest that is whole.
"""

import contextlib
import json
import pickle
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from worldmodel.config import UserError
from worldmodel.storage.checkpoint import holds_numbers
from worldmodel.storage.files import FileWriteError, read_record, write_atomically
from worldmodel.system.limits import LONGEST_SHOWN
from worldmodel.training.checked_parts import CheckedPlanner, CheckedReader
from worldmodel.training.kept_states import BrokenStateError, before, check_header, keep_before
from worldmodel.training.processes import Processes, local
from worldmodel.training.train_state import PartlyTrained, TrainState

FOLDER, LATEST = "sharded", "latest.json"
# What torch says of parts that are missing, cut off or of another shape. Its own is no `Exception`.
UNREADABLE = (
    CheckpointException,
    OSError,
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
    UserError,
)


def save_sharded(state: TrainState, folder: Path, processes: Processes) -> None:
    """Write this process's part; the step counts once all have. The one before stays."""
    if state.parts_step == state.step and state.step:
        return  # they are there
    place = _place(folder, state.step)
    if processes.leads:  # what an earlier session left broken
        shutil.rmtree(place, ignore_errors=True)
    processes.wait()
    try:
        save(_parts(state), checkpoint_id=place)
    except (OSError, RuntimeError, CheckpointException) as error:
        raise FileWriteError(f"{place}: cannot be written: {_told(error)}") from error
    processes.wait()
    if processes.leads:
        latest = folder / FOLDER / LATEST
        # What this state did not come from may be broken, and pushes nothing out.
        if _step_in(latest) == state.parts_step:
            keep_before(latest)
        header = {"step": state.step, "seconds": state.seconds}
        write_atomically(latest, json.dumps(header).encode())
        kept = {_place(folder, state.step)}
        if (old := _step_in(before(latest))) is not None:
            kept.add(_place(folder, old))
        for other in (folder / FOLDER).iterdir():
            if other.is_dir() and other not in kept:
                shutil.rmtree(other, ignore_errors=True)
    state.parts_step = state.step


def load_sharded(state: TrainState, folder: Path, processes: Processes) -> str:
    """Go on from the newest parts that are whole, if they are newer; what is to be said of it.

    A `BrokenStateError` where there are newer ones and none is whole: the state then holds part of
    them, and must be loaded anew. All processes must call it.
    """
    since, problems = state.step, list[str]()
    for path in (folder / FOLDER / LATEST, before(folder / FOLDER / LATEST)):
        if not path.exists():
            continue
        try:
            header = read_record(path)
            check_header(header, path)
        except UserError as error:
            problems.append(str(error))
            continue
        if header["step"] <= since:
            continue
        place = _place(folder, header["step"])
        reason = _load(state, header, place)
        if processes.any(bool(reason)):
            problems.append(f"{place}: {reason or 'the part of another process'} cannot be read")
            continue
        return f"{problems[0]}; going on from step {state.step}, {place}" if problems else ""
    if problems:
        raise BrokenStateError(
            f"{problems[0]}; no newer parts are whole"
            if since
            else f"{problems[0]}; no other state is whole: remove {folder} to begin again"
        )
    return ""


def _load(state: TrainState, header: Mapping[str, Any], place: Path) -> str:
    """Fill a state; what is wrong with the parts, or nothing."""
    parts = _parts(state)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says when one process reads alone, which is meant
            load(parts, storage_reader=CheckedReader(place), planner=CheckedPlanner())
    except UNREADABLE as error:
        return _told(error)
    for name, tensor in _tensors(parts):
        if not holds_numbers(local(tensor)):
            return f"{name}, which holds values that are not numbers,"
    for name, model in {**state.players, "ema": state.ema}.items():
        part = StateDictOptions(strict=not isinstance(model, PartlyTrained))
        set_model_state_dict(model, parts[name], options=part)
        if name in state.optimizers:
            set_optimizer_state_dict(model, state.optimizers[name], parts[f"{name}_optimizer"])
    state.step, state.seconds = header["step"], float(header["seconds"])
    state.parts_step = state.step
    return ""


def _told(error: BaseException) -> str:
    """The first thing that went wrong on any process."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return f"{type(error).__name__} ({str(error)[:LONGEST_SHOWN]})"


def _tensors(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for key, value in table.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{prefix}{key}.")


def _step_in(path: Path) -> int | None:
    with contextlib.suppress(UserError):
        header = read_record(path)
        check_header(header, path)
        return int(header["step"])
    return None


def _place(folder: Path, step: int) -> Path:
    return folder / FOLDER / f"{step:08d}"


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
