"""The weights of several graphs as one file that is small to send and quick to read.

Most weights are bf16 numbers, so the low 16 bits of their fp32 form are zero. What is stored is the
high bytes of all of them, then their second bytes, then the numbers that need all four bytes,
compressed by gzip: signs and exponents beside each other compress far better than mixed with
fractions. Only Huffman codes are used: weights hold no repetitions, and those that gzip finds make
the file larger. Nothing is lost; the page puts the bytes back in place and has fp32 again:

    packed = pack({"step.onnx": step, "decode.onnx": decode})   # the models now refer to a file
    raw = unpack(packed.content, packed.halves)                 # that file

Two graphs that share a tensor share its bytes.
"""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

FILE = "weights.bin"  # what the graphs call the unpacked weights
GZIP = 31  # zlib's word for its format, with the largest window
SMALLEST = 64  # numbers; what is smaller stays inside its graph


@dataclass(frozen=True, slots=True)
class Packed:
    """The weights in the bytes that a page loads."""

    content: bytes
    halves: int  # how many numbers are bf16; they come first
    whole: int  # how many need all four bytes


def pack(models: "Mapping[str, onnx.ModelProto]") -> Packed:
    """Take the large tensors out of the models and let these refer to `FILE` instead."""
    found: dict[bytes, NDArray[np.uint32]] = {}
    places: list[tuple[onnx.TensorProto, bytes]] = []
    for model in models.values():
        for tensor in model.graph.initializer:
            if (bits := _bits(tensor)) is not None:
                key = bits.tobytes()
                found.setdefault(key, bits)
                places.append((tensor, key))
    is_half = {key: not (bits & 0xFFFF).any() for key, bits in found.items()}
    order = sorted(found, key=lambda key: not is_half[key])  # stable: halves first
    offsets, offset = {}, 0
    for key in order:
        offsets[key] = offset
        offset += len(key)
    for tensor, key in places:
        _refer(tensor, offsets[key], len(key))
    halves = _joined([found[key] for key in order if is_half[key]])
    whole = _joined([found[key] for key in order if not is_half[key]])
    high, second = (halves >> 24).astype(np.uint8), (halves >> 16).astype(np.uint8)
    planes = high.tobytes(), second.tobytes(), whole.tobytes()
    content = _huffman(b"".join(planes))
    return Packed(content, len(halves), len(whole))


def unpack(content: bytes, halves: int) -> bytes:
    """The file that the graphs refer to, as the page makes it."""
    sent = np.frombuffer(gzip.decompress(content), np.uint8)
    high, second = sent[:halves].astype(np.uint32), sent[halves : 2 * halves].astype(np.uint32)
    return ((high << 24) | (second << 16)).tobytes() + sent[2 * halves :].tobytes()


def _bits(tensor: "onnx.TensorProto") -> NDArray[np.uint32] | None:
    """The bits of a large fp32 tensor."""
    import onnx

    if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
        return None
    array: NDArray[Any] = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor))
    return array.reshape(-1).view(dtype=np.uint32)


def _refer(tensor: "onnx.TensorProto", offset: int, length: int) -> None:
    import onnx

    for kind in ("raw_data", "float_data"):
        tensor.ClearField(kind)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": FILE, "offset": offset, "length": length}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def _huffman(content: bytes) -> bytes:
    """A gzip file without back references."""
    coder = zlib.compressobj(9, zlib.DEFLATED, GZIP, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(content) + coder.flush()


def _joined(arrays: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.uint32)
