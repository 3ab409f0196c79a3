"""Stage 1: teacher-forcing autoregressive diffusion, the causal teacher.

A clip is packed once clean and a few times noisy; every noisy frame has its own noise level and
sees only the clean past (Causal Forcing, arXiv 2602.02214, §3):

    L = E_σ,ε w(σ) || v_θ(x_σ, σ | clean past, actions) − (ε − x₀) ||²

with w(σ) such that what the network itself answers is weighed alike at every σ
(`schedule.residual_weight`; with `weight = "ramp"` `ramp_weight` instead), and more where the true
frame hardly changes (`stillness_weight`): an error that no one sees in motion adds up over a minute
of standing still.

The history that play will give is the model's own and not quite clean. So part of the clips have
noise on their history (and say how much, as in GameNGen, arXiv 2408.14837), and part have a
history that the model resampled itself: noised to a random level and denoised in one step of the
same packed forward, without gradient. The target stays the true frame, so the model learns to come
back from its own errors. Histories that it has played for many frames (`played_history`) are
another matter: where nothing tells what a frame shows, their errors move the view, the true next
frame no longer follows from them, and the model learns to answer with a blur (sharpness of rollouts
fell from 0.60 to 0.36 of the game's). Where the conditions tell it, they teach the way back.

A frame is drawn as a change of the last one, so errors add up like a random walk. Where the
conditions tell what a frame shows (a plan's rays), the model can learn to walk back: a share of
the clips (`drifted_history`) have a history that is off by the same in every frame, sinks apart, as
it is after minutes of play. (Root mean square of the latents of doom-places around frame 4 000: 33
without, 0.8 with it; encoded frames of the game have 0.9.)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import torch
from einops import rearrange
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, require_no_less, require_positive
from worldmodel.model.action_encoder import unconditional
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.context import Device, TeacherForcing
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import Rollout
from worldmodel.schedule import (
    add_noise,
    ramp_weight,
    residual_weight,
    sample_sigmas,
    to_clean,
    velocity_target,
)
from worldmodel.training.clips import check_change
from worldmodel.training.latent_stage import LatentStage
from worldmodel.training.stage import LoopConfig
from worldmodel.training.torch_streams import host_stream, seed_default

STILL = 0.4  # δ: a change of latents that is hardly seen
ONE_STEP = SamplerConfig(sigmas=(1.0, 0.0), renoise=True)
HIGH = 0.9  # σ above which the loss is logged on its own: what play's first step has to do


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipTraining:
    """How clips are sampled and noised; the same for the teacher and its student."""

    batch: int
    frames: int  # of a clip, sinks included
    copies: int = 2  # noisy copies that share one clean half
    sigma_shift: float = 2.0  # above 1: more of the noise levels are high
    noisy_history: float = 0.3  # share of clips with noise on their history
    history_sigma: float = 0.3  # the most of it
    own_history: float = 0.0  # share of clips whose history the model resampled itself
    played_history: float = 0.0  # share of clips whose history it played itself, a step a frame
    drifted_history: float = 0.0  # share of clips whose history is off by the same in every frame
    drift: float = 2.0  # the most of that, as standard deviation of the latents' numbers
    action_dropout: float = 0.0  # share of noisy chunks that are not given their actions
    weight: Literal["residual", "ramp"] = "residual"  # of the teacher's error at a noise level

    def __post_init__(self) -> None:
        require_positive(self, "batch", "copies")
        shares = (
            self.noisy_history,
            self.history_sigma,
            self.own_history,
            self.played_history,
            self.drifted_history,
            self.action_dropout,
        )
        if self.frames < 2 or self.sigma_shift <= 0 or not all(0 <= s <= 1 for s in shares):
            raise ConfigError(
                f"frames ({self.frames}) must be at least 2, sigma_shift ({self.sigma_shift}) "
                f"above 0, the shares and levels {list(shares)} between 0 and 1"
            )
        require_no_less(self, 0, "drift")
        if self.own_history + self.played_history > 1:
            raise ConfigError(
                f"own_history ({self.own_history}) and played_history ({self.played_history}) are "
                "shares of the same clips: expected at most 1 together"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherTraining:
    """Everything that the stage `teacher` reads from its TOML file."""

    stage: Literal["teacher"]
    data: Path
    heldout: Path
    autoencoder: Path  # the run of stage 0
    actions: ActionSpec
    model: ModelConfig
    clips: ClipTraining
    loop: LoopConfig
    start: Path | None = None  # a finished run of the same shape whose weights it begins with


def check_clips(model: ModelConfig, clips: ClipTraining) -> None:
    """Refuse a transformer that does not fit the clips that it will see."""
    least = first_taught(model) + model.chunk_frames
    if clips.frames < least or clips.frames % model.chunk_frames:
        raise ConfigError(
            f"[clips] frames ({clips.frames}) must be a multiple of chunk_frames "
            f"({model.chunk_frames}) and at least {least}: the sinks and the frames of the chunk "
            "after them teach nothing"
        )


def first_taught(model: ModelConfig) -> int:
    """The first frame of a clip that teaches something: sinks may come from elsewhere.

    So what leads to them, and to the chunk after them, is not in the clip.
    """
    return model.sink_frames + model.chunk_frames


def per_chunk(values: Tensor, model: ModelConfig) -> Tensor:
    """One value for every frame ... f from one for every chunk: those are denoised together."""
    return values.repeat_interleave(model.chunk_frames, dim=-1)


@dataclass(frozen=True, slots=True)
class PackedClip:
    """A batch ready for the packed forward."""

    clean: Tensor  # b f c h w, what the noisy frames are made of
    history: Tensor  # b f c h w, what the clean half shows
    history_sigmas: Tensor  # b f, and how noisy that is
    actions: Tensor  # b f z, the conditions of its frames
    conditions: Tensor  # b f z, of those what the noisy frames are given
    drift: Tensor | float = 0.0  # b f c h w, how much of `history` is drift

    @property
    def undrifted(self) -> "PackedClip":
        """The clip with its history as it was before it drifted: what a teacher is shown."""
        return replace(self, history=self.history - self.drift, drift=0.0)

    @property
    def unconditional(self) -> "PackedClip":
        """The clip for the velocity without actions, for guidance; the past keeps its own."""
        return replace(self, conditions=unconditional(self.actions))


def packed_velocity(
    model: WorldTransformer,
    clip: PackedClip,
    noisy: Tensor,
    sigmas: Tensor,
    context: TeacherForcing,
) -> Tensor:
    """Velocity of noisy copies b r f c h w at σ b r f, given the clip's history: b r f c h w."""
    copies, frames = noisy.shape[1:3]
    velocity = model(
        torch.cat((clip.history, noisy.flatten(1, 2)), dim=1),
        torch.cat((clip.history_sigmas, sigmas.flatten(1, 2)), dim=1),
        torch.cat((clip.actions, clip.conditions.repeat(1, copies, 1)), dim=1),
        context,
    )
    return rearrange(velocity[:, frames:], "b (r f) c h w -> b r f c h w", r=copies)


