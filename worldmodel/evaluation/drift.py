"""Long play: does the world stay a picture of the game, standing still and moving?

Windows of 200 frames are compared with the same windows of the real game doing the same actions
from the same places: brightness, detail (mean gradient), and the Fréchet distance to real play.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from worldmodel.action import IDLE, ActionSpec
from worldmodel.data_sources.doom import Doom
from worldmodel.evaluation.inverse_dynamics import InverseDynamics, features_of
from worldmodel.evaluation.played import play_out
from worldmodel.evaluation.reference_clips import Clips, play_on, random_actions
from worldmodel.evaluation.subject import Subject, Subjects
from worldmodel.metrics import Gaussian, brightness, frechet_distance, psnr, sharpness
from worldmodel.model.autoencoder import decode_latents
from worldmodel.system.progress import through

WINDOW = 200  # frames
STREAMS = 4

Play = Literal["idle", "random"]


@dataclass(frozen=True, slots=True)
class DriftWindow:
    """Means over one window of all streams."""

    brightness: float
    detail: float
    frechet: float


@dataclass(frozen=True, slots=True)
class Drift:
    """One kind of play, generated and real, window by window."""

    generated: list[DriftWindow]
    real: list[DriftWindow]
    inside: float  # share of generated frames within the range of single real frames
    last_psnr: float  # dB against the real game over the last window; telling only for idling
    frames: Tensor  # uint8 b f h w 3
    real_frames: Tensor


@dataclass(frozen=True, slots=True)
class LongPlay:
    """The real game over many frames: what came before, and what is held against the world."""

    play: Play
    past: Clips  # b streams
    real: Clips  # the same streams, going on


def record_long_play(
    game: Doom, spec: ActionSpec, play: Play, frames: int, seed: int, past: int, streams: int
) -> LongPlay:
    """`streams` streams of `frames` frames, each after exploring; `past` of those are kept."""
    pasts, reals = [], []
    for stream in through(range(streams), desc=f"real play, {play}", unit="stream"):
        actions = [IDLE] * frames
        if play == "random":
            actions = random_actions(spec, seed + stream, frames)
        before, after = play_on(game, spec, seed + stream, past + 40, actions)
        pasts.append(before.cut(before.frames.shape[1] - past, before.frames.shape[1]))
        reals.append(after)
    return LongPlay(play, Clips.together(pasts), Clips.together(reals))


def measure_drift(
    measured: Subjects,
    subject: Subject,
    long_play: LongPlay,
    inverse_dynamics: InverseDynamics,
    reference: Gaussian,
) -> Drift:
    """Do in the world what was done in the game; `reference`: of features of real play."""
    past, label = long_play.past, f"{long_play.play} play"
    whole, known = past.joined(long_play.real), past.frames.shape[1]
    played = play_out(measured, subject, whole, known, label, label)
    made = decode_latents(measured.autoencoder, played.latents, played.ahead.views)
    return drift_of(made, long_play.real.frames, inverse_dynamics, reference)


def drift_of(
    made: Tensor, real: Tensor, inverse_dynamics: InverseDynamics, reference: Gaussian
) -> Drift:
    """Window by window: generated and real frames uint8 b f h w 3."""
    low, high = _range_of_frames(reference_frames=real)
    looks = torch.stack((_brightness(made), _detail(made)), dim=-1)
    return Drift(
        generated=_windows(made, inverse_dynamics, reference),
        real=_windows(real, inverse_dynamics, reference),
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


def _windows(
    frames: Tensor, inverse_dynamics: InverseDynamics, reference: Gaussian
) -> list[DriftWindow]:
    windows = []
    for part in frames.split(WINDOW, dim=1):
        features = torch.cat([features_of(inverse_dynamics, stream, stride=2) for stream in part])
        windows.append(
            DriftWindow(
                float(_brightness(part).mean()),
                float(_detail(part).mean()),
                frechet_distance(features, reference),
            )
        )
    return windows
