"""Safetensors files from strangers: their headers are looked at before anything is made of them.

    with open_tensors(path, LARGEST_WEIGHTS, "pt") as file:
        names = list(file.keys())

What a file holds may be mapped instead of read (`mapped`): a file of gigabytes, most of them holes,
then takes no memory until somebody uses it.
"""

import contextlib
import json
import math
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from worldmodel.storage.files import FileReadError, check_file
from worldmodel.system.limits import LARGEST_HEADER, LARGEST_READ, MOST_TENSORS

DTYPES = {  # numpy's, as safetensors calls them
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
KINDS = {dtype: kind for kind, dtype in DTYPES.items()}


def array_file(
    arrays: Mapping[str, NDArray[Any]], header: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """A safetensors file, piece by piece: the library's own writer holds two copies of it."""
    table: dict[str, Any] = {"__metadata__": dict(header)}
    offset = 0
    for name, array in arrays.items():
        kind = KINDS[array.dtype.name]
        ends = [offset, offset := offset + array.nbytes]
        table[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": ends}
    yield beginning(table)
    for array in arrays.values():
        yield np.ascontiguousarray(array).reshape(-1).view(dtype=np.uint8).data


def beginning(table: Mapping[str, Any]) -> bytes:
    """What a safetensors file has before its arrays, which begin at a multiple of 8."""
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


@contextlib.contextmanager
def open_tensors(path: Path, largest: int, framework: Literal["np", "pt"]) -> Iterator[Any]:
    """An open file of at most `largest` bytes.

    A `FileReadError` if it asks for too much; `OSError` or `SafetensorError` if it is broken.
    """
    with _opened(path, largest, framework) as file:
        yield file


class OpenFiles:
    """Files of a data set that are kept open, those that were asked for last."""

    def __init__(self, most: int, largest: int) -> None:
        self.most, self.largest = most, largest  # how many, and bytes of each
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def get(self, path: Path) -> Any:
        """An open file of torch's tensors; it raises what `open_tensors` does."""
        if path not in self._open:
            self._open[path] = _opened(path, self.largest, "pt")
            if len(self._open) > self.most:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]


def rows_of(file: Any, name: str, shape: tuple[int, ...]) -> Any:
    """A slice of an open file, each of whose rows is of that shape; else a `FileReadError`."""
    rows = file.get_slice(name)
    if tuple(rows.get_shape()[1:]) != shape:
        raise FileReadError(f"{name} is {rows.get_shape()}, each row should be {list(shape)}")
    return rows


def shapes_of(file: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an open file; no tensor is read."""
    return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def whole_numbers(file: Any) -> dict[str, str]:
    """The tensors of an open file that hold no fractions, and what they are; none is read."""
    kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    return {
        name: DTYPES.get(kind, kind)
        for name, kind in kinds.items()
        if kind.startswith(("I", "U", "BOOL"))
    }


def is_large(path: Path) -> bool:
    """Whether a file is mapped rather than read."""
    return path.stat().st_size > LARGEST_READ


def mapped(path: Path, name: str) -> NDArray[Any]:
    """An array of a file that stays on disk until it is used; what is written to it stays here."""
    with path.open("rb") as file:
        length = _header_length(file.read(8))
        entry = json.loads(file.read(min(length, LARGEST_HEADER)))[name]
    if entry["dtype"] not in DTYPES:
        raise SafetensorError(f"{name} is {entry['dtype']}, which numpy does not know")
    shape = tuple(entry["shape"])
    if not math.prod(shape):
        return np.zeros(shape, DTYPES[entry["dtype"]])
    offset = 8 + length + entry["data_offsets"][0]
    return np.memmap(path, DTYPES[entry["dtype"]], mode="c", offset=offset, shape=shape)


def _opened(path: Path, largest: int, framework: Literal["np", "pt"]) -> Any:
    check_file(path, largest)
    with path.open("rb") as start:
        length = _header_length(start.read(8))
    if LARGEST_HEADER < length < path.stat().st_size:  # else it is broken, which is seen next
        raise FileReadError(
            f"{path}: a header of {length >> 20} MB, at most {LARGEST_HEADER >> 20} MB are read"
        )
    file: Any = safe_open(path, framework=framework)
    count = len(file.keys())
    if count > MOST_TENSORS:
        raise FileReadError(f"{path}: {count} tensors, at most {MOST_TENSORS} are read")
    return file


def _header_length(start: bytes) -> int:
    return int(struct.unpack("<Q", start)[0]) if len(start) == 8 else 0
