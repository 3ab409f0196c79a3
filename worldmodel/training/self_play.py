"""A student's own play, for training: the rollout of play itself, with gradients.

All that is sampled goes through `Rollout`, its cache and its sampler. What training adds: the exit
step, at which the denoising of every frame of a rollout ends (Self Forcing, arXiv 2506.08009, §3.2,
Algorithm 1), a gradient through that step alone, and noise drawn where the model is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from worldmodel.model.configs import SamplerConfig
from worldmodel.model.context import Device
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import DifferentiableRollout
from worldmodel.schedule import add_noise


@dataclass(frozen=True, slots=True)
class Exit:
    """At which of its sampler's steps, counted from 0, a rollout's frames are done."""

    first: int  # of the first frame, whose list of steps may be longer
    rest: int

    @classmethod
    def draw(cls, sampler: SamplerConfig, host: Random) -> "Exit":
        """One for a whole rollout, every step alike; a longer first list has one of its own."""
        rest = host.randrange(sampler.steps)
        return cls(host.randrange(sampler.first.steps) if sampler.first_sigmas else rest, rest)


class SelfPlay(DifferentiableRollout):
    """`Rollout` with an exit step and with the noise of a training step."""

    def __init__(
        self,
        model: WorldTransformer,
        sampler: SamplerConfig,
        batch: int,
        leave: Exit,
        generator: torch.Generator,
    ) -> None:
        super().__init__(model, sampler, seeds=[0] * batch)
        self.leave, self.generator, self.batch = leave, generator, batch

    def prime(self, latents: Tensor, actions: Tensor) -> None:
        """As play is primed, but all frames in one pass; they must fill whole chunks and fit."""
        sigmas = latents.new_full(latents.shape[:2], self.sampler.context_sigma)
        if self.sampler.context_sigma > 0:
            device = self.generator.device
            noise = torch.randn(latents.shape, generator=self.generator, device=device)
            latents = add_noise(latents, noise, sigmas)
        clip = self.cache.begin(latents.shape[1])
        self.model(latents, sigmas, actions, clip)
        self.cache.keep(clip)

    @property
    def levels(self) -> SamplerConfig:
        """Those up to the exit step."""
        return super().levels.until(self._exit)

    def remember(self, view: Tensor | None = None) -> None:
        """The past as play would leave it.

        If that is the keys and values of play's last step and the exit came before it, what was
        sampled is noised to that step's level and passed once more.
        """
        whole = super().levels
        if self.sampler.cache_from_last_step and self._exit < whole.steps - 1:
            assert self._current is not None
            latents, actions = self._current
            sigmas = latents.new_full(latents.shape[:2], whole.sigmas[-2])
            self.model(add_noise(latents, self._noise(), sigmas), sigmas, actions, self.cache)
        super().remember(view)

    @property
    def _exit(self) -> int:
        return self.leave.rest if self.drawn else self.leave.first

    def _noise(self) -> Tensor:
        config = self.model.config
        shape = (self.batch, config.chunk_frames, *config.latent_shape)
        return torch.randn(shape, generator=self.generator, device=self.generator.device)


def self_play(
    model: WorldTransformer,
    sampler: SamplerConfig,
    past: tuple[Tensor, Tensor],
    actions: Tensor,
    leave: Exit,
    graded: Sequence[int],
    generator: torch.Generator,
) -> Tensor:
    """Frames b g c h w of the student's play after a true past, with b g z.

    Only the chunks whose numbers are in `graded` carry a gradient, each through its own last step,
    none through what it remembers.
    """
    rollout = SelfPlay(model, sampler, len(actions), leave, generator)
    differentiated, sampled = torch.is_grad_enabled(), []
    chunks = actions.split(model.config.chunk_frames, dim=1)
    with torch.no_grad():
        rollout.prime(*past)
        for number, acts in enumerate(chunks):
            if number:
                rollout.remember()
            with torch.set_grad_enabled(differentiated and number in graded):
                sampled.append(rollout.denoise(acts))
    return torch.cat(sampled, dim=1)


def let_go(conditions: Tensor, past: int, share: float, seen: int = 0) -> Tensor:
    """Conditions b f z in which a share of the clips does nothing from frame `past` on.

    The first `seen` numbers say what the view shows: who does nothing goes on seeing it.
    """
    quiet = conditions.clone()
    still = let_go_of(len(conditions), share, conditions.device)
    quiet[still, past:, seen:] = 0.0
    quiet[still, past:, :seen] = conditions[still, past - 1 : past, :seen]
    return quiet


def let_go_of(batch: int, share: float, device: Device) -> Tensor:
    """Which clips of a batch those are: b. The first ones, for clips come in random order."""
    return torch.arange(batch, device=device) < round(share * batch)
