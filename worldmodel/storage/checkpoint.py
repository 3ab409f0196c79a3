"""Weights on disk: safetensors only, so that nothing in a file is ever executed.

A file's header holds JSON values beside the tensors (`save_tensors` writes them). Reading names the
file, what was found, what was expected and what to do.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from worldmodel.config import UserError
from worldmodel.storage.tensor_files import open_tensors, shapes_of, whole_numbers
from worldmodel.system.limits import LARGEST_NATIVE, LARGEST_WEIGHTS


class CheckpointError(UserError):
    """A file of weights is missing, broken, or made for another model."""


def load_tensors(
    path: Path, largest: int = LARGEST_WEIGHTS
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a file of at most `largest` bytes, and its header."""
    try:
        with open_tensors(path, largest, "pt") as file:
            header = {key: parse_header(value) for key, value in (file.metadata() or {}).items()}
            # Cloned, because a view would keep the file mapped, and Windows replaces no such file.
            names = list(file.keys())
            return {name: file.get_tensor(name).clone() for name in names}, header
    except (OSError, SafetensorError, UserError) as error:
        raise _explained(path, error) from error


def parse_header(text: str) -> Any:
    """A header's value: JSON where it is ours, else the text (other tools write `format: pt`)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # ValueError: no JSON, or a number of 5000 digits
        return text


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model` from a file that must hold exactly its tensors, in their shapes."""
    check_fit(model, path)
    tensors, _ = load_tensors(path, LARGEST_NATIVE)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {str(error)[:300]}") from error
    if broken := broken_weight(model):
        raise CheckpointError(
            f"{path}: {broken} holds values that are not numbers; the training that wrote it broke"
        )


def check_fit(model: nn.Module, path: Path) -> None:
    """Compare names and shapes with a file's header; the model may be on the `meta` device."""
    try:
        with open_tensors(path, LARGEST_NATIVE, "pt") as file:
            tensors, whole = shapes_of(file), whole_numbers(file)
    except (OSError, SafetensorError, UserError) as error:
        raise _explained(path, error) from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if missing := sorted(expected.keys() - tensors.keys()):
        raise CheckpointError(
            f"{path}: {len(missing)} of {len(expected)} tensors are missing, first {missing[0]}; "
            "the file belongs to another model"
        )
    if extra := sorted(tensors.keys() - expected.keys()):
        raise CheckpointError(
            f"{path}: {len(extra)} tensors the model does not have, first {extra[0]}; "
            "the file belongs to another model"
        )
    wrong = [key for key in expected if tensors[key] != expected[key]]
    if wrong:
        key = wrong[0]
        raise CheckpointError(
            f"{path}: {len(wrong)} of {len(expected)} tensors do not fit. First: {key} is "
            f"{_size(tensors[key])} in the file, {_size(expected[key])} in the model that "
            "world.toml describes"
        )
    floating = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
    if odd := next((name for name in floating if name in whole), None):
        raise CheckpointError(
            f"{path}: {odd} holds whole numbers ({whole[odd]}) where the model has fractions; "
            "weights that were quantised without their scales cannot be read, take the floating "
            "point ones"
        )


def broken_weight(model: nn.Module) -> str | None:
    """The first weight that holds values that are not numbers."""
    for name, tensor in model.state_dict().items():
        if not holds_numbers(tensor):
            return name
    return None


def refuse_broken(tensors: Mapping[str, Tensor], where: str) -> None:
    """A `CheckpointError` that names the first tensor with values that are not numbers."""
    for name, tensor in tensors.items():
        if not holds_numbers(tensor):
            raise CheckpointError(
                f"{where}: {name} holds values that are not numbers; the training that wrote it "
                "broke, or the file is damaged: take another one"
            )


def holds_numbers(tensor: Tensor) -> bool:
    """Whether every value is a number; of gigabytes in a second or two, without a copy of them."""
    if not tensor.is_floating_point():
        return True
    wide = tensor.to(torch.bfloat16) if tensor.element_size() == 1 else tensor  # float8 has no sum
    # What is no number stays none in a sum; a sum that overflows says nothing.
    return bool(wide.sum(dtype=torch.float32).isfinite()) or bool(torch.isfinite(wide).all())


def _explained(path: Path, error: Exception) -> CheckpointError:
    """What is wrong with a file, as a sentence."""
    if isinstance(error, UserError):
        return CheckpointError(str(error))
    reason = str(error)[:300]
    return CheckpointError(
        f"{path}: not a whole safetensors file ({reason}); copy or download it again"
    )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
