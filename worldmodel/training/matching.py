"""The losses of distribution matching, whatever plays and scores (`dmd` has the equations)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from worldmodel.schedule import add_noise, guided, sample_sigmas, to_clean, velocity_target
from worldmodel.training.bidirectional import unknown
from worldmodel.training.stage import Critic
from worldmodel.training.teacher_forcing import mean_where

M = TypeVar("M")  # a transformer
T = TypeVar("T")  # the conditions of play: actions, or words and cameras


@dataclass(frozen=True, slots=True)
class PlayedClips(Generic[T]):
    """Clips of the student's play, on their way to both score models."""

    latents: Tensor  # b f c h w, with the student's gradient
    conditions: T  # for b f
    known: Tensor  # b, how many frames at the beginning are true
    truth: "Truth | None" = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What really came where a clip of play was sampled, and how much of it play can know."""

    latents: Tensor  # b f c h w
    weight: Tensor  # b f, zero where it tells nothing


class Levels(Protocol):
    """How what was played is noised, and how much the teacher is guided."""

    @property
    def guidance(self) -> float:
        """w of classifier-free guidance on the teacher; 1 is none."""

    @property
    def level_shift(self) -> float:
        """The shift of σ; above 1, more of the levels are high."""

    @property
    def least_level(self) -> float:
        """σ is held between this and one minus this."""


def dmd_loss(played: PlayedClips[T], fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """½ mean (x − sg(x − g))² over the frames that were sampled, and mean |f_critic − f_real|.

    `fake` and `real` b f c h w are what critic and teacher would have sampled.
    """
    x = played.latents
    sampled = unknown(played.known, x.shape[1])[..., None, None, None].expand_as(x)
    with torch.no_grad():
        distance = (x - real).abs() * sampled
        size = distance.sum(dim=(1, 2, 3, 4)) / sampled.sum(dim=(1, 2, 3, 4))
        gradient = torch.nan_to_num((fake - real) / size[:, None, None, None, None])
        goal = x - gradient
        apart = mean_where((fake - real).abs(), sampled)
    return 0.5 * mean_where((x - goal).square(), sampled), apart


def truth_loss(played: PlayedClips[T], truth: Truth) -> Tensor:
    """½ mean w (x − x_true)² over the sampled frames of latents b f c h w: a scalar."""
    error = (played.latents - truth.latents).square().mean(dim=(2, 3, 4))
    sampled = unknown(played.known, error.shape[1])
    return 0.5 * mean_where(truth.weight * error, sampled)


class DistributionMatching(Generic[M, T]):
    """What a stage with a teacher and a critic does with what its student has played."""

    levels: Levels
    critic: Critic
    fake: M  # the critic's model
    real: M
    forward: Callable[[M, Tensor, Tensor, T, Tensor], Tensor]  # model, x, σ b f, given, known b

    def play(self, step: int, generator: torch.Generator) -> PlayedClips[T]:
        """Clips of the student's own play."""
        raise NotImplementedError

    def unconditional(self, played: PlayedClips[T]) -> T:
        """What the teacher is given for the velocity without a condition."""
        raise NotImplementedError

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's loss or the student's, as it is whose turn."""
        if self.critic.has_turn(step):
            with torch.no_grad():
                played = self.play(step, generator)
            return self._critic_loss(played, generator), {}
        played = self.play(step, generator)
        noisy, sigmas, _ = self._noised(played, generator)
        with torch.no_grad():
            fake = self._clean(self.fake, played, noisy, sigmas, played.conditions)
            real = guided(
                lambda conditions: self._clean(self.real, played, noisy, sigmas, conditions),
                played.conditions,
                self.unconditional(played),
                self.levels.guidance,
            )
        loss, apart = dmd_loss(played, fake, real)
        if played.truth is None:
            return loss, {"apart": apart}
        from_truth = truth_loss(played, played.truth)
        return loss + from_truth, {"apart": apart, "from_truth": from_truth}

    def _noised(
        self, played: PlayedClips[T], generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The clip at one level for all that was sampled: x_σ b f c h w, σ b f, ε."""
        x, least = played.latents.detach(), self.levels.least_level
        level = sample_sigmas((len(x), 1), self.levels.level_shift, generator)
        sigmas = level.clamp(least, 1 - least) * unknown(played.known, x.shape[1])
        noise = torch.randn(x.shape, generator=generator, device=generator.device)
        return add_noise(x, noise, sigmas), sigmas, noise

    def _clean(
        self, model: M, played: PlayedClips[T], noisy: Tensor, sigmas: Tensor, conditions: T
    ) -> Tensor:
        velocity = self.forward(model, noisy, sigmas, conditions, played.known)
        return to_clean(noisy, velocity, sigmas)

    def _critic_loss(self, played: PlayedClips[T], generator: torch.Generator) -> Tensor:
        noisy, sigmas, noise = self._noised(played, generator)
        velocity = self.forward(self.fake, noisy, sigmas, played.conditions, played.known)
        error = (velocity - velocity_target(played.latents, noise)).square().mean(dim=(2, 3, 4))
        return mean_where(error, unknown(played.known, noisy.shape[1]))
