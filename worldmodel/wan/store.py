"""Writing large weights: one tensor at a time, straight to disk, with the file's sha256.

The format is safetensors: eight bytes that say how long the header is, the header as JSON, the
tensors. The libraries' own writers hold all of a file in memory; this holds its largest tensor.
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.files import FileWriteError

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
}


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    header: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> str:
    """Write a safetensors file, floating-point tensors as `dtype` if given; returns its sha256."""
    kinds = {name: _kind(tensor, dtype, f"{path}: {name}") for name, tensor in tensors.items()}
    table: dict[str, Any] = {"__metadata__": {k: json.dumps(v) for k, v in (header or {}).items()}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * kinds[name].itemsize
        shape = list(tensor.shape)
        table[name] = {"dtype": NAMES[kinds[name]], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in (struct.pack("<Q", len(text)), text):
            file.write(part)
            digest.update(part)
        for name, tensor in tensors.items():
            content = _bytes(tensor.to(kinds[name]))
            file.write(content)
            digest.update(content)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def save_large(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """`write_tensors`, atomically: a crash or a full disk leaves the old file as it was."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(part, tensors, header)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise FileWriteError(f"{path}: cannot be written: {error.strerror}") from error


def _kind(tensor: Tensor, wanted: torch.dtype | None, where: str) -> torch.dtype:
    kind = wanted if wanted and tensor.is_floating_point() else tensor.dtype
    if kind not in NAMES:
        raise UserError(
            f"{where} holds {kind}, which is not kept; expected {', '.join(NAMES.values())}"
        )
    return kind


def _bytes(tensor: Tensor) -> memoryview:
    """A tensor's numbers as they lie in memory."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
