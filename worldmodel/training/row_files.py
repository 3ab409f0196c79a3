"""Rows on disk that are read as if they were in memory: no data set has to fit into it.

A file holds nothing but rows of one shape and type. It is written once, row after row, under a name
that says what is in it, and mapped afterwards: what is read often stays in the system's page cache,
which gives memory back to whoever needs it.
"""

import contextlib
import glob
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.model.context import Device
from worldmodel.storage.files import write_atomically
from worldmodel.storage.save_tensors import as_bytes

GPU_SHARE = 0.25  # of a GPU's free memory that data may take
ROWS_AT_ONCE = 1 << 14


@dataclass(slots=True)
class ReadSpeed:
    """How fast a stage reads its data; the trainer waits for it no longer than this."""

    frames: int = 0
    seconds: float = 0.0

    @property
    def frames_per_second(self) -> float:
        """So far; zero before the first read."""
        return self.frames / self.seconds if self.seconds else 0.0

    def gather(self, rows: Tensor, index: Tensor, device: Device) -> Tensor:
        """The chosen of rows t ... on a device, copied there while a GPU goes on computing."""
        began = time.perf_counter()
        if rows.device.type == "cuda":  # they are there already (`nearby`)
            index = index.pin_memory().to(rows.device, non_blocking=True)
        found = rows[index]
        self.frames += index.numel()
        self.seconds += time.perf_counter() - began
        if torch.device(device).type != "cuda" or found.is_cuda:
            return found.to(device)
        return found.pin_memory().to(device, non_blocking=True)


def write_rows(path: Path, parts: Iterable[Tensor]) -> None:
    """Write parts n ... one after the other; the file appears when it is whole."""
    write_atomically(path, (as_bytes(rows) for rows in parts))


def map_rows(path: Path, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The rows n ... of a file, still on disk."""
    row = math.prod(shape)
    count = path.stat().st_size // (row * dtype.itemsize)
    if not count:
        return torch.empty(0, *shape, dtype=dtype)
    mapped = torch.from_file(str(path), shared=False, size=count * row, dtype=dtype)
    return mapped.reshape(count, *shape)


def nearby(rows: Tensor, device: Device) -> Tensor:
    """Rows t ... where they are read fastest: on a GPU, if they take little of its free memory."""
    device = torch.device(device)
    if device.type != "cuda" or rows.nbytes > GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        return rows
    placed = torch.empty(rows.shape, dtype=rows.dtype, device=device)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        placed[part].copy_(rows[part])
    return placed


def forget_others(path: Path) -> None:
    """Remove files of the same kind that older data or weights have left beside this one."""
    kind = path.name.rpartition("-")[0]
    for other in path.parent.glob(f"{glob.escape(kind)}-*{path.suffix}"):
        if other != path:
            with contextlib.suppress(OSError):  # still mapped, on Windows: it goes the next time
                other.unlink()
