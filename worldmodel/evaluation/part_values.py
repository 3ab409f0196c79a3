"""What was measured as tensors and plain values, and back: nothing in a file is ever executed.

Dataclasses, tuples with names, lists, tables and numbers; the tensors and arrays in them by name.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_plain(value: Any) -> tuple[dict[str, Tensor], Any]:
    """The tensors in a value by name, and what JSON can hold of it."""
    tensors: dict[str, Tensor] = {}

    def plain(part: Any) -> Any:
        name = str(len(tensors))
        if isinstance(part, Tensor):
            tensors[name] = part
            return ["tensor", name]
        if isinstance(part, np.ndarray):
            tensors[name] = torch.from_numpy(np.ascontiguousarray(part))
            return ["array", name]
        if is_dataclass(part):
            inside = [[field.name, plain(getattr(part, field.name))] for field in fields(part)]
            return ["made", type(part).__name__, inside]
        if hasattr(part, "_asdict"):
            return ["made", type(part).__name__, [[k, plain(v)] for k, v in part._asdict().items()]]
        if isinstance(part, Mapping):
            return ["table", [[k, plain(v)] for k, v in part.items()]]
        if isinstance(part, list | tuple):
            return ["list", [plain(one) for one in part]]
        return ["plain", part]

    return tensors, plain(value)


def from_plain(part: Any, tensors: Mapping[str, Tensor], kinds: Mapping[str, type]) -> Any:
    """The value again; of `kinds`, by name, are the dataclasses that may be made."""
    match part:
        case ["tensor", name]:
            return tensors[name]
        case ["array", name]:
            return tensors[name].numpy()
        case ["made", kind, inside]:
            return kinds[kind](**{name: from_plain(one, tensors, kinds) for name, one in inside})
        case ["table", inside]:
            return {key: from_plain(one, tensors, kinds) for key, one in inside}
        case ["list", inside]:
            return [from_plain(one, tensors, kinds) for one in inside]
        case ["plain", value]:
            return value
    raise ValueError(f"no part of a value: {str(part)[:80]}")
