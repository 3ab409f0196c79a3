"""Writing tensors: one at a time, straight to disk, with the file's sha256.

The format is safetensors: eight bytes that say how long the header is, the header as JSON, the
tensors. The library's own writer holds all of a file in memory; this holds its largest tensor.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.storage.files import write_atomically
from worldmodel.storage.tensor_files import DTYPES, beginning

NAMES = {getattr(torch, name): kind for kind, name in DTYPES.items()} | {
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
}
# What is written instead of a tensor; asked on the `meta` device first, for kinds and shapes.
Pack = Callable[[str, Tensor], Mapping[str, Tensor]]


def as_it_is(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The `pack` that changes nothing."""
    return {name: tensor}


def as_dtype(dtype: torch.dtype | None) -> Pack:
    """The `pack` that writes floating-point tensors in another precision, if one is named."""

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        return {name: tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor}

    return convert


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], pack: Pack = as_it_is
) -> str:
    """Write tensors, of each what `pack` makes of it, and a JSON-valued header, atomically.

    Returns the file's sha256.
    """
    table: dict[str, Any] = {"__metadata__": {k: json.dumps(v) for k, v in header.items()}}
    offset = 0
    for source, whole in tensors.items():
        for name, tensor in pack(source, whole.to("meta")).items():
            end = offset + tensor.numel() * tensor.dtype.itemsize
            kind, shape = _kind(tensor, f"{path}: {name}"), list(tensor.shape)
            table[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, end]}
            offset = end
    digest = hashlib.sha256()

    def parts() -> Iterator[bytes | memoryview]:
        content: Iterator[bytes | memoryview] = (
            as_bytes(tensor)
            for source, whole in tensors.items()
            for tensor in pack(source, whole).values()
        )
        for part in itertools.chain((beginning(table),), content):
            digest.update(part)
            yield part

    write_atomically(path, parts())
    return digest.hexdigest()


def as_bytes(tensor: Tensor) -> memoryview:
    """A tensor's numbers as they lie in memory."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(dtype=torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def _kind(tensor: Tensor, where: str) -> str:
    if tensor.dtype not in NAMES:
        raise UserError(
            f"{where} holds {tensor.dtype}, which is not kept; expected {', '.join(NAMES.values())}"
        )
    return NAMES[tensor.dtype]
