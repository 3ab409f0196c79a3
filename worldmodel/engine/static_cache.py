"""The past as a program of fixed shape reads it: slots, masks and angles on tensors that stay.

Slots, each a frame: the sinks as the finished frame sees them, the sinks as the new one does (a
query sees old sinks directly before its window, so for every frame they stand elsewhere), then a
ring of the last frames. The finished frame's keys and values come out of the next run.
"""

import functools
import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from worldmodel.engine.graphs import HIDDEN, FrameInputs
from worldmodel.model.configs import ModelConfig
from worldmodel.model.frame_ring import SlotCopies, slot_name
from worldmodel.model.kv_cache import ring_of, slot_shapes
from worldmodel.model.rotary import space_angles, time_angles
from worldmodel.model.sinks import pinned_time

BLOCK = 32  # frame times whose angles are computed at once


class HoldsInputs(Protocol):
    """The part of a `Program` that a cache writes to."""

    @property
    def inputs(self) -> FrameInputs:
        """The program's tensors, which a run reads."""


class StaticCache:
    """What a program's run sees of the past: slots, masks and angles, on the program's tensors.

    `now` is the time of the finished frame, whose keys are not in any slot yet; -1 without one.
    """

    def __init__(self, config: ModelConfig, program: HoldsInputs) -> None:
        self.config, self.program, self.now = config, program, -1
        self.ring = ring_of(config)
        k = program.inputs.k
        self.device = k.device
        tokens = config.sink_frames * config.tokens_per_frame
        shape = (*k.shape[:3], tokens, config.head_width // 2)
        self._sinks = torch.zeros(shape, dtype=torch.complex64, device=self.device)  # as they came
        self._masks: dict[tuple[int, int], Tensor] = {}
        self._copies = SlotCopies()
        self.is_kept = True  # whether the finished frame's keys are in their slot
        self.clear()

    @property
    def inputs(self) -> FrameInputs:
        """The program's tensors: where they lie is the program's matter."""
        return self.program.inputs

    @property
    def time(self) -> int:
        """The time of the frame that comes next."""
        return self.now + 1

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of keys and values."""
        return self.inputs.k.dtype

    def clear(self) -> None:
        """Forget everything that was seen."""
        self.now, self.is_kept = -1, True
        for tensor in self.inputs:
            tensor.zero_()
        self._open(1, 0)

    def advance(self) -> None:
        """The new frame is the finished one from now on: masks, angles and sinks move up."""
        config, inputs = self.config, self.inputs
        self.now, self.is_kept = self.now + 1, False
        p, sinks = config.tokens_per_frame, config.sink_frames * config.tokens_per_frame
        for angles in (inputs.cos, inputs.sin):
            angles[:p] = angles[p:]
        inputs.k[..., :sinks, :] = inputs.k[..., sinks : 2 * sinks, :]
        self._open(1, self.now + 1)

    def keep(self, k: Tensor, v: Tensor) -> None:
        """Put the finished frame's keys and values, l b n p e, into its slot."""
        if not self.is_kept:
            slot = self.ring.slot(self.now)
            self._put(slot, k, v)
            self._copies.change([slot])
            self.is_kept = True

    def saved_shapes(self, time: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before frame `time`."""
        batch = self.inputs.k.shape[1]
        names = {"finished": self.inputs.finished, "before": self.inputs.before}
        shapes = {name: tuple(x.shape) for name, x in names.items()}
        action = (batch, 1, self.config.condition_width)
        return {**slot_shapes(self.config, batch, time - 1), **shapes, "action": action}

    def save(self) -> dict[str, Tensor]:
        """What is kept between two frames: slots, finished frame, the one before, an action."""
        inputs = self.inputs
        rest = {
            "finished": inputs.finished,
            "before": inputs.before,
            "action": inputs.actions[:, :1],
        }
        kept = self._copies.save(self._pair)
        return {**kept, **{name: x.to("cpu", copy=True) for name, x in rest.items()}}

    def load(self, saved: Mapping[str, Tensor], time: int) -> None:
        """Go on from what `save` gave before frame `time`; shapes and dtypes are the caller's."""
        self.clear()
        self.now, self.is_kept = time - 1, False
        kept = min(max(self.now, 0), self.ring.slots)
        for slot in range(kept):
            self._put(slot, *saved[slot_name(slot)])
        self._copies.load(saved, kept)
        self.inputs.finished.copy_(saved["finished"])
        self.inputs.before.copy_(saved["before"])
        self.inputs.actions[:, :1].copy_(saved["action"])
        for row, when in enumerate((self.now, self.now + 1)):
            self._open(row, when)

    def holds_numbers(self) -> bool:
        """Whether the keys and values that were kept last are finite."""
        last = self.now - (not self.is_kept)
        if last < 0:
            return True
        here = self._place(self.ring.slot(last))
        kept = self.inputs.k[..., here, :], self.inputs.v[..., here, :]
        return all(is_finite(x) for x in kept)

    def _place(self, slot: int) -> slice:
        """The program's tokens of a slot: before the ring, sinks stand a second time."""
        return self.ring.place(slot if slot < self.ring.sinks else slot + self.ring.sinks)

    def _pair(self, slot: int) -> Tensor:
        """Keys as they came and values of a slot, 2 l b n p e."""
        k, v = (x[..., self._place(slot), :] for x in (self.inputs.k, self.inputs.v))
        if slot < self.ring.sinks:
            sink = self._sinks[..., self.ring.place(slot), :]
            k = torch.cat((sink.real, sink.imag), dim=-1).to(k.dtype)
        return torch.stack((k, v))

    def _put(self, slot: int, k: Tensor, v: Tensor) -> None:
        places = [self._place(slot)]
        if slot < self.ring.sinks:
            first, second = k.float().chunk(2, dim=-1)
            self._sinks[..., self.ring.place(slot), :] = torch.complex(first, second)
            places.append(self.ring.place(self.ring.sinks + slot))
        for here in places:
            self.inputs.k[..., here, :] = k
            self.inputs.v[..., here, :] = v

    def _open(self, row: int, time: int) -> None:
        """Angles of a frame at `time`, the sinks as it sees them, and the masks of both frames."""
        config, inputs = self.config, self.inputs
        s, p = config.sink_frames, config.tokens_per_frame
        here = slice(row * p, (row + 1) * p)
        cos, sin, _ = _cos_sin(config, time // BLOCK)
        put(cos[time % BLOCK], inputs.cos[here])
        put(sin[time % BLOCK], inputs.sin[here])
        # Once the window is full, masks come round again with the ring.
        ring = (min(self.now, s + config.context_frames), (self.now - s) % config.context_frames)
        if ring not in self._masks:
            self._masks[ring] = self._mask().to(self.device)
        inputs.mask.copy_(self._masks[ring])
        moved = [pinned_time(config, i, time) - i for i in range(s)]
        if any(moved):
            phases = [_cos_sin(config, by // BLOCK)[2][by % BLOCK] for by in moved]
            phase = torch.stack(phases).repeat_interleave(p, dim=0)
            rotated = self._sinks * put(phase, torch.empty_like(phase, device=self.device))
            half = config.head_width // 2
            target = inputs.k[..., row * s * p : (row + 1) * s * p, :]
            target[..., :half], target[..., half:] = rotated.real, rotated.imag

    def _mask(self) -> Tensor:
        """Rows finished, new; columns as in `FrameInputs`: 2 u."""
        s, w, now = self.config.sink_frames, self.config.context_frames, self.now
        seen = torch.zeros(2, 2 * s + w + 2, dtype=torch.bool)
        known = min(max(now, 0), s)  # sinks in their slots
        seen[0, :known] = seen[1, s : s + known] = True
        # The ring holds frames before `now`: slot i the last one whose time is `s + i` modulo w.
        times = torch.arange(w) + s
        times = times + (now - 1 - times).div(w, rounding_mode="floor") * w
        in_ring = (times >= s) & (times < now)
        for row, time in enumerate((now, now + 1)):
            seen[row, 2 * s : 2 * s + w] = in_ring & (time - times < w)
        seen[:, -2] = now >= 0
        seen[0, -2] = seen[1, -1] = True  # itself; without a finished frame no one reads row 0
        bias = torch.where(seen, 0.0, HIDDEN)
        return bias.repeat_interleave(self.config.tokens_per_frame, dim=1)


@functools.lru_cache(maxsize=64)  # blocks: some for each of many sessions
def _cos_sin(config: ModelConfig, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations of a block's frame times: cosines and sines f p e/2 of tokens, complex ones f e/2.

    Nobody may write to them. A block costs little more than one of its times.
    """
    angles = time_angles(config, torch.arange(block * BLOCK, (block + 1) * BLOCK))
    tokens = angles[:, None] + space_angles(config)
    return tokens.cos(), tokens.sin(), torch.polar(torch.ones_like(angles), angles)


def is_finite(x: Tensor) -> bool:
    """Whether all are numbers. A sum of some that are none is none; another one may overflow."""
    return math.isfinite(x.sum().item()) or bool(torch.isfinite(x).all())


def put(source: Tensor, target: Tensor) -> Tensor:
    """Copy, whatever the shape, without waiting for a GPU: out of pinned memory, which stays."""
    if target.device.type == "cuda" and source.device.type == "cpu":
        return target.copy_(source.pin_memory(), non_blocking=True)
    return target.copy_(source)