class ClipSource(Protocol):
    """What clips are drawn from: `LatentEpisodes`, or what tells their frames more."""

    def clips(
        self, batch: int, frames: int, sinks: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Latents b f c h w and conditions b f z."""


PackedForward = Callable[[WorldTransformer, PackedClip, Tensor, Tensor, TeacherForcing], Tensor]


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen of some values, a scalar; NaN where none is. No GPU is waited for."""
    return (values * chosen).sum() / chosen.sum()


def stillness_weight(clean: Tensor, change: float) -> Tensor:
    """How much a frame's error counts, given what really changed: b f c h w -> b f.

    (s² + δ²) / (c² + δ²), with c² the mean square change from the frame before, s its usual size.
    """
    changed = torch.zeros(clean.shape[:2], device=clean.device)
    changed[:, 1:] = clean.diff(dim=1).square().mean(dim=(2, 3, 4))
    return (change**2 + STILL**2) / (changed + STILL**2)


def draw_clip(
    packed: PackedForward,
    model: WorldTransformer,
    data: ClipSource,
    config: ClipTraining,
    generator: torch.Generator,
) -> PackedClip:
    """A batch of clips, their histories noised or resampled as the config says."""
    device = generator.device
    clean, actions = data.clips(config.batch, config.frames, model.config.sink_frames, generator)
    chosen, level = torch.rand(2, config.batch, 1, generator=generator, device=device)
    # One level per clip, as in play, where every remembered frame has the same.
    level = torch.where(chosen < config.noisy_history, config.history_sigma * level, 0.0)
    sigmas = level.expand(-1, config.frames)
    history = clean
    if own := round(config.own_history * config.batch):  # clips are in random order: the first
        acts = actions[:own]
        exact = PackedClip(clean[:own], clean[:own], torch.zeros_like(sigmas[:own]), acts, acts)
        history = torch.cat((_resample(packed, model, exact, generator), clean[own:]))
    if played := round(config.played_history * config.batch):  # and the last
        shown = _play(model, clean[-played:], actions[-played:], generator)
        history = torch.cat((history[:-played], shown))
    noise = torch.randn(clean.shape, generator=generator, device=device)
    conditions = actions
    if config.action_dropout:
        chunks = config.frames // model.config.chunk_frames
        roll = torch.rand(config.batch, chunks, generator=generator, device=device)
        hidden = per_chunk(roll < config.action_dropout, model.config)
        conditions = torch.where(hidden[..., None], unconditional(actions), actions)
    drift = _drift(clean, model.config.sink_frames, config, generator)
    history = add_noise(history, noise, sigmas) + drift
    return PackedClip(clean, history, sigmas, actions, conditions, drift)


def _drift(
    clean: Tensor, sinks: int, config: ClipTraining, generator: torch.Generator
) -> Tensor | float:
    """The same error of every frame but the sinks, of its own size in each clip: b f c h w."""
    if not config.drifted_history:
        return 0.0
    device = generator.device
    chosen, size = torch.rand(2, len(clean), 1, 1, 1, 1, generator=generator, device=device)
    error = torch.randn(clean[:, :1].shape, generator=generator, device=device)
    error = torch.where(chosen < config.drifted_history, config.drift * size * error, 0.0)
    drift = error.expand_as(clean).clone()
    drift[:, :sinks] = 0.0
    return drift


@torch.no_grad()
def _resample(
    packed: PackedForward, model: WorldTransformer, clip: PackedClip, generator: torch.Generator
) -> Tensor:
    """Every frame as the model would draw it from its own noised self, in one step: b f c h w.

    From levels of 0.5 to 1: far enough to err as in play, near enough to stay the same place, so
    that the true next frame remains what should follow.
    """
    device, (batch, frames) = generator.device, clip.clean.shape[:2]
    shape = (batch, 1, frames // model.config.chunk_frames)
    roll = torch.rand(shape, generator=generator, device=device)
    sigmas = per_chunk(0.5 + 0.5 * roll, model.config)
    noise = torch.randn(clip.clean[:, None].shape, generator=generator, device=device)
    noisy = add_noise(clip.clean[:, None], noise, sigmas)
    context = TeacherForcing(model.config, frames, device=device)
    velocity = packed(model, clip, noisy, sigmas, context)
    sampled = to_clean(noisy, velocity, sigmas)[:, 0]
    known = first_taught(model.config)
    sampled[:, :known] = clip.clean[:, :known]
    return sampled


@torch.no_grad()
def _play(
    model: WorldTransformer, clean: Tensor, actions: Tensor, generator: torch.Generator
) -> Tensor:
    """Clips as the model plays them on from their first frames, in one step each: b f c h w."""
    known, chunk = first_taught(model.config), model.config.chunk_frames
    seeds = torch.randint(2**31, (len(clean),), generator=host_stream(generator, "play"))
    rollout = Rollout(model, ONE_STEP, seeds.tolist())
    rollout.prime(clean[:, :known], actions[:, :known])
    played = [rollout.step(told) for told in actions[:, known:].split(chunk, dim=1)]
    return torch.cat((clean[:, :known], *played), dim=1)


class TeacherStage(LatentStage):
    """Holds the latents and the model; gives the loop its loss."""

    renoise = False

    def __init__(self, config: TeacherTraining, folder: Path, device: Device = "cpu") -> None:
        super().__init__(config, device)
        self.config, self.forward = config, packed_velocity
        check_clips(config.model, config.clips)
        self.data = self.encode(config.data, folder)
        check_change(config.model.frame_change, self.data)
        self.reading = self.data.reading
        seed_default(config.loop.seed, config.stage, "weights")
        self.begin(config.start)
        clips = config.clips
        self.context = TeacherForcing(config.model, clips.frames, clips.copies, device)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch; the sinks and the first chunk after them do not count."""
        del step
        model = self.config.model
        clip = draw_clip(self.forward, self.student, self.data, self.config.clips, generator)
        copies = self.config.clips.copies
        clean = clip.clean[:, None].expand(-1, copies, -1, -1, -1, -1)
        noise = torch.randn(clean.shape, generator=generator, device=generator.device)
        shape = (len(clean), copies, clean.shape[2] // model.chunk_frames)
        sigmas = sample_sigmas(shape, self.config.clips.sigma_shift, generator)
        sigmas = per_chunk(sigmas, model)
        noisy = add_noise(clean, noise, sigmas)
        velocity = self.forward(self.student, clip, noisy, sigmas, self.context)
        first = first_taught(model)
        error = (velocity - velocity_target(clean, noise)).square().mean(dim=(3, 4, 5))
        if self.config.clips.weight == "ramp":
            error = ramp_weight(sigmas) * error
        else:
            error = residual_weight(sigmas, model.frame_change) * error
        error = error * stillness_weight(clip.clean, model.frame_change)[:, None]
        error, sigmas = error[:, :, first:], sigmas[:, :, first:]
        return error.mean(), {"high_noise": mean_where(error.detach(), sigmas > HIGH)}
