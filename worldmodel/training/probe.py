"""A quick look at a model while it trains: unseen episodes, the play sampler, figures and pictures.

Every figure stands beside *copying the last frame* and the *autoencoder's limit*, because much of
ordinary play barely changes the frame. The full measurement is `worldmodel evaluate`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.metrics import in_motion, psnr, sharpness
from worldmodel.model.autoencoder import Autoencoder, decode_latents, encode_frames
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.random_streams import arrays
from worldmodel.rollout import next_frames, roll_out
from worldmodel.schedule import sigma_grid
from worldmodel.storage.episode import EpisodeError
from worldmodel.storage.episodes import find_episodes, load_episode
from worldmodel.training.clips import facts_of
from worldmodel.training.sample_grids import save_clip, save_grid
from worldmodel.training.state_episodes import views_of

CLIPS = 32
ROLL = 24


@dataclass(frozen=True, slots=True)
class Marks:
    """What frames the gap that a model can close."""

    copy: float
    limit: float

    @property
    def is_known(self) -> bool:
        """Whether anything moves in the unseen frames; else neither is a number."""
        return math.isfinite(self.copy)

    @property
    def has_gap(self) -> bool:
        """Whether the autoencoder shows a frame better than a copy of the one before."""
        return self.limit > self.copy

    def gap_gained(self, score: float) -> float | None:
        """The share of the gap that a score closes; None without a gap."""
        return (score - self.copy) / (self.limit - self.copy) if self.has_gap else None


class Probe:
    """Unseen clips, and what a model makes of them."""

    def __init__(
        self, folder: Path, autoencoder: Autoencoder, spec: ActionSpec, config: ModelConfig
    ) -> None:
        self.autoencoder = autoencoder
        visible = config.sink_frames + config.context_frames
        chunk = config.chunk_frames
        # Frames of true history that a rollout begins with: whole chunks.
        self.prime = max(chunk, min(8, 2 * visible // 3) // chunk * chunk)
        length = self.prime + ROLL
        rng = arrays("probe")
        frames: list[Tensor] = []
        actions: list[Tensor] = []
        views: list[Tensor] = []
        facts: list[Tensor] = []
        for path in find_episodes(folder):
            episode = load_episode(path)
            if len(episode) < length or len(frames) == CLIPS:
                continue
            first = int(rng.integers(0, len(episode) - length + 1))
            self.frames_per_second = episode.frames_per_second
            frames.append(torch.from_numpy(episode.frames[first : first + length].copy()))
            actions.append(torch.from_numpy(spec.encode(episode.actions[first : first + length])))
            if autoencoder.view is not None:
                seen = views_of(episode, path, autoencoder.config.scene)
                views.append(seen[first : first + length])
            if config.is_conditioned_on_state:
                facts.append(facts_of(episode.state, config, path)[first : first + length])
        if not frames:
            raise EpisodeError(f"{folder}: no episode is as long as {length} frames")
        self.frames, self.actions = torch.stack(frames), torch.stack(actions)
        if facts:
            self.actions = torch.cat((torch.stack(facts), self.actions), dim=-1)
        self.latents = encode_frames(autoencoder, self.frames)
        device = self.latents.device
        # Where unseen frames were seen from is known: the places of play are `motion`'s matter.
        self.views = torch.stack(views).to(device) if views else None
        with torch.no_grad():
            self.actions = autoencoder.conditions(self.actions.to(device), self.views)
        self.longest = min(length // chunk * chunk, visible)
        limit = self.shown = self.decode(self.latents, 0)
        real, before = self.frames[:, self.prime :], self.frames[:, self.prime - 1 : -1]
        self.moving = in_motion(real, before)
        self.limit = self._score(limit[:, self.prime :])
        self.copy = self._score(before)

    @property
    def marks(self) -> Marks:
        """Mean over the frames in motion of the stretch that next frames are sampled in."""
        stretch = slice(0, self.longest - self.prime)
        moving = self.moving[:, stretch]
        scores = (self.copy, self.limit)
        return Marks(*(float(score[:, stretch][moving].mean()) for score in scores))

    def _score(self, frames: Tensor) -> Tensor:
        """PSNR of frames b f h w 3 that stand for those after the priming: b f."""
        real = self.frames[:, self.prime : self.prime + frames.shape[1]]
        scores = psnr(frames.flatten(0, 1), real.flatten(0, 1))
        return rearrange(scores, "(b f) -> b f", b=len(frames))

    @torch.no_grad()
    def measure(
        self, model: WorldTransformer, folder: Path, step: int, *, renoise: bool
    ) -> dict[str, float]:
        """Figures in dB; a picture and a clip of real play beside free rollouts."""
        figures: dict[str, float] = {}
        stretch = slice(0, self.longest)
        moving = self.moving[:, : self.longest - self.prime]
        marks = self.marks
        figures |= {"copy": marks.copy, "limit": marks.limit}
        for steps in (1, 2, 8):
            given = self.conditions(steps)[:, stretch]
            sampled = next_frames(model, _sampler(steps, renoise), self.latents[:, stretch], given)
            decoded = self.decode(sampled[:, self.prime :], self.prime)
            score = float(self._score(decoded)[moving].mean())
            figures[f"next_{steps}"] = score
            if (gained := marks.gap_gained(score)) is not None:
                figures[f"gap_{steps}"] = gained
        rows = []
        for steps in (1, 2):
            given = self.conditions(steps)
            past = self.latents[:, : self.prime], given[:, : self.prime]
            latents = roll_out(model, _sampler(steps, renoise), past, given[:, self.prime :])
            played = self.decode(latents, self.prime)
            scores = self._score(played)
            figures |= {f"roll16_{steps}": float(scores[:, 15].mean())}
            figures |= {f"roll24_{steps}": float(scores[:, 23].mean())}
            sharp = sharpness(played[:, -1]).mean() / sharpness(self.frames[:, -1]).mean()
            figures |= {f"sharp24_{steps}": float(sharp)}
            rows.append(played)
        self.save(folder, step, rows, self.prime)
        return figures

    def conditions(self, steps: int) -> Tensor:
        """What a model is given of the unseen clips, b f z, whose frames have so many steps."""
        del steps
        return self.actions

    def decode(self, latents: Tensor, first: int) -> Tensor:
        """Latents b f c h w of the frames from number `first` on: uint8 b f h w 3, on the CPU."""
        views = None if self.views is None else self.views[:, first : first + latents.shape[1]]
        return decode_latents(self.autoencoder, latents, views).cpu()

    def score(self, frames: Tensor, first: int, name: str) -> dict[str, float]:
        """Frames b f h w 3 sampled from number `first` on: the next, all, how sharp the last."""
        real = self.frames[:, first : first + frames.shape[1]]
        scores = psnr(frames.flatten(0, 1), real.flatten(0, 1))
        scores = rearrange(scores, "(b f) -> b f", b=len(frames))
        moving = self.moving[:, first - self.prime]
        sharp = sharpness(frames[:, -1]).mean() / sharpness(real[:, -1]).mean()
        return {
            f"{name}_next": float(scores[:, 0][moving].mean()),
            f"{name}_all": float(scores.mean()),
            f"{name}_sharp": float(sharp),
        }

    def save(self, folder: Path, step: int, rows: list[Tensor], first: int) -> None:
        """Real play above and beside rows b f h w 3 that were sampled from frame `first` on."""
        length = rows[0].shape[1]
        shown = (self.frames[:, first : first + length], *rows)
        picture: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
        for clip in range(0, min(16, len(self.frames)), 4):
            picture.extend(frames[clip, ::2].numpy() for frames in shown)
        save_grid(folder / f"{step:06d}.png", picture)
        beside = torch.cat([row[:4] for row in shown], dim=3)
        clip_path = folder / f"{step:06d}.mp4"
        save_clip(clip_path, torch.cat(tuple(beside), dim=1).numpy(), self.frames_per_second)


def _sampler(steps: int, renoise: bool) -> SamplerConfig:  # noqa: FBT001  # two values, one place
    return SamplerConfig(sigmas=tuple(sigma_grid(steps).tolist()), renoise=renoise)
