"""Writing large weights: one tensor at a time, straight to disk, with the file's sha256.

The format is safetensors: eight bytes that say how long the header is, the header as JSON, the
tensors. The libraries' own writers hold all of a file in memory; this holds its largest tensor.
"""

import contextlib
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.storage.files import FileWriteError, sync

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.float8_e4m3fn: "F8_E4M3",
}
# What is written instead of a tensor; asked on the `meta` device first, for kinds and shapes.
Pack = Callable[[str, Tensor], Mapping[str, Tensor]]


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    header: Mapping[str, Any] | None = None,
    pack: Pack | None = None,
) -> str:
    """Write a safetensors file, of each tensor what `pack` makes of it; returns its sha256."""
    pack = pack or as_it_is
    table: dict[str, Any] = {"__metadata__": {k: json.dumps(v) for k, v in (header or {}).items()}}
    offset = 0
    for source, whole in tensors.items():
        for name, tensor in pack(source, whole.to("meta")).items():
            end = offset + tensor.numel() * tensor.dtype.itemsize
            kind, shape = _kind(tensor, f"{path}: {name}"), list(tensor.shape)
            table[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, end]}
            offset = end
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in (struct.pack("<Q", len(text)), text):
            file.write(part)
            digest.update(part)
        for source, whole in tensors.items():
            for tensor in pack(source, whole).values():
                content = _bytes(tensor)
                file.write(content)
                digest.update(content)
        file.flush()
        sync(file.fileno())
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


def as_it_is(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The `pack` that changes nothing."""
    return {name: tensor}


def as_dtype(dtype: torch.dtype | None) -> Pack:
    """The `pack` that writes floating-point tensors in another precision, if one is named."""

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        return {name: tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor}

    return convert


def _kind(tensor: Tensor, where: str) -> str:
    if tensor.dtype not in NAMES:
        raise UserError(
            f"{where} holds {tensor.dtype}, which is not kept; expected {', '.join(NAMES.values())}"
        )
    return NAMES[tensor.dtype]


def _bytes(tensor: Tensor) -> memoryview:
    """A tensor's numbers as they lie in memory."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
