"""Long play: does the world stay a picture of the game, standing still and moving?

Windows of 200 frames are compared with the same windows of the real game doing the same actions
from the same places: brightness, detail (mean gradient), and the Fréchet distance to real play.

Letters: b batch (streams), f frames, h w rows, columns.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from worldmodel.action import IDLE
from worldmodel.evaluation.inverse_dynamics import InverseDynamics, features_of
from worldmodel.evaluation.real import Clips, play_on, random_actions
from worldmodel.evaluation.subject import Subject
from worldmodel.games.doom import Doom
from worldmodel.metrics import brightness, frechet_distance, psnr, sharpness
from worldmodel.model.autoencoder import Autoencoder, decode_latents, encode_frames
from worldmodel.rollout import roll_out
from worldmodel.worlds.folder import WorldFile

WINDOW = 200  # frames
STREAMS = 4

Play = Literal["idle", "random"]


@dataclass(frozen=True, slots=True)
class Window:
    """Means over one window of all streams."""

    brightness: float
    detail: float
    frechet: float


@dataclass(frozen=True, slots=True)
class Drift:
    """One kind of play, generated and real, window by window."""

    generated: list[Window]
    real: list[Window]
    inside: float  # share of generated frames within the range of single real frames
    last_psnr: float  # dB against the real game over the last window; telling only for idling
    frames: Tensor  # uint8 b f h w 3
    real_frames: Tensor


def measure_drift(
    subject: Subject,
    autoencoder: Autoencoder,
    world: WorldFile,
    game: Doom,
    play: Play,
    frames: int,
    seed: int,
    judge: InverseDynamics,
    reference: Tensor,
) -> Drift:
    """Play `frames` frames in `STREAMS` streams; `reference`: features f d of real play."""
    past = world.transformer.context_frames
    pasts, reals = [], []
    for stream in range(STREAMS):
        actions = [IDLE] * frames
        if play == "random":
            actions = random_actions(world.actions, seed + stream, frames)
        before, after = play_on(game, world.actions, seed + stream, past + 40, actions)
        pasts.append(Clips(before.frames[:, -past:], before.actions[:, -past:]))
        reals.append(after)
    start = torch.cat([clip.frames for clip in pasts]), torch.cat([c.actions for c in pasts])
    real, acts = torch.cat([c.frames for c in reals]), torch.cat([c.actions for c in reals])
    primed = encode_frames(autoencoder, start[0]), start[1]
    latents = roll_out(subject.model, subject.sampler, primed, acts, f"{play} play")
    made = decode_latents(autoencoder, latents)
    low, high = _range_of_frames(reference_frames=real)
    looks = torch.stack((_brightness(made), _detail(made)), dim=-1)
    return Drift(
        generated=_windows(made, judge, reference),
        real=_windows(real, judge, reference),
        inside=float(((looks >= low) & (looks <= high)).all(dim=-1).float().mean()),
        last_psnr=float(psnr(*(x[:, -WINDOW:].flatten(0, 1) for x in (made, real))).mean()),
        frames=made,
        real_frames=real,
    )


def _brightness(frames: Tensor) -> Tensor:
    """b f h w 3 -> b f."""
    return torch.stack([brightness(stream).mean(dim=(1, 2)) for stream in frames])


def _detail(frames: Tensor) -> Tensor:
    """b f h w 3 -> b f."""
    return torch.stack([sharpness(stream) for stream in frames])


def _range_of_frames(reference_frames: Tensor) -> tuple[Tensor, Tensor]:
    """Least and most brightness and detail of any real frame, a tenth of the span wider."""
    looks = torch.stack((_brightness(reference_frames), _detail(reference_frames)), dim=-1)
    low, high = looks.amin(dim=(0, 1)), looks.amax(dim=(0, 1))
    margin = 0.1 * (high - low)
    return low - margin, high + margin


def _windows(frames: Tensor, judge: InverseDynamics, reference: Tensor) -> list[Window]:
    windows = []
    for part in frames.split(WINDOW, dim=1):
        features = torch.cat([features_of(judge, stream, stride=2) for stream in part])
        windows.append(
            Window(
                float(_brightness(part).mean()),
                float(_detail(part).mean()),
                frechet_distance(features, reference),
            )
        )
    return windows
