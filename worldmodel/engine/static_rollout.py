"""Rollouts on programs of fixed shape: the same frames as `Rollout`, for compilers.

A `Program` reads and writes tensors that never move. A `StaticRollout` fills them, runs it once a
frame, and puts the keys and values that come out into their slot of the cache. A finished frame's
clean pass is part of the next frame's run (`graphs`), so `remember` only sets it aside.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from worldmodel.engine.graphs import FrameInputs, FrameOutputs
from worldmodel.engine.static_cache import StaticCache, put
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.rollout import pull_to_view, round_to_grid
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


@dataclass(frozen=True, slots=True)
class BoundProgram:
    """A `Program` of tensors and of what runs on them: a graph's replay, or a plain call."""

    inputs: FrameInputs
    outputs: FrameOutputs
    run: Callable[[], None]


class StaticRollout:
    """Played worlds on a program: what `Rollout` is on plain torch."""

    def __init__(
        self, program: Program, config: ModelConfig, sampler: SamplerConfig, seeds: Sequence[int]
    ) -> None:
        self.program, self.config, self.sampler = program, config, sampler
        self.cache = StaticCache(config, program)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.drawn = 0
        self._current: tuple[Tensor, Tensor] | None = None

    @property
    def pulls(self) -> bool:
        """Whether the frame that is remembered next is pulled to its view."""
        return self.sampler.pulls(self.cache.time)

    @torch.inference_mode()
    def prime(self, latents: Tensor, conditions: Tensor) -> None:
        """Show the worlds their past: clean latents b f c h w and the conditions b f z in it."""
        for f in range(latents.shape[1]):
            self._clean_pass()
            self._current = latents[:, f : f + 1].float(), conditions[:, f : f + 1].float()
            self.remember()

    @torch.inference_mode()
    def denoise(self, condition: Tensor) -> Tensor:
        """The next frame: condition b 1 z -> clean latent b 1 c h w."""
        self.ready(condition)
        self.program.run()
        return self.take()

    @torch.inference_mode()
    def ready(self, condition: Tensor) -> None:
        """Fill what a run needs for the next frame."""
        for draw in self.program.inputs.noise:
            put(self._noise(), draw)
        put(condition, self.program.inputs.actions[:, 1:])

    @torch.inference_mode()
    def take(self) -> Tensor:
        """The frame b 1 c h w that a run has left."""
        outputs = self.program.outputs
        self.cache.keep(outputs.k, outputs.v)
        latent = round_to_grid(outputs.latent.clone(), self.sampler)
        self._current = latent, self.program.inputs.actions[:, 1:].clone()
        return latent

    @torch.inference_mode()
    def remember(self, view: Tensor | None = None) -> None:
        """Make the frame part of the past; its clean pass comes with the next frame.

        With latents b 1 c h w of the `view`, `pull_to_view` comes first, where the frame `pulls`.
        """
        assert self._current is not None
        inputs, (latent, condition) = self.program.inputs, self._current
        latent = pull_to_view(latent, view if self.pulls else None, self.sampler)
        inputs.before.copy_(inputs.finished)
        inputs.finished.copy_(latent)
        if sigma := self.sampler.context_sigma:
            level = torch.full(latent.shape[:2], sigma, device=latent.device)
            noise = put(self._noise(), torch.empty_like(latent))
            inputs.finished.copy_(add_noise(latent, noise, level))
        put(condition, inputs.actions[:, :1])
        self.cache.advance()
        self.drawn += 1
        self._current = None

    def _clean_pass(self) -> None:
        """The clean pass of a finished frame that no frame will follow by `denoise`."""
        if self.cache.now >= 0:
            actions = self.program.inputs.actions
            actions[:, 1:].copy_(actions[:, :1])
            self.program.run()
            self.cache.keep(self.program.outputs.k, self.program.outputs.v)

    def _noise(self) -> Tensor:
        shape = (1, 1, *self.config.latent_shape)
        # Drawn on the CPU: the same seed gives the same noise on every device.
        return torch.cat([torch.randn(shape, generator=g) for g in self.generators])


class ProgramPool:
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
