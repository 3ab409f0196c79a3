"""All that changes in play as arrays, and back: the same for every engine.

    arrays = save_playing(playing)            # between two frames
    load_playing(engine.begin([0]), arrays)   # goes on from there bit for bit

Arrays that numpy has no dtype for (bfloat16) are kept as the 16 bits they are, `cache.bits` says
so. A state fits another engine or dtype wherever its numbers can be written there unchanged.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from worldmodel.engine import Playing
from worldmodel.storage.tensor_bits import as_array, as_tensor
from worldmodel.system.limits import LATEST_FRAME
from worldmodel.system.printable import shown
from worldmodel.world import StateError

Arrays = Mapping[str, NDArray[Any]]

BITS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def save_playing(playing: Playing) -> dict[str, NDArray[Any]]:
    """Cache, time and noise generators; what did not change since the last call is shared."""
    tensors = playing.cache.save()
    others = next(x.dtype for name, x in tensors.items() if not name.startswith("slot."))
    kept = others, playing.cache.dtype
    arrays = {name: as_array(tensor) for name, tensor in tensors.items()}
    arrays["now"] = np.array(playing.cache.time)
    arrays["drawn"] = np.array(min(playing.drawn, 1))  # only the first frame is another matter
    arrays["noise"] = np.stack([generator.get_state().numpy() for generator in playing.generators])
    arrays["bits"] = np.array([list(BITS.values()).index(dtype) for dtype in kept], np.uint8)
    return arrays


def load_playing(playing: Playing, arrays: Arrays) -> None:
    """Go on from a state; a `StateError` says why it cannot be gone on from."""
    cache = playing.cache
    now = _read_time(arrays)
    shapes = cache.saved_shapes(now)
    if ("last" in shapes) != ("last" in arrays):
        raise StateError(
            "it was kept by another kind of engine, which remembers the last frame in another way; "
            "choose the engine it was made on (--engine)"
        )
    _check_names({*shapes, "now", "drawn", "noise", "bits"}, set(arrays))
    last_dtype, cache_dtype = _read_dtypes(arrays["bits"])
    tensors = {}
    for name, shape in shapes.items():
        is_slot = name.startswith("slot.")
        was, wanted = (cache_dtype, cache.dtype) if is_slot else (last_dtype, last_dtype)
        tensors[name] = _to_tensor(name, arrays[name], shape, was, wanted)
    generators = [_read_generator(row) for row in _noise_rows(arrays["noise"], playing)]
    drawn = _read_drawn(arrays["drawn"])
    with torch.inference_mode():
        cache.load(tensors, now)
    playing.generators, playing.drawn = generators, drawn


def _to_tensor(
    name: str, array: NDArray[Any], shape: tuple[int, ...], was: torch.dtype, wanted: torch.dtype
) -> Tensor:
    """An array as the numbers it means, in the dtype that is wanted, unchanged."""
    expected = np.int16 if was is torch.bfloat16 else np.float32
    if array.shape != shape or array.dtype != expected:
        raise StateError(
            f"{name} is {array.dtype} {list(array.shape)}, "
            f"this world needs {np.dtype(expected)} {list(shape)}"
        )
    tensor = as_tensor(array, was)
    if not bool(torch.isfinite(tensor).all()):
        raise StateError(f"{name} holds values that are not numbers")
    fitted = tensor.to(wanted)
    if not torch.equal(fitted.to(was), tensor):
        raise StateError(
            f"{name} was kept in {str(was)[6:]} and its numbers do not fit into {str(wanted)[6:]}, "
            "in which this engine keeps them"
        )
    return fitted


def _read_time(arrays: Arrays) -> int:
    now = arrays.get("now")
    if now is None or now.shape != () or now.dtype != np.int64 or not 0 < int(now) < LATEST_FRAME:
        raise StateError(f"its time is {shown(now)}, expected one whole number above 0")
    return int(now)


def _read_drawn(drawn: NDArray[Any]) -> int:
    if drawn.shape != () or drawn.dtype != np.int64 or int(drawn) not in (0, 1):
        raise StateError(f"drawn is {shown(drawn)}, expected 0 or 1")
    return int(drawn)


def _read_dtypes(bits: NDArray[Any]) -> tuple[torch.dtype, torch.dtype]:
    if bits.shape != (2,) or bits.dtype != np.uint8 or int(bits.max()) >= len(BITS):
        raise StateError(
            f"its dtypes are {shown(bits)}, expected two of {', '.join(BITS)} by number"
        )
    last, cache = (list(BITS.values())[int(bit)] for bit in bits)
    return last, cache


def _check_names(expected: set[str], found: set[str]) -> None:
    if missing := sorted(expected - found):
        raise StateError(
            f"{len(missing)} of {len(expected)} arrays are missing, first {missing[0]}"
        )
    if extra := sorted(found - expected):
        raise StateError(f"{len(extra)} arrays mean nothing here, first {extra[0]}")


def _noise_rows(noise: NDArray[Any], playing: Playing) -> NDArray[Any]:
    sessions, size = len(playing.generators), playing.generators[0].get_state().numel()
    if noise.shape != (sessions, size) or noise.dtype != np.uint8:
        raise StateError(
            f"noise is {noise.dtype} {list(noise.shape)}, expected uint8 {[sessions, size]}"
        )
    return noise


def _read_generator(row: NDArray[Any]) -> Generator:
    generator, trial = Generator(), Generator()
    try:
        for one in (generator, trial):
            one.set_state(torch.from_numpy(np.array(row)))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise StateError(f"noise is no state of a generator: {reason}") from error
    if not bool(torch.isfinite(torch.randn(16, generator=trial)).all()):
        raise StateError("noise is the state of a generator that draws no numbers")
    return generator
