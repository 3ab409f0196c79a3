"""All that changes in a Wan session as arrays, and back.

    arrays = save_session(session, start)      # between two frames
    session = load_session(open_start, arrays) # goes on from there bit for bit

Numbers that numpy has no dtype for (bfloat16) are kept as the 16 bits they are. What is small and
no tensor (words, held keys, counters) is JSON in the array `session`.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.action import Prompt
from worldmodel.storage.tensor_bits import as_tensor
from worldmodel.system.limits import LARGEST_SESSION, LATEST_FRAME
from worldmodel.wan.controls import ActionRows
from worldmodel.wan.pictures import CHANGING, PictureCondition
from worldmodel.wan.stream_cache import KeptSlot
from worldmodel.world import Later, LazyArrays, StateError
from worldmodel.worlds.wan.row_control import RowControl
from worldmodel.worlds.wan.session import WanSession

Arrays = Mapping[str, NDArray[Any]]
Open = Callable[[int], WanSession]  # a fresh session at a start
BROKEN = (LookupError, TypeError, ValueError, OverflowError, RuntimeError)  # deep nests too


def save_session(session: WanSession, start: int) -> LazyArrays:
    """Cache, history, decoder, camera, noise, frames to come, words."""
    rollout, drive = session.rollout, session.drive
    prompt = session.prompt
    table = {
        "start": start,
        "said": session.said,
        "prompt": [prompt.text, prompt.renew] if prompt else None,
        "held": sorted(session.held),
        "driven": sorted(session.devices.held),
        "waiting": session.control.waiting if session.control else [],
        "mouse": session.devices.mouse,
        "now": rollout.cache.now,
        "drawn": rollout.drawn,
        "history": [len(rollout.sinks), len(rollout.recent)],
        "dtype": str(rollout.cache.dtype),
    }
    held: dict[str, NDArray[Any] | Later] = {}
    tensors: dict[str, Tensor] = {}
    for name, found in rollout.cache.save().items():
        if isinstance(found, KeptSlot):
            held[f"cache.{name}"] = found
        else:
            tensors[f"cache.{name}"] = found
    tensors |= {f"decoder.{name}": tensor for name, tensor in session.stream.state().items()}
    kept = [*rollout.sinks, *rollout.recent]
    seen = rollout.cache.now // rollout.window.chunk_frames
    numbers = _numbers(len(rollout.sinks), len(rollout.recent), seen)
    for chunk, pair in zip(numbers, kept, strict=True):
        tensors |= {f"history.{chunk}.latents": pair[0], f"history.{chunk}.cameras": pair[1]}
    tensors |= {f"latent.{i}": latent for i, latent in enumerate(session.latents)}
    tensors |= _told(session)
    tensors["pose"], tensors["noise"] = drive.path.pose, session.generator.get_state()
    held |= session.arrays_of(tensors)
    held |= {f"frame.{i}": frame for i, frame in enumerate(session.frames)}
    held["session"] = np.frombuffer(json.dumps(table).encode(), np.uint8)
    return LazyArrays(held)


def _told(session: WanSession) -> dict[str, Tensor]:
    """What an image-to-video world was given and still needs: its picture, the last rows."""
    if session.control is None or session.picture is None:
        return {}
    kept = {
        "picture.features": session.picture.features,
        "picture.latents": session.picture.latents,
    }
    for name, log in _logs(session.control):
        if log.tail is not None:
            kept[name] = log.tail
    return kept


def _logs(control: RowControl) -> list[tuple[str, ActionRows]]:
    found = [("rows.keys", control.key_rows)]
    return [*found, ("rows.mouse", control.mouse_rows)] if control.model.mouse else found


def load_session(open_start: Open, arrays: Arrays) -> WanSession:
    """A session that goes on from a state; a `StateError` says why none can.

    It may be opened on the cache of the session that is played: that is written to last of all.
    """
    try:
        if arrays["session"].nbytes > LARGEST_SESSION:
            raise ValueError(f"a table of {arrays['session'].nbytes >> 20} MB")
        table = json.loads(arrays["session"].tobytes())
        session = open_start(int(table["start"]))
        with torch.inference_mode():
            _fill(session, table, arrays)
    except BROKEN as error:
        raise StateError(
            f"the saved state is broken or of another world ({type(error).__name__}: "
            f"{str(error)[:200]}); nothing was changed"
        ) from error
    return session


def _fill(session: WanSession, table: dict[str, Any], arrays: Arrays) -> None:
    rollout, drive = session.rollout, session.drive
    now, dtype = int(table["now"]), rollout.cache.dtype
    if not 0 <= now < LATEST_FRAME:
        raise ValueError(f"frame {now}")
    if table["dtype"] != str(dtype):
        raise ValueError(f"kept as {table['dtype']}, played in {dtype}; choose the same --dtype")
    session.said, session.held = str(table["said"]), frozenset(map(str, table["held"]))
    said = table["prompt"]
    session.prompt = Prompt(str(said[0]), renew=bool(said[1])) if said else None
    right, down = map(float, table["mouse"])
    session.devices.held, session.devices.mouse = set(map(str, table["driven"])), (right, down)
    drive.path.pose = _to_tensor(arrays["pose"], (4, 4), torch.float64)
    noise = session.generator.get_state()
    session.generator.set_state(_to_tensor(arrays["noise"], tuple(noise.shape), torch.uint8))
    _fill_told(session, table, arrays)
    words = session.read_start()
    rollout.drawn = int(table["drawn"])
    _fill_history(session, table, arrays)
    _fill_frames(session, arrays)
    shapes = rollout.cache.saved_shapes(now)
    kinds = {name: torch.float64 if name == "moved" else dtype for name in shapes}
    saved = {n: _to_tensor(arrays[f"cache.{n}"], s, kinds[n]) for n, s in shapes.items()}
    rollout.cache.load(saved, now)
    rollout.say(words)


def _fill_told(session: WanSession, table: dict[str, Any], arrays: Arrays) -> None:
    sizes, control = session.file.transformer.picture, session.control
    if sizes is None or control is None:
        return
    features = _to_tensor(arrays["picture.features"], (sizes.tokens, sizes.width), torch.float32)
    found = arrays["picture.latents"]
    shape = (len(found), *session.rollout.latent_shape[2:])
    if not 1 <= len(found) <= CHANGING:
        raise ValueError(f"a picture of {len(found)} latent frames")
    latents = _to_tensor(found, shape, torch.float32)
    session.picture = PictureCondition(features, latents)
    waiting = dict.fromkeys(map(str, table.get("waiting", ())))  # older states have none
    control.waiting = [key for key in waiting if key in control.config.keys]
    actions = control.model
    for name, log in _logs(control):
        width = actions.keys if log is control.key_rows else actions.mouse
        rows = actions.rows - actions.rows_per_latent + 1
        log.tail = _to_tensor(arrays[name], (1, rows, width), torch.float32)


def _fill_history(session: WanSession, table: dict[str, Any], arrays: Arrays) -> None:
    rollout = session.rollout
    sinks, recent = map(int, table["history"])
    if not (0 <= sinks <= rollout.window.slots and 0 <= recent <= rollout.window.slots):
        raise ValueError(f"a history of {sinks} and {recent} chunks")
    shape, device = rollout.latent_shape, session.parts.transformer.device
    chunks = [
        (
            _to_tensor(arrays[f"history.{i}.latents"], shape, torch.float32).to(device),
            _to_tensor(arrays[f"history.{i}.cameras"], (*shape[:2], 4, 4), torch.float32),
        )
        for i in _numbers(sinks, recent, int(table["now"]) // rollout.window.chunk_frames)
    ]
    rollout.sinks = chunks[:sinks]
    rollout.recent = deque(chunks[sinks:], maxlen=rollout.recent.maxlen)


def _numbers(sinks: int, recent: int, seen: int) -> list[int]:
    """Numbers of the chunks whose latents are kept, when so many chunks were seen."""
    return [*range(sinks), *range(seen - recent, seen)]


def _fill_frames(session: WanSession, arrays: Arrays) -> None:
    """What was drawn and not shown, and the decoder's memory."""
    one = (1, 1, *session.rollout.latent_shape[2:])
    device = session.parts.transformer.device
    for i in range(sum(name.startswith("latent.") for name in arrays)):
        session.latents.append(_to_tensor(arrays[f"latent.{i}"], one, torch.float32).to(device))
    size = (*session.file.frame_size, 3)
    for i in range(sum(name.startswith("frame.") for name in arrays)):
        frame = arrays[f"frame.{i}"]
        if frame.shape != size or frame.dtype != np.uint8:
            raise ValueError(f"frame.{i} is {frame.dtype} {list(frame.shape)}")
        session.frames.append(frame)
    dtype = next(session.parts.decoder.parameters()).dtype
    before = "decoder."
    names = [name for name in arrays if name.startswith(before)]
    decoder, window = session.parts.decoder, session.file.window
    kept = {
        f"{before}past.{number:02}": shape
        for number, shape in enumerate(decoder.past_shapes(1, window.rows, window.columns))
    }
    session.stream.load_state(
        {n.removeprefix(before): _to_tensor(arrays[n], kept.get(n, ()), dtype) for n in names}
    )


def _to_tensor(array: NDArray[Any], shape: tuple[int, ...] | None, dtype: torch.dtype) -> Tensor:
    """An array as the numbers it means; its shape is looked at before it is read."""
    if shape is not None and array.shape != shape:
        raise ValueError(f"{array.dtype} {list(array.shape)}, expected {dtype} {list(shape)}")
    tensor = as_tensor(array, dtype)
    if tensor.dtype != dtype or (shape is not None and tuple(tensor.shape) != shape):
        raise ValueError(f"{tensor.dtype} {list(tensor.shape)}, expected {dtype} {shape}")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ValueError("values that are not numbers")
    return tensor
