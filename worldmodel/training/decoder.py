"""The decoder's own stage: a crisper one for finished latents, which stay as they are.

A reconstruction loss alone answers "some grain, I cannot tell which" with none at all. Here every
patch of the picture must also have as much detail as the real one, wherever it is, and a
discriminator sees whether it looks real (hinge loss, Geometric GAN, arXiv 1705.02894; on patches
as in VQGAN, arXiv 2012.09841):

    L_decoder       = |x̂ − x| + λ |∇x̂ − ∇x| + κ |mean_patch |∇x̂| − mean_patch |∇x|| − μ D(x̂)
    L_discriminator = max(0, 1 − D(x)) + max(0, 1 + D(x̂))

With `[perceptual]`, η d(x̂, x) is added, the distance of features (`perceptual`).

Since the latents stay what they are, transformers trained on them keep working.

With `[own_play]` part of every batch are latents that a student drew in play, whose uncertainty
shows as blur: the decoder learns which crisp picture such latents stand for. They are paired with
the real frames, which count less the longer the student has been playing without them; to the
discriminator all count alike.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from worldmodel.config import ConfigError, require_positive
from worldmodel.metrics import psnr, sharpness
from worldmodel.model.autoencoder import (
    Autoencoder,
    channels_last,
    decode_latents,
    encode_frames,
    encode_views,
    to_frames,
    to_tensor,
)
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.context import Device
from worldmodel.random_streams import arrays, seed_of
from worldmodel.rollout import roll_out
from worldmodel.storage.episode import Episode, EpisodeError
from worldmodel.storage.episodes import find_episodes, load_episode
from worldmodel.system.progress import through
from worldmodel.training.autoencoder import (
    HELD_OUT,
    HELD_OUT_SEEN,
    HELD_OUT_STRIDE,
    compile_convolutions,
    disturb,
    draw_index,
    gradient_loss,
    known_frames,
    take_frames,
)
from worldmodel.training.clips import facts_of, load_frames, load_views
from worldmodel.training.perceptual import Perceptual, PerceptualDistance
from worldmodel.training.row_files import ReadSpeed, nearby
from worldmodel.training.runs import lineage, load_autoencoder, load_transformer
from worldmodel.training.sample_grids import save_grid
from worldmodel.training.stage import LoopConfig
from worldmodel.training.state_episodes import views_of
from worldmodel.training.torch_streams import seed_default, torch_stream

PLAY_BATCH = 64  # rollouts side by side
HALF_TRUE = 4  # frames of play after which the real frame counts half


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnPlay:
    """Rollouts of a student on the data's actions, for the decoder to learn from."""

    student: Path  # the run of the stage `student`, `ode` or `dmd`
    sampler: SamplerConfig
    clips: int = 1200
    frames: int = 24  # of each clip, after a full context of true ones
    share: float = 0.5  # of a batch

    def __post_init__(self) -> None:
        require_positive(self, "clips", "frames")
        if not 0 <= self.share < 1:
            raise ConfigError(f"share ({self.share}) must be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderTraining:
    """Everything that the stage `decoder` reads from its TOML file."""

    FORMERLY: ClassVar[dict[str, str]] = {
        "critic_weight": "discriminator_weight",
        "critic_width": "discriminator_width",
    }
    stage: Literal["decoder"]
    data: Path
    heldout: Path
    autoencoder: Path  # the run of stage 0
    loop: LoopConfig
    batch: int
    frame_stride: int = 6
    latent_noise: float = 0.25
    gradient_weight: float = 0.5  # λ
    detail_weight: float = 1.0  # κ
    discriminator_weight: float = 0.1  # μ
    discriminator_width: int = 48
    perceptual: Perceptual | None = None
    own_play: OwnPlay | None = None


class PatchDiscriminator(nn.Module):
    """Says of every patch of 26 pixels whether it looks real: b 3 h w -> b 1 h/4 w/4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.GroupNorm(1, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 3 * width, 3, padding=1),
            nn.GroupNorm(1, 3 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(3 * width, 1, 3, padding=1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Frames b 3 h w -> b 1 h/4 w/4, above 0 for real."""
        return self.layers(frames)


class AutoencoderAndDiscriminator(nn.Module):
    """The autoencoder and its discriminator, trained, saved and resumed as one."""

    def __init__(self, autoencoder: Autoencoder, discriminator: PatchDiscriminator) -> None:
        super().__init__()
        self.autoencoder, self.discriminator = autoencoder, discriminator
        self.register_load_state_dict_pre_hook(_with_todays_names)  # type: ignore[no-untyped-call]


def _with_todays_names(_: nn.Module, weights: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Read a run that began when the discriminator was called `critic`."""
    del rest
    old = f"{prefix}critic."
    for name in [name for name in weights if name.startswith(old)]:
        weights[f"{prefix}discriminator.{name.removeprefix(old)}"] = weights.pop(name)


@dataclass(frozen=True, slots=True)
class PlayedFrames:
    """What a student drew, and the real frames that its actions led to."""

    latents: Tensor  # b c h w
    frames: Tensor  # uint8 b h w 3
    weights: Tensor  # b, how much the real frame still says
    views: Tensor | None  # b n, where the frames were seen from, of a scene

    @classmethod
    @torch.no_grad()
    def play(
        cls, config: OwnPlay, autoencoder: Autoencoder, data: Path, seed: int
    ) -> "PlayedFrames":
        """Roll the student out on stretches of the data's episodes, all episodes alike."""
        training = lineage(config.student)
        device = next(autoencoder.parameters()).device
        student = load_transformer(config.student, training.model).to(device)
        past = training.model.context_frames + training.model.sink_frames
        paths, rng = find_episodes(data), arrays(seed, "stretches")
        stretches: list[Episode] = []
        for path in rng.permutation(np.asarray(paths, object)):
            stretches += _stretches(load_episode(path), past + config.frames, rng)
            if len(stretches) >= config.clips:
                break
        if not stretches:
            raise EpisodeError(f"{data}: no episode is as long as {past + config.frames} frames")
        stretches, latents, frames = stretches[: config.clips], [], []
        views, scene = [], autoencoder.config.scene
        batches = range(0, len(stretches), PLAY_BATCH)
        for first in through(batches, desc="the student's play", unit="batch"):
            part = stretches[first : first + PLAY_BATCH]
            shown = torch.from_numpy(np.stack([stretch.frames for stretch in part]))
            acts = torch.from_numpy(
                np.stack([training.actions.encode(stretch.actions) for stretch in part])
            )
            if training.model.is_conditioned_on_state:
                facts = [facts_of(stretch.state, training.model, data) for stretch in part]
                acts = torch.cat((torch.stack(facts), acts), dim=-1)
            acts = acts.to(device)
            primed = encode_frames(autoencoder, shown[:, :past]), acts[:, :past]
            seeds = [seed_of(seed, "play", first + number) for number in range(len(part))]
            pulls = None
            if scene is not None:
                seen = torch.stack([views_of(stretch, data, scene)[past:] for stretch in part])
                views.append(seen.flatten(0, 1))
                if config.sampler.view_pull:
                    pulls = encode_views(autoencoder, seen.to(device))
            ahead = acts[:, past:]
            played = roll_out(student, config.sampler, primed, ahead, None, seeds, pulls)
            latents.append(played.flatten(0, 1))
            frames.append(shown[:, past:].flatten(0, 1))
        sampled = torch.cat(latents).clone()
        weights = torch.ones(len(sampled))
        if scene is None:  # else what is seen is the game's, to the end
            fade = 0.5 ** (torch.arange(config.frames) / HALF_TRUE)
            weights = fade.repeat(len(sampled) // config.frames)
        shown_from = torch.cat(views).to(device) if views else None
        return cls(sampled, torch.cat(frames).to(device), weights.to(device), shown_from)


def _stretches(episode: Episode, length: int, rng: np.random.Generator) -> list[Episode]:
    """A few stretches of an episode, one for every three lengths that it has."""
    count, last = len(episode) // (3 * length), len(episode) - length
    if last < 0:
        return []
    return [
        episode.cut(first, first + length)
        for first in rng.integers(0, last + 1, size=max(1, count)).tolist()
    ]


def _check_latents(student: Path, autoencoder: Path) -> None:
    """Refuse a student that draws the latents of another autoencoder."""
    own = lineage(student).autoencoder
    if own.resolve() != autoencoder.resolve():
        raise ConfigError(
            f"{student} draws the latents of {own}; this decoder is for {autoencoder}"
        )


class DecoderStage:
    """Holds the frames and the models; gives the loop its loss."""

    def __init__(self, config: DecoderTraining, folder: Path, device: Device = "cpu") -> None:
        self.config, self.reading = config, ReadSpeed()
        autoencoder = load_autoencoder(config.autoencoder).to(device)
        autoencoder.decoder.requires_grad_(requires_grad=True)
        size = (autoencoder.config.frame_height, autoencoder.config.frame_width)
        frames = load_frames(config.data, config.frame_stride, *size, folder.parent)
        heldout, most = load_frames(config.heldout, HELD_OUT_STRIDE, *size, folder.parent), HELD_OUT
        self.views = self.heldout_views = None
        if config.own_play and autoencoder.plan is not None:
            raise ConfigError(
                f"[own_play]: {config.autoencoder} has a floor plan, and where a student's frames "
                "are seen from is not told here: leave the table out"
            )
        if autoencoder.view is not None:
            # Where things are stays as it was learned; how they are drawn is learned on.
            autoencoder.view.drawing.requires_grad_(requires_grad=True)
            scene = autoencoder.config.scene
            views = load_views(config.data, config.frame_stride, scene)
            frames, self.views = known_frames(frames, views)
            views = load_views(config.heldout, HELD_OUT_STRIDE, scene)
            heldout, views = known_frames(heldout, views)
            most, self.heldout_views = HELD_OUT_SEEN, views[:HELD_OUT_SEEN].to(device)
        self.frames = nearby(frames, device)
        self.heldout = heldout[:most].to(device)
        self.played: PlayedFrames | None = None
        if config.own_play:
            _check_latents(config.own_play.student, config.autoencoder)
            seed = seed_of(config.loop.seed, config.stage, "own play")
            self.played = PlayedFrames.play(config.own_play, autoencoder, config.data, seed)
        seed_default(config.loop.seed, config.stage, "weights")
        self.student = channels_last(
            AutoencoderAndDiscriminator(
                autoencoder, PatchDiscriminator(config.discriminator_width).to(device)
            )
        )
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False)
        self.distance: PerceptualDistance | None = None
        if config.perceptual:
            weights = config.perceptual.weights
            self.distance = PerceptualDistance.load(weights, size).to(device)

    @property
    def shown(self) -> Autoencoder:
        """What a verdict is on: the averaged weights."""
        return self.ema.autoencoder

    @property
    def unseen(self) -> Path:
        """The folder of held-out episodes."""
        return self.config.heldout

    def compile(self) -> None:
        """On a GPU, as the autoencoder's."""
        compile_convolutions(self.student.autoencoder)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Both players' losses in one sum: neither's gradient reaches the other's weights."""
        del step
        autoencoder, discriminator = self.student.autoencoder, self.student.discriminator
        pixels, latents, weights, seen = self._draw(generator)
        decoded = autoencoder.decode(latents, seen).float()
        frozen = {name: weight.detach() for name, weight in discriminator.named_parameters()}
        fooled = functional_call(discriminator, frozen, (decoded,)).float().mean()
        weight = weights[:, None, None, None]
        absolute = (weight * (decoded - pixels).abs()).mean()
        edges = gradient_loss(weight * decoded, weight * pixels)
        real, made = discriminator(pixels).float(), discriminator(decoded.detach()).float()
        discriminator_loss = F.relu(1 - real).mean() + F.relu(1 + made).mean()
        detail = detail_loss(decoded, pixels, weight)
        whole = absolute + self.config.gradient_weight * edges + discriminator_loss
        whole = (
            whole + self.config.detail_weight * detail - self.config.discriminator_weight * fooled
        )
        losses = {"l1": absolute, "detail": detail, "discriminator": discriminator_loss}
        if self.distance is not None and self.config.perceptual and self.config.perceptual.weight:
            losses["perceptual"] = apart = (weights * self.distance(decoded, pixels)).mean()
            whole = whole + self.config.perceptual.weight * apart
        return whole, losses

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Real frames b 3 h w, latents b c h w to decode, how much each real frame says b.

        With a plan: what it shows of where each frame was seen from.
        """
        played = (
            round(self.config.batch * self.config.own_play.share) if self.config.own_play else 0
        )
        index = draw_index(self.frames, self.config.batch - played, generator)
        pixels = take_frames(self.frames, index, generator, self.reading)
        views = None if self.views is None else self.views[index].to(generator.device)
        latents = disturb(self._encode(index, pixels), self.config.latent_noise, generator)
        weights = torch.ones(len(pixels), device=pixels.device)
        if self.played is None:
            return pixels, latents, weights, self._look(views)
        count = len(self.played.frames)
        index = torch.randint(count, (played,), generator=generator, device=generator.device)
        pixels = torch.cat((pixels, to_tensor(self.played.frames[index])))
        latents = torch.cat((latents, self.played.latents[index]))
        if views is not None and self.played.views is not None:
            views = torch.cat((views, self.played.views[index]))
        weights = torch.cat((weights, self.played.weights[index]))
        return pixels, latents, weights, self._look(views)

    def _encode(self, index: Tensor, pixels: Tensor) -> Tensor:
        """What is decoded of frames b 3 h w, whose numbers are `index` b: b c h w."""
        del index
        return self.student.autoencoder.encode(pixels)

    def _encode_heldout(self) -> Tensor:
        """The same of the unseen frames: 1 b c h w."""
        return encode_frames(self.ema.autoencoder, self.heldout[None])

    def _look(self, views: Tensor | None) -> Tensor | None:
        """What floor plan or scene show of views b n, fp32: a b h w; None of none."""
        if views is None:
            return None
        with torch.autocast(views.device.type, enabled=False):
            return self.student.autoencoder.look(views).pixels

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Unseen frames above their reconstructions; PSNR and sharpness."""
        model = self.ema.autoencoder
        views = None if self.heldout_views is None else self.heldout_views[None]
        decoded = decode_latents(model, self._encode_heldout(), views)[0]
        save_grid(folder / f"{step:06d}.png", [self.heldout[:12], decoded[:12]])
        figures = {
            "heldout_psnr": float(psnr(decoded, self.heldout).mean()),
            "heldout_sharpness": float(sharpness(decoded).mean() / sharpness(self.heldout).mean()),
        }
        if self.distance is not None:
            apart = self.distance.between(decoded, self.heldout)
            figures["heldout_perceptual"] = float(apart.mean())
        if self.played is not None:
            chance = torch_stream("cpu", "played samples")
            some = torch.randperm(len(self.played.frames), generator=chance)[:256]
            some = some.to(self.played.frames.device)
            real = self.played.frames[some]
            seen = self.played.views
            pixels = None if seen is None else model.look(seen[some]).pixels
            sampled = to_frames(model.decode(self.played.latents[some], pixels))
            figures["played_sharpness"] = float(sharpness(sampled).mean() / sharpness(real).mean())
            save_grid(folder / f"{step:06d}_played.png", [real[:12], sampled[:12]])
        return figures


def detail_loss(decoded: Tensor, pixels: Tensor, weight: Tensor) -> Tensor:
    """Difference of the detail in patches of 4 pixels: b c h w twice, weight b 1 1 1.

    Where the weight is below one, because the real frame shows another place, the detail of the
    whole frame counts instead of that of its patches.
    """
    total = decoded.new_zeros(())
    for dim in (-1, -2):
        made, real = (F.avg_pool2d(x.diff(dim=dim).abs(), 4) for x in (decoded, pixels))
        patches = (weight * (made - real).abs()).mean()
        frames = ((1 - weight[:, 0, 0]) * (made - real).mean(dim=(2, 3)).abs()).mean()
        total = total + patches + frames
    return total
