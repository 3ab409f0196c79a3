"""Frame-by-frame rollout: one action in, one latent frame out.

A `Rollout` owns everything that changes while a world is played: the KV cache, the time and the
noise generators. The model it drives holds only weights, so one model serves a player, an
evaluation and training at the same time.

    rollout = Rollout(model, sampler, seeds=[0])
    rollout.prime(start_latents, start_conditions)   # what the world looks like before play
    latent = rollout.denoise(condition)              # show it ...
    rollout.remember()                               # ... then make it the past; again and again

A model with `chunk_frames` above 1 draws so many frames at a time: f actions in, f latents out.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise, repeat
from typing import TypeVar

import torch
from torch import Tensor

from worldmodel.model.action_encoder import unconditional
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.context import Context, TeacherForcing
from worldmodel.model.kv_cache import KVCache
from worldmodel.model.transformer import WorldTransformer
from worldmodel.schedule import add_noise, euler_step, guided, to_clean
from worldmodel.system.progress import Progress, through

C = TypeVar("C")  # the context that a model takes
# latents b f c h w, sigmas b f, conditions b f z, context -> velocity b f c h w
Velocity = Callable[[Tensor, Tensor, Tensor, C], Tensor]
Noise = Callable[[], Tensor]  # fresh standard normal noise, b f c h w


def denoise(
    model: Velocity[C],
    noise: Noise,
    sampler: SamplerConfig,
    conditions: Tensor,
    context: C,
) -> Tensor:
    """From pure noise to clean latents b f c h w along the sampler's levels, 1 to 0.

    A teacher follows its velocity (Euler). A consistency student, with `renoise`, jumps to its
    clean estimate and adds fresh noise of the next level (consistency models, arXiv 2303.01469,
    Algorithm 1). Play, evaluation and training's own rollouts all call this; there is no second
    sampler. Where gradients are taken at all, they go through the last step alone (Self Forcing,
    arXiv 2506.08009, Algorithm 1).

    With a `latent_step`, what comes out is rounded to a grid. A player who stands still then sees
    the very same frame again as long as the model errs by less than half a step, instead of a
    slow random walk: what keeps a digital signal clean keeps a world in place.
    """
    x, differentiated = noise(), torch.is_grad_enabled()
    model = with_guidance(model, sampler.guidance)
    for sigma, next_sigma in pairwise(sampler.sigmas):
        now, after = (x.new_full(x.shape[:2], s) for s in (sigma, next_sigma))
        with torch.set_grad_enabled(differentiated and next_sigma == 0):
            velocity = model(x, now, conditions, context)
            if sampler.renoise:
                clean = to_clean(x, velocity, now)
                x = add_noise(clean, noise(), after) if next_sigma > 0 else clean
            else:
                x = euler_step(x, velocity, now, after)
    return round_to_grid(x, sampler)


def with_guidance(model: Velocity[C], guidance: float) -> Velocity[C]:
    """A model whose velocities are guided by the actions; at 1 that is the model itself."""
    if guidance == 1.0:
        return model

    def velocity(x: Tensor, sigmas: Tensor, conditions: Tensor, context: C) -> Tensor:
        def answer(conditions: Tensor) -> Tensor:
            return model(x, sigmas, conditions, context)

        return guided(answer, conditions, unconditional(conditions), guidance)

    return velocity


def round_to_grid(latents: Tensor, sampler: SamplerConfig) -> Tensor:
    """Latents on the sampler's grid, if it has one; a gradient passes as if they were not moved."""
    if not (step := sampler.latent_step):
        return latents
    rounded = torch.round(latents / step) * step
    return latents + (rounded - latents).detach() if latents.requires_grad else rounded


def pull_to_view(latents: Tensor, view: Tensor | None, sampler: SamplerConfig) -> Tensor:
    """Latents b f c h w as they are remembered, a little nearer to those of the view's picture.

    A frame is a change of the last one, so errors add up. What floor plan or scene show does not
    depend on the last frame: with a `view_pull` of 1/50 in every frame, what they do not show is
    forgotten within some 50 frames, errors too. Without a view, latents stay as they are.
    """
    return latents if view is None else torch.lerp(latents, view.to(latents), sampler.view_pull)


