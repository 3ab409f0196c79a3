"""Rollouts on programs of fixed shape: the same frames as `Rollout`, for compilers.

A `Program` reads and writes tensors that never move. A `StaticRollout` fills them, runs it once a
frame, and puts the keys and values that come out into their slot of the cache. A finished frame's
clean pass is part of the next frame's run (`graphs`), so `remember` only sets it aside.

Slots of the cache, each a frame: the sinks as the finished frame sees them, the sinks as the new
one does (a query sees old sinks directly before its window, so for every frame they stand
elsewhere), then a ring of the last frames.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from worldmodel.config import ModelConfig, SamplerConfig
from worldmodel.engine.graphs import HIDDEN, FrameInputs, FrameOutputs
from worldmodel.model.context import pinned_time
from worldmodel.model.rotary import space_angles, time_angles
from worldmodel.rollout import round_to_grid
from worldmodel.schedule import add_noise


class Program(Protocol):
    """A compiled `FrameGraph` and the tensors that it reads and writes."""

    @property
    def inputs(self) -> FrameInputs:
        """To be filled before a run."""

    @property
    def outputs(self) -> FrameOutputs:
        """What the last run wrote; the next one overwrites it."""

    def run(self) -> None:
        """Compute the outputs from the inputs."""


class StaticCache:
    """What a program's run sees of the past: slots, masks and angles, on the program's tensors.

    `now` is the time of the finished frame, whose keys are not in any slot yet; -1 without one.
    """

    def __init__(self, config: ModelConfig, inputs: FrameInputs) -> None:
        self.config, self.inputs, self.now = config, inputs, -1
        self.device = inputs.k.device
        self._space = space_angles(config)
        tokens = config.sink_frames * config.tokens_per_frame
        shape = (*inputs.k.shape[:3], tokens, config.head_width // 2)
        self._sinks = torch.zeros(shape, dtype=torch.complex64, device=self.device)  # as they came
        self._masks: dict[tuple[int, int], Tensor] = {}
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.now = -1
        for tensor in self.inputs:
            tensor.zero_()
        self._open(1, 0)

    def advance(self) -> None:
        """The new frame is the finished one from now on: masks, angles and sinks move up."""
        config, inputs = self.config, self.inputs
        self.now += 1
        p, sinks = config.tokens_per_frame, config.sink_frames * config.tokens_per_frame
        for angles in (inputs.cos, inputs.sin):
            angles[:p] = angles[p:]
        inputs.k[..., :sinks, :] = inputs.k[..., sinks : 2 * sinks, :]
        self._open(1, self.now + 1)

    def keep(self, k: Tensor, v: Tensor) -> None:
        """Put the finished frame's keys and values, l b n p e, into its slot."""
        s, p, now = self.config.sink_frames, self.config.tokens_per_frame, self.now
        if now < 0:
            return
        if now < s:
            first, second = k.float().chunk(2, dim=-1)
            self._sinks[..., now * p : (now + 1) * p, :] = torch.complex(first, second)
            slots = [now, s + now]
        else:
            slots = [2 * s + (now - s) % self.config.context_frames]
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


class StaticRollout:
    """Played worlds on a program: what `Rollout` is on plain torch."""

    def __init__(
        self, program: Program, config: ModelConfig, sampler: SamplerConfig, seeds: Sequence[int]
    ) -> None:
        self.program, self.config, self.sampler = program, config, sampler
        self.cache = StaticCache(config, program.inputs)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._is_kept = True
        self._current: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def prime(self, latents: Tensor, actions: Tensor) -> None:
        """Show the worlds their past: clean latents b f c h w and the actions b f (k+2) in it."""
        for f in range(latents.shape[1]):
            self._clean_pass()
            self._current = latents[:, f : f + 1].float(), actions[:, f : f + 1].float()
            self.remember()

    @torch.inference_mode()
    def denoise(self, action: Tensor) -> Tensor:
        """The next frame: action b 1 (k+2) -> clean latent b 1 c h w."""
        for draw in self.program.inputs.noise:
            put(self._noise(), draw)
        self._run(action)
        latent = round_to_grid(self.program.outputs.latent.clone(), self.sampler)
        self._current = latent, action
        return latent

    @torch.inference_mode()
    def remember(self) -> None:
        """Make the frame part of the past; its clean pass comes with the next frame."""
        assert self._current is not None
        inputs, (latent, action) = self.program.inputs, self._current
        inputs.before.copy_(inputs.finished)
        inputs.finished.copy_(latent)
        if sigma := self.sampler.context_sigma:
            level = torch.full(latent.shape[:2], sigma, device=latent.device)
            noise = put(self._noise(), torch.empty_like(latent))
            inputs.finished.copy_(add_noise(latent, noise, level))
        put(action, inputs.actions[:, :1])
        self.cache.advance()
        self._is_kept, self._current = False, None

    def _clean_pass(self) -> None:
        """Of a finished frame that no frame will follow by `denoise`."""
        if self.cache.now >= 0:
            self._run(self.program.inputs.actions[:, :1])

    def _run(self, action: Tensor) -> None:
        put(action, self.program.inputs.actions[:, 1:])
        self.program.run()
        if not self._is_kept:
            self.cache.keep(self.program.outputs.k, self.program.outputs.v)
            self._is_kept = True

    def _noise(self) -> Tensor:
        shape = (1, 1, *self.config.latent_shape)
        # Drawn on the CPU: the same seed gives the same noise on every device.
        return torch.cat([torch.randn(shape, generator=g) for g in self.generators])


class Pool:
    """Programs by the number of sessions; a rollout that is no longer used gives its own back."""

    def __init__(self, build: Callable[[int], Program]) -> None:
        self._build = build
        self._free: dict[int, list[Program]] = {}

    def begin(
        self, config: ModelConfig, sampler: SamplerConfig, seeds: Sequence[int]
    ) -> StaticRollout:
        """A rollout on a program that no other rollout uses."""
        free = self._free.setdefault(len(seeds), [])
        program = free.pop() if free else self._build(len(seeds))
        rollout = StaticRollout(program, config, sampler, seeds)
        weakref.finalize(rollout, free.append, program)
        return rollout
