"""Stage 1: teacher-forcing autoregressive diffusion, the causal teacher.

A clip is packed once clean and a few times noisy; every noisy frame has its own noise level and
sees only the clean past (Causal Forcing, arXiv 2602.02214, §3):

    L = E_σ,ε || v_θ(x_σ, σ | clean past, actions) − (ε − x₀) ||²

The history that play will give is the model's own and not quite clean. So part of the clips have
noise on their history (and say how much, as in GameNGen, arXiv 2408.14837), and part have a
history that the model resampled itself: noised to a random level and denoised in one step of the
same packed forward, without gradient.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, ModelConfig, require_positive
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.context import TeacherForcing
from worldmodel.model.transformer import WorldTransformer
from worldmodel.schedule import add_noise, sample_sigmas, to_clean, velocity_target
from worldmodel.training.data import LatentEpisodes
from worldmodel.training.loop import LoopConfig
from worldmodel.training.probe import Probe
from worldmodel.training.runs import load_autoencoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipTraining:
    """How clips are drawn and noised; the same for the teacher and its student."""

    batch: int
    frames: int  # of a clip, sinks included
    copies: int = 2  # noisy copies that share one clean half
    sigma_shift: float = 2.0  # above 1: more of the noise levels are high
    noisy_history: float = 0.3  # share of clips with noise on their history
    history_sigma: float = 0.3  # the most of it
    own_history: float = 0.0  # share of clips whose history the model resampled itself

    def __post_init__(self) -> None:
        require_positive(self, "batch", "copies")
        shares = (self.noisy_history, self.history_sigma, self.own_history)
        if self.frames < 2 or self.sigma_shift <= 0 or not all(0 <= s <= 1 for s in shares):
            raise ConfigError(
                f"frames ({self.frames}) must be at least 2, sigma_shift ({self.sigma_shift}) "
                f"above 0, the shares and levels {list(shares)} between 0 and 1"
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


def check_shapes(actions: ActionSpec, model: ModelConfig, autoencoder: Autoencoder) -> None:
    """Refuse a transformer that does not fit the actions or the latents it will see."""
    if len(actions.buttons) != model.buttons or autoencoder.latent_shape != model.latent_shape:
        raise ConfigError(
            f"[model] expects {model.buttons} buttons and latents {model.latent_shape}; [actions] "
            f"names {len(actions.buttons)}, the autoencoder makes {autoencoder.latent_shape}"
        )


@dataclass(frozen=True, slots=True)
class PackedClip:
    """A batch ready for the packed forward."""

    clean: Tensor  # b f c h w, what the noisy frames are made of
    history: Tensor  # b f c h w, what the clean half shows
    history_sigmas: Tensor  # b f, and how noisy that is
    actions: Tensor  # b f (k+2)


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
        clip.actions.repeat(1, 1 + copies, 1),
        context,
    )
    return velocity[:, frames:].unflatten(1, (copies, frames))


PackedForward = Callable[[WorldTransformer, PackedClip, Tensor, Tensor, TeacherForcing], Tensor]


def draw_clip(
    packed: PackedForward,
    model: WorldTransformer,
    data: LatentEpisodes,
    config: ClipTraining,
    generator: torch.Generator,
) -> PackedClip:
    """A batch of clips, their histories noised or resampled as the config says."""
    sinks = model.config.sink_frames
    clean, actions = data.clips(config.batch, config.frames, sinks, generator)
    sigmas = torch.zeros(clean.shape[:2])
    chosen = torch.rand(config.batch, 1, generator=generator) < config.noisy_history
    # One level per clip, as in play, where every remembered frame has the same.
    level = config.history_sigma * torch.rand(config.batch, 1, generator=generator)
    sigmas = torch.where(chosen, level, 0.0).expand_as(sigmas)
    history = clean
    if own := round(config.own_history * config.batch):  # clips are in random order: the first
        exact = PackedClip(clean[:own], clean[:own], torch.zeros_like(sigmas[:own]), actions[:own])
        history = torch.cat((_resample(packed, model, exact, generator), clean[own:]))
    noise = torch.randn(clean.shape, generator=generator)
    return PackedClip(clean, add_noise(history, noise, sigmas), sigmas, actions)


@torch.no_grad()
def _resample(
    packed: PackedForward, model: WorldTransformer, clip: PackedClip, generator: torch.Generator
) -> Tensor:
    """Every frame as the model itself would draw it in one step, given the true past: b f c h w."""
    frames = clip.clean.shape[1]
    sigmas = 0.5 + 0.5 * torch.rand(clip.clean.shape[0], 1, frames, generator=generator)
    noise = torch.randn(clip.clean[:, None].shape, generator=generator)
    noisy = add_noise(clip.clean[:, None], noise, sigmas)
    context = TeacherForcing(model.config, frames)
    velocity = packed(model, clip, noisy, sigmas, context)
    drawn = to_clean(noisy, velocity, sigmas)[:, 0]
    drawn[:, 0] = clip.clean[:, 0]  # nothing leads to the first frame
    return drawn


class TeacherStage:
    """Holds the latents and the model; gives the loop its loss."""

    def __init__(self, config: TeacherTraining, folder: Path) -> None:
        self.config = config
        self.autoencoder: Autoencoder = load_autoencoder(config.autoencoder)
        check_shapes(config.actions, config.model, self.autoencoder)
        self.data = LatentEpisodes.encode(
            config.data, self.autoencoder, config.actions, folder.parent / "latents.safetensors"
        )
        torch.manual_seed(config.loop.seed)
        self.packed: PackedForward = packed_velocity
        self.student = WorldTransformer(config.model)
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False)
        self.context = TeacherForcing(config.model, config.clips.frames, config.clips.copies)
        self.probe = Probe(config.heldout, self.autoencoder, config.actions, config.model)

    def compile(self) -> None:
        """Fuse the forward and backward passes; the first steps then take minutes."""
        self.packed = torch.compile(packed_velocity)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity loss of one batch; the first frame, which nothing leads to, does not count."""
        del step
        clip = draw_clip(self.packed, self.student, self.data, self.config.clips, generator)
        copies = self.config.clips.copies
        clean = clip.clean[:, None].expand(-1, copies, -1, -1, -1, -1)
        noise = torch.randn(clean.shape, generator=generator)
        sigmas = sample_sigmas(tuple(clean.shape[:3]), self.config.clips.sigma_shift, generator)
        noisy = add_noise(clean, noise, sigmas)
        velocity = self.packed(self.student, clip, noisy, sigmas, self.context)
        error = (velocity - velocity_target(clean, noise))[:, :, 1:].square()
        high = error.detach().mean(dim=(3, 4, 5))[sigmas[:, :, 1:] > 0.9].mean()
        return error.mean(), {"high_noise": high}

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Roll out on unseen episodes with the averaged weights; write a picture and a clip."""
        return self.probe.measure(self.ema, folder, step, renoise=False)
