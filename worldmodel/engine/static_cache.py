"""The past as a program of fixed shape reads it: slots, masks and angles on tensors that stay.

Slots, each a frame: the sinks as the finished frame sees them, the sinks as the new one does (a
query sees old sinks directly before its window, so for every frame they stand elsewhere), then a
ring of the last frames. The finished frame's keys and values come out of the next run.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from worldmodel.engine.graphs import HIDDEN, FrameInputs
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import pinned_time, slot_name, slot_shapes
from worldmodel.model.rotary import space_angles, time_angles


class HoldsInputs(Protocol):
    """The part of a `Program` that a cache writes to."""

    @property
    def inputs(self) -> FrameInputs:
        """Tensors that a run reads."""


class StaticCache:
    """What a program's run sees of the past: slots, masks and angles, on the program's tensors.

    `now` is the time of the finished frame, whose keys are not in any slot yet; -1 without one.
    """

    def __init__(self, config: ModelConfig, program: HoldsInputs) -> None:
        self.config, self.program, self.now = config, program, -1
        k = program.inputs.k
        self.device = k.device
        self._space = space_angles(config)
        tokens = config.sink_frames * config.tokens_per_frame
        shape = (*k.shape[:3], tokens, config.head_width // 2)
        self._sinks = torch.zeros(shape, dtype=torch.complex64, device=self.device)  # as they came
        self._masks: dict[tuple[int, int], Tensor] = {}
        self._copies: dict[str, Tensor] = {}  # of slots, as `save` handed them out
        self._written: set[int] = set()  # frames kept since then
        self.is_kept = True  # whether the finished frame's keys are in their slot
        self.clear()

    @property
    def inputs(self) -> FrameInputs:
        """The program's tensors: where they lie is the program's matter."""
        return self.program.inputs

    @property
    def time(self) -> int:
        """Of the frame that comes next."""
        return self.now + 1

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self.inputs.k.dtype

    def clear(self) -> None:
        """Forget everything."""
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
            self._put(self.now, k, v)
            self._written.add(self.now)
            self.is_kept = True

    def saved_shapes(self, time: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `save` gives before frame `time`."""
        batch = self.inputs.k.shape[1]
        names = {"finished": self.inputs.finished, "before": self.inputs.before}
        shapes = {name: tuple(x.shape) for name, x in names.items()}
        action = (batch, 1, self.config.condition_width)
        return {**slot_shapes(self.config, batch, time - 1), **shapes, "action": action}

    def save(self) -> dict[str, Tensor]:
        """What is kept between two frames: slots, finished frame, the one before, an action.

        Copies on the CPU that nobody writes to again; slots that did not change are the same
        tensors as in the last answer.
        """
        p = self.config.tokens_per_frame
        for frame in self._written:
            here = slice(self._slot(frame) * p, (self._slot(frame) + 1) * p)
            k = self.inputs.k[..., here, :]
            if frame < self.config.sink_frames:
                sink = self._sinks[..., frame * p : (frame + 1) * p, :]
                k = torch.cat((sink.real, sink.imag), dim=-1).to(k.dtype)
            pair = torch.stack((k, self.inputs.v[..., here, :])).cpu()
            self._copies[slot_name(self._saved_slot(frame))] = pair
        self._written.clear()
        inputs = self.inputs
        rest = {
            "finished": inputs.finished,
            "before": inputs.before,
            "action": inputs.actions[:, :1],
        }
        return {**self._copies, **{name: x.to("cpu", copy=True) for name, x in rest.items()}}

    def load(self, saved: Mapping[str, Tensor], time: int) -> None:
        """Go on from what `save` gave before frame `time`; shapes and dtypes are the caller's."""
        self.clear()
        self.now, self.is_kept = time - 1, False
        slots = self.config.sink_frames + self.config.context_frames
        for frame in range(max(0, self.now - slots), self.now):
            name = slot_name(self._saved_slot(frame))
            self._put(frame, *saved[name])
            self._copies[name] = saved[name]
        for frame in range(min(self.now, self.config.sink_frames)):
            self._put(frame, *saved[slot_name(frame)])
            self._copies[slot_name(frame)] = saved[slot_name(frame)]
        self._written.clear()
        self.inputs.finished.copy_(saved["finished"])
        self.inputs.before.copy_(saved["before"])
        self.inputs.actions[:, :1].copy_(saved["action"])
        for row, when in enumerate((self.now, self.now + 1)):
            self._open(row, when)

    def holds_numbers(self) -> bool:
        """Whether the keys and values that were kept last are finite."""
        p, last = self.config.tokens_per_frame, self.now - (not self.is_kept)
        if last < 0:
            return True
        here = slice(self._slot(last) * p, (self._slot(last) + 1) * p)
        kept = self.inputs.k[..., here, :], self.inputs.v[..., here, :]
        return all(bool(torch.isfinite(x).all()) for x in kept)

    def _slot(self, frame: int) -> int:
        """Of this cache; a sink stands in one for the finished and one for the new frame."""
        s = self.config.sink_frames
        return frame if frame < s else s + self._saved_slot(frame)

    def _saved_slot(self, frame: int) -> int:
        """Of what is saved: sinks first, then the ring."""
        s = self.config.sink_frames
        return frame if frame < s else s + (frame - s) % self.config.context_frames

    def _put(self, frame: int, k: Tensor, v: Tensor) -> None:
        s, p = self.config.sink_frames, self.config.tokens_per_frame
        slots = [self._slot(frame)]
        if frame < s:
            first, second = k.float().chunk(2, dim=-1)
            self._sinks[..., frame * p : (frame + 1) * p, :] = torch.complex(first, second)
            slots.append(s + frame)
        for slot in slots:
            here = slice(slot * p, (slot + 1) * p)
            self.inputs.k[..., here, :] = k
            self.inputs.v[..., here, :] = v

    def _open(self, row: int, time: int) -> None:
        """Angles of a frame at `time`, the sinks as it sees them, and the masks of both frames."""
        config, inputs = self.config, self.inputs
        s, p = config.sink_frames, config.tokens_per_frame
        angles = time_angles(config, torch.tensor([time])) + self._space
        here = slice(row * p, (row + 1) * p)
        put(angles.cos(), inputs.cos[here])
        put(angles.sin(), inputs.sin[here])
        # Once the window is full, masks come round again with the ring.
        ring = (min(self.now, s + config.context_frames), (self.now - s) % config.context_frames)
        if ring not in self._masks:
            self._masks[ring] = self._mask().to(self.device)
        inputs.mask.copy_(self._masks[ring])
        moved = [pinned_time(config, i, time) - i for i in range(s)]
        if any(moved):
            by = time_angles(config, torch.tensor(moved)).repeat_interleave(p, dim=0)
            phase = torch.polar(torch.ones_like(by), by)
            turned = self._sinks * put(phase, torch.empty_like(phase, device=self.device))
            half = config.head_width // 2
            target = inputs.k[..., row * s * p : (row + 1) * s * p, :]
            target[..., :half], target[..., half:] = turned.real, turned.imag

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


def put(source: Tensor, target: Tensor) -> Tensor:
    """Copy without waiting for a GPU: from pinned memory, which torch keeps until it was read."""
    if target.device.type == "cuda" and source.device.type == "cpu":
        return target.copy_(source.pin_memory(), non_blocking=True)
    return target.copy_(source)
