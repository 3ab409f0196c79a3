"""Next frames, free rollouts, and whether actions are obeyed: generated against real."""

from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.evaluation.conditions import guide
from worldmodel.evaluation.inverse_dynamics import InverseDynamics, features_of, read_actions
from worldmodel.evaluation.played import Off, Played, numbers_off, play_out
from worldmodel.evaluation.reference_clips import Clips
from worldmodel.evaluation.subject import Subject, Subjects
from worldmodel.metrics import Gaussian, frechet_distance, in_motion, psnr, sharpness, ssim
from worldmodel.model.autoencoder import decode_latents, encode_frames
from worldmodel.rollout import next_frames
from worldmodel.system.printable import counted

HORIZONS = (1, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR and SSIM of frames against real ones."""

    psnr: float  # dB
    ssim: float


def score(frames: Tensor, real: Tensor) -> Score:
    """Mean over frames uint8 f h w 3."""
    return Score(float(psnr(frames, real).mean()), float(ssim(frames, real).mean()))


@dataclass(frozen=True, slots=True)
class NextFrame:
    """Frames in motion sampled given true history, between the two marks that frame them."""

    copy: Score  # the last frame again
    limit: Score  # the autoencoder's reconstruction of the real frame
    drawn: dict[str, Score]

    @property
    def has_gap(self) -> bool:
        """Whether the autoencoder shows the real frame better than a copy of the last one."""
        return self.limit.psnr > self.copy.psnr

    def gap_gained(self, name: str) -> float:
        """The share of the dB between copy and limit that a model gains; no number without gap."""
        if not self.has_gap:
            return float("nan")
        return (self.drawn[name].psnr - self.copy.psnr) / (self.limit.psnr - self.copy.psnr)


def measure_next_frame(measured: Subjects, subjects: list[Subject], clips: Clips) -> NextFrame:
    """The last frame of every clip, given all frames before it."""
    autoencoder = measured.autoencoder
    latents = encode_frames(autoencoder, clips.frames)
    given = guide(measured, clips, clips.frames.shape[1] - 1)
    seen = None if given.views is None else given.views[:, -1:]
    real, before = clips.frames[:, -1], clips.frames[:, -2]
    moving = in_motion(real, before)
    if not moving.any():
        raise UserError(
            f"nothing moves at the end of {counted(len(real), 'clip')} of real play, so nobody can "
            "say what the next frame is worth; more clips, or episodes in which more happens"
        )
    true = measured.views(None if clips.states is None else clips.states[:, -1:])
    limit = decode_latents(autoencoder, latents[:, -1:], true)[:, 0]
    sampled = {}
    for subject in subjects:
        label = f"next frame, {subject.name}"
        drawn_all = next_frames(subject.model, subject.sampler, latents, given.conditions, label)
        latent = drawn_all[:, -1:]
        frames = decode_latents(autoencoder, latent, seen)[:, 0]
        sampled[subject.name] = score(frames[moving], real[moving])
    return NextFrame(
        score(before[moving], real[moving]), score(limit[moving], real[moving]), sampled
    )


@dataclass(frozen=True, slots=True)
class FreeRollout:
    """Play from the model's own frames with the real player's actions."""

    horizons: dict[int, Score]  # at that frame
    sharpness: float  # mean gradient at the last horizon, as a share of the real game's
    turn_correlation: float
    button_accuracy: float
    frechet: float  # in the inverse-dynamics model's features, against real play
    frames: Tensor  # uint8 b g h w 3
    state: Off  # mean error of each number against the game, where numbers are predicted
    still: Off  # the same of numbers that stay what they were


def measure_rollout(
    measured: Subjects,
    subject: Subject,
    clips: Clips,
    past: int,
    inverse_dynamics: InverseDynamics,
    reference: Gaussian,
) -> FreeRollout:
    """Prime with `past` frames, play on with the clip's actions; `reference`: of real features."""
    played = play_out(measured, subject, clips, past, f"rollout, {subject.name}", "rollout")
    frames = decode_latents(measured.autoencoder, played.latents, played.ahead.views)
    real = clips.frames[:, past:]
    reading = read_actions(
        inverse_dynamics, list(zip(frames, clips.actions[:, past:], strict=True))
    )
    last = max(h for h in HORIZONS if h <= frames.shape[1])
    features = torch.cat([features_of(inverse_dynamics, clip, stride=2) for clip in frames])
    return FreeRollout(
        horizons={h: score(frames[:, h - 1], real[:, h - 1]) for h in HORIZONS if h <= last},
        sharpness=float(
            sharpness(frames[:, last - 1]).mean() / sharpness(real[:, last - 1]).mean()
        ),
        turn_correlation=reading.turn_correlation,
        button_accuracy=reading.button_accuracy,
        frechet=frechet_distance(features, reference),
        frames=frames,
        **_numbers(measured, clips, played, past),
    )


def _numbers(measured: Subjects, clips: Clips, played: Played, past: int) -> dict[str, Off]:
    """How far numbers are off, of the world and of one in which nothing happens."""
    spec, states = measured.file.state, clips.states
    if played.states is None or spec is None or states is None:
        return {"state": {}, "still": {}}
    real, last = states[:, past:], states[:, past - 1 : past].expand_as(played.states)
    return {
        "state": numbers_off(spec, played.states, real, HORIZONS),
        "still": numbers_off(spec, last, real, HORIZONS),
    }
