"""Frame-by-frame rollout: one action in, one latent frame out.

A `Rollout` owns everything that changes while a world is played: the KV cache, the time and the
noise generators. The model it drives holds only weights, so one model serves a player, an
evaluation and training at the same time.

    rollout = Rollout(model, sampler, seeds=[0])
    rollout.prime(start_latents, start_actions)   # what the world looks like before play
    latent = rollout.denoise(action)              # show it ...
    rollout.remember()                            # ... then make it the past; again and again

Letters: b batch, f frames, c h w latents, k buttons.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from worldmodel.config import SamplerConfig
from worldmodel.model.context import Context, KVCache, TeacherForcing
from worldmodel.model.transformer import WorldTransformer
from worldmodel.schedule import add_noise, euler_step, to_clean

C = TypeVar("C")  # the context that a model takes
# latents b f c h w, sigmas b f, actions b f (k+2), context -> velocity b f c h w
Velocity = Callable[[Tensor, Tensor, Tensor, C], Tensor]
Noise = Callable[[], Tensor]  # fresh standard normal noise, b f c h w


def denoise(
    model: Velocity[C],
    noise: Noise,
    sampler: SamplerConfig,
    actions: Tensor,
    context: C,
) -> Tensor:
    """From pure noise to clean latents b f c h w along the sampler's levels, 1 to 0.

    A teacher follows its velocity (Euler). A consistency student, with `renoise`, jumps to its
    clean estimate and adds fresh noise of the next level (consistency models, arXiv 2303.01469,
    Algorithm 1). Play, evaluation and self-generated history all call this; there is no second
    sampler.

    With a `latent_step`, what comes out is rounded to a grid. A player who stands still then sees
    the very same frame again as long as the model errs by less than half a step, instead of a
    slow random walk: what keeps a digital signal clean keeps a world in place.
    """
    x = noise()
    for sigma, next_sigma in pairwise(sampler.sigmas):
        now, after = (x.new_full(x.shape[:2], s) for s in (sigma, next_sigma))
        velocity = model(x, now, actions, context)
        if sampler.renoise:
            clean = to_clean(x, velocity, now)
            x = add_noise(clean, noise(), after) if next_sigma > 0 else clean
        else:
            x = euler_step(x, velocity, now, after)
    return round_to_grid(x, sampler)


def round_to_grid(latents: Tensor, sampler: SamplerConfig) -> Tensor:
    """Latents on the sampler's grid, if it has one."""
    step = sampler.latent_step
    return torch.round(latents / step) * step if step else latents


class Rollout:
    """One batch of worlds being played side by side; each has its own noise, hence its seed."""

    def __init__(
        self, model: WorldTransformer, sampler: SamplerConfig, seeds: Sequence[int]
    ) -> None:
        self.model, self.sampler = model, sampler
        self.device = model.unembed.weight.device
        self.cache = KVCache(model.config, len(seeds), model.dtype, self.device)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._current: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def prime(self, latents: Tensor, actions: Tensor) -> None:
        """Show the world its past: clean latents b f c h w and the actions b f (k+2) in it."""
        for f in range(latents.shape[1]):
            self._current = latents[:, f : f + 1], actions[:, f : f + 1]
            self.remember()

    @torch.inference_mode()
    def denoise(self, action: Tensor) -> Tensor:
        """The next frame: action b 1 (k+2) -> clean latent b 1 c h w."""
        latent = denoise(self.model, self._noise, self.sampler, action, self.cache)
        self._current = latent, action
        return latent

    @torch.inference_mode()
    def remember(self) -> None:
        """The clean pass: overwrite the frame's slot with its clean keys and values, move on.

        With a `context_sigma` the frame is remembered with that much noise, and says so: a model
        trained with noise on its history then leans less on its own small errors.
        """
        assert self._current is not None
        latent, action = self._current
        sigmas = latent.new_full(latent.shape[:2], self.sampler.context_sigma)
        if self.sampler.context_sigma > 0:
            latent = add_noise(latent, self._noise(), sigmas)
        self.model(latent, sigmas, action, self.cache)
        self.cache.advance()
        self._current = None

    def step(self, action: Tensor) -> Tensor:
        """`denoise` and `remember`: action b 1 (k+2) -> clean latent b 1 c h w."""
        latent = self.denoise(action)
        self.remember()
        return latent

    def _noise(self) -> Tensor:
        shape = (1, 1, *self.model.config.latent_shape)
        # Drawn on the CPU: the same seed gives the same noise on every device.
        return torch.cat([torch.randn(shape, generator=g) for g in self.generators]).to(self.device)


@torch.inference_mode()
def roll_out(
    model: WorldTransformer,
    sampler: SamplerConfig,
    past: tuple[Tensor, Tensor],
    actions: Tensor,
    label: str | None = None,
) -> Tensor:
    """Play on from a past (latents b f c h w, actions b f (k+2)) with b g (k+2): b g c h w.

    With a `label`, a progress bar of that name.
    """
    rollout = Rollout(model, sampler, range(len(actions)))
    rollout.prime(*past)
    frames = tqdm(
        actions.split(1, dim=1), desc=label, unit="frame", leave=False, disable=label is None
    )
    return torch.cat([rollout.step(action) for action in frames], dim=1)


@torch.inference_mode()
def next_frames(
    model: WorldTransformer, sampler: SamplerConfig, latents: Tensor, actions: Tensor
) -> Tensor:
    """Every frame of clips b f c h w as drawn given the true frames before it, all at once.

    The packed clip of training and the sampler of play: exactly what play would draw after the
    same history (the tests hold the two against each other).
    """
    frames = latents.shape[1]
    generator = torch.Generator().manual_seed(0)
    clean = latents.new_zeros(latents.shape[:2])

    def velocity(x: Tensor, sigmas: Tensor, acts: Tensor, context: Context) -> Tensor:
        packed = torch.cat((latents, x), dim=1), torch.cat((clean, sigmas), dim=1)
        return model(*packed, acts.repeat(1, 2, 1), context)[:, frames:]

    def noise() -> Tensor:
        return torch.randn(latents.shape, generator=generator).to(latents.device)

    context = TeacherForcing(model.config, frames, device=latents.device)
    return denoise(velocity, noise, sampler, actions, context)