class DifferentiableRollout:
    """One batch of worlds being played side by side; each has its own noise, hence its seed.

    Whether gradients are taken is the caller's matter: for training.
    """

    def __init__(
        self, model: WorldTransformer, sampler: SamplerConfig, seeds: Sequence[int]
    ) -> None:
        self.model, self.sampler = model, sampler
        self.device = model.unembed.weight.device
        self.cache = KVCache(model.config, len(seeds), _dtype(model), self.device)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.drawn = 0  # chunks, priming apart
        self._current: tuple[Tensor, Tensor] | None = None

    @property
    def levels(self) -> SamplerConfig:
        """The sampler of the chunk that comes next."""
        return self.sampler if self.drawn else self.sampler.first

    @property
    def pulls(self) -> bool:
        """Whether the frame that is remembered next is pulled to its view."""
        return self.sampler.pulls(self.cache.time)

    def prime(self, latents: Tensor, conditions: Tensor) -> None:
        """Show the world its past: clean latents b f c h w and the conditions b f z in it.

        Frames at its beginning that fill no chunk are left out.
        """
        chunk = self.model.config.chunk_frames
        for f in range(latents.shape[1] % chunk, latents.shape[1], chunk):
            self._clean_pass(latents[:, f : f + chunk], conditions[:, f : f + chunk])

    def denoise(self, conditions: Tensor) -> Tensor:
        """The next frames: conditions b f z -> clean latents b f c h w."""
        latents = denoise(self.model, self._noise, self.levels, conditions, self.cache)
        self._current = latents.detach(), conditions
        return latents

    def remember(self, view: Tensor | None = None) -> None:
        """The clean pass: overwrite the chunk's slots with its clean keys and values, move on.

        With latents b f c h w of the `view`, `pull_to_view` comes first, where the frame `pulls`.
        With a `context_sigma` it is remembered with that much noise, and says so: a model trained
        with noise on its history then leans less on its own small errors. With
        `cache_from_last_step` the keys and values of the last denoising step stay as they are.
        """
        assert self._current is not None
        latents, conditions = self._current
        latents = pull_to_view(latents, view if self.pulls else None, self.sampler)
        if self.sampler.cache_from_last_step:
            self.cache.advance(latents)
        else:
            self._clean_pass(latents, conditions)
        self.drawn += 1
        self._current = None

    def resume(self, latents: Tensor, conditions: Tensor) -> None:
        """What was sampled and is not kept yet, of a play that goes on from a saved state."""
        self._current = latents, conditions

    def step(self, conditions: Tensor, view: Tensor | None = None) -> Tensor:
        """`denoise` and `remember`: conditions b f z -> clean latents b f c h w."""
        latents = self.denoise(conditions)
        self.remember(view)
        return latents

    def _clean_pass(self, latents: Tensor, conditions: Tensor) -> None:
        sigmas = latents.new_full(latents.shape[:2], self.sampler.context_sigma)
        if self.sampler.context_sigma > 0:
            latents = add_noise(latents, self._noise(), sigmas)
        self.model(latents, sigmas, conditions, self.cache)
        self.cache.advance()

    def _noise(self) -> Tensor:
        config = self.model.config
        shape = (1, config.chunk_frames, *config.latent_shape)
        # Drawn on the CPU: the same seed gives the same noise on every device.
        return torch.cat([torch.randn(shape, generator=g) for g in self.generators]).to(self.device)


class Rollout(DifferentiableRollout):
    """The same without gradients: for play and evaluation."""

    prime = torch.inference_mode()(DifferentiableRollout.prime)
    denoise = torch.inference_mode()(DifferentiableRollout.denoise)
    remember = torch.inference_mode()(DifferentiableRollout.remember)


def _dtype(model: WorldTransformer) -> torch.dtype:
    """What keys and values come in: the model's dtype, or that of autocast around it."""
    device = model.unembed.weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype


@torch.inference_mode()
def roll_out(
    model: WorldTransformer,
    sampler: SamplerConfig,
    past: tuple[Tensor, Tensor],
    conditions: Tensor,
    label: str | None = None,
    seeds: Sequence[int] | None = None,
    views: Tensor | None = None,
) -> Tensor:
    """Play on from a past (latents b f c h w, conditions b f z) with b g z: b g c h w.

    With a `label`, a progress bar of that name. `seeds` b of the noise; none: 0, 1, 2 and so on.
    `views` b g c h w (`encode_views`) are what a `view_pull` needs.
    """
    seeds = range(len(conditions)) if seeds is None else seeds
    rollout, chunk = Rollout(model, sampler, seeds), model.config.chunk_frames
    rollout.prime(*past)
    missing = -conditions.shape[1] % chunk  # of the last chunk, which is sampled whole all the same
    whole = torch.cat((conditions, conditions[:, -1:].expand(-1, missing, -1)), dim=1)
    chunks = through(whole.split(chunk, dim=1), desc=label, unit="frame", disable=label is None)
    seen = repeat(None) if views is None else views.split(chunk, dim=1)
    sampled = [rollout.step(given, view) for given, view in zip(chunks, seen, strict=False)]
    return torch.cat(sampled, dim=1)[:, : conditions.shape[1]]


@torch.inference_mode()
def next_frames(
    model: WorldTransformer,
    sampler: SamplerConfig,
    latents: Tensor,
    conditions: Tensor,
    label: str | None = None,
) -> Tensor:
    """Every frame of clips b f c h w as sampled given the true chunks before it, all at once.

    The packed clip of training and the sampler of play: exactly what play would draw after the
    same history (the tests hold the two against each other). Frames at the beginning that fill no
    chunk are left out. With a `label`, a progress bar of that name.
    """
    missing = latents.shape[1] % model.config.chunk_frames
    latents, conditions = latents[:, missing:], conditions[:, missing:]
    frames = latents.shape[1]
    generator = torch.Generator().manual_seed(0)
    clean = latents.new_zeros(latents.shape[:2])

    def velocity(x: Tensor, sigmas: Tensor, acts: Tensor, context: Context) -> Tensor:
        packed = torch.cat((latents, x), dim=1), torch.cat((clean, sigmas), dim=1)
        sampled = model(*packed, torch.cat((conditions, acts), dim=1), context)[:, frames:]
        progress.update()
        return sampled

    def noise() -> Tensor:
        return torch.randn(latents.shape, generator=generator).to(latents.device)

    context = TeacherForcing(model.config, frames, device=latents.device)
    quiet, total = label is None, sampler.steps
    with Progress(total=total, desc=label, unit="step", disable=quiet) as progress:
        return denoise(velocity, noise, sampler, conditions, context)
