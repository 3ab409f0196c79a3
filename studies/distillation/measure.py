"""One row's figures: next frames, free rollouts, actions read back, motion, long play.

All of it goes through the `Rollout` that play uses, in batches. Every clip has a seed of the game
and one of the noise of its own, the same for every row.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from studies.distillation.figures import (
    DriftFigures,
    Estimate,
    Figures,
    RealFigures,
    WindowFigures,
    resampled,
)
from studies.distillation.optical_flow import mean_flow
from studies.distillation.rows import Contender
from studies.distillation.yardstick import CLIP, PAST, STRIDE, ActionReader, Yardstick
from worldmodel.config import ConfigError
from worldmodel.evaluation.drift import Drift, drift_of
from worldmodel.evaluation.evaluation_streams import noise_seeds
from worldmodel.evaluation.inverse_dynamics import (
    WINDOW,
    ActionReading,
    compare_reading,
    windows_of,
)
from worldmodel.evaluation.quality import HORIZONS
from worldmodel.metrics import frechet_distance, in_motion, psnr, sharpness, ssim
from worldmodel.model.autoencoder import decode_latents, encode_frames
from worldmodel.rollout import Rollout, roll_out

Advance = Callable[[float], None]  # so much work is done, in frames of one clip and one pass
LONG_WEIGHT = 2.0  # a frame of a small batch takes longer than one of many
LAST = max(HORIZONS)
BATCH = 256  # windows read at once


def work_of(contender: Contender, yardstick: Yardstick) -> float:
    """How much there is to do, in the units of `Advance`."""
    return sum(_work(contender, yardstick))


def _work(contender: Contender, yardstick: Yardstick) -> tuple[float, float, float]:
    plan = yardstick.plan
    clips, steps = plan.clips, contender.sampler.steps
    near = clips * (CLIP + (CLIP - PAST) // STRIDE * steps)
    free = clips * LAST * contender.passes
    streams = plan.streams * len(yardstick.long_plays)
    long = streams * plan.long_frames(steps) * contender.passes * LONG_WEIGHT
    return near, free, long


@dataclass(frozen=True, slots=True)
class Measured:
    """A row's figures, and what they were measured of."""

    figures: Figures
    frames: Tensor  # rollouts, uint8 b f h w 3
    drift: dict[str, Drift]


def measure(
    contender: Contender, yardstick: Yardstick, stamps: tuple[str, str], advance: Advance
) -> Measured:
    """All of a row; `stamps`: the yardstick's, the row's."""
    began = time.perf_counter()
    check_chunk(contender)
    near, free, long = _work(contender, yardstick)
    clips, autoencoder = yardstick.clips, yardstick.autoencoder
    latents = encode_frames(autoencoder, clips.frames)
    drawn = draw_next_frames(contender, latents, clips.actions)
    next_psnr, next_ssim = _next_scores(yardstick, decode_latents(autoencoder, drawn))
    advance(near)
    past = latents[:, :PAST], clips.actions[:, :PAST]
    actions = played_actions(contender, clips.actions[:, PAST : PAST + LAST])
    title, seeds = contender.row.title, noise_seeds(len(latents), "rollout")
    played = roll_out(contender.model, contender.sampler, past, actions, title, seeds)
    frames, real = decode_latents(autoencoder, played), clips.frames[:, PAST : PAST + LAST]
    error = psnr(frames.flatten(0, 1), real.flatten(0, 1))
    error = rearrange(error, "(b f) -> b f", b=len(real))
    reading = read_clips(yardstick.reader, frames, clips.actions[:, PAST : PAST + LAST])
    advance(free)
    drift = _long_play(contender, yardstick)
    advance(long)
    figures = Figures(
        yardstick=stamps[0],
        stamp=stamps[1],
        weights=contender.weights,
        trained_steps=contender.trained_steps,
        steps=contender.sampler.steps,
        chunk_frames=contender.model.config.chunk_frames,
        sampler=contender.sampler,
        next_psnr=next_psnr,
        next_ssim=next_ssim,
        psnr={str(h): _floats(error[:, h - 1]) for h in HORIZONS},
        ssim={str(h): _floats(ssim(frames[:, h - 1], real[:, h - 1])) for h in HORIZONS},
        curve=_floats(error.mean(dim=0)),
        flow=tuple(mean_flow(clip) for clip in frames),
        sharpness=_floats(sharpness(frames[:, -1])),
        turn_correlation=reading.turn_correlation,
        button_accuracy=reading.button_accuracy,
        frechet=reading.frechet,
        drift={play: _drift_figures(one) for play, one in drift.items()},
        minutes=(time.perf_counter() - began) / 60,
    )
    return Measured(figures, frames, drift)


def measure_real(yardstick: Yardstick, stamp: str) -> RealFigures:
    """The same of the real game's own frames, and the marks for the next frame."""
    clips, autoencoder, plan = yardstick.clips, yardstick.autoencoder, yardstick.plan
    latents = encode_frames(autoencoder, clips.frames)
    limit = decode_latents(autoencoder, latents[:, PAST::STRIDE])
    real, actions = (x[:, PAST : PAST + LAST] for x in (clips.frames, clips.actions))
    reading = read_clips(yardstick.reader, real, actions)
    return RealFigures(
        stamp=stamp,
        clips=plan.clips,
        inverse_dynamics=f"{plan.inverse_dynamics_clips} clips of real play, "
        f"{plan.inverse_dynamics_steps} steps",
        copy_psnr=_next_scores(yardstick, clips.frames[:, PAST - 1 : -1 : STRIDE])[0],
        limit_psnr=_next_scores(yardstick, limit)[0],
        flow=tuple(mean_flow(clip) for clip in real),
        sharpness=_floats(sharpness(real[:, -1])),
        turn_correlation=reading.turn_correlation,
        button_accuracy=reading.button_accuracy,
        frechet=reading.frechet,
    )


def check_chunk(contender: Contender) -> None:
    """Next frames are measured at the first frame of a chunk: places that all rows have."""
    chunk = contender.model.config.chunk_frames
    if STRIDE % chunk:
        raise ConfigError(f"{contender.row.run}: chunk_frames = {chunk} does not divide {STRIDE}")


def played_actions(contender: Contender, actions: Tensor) -> Tensor:
    """The actions b f (k+2) that the row is given: those of play, where it plays in chunks."""
    if not contender.row.holds_actions:
        return actions
    chunk = contender.model.config.chunk_frames
    return actions[:, ::chunk].repeat_interleave(chunk, dim=1)[:, : actions.shape[1]]


@torch.inference_mode()
def draw_next_frames(contender: Contender, latents: Tensor, actions: Tensor) -> Tensor:
    """Every STRIDE-th frame after PAST, given all true frames before it: b f c h w.

    It is what play would draw there: the cache is shown the true frames, draws, and goes on with
    the true ones. Of a chunk the first frame counts; the others lie further from the truth.
    """
    rollout = Rollout(contender.model, contender.sampler, range(len(latents)))
    chunk = contender.model.config.chunk_frames
    rollout.prime(latents[:, :PAST], actions[:, :PAST])
    drawn = []
    for first in range(PAST, latents.shape[1], STRIDE):
        after = slice(first, first + STRIDE)
        drawn.append(
            rollout.denoise(played_actions(contender, actions[:, first : first + chunk]))[:, :1]
        )
        rollout.prime(latents[:, after], actions[:, after])
    return torch.cat(drawn, dim=1)


def _next_scores(
    yardstick: Yardstick, frames: Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """PSNR and SSIM of next frames b f h w 3, means over each clip's frames in motion.

    Clips in which nothing moves at those frames are left out, for every row alike.
    """
    seen = yardstick.clips.frames
    real, before = seen[:, PAST::STRIDE], seen[:, PAST - 1 : -1 : STRIDE]
    moving = in_motion(real, before)
    scores = []
    for measure_frames in (psnr, ssim):
        each = measure_frames(frames.flatten(0, 1), real.flatten(0, 1))
        each = rearrange(each, "(b f) -> b f", b=len(real))
        scores.append(
            tuple(float(e[m].mean()) for e, m in zip(each, moving, strict=True) if m.any())
        )
    return scores[0], scores[1]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the inverse-dynamics model reads from clips."""

    turn_correlation: Estimate
    button_accuracy: Estimate
    frechet: Estimate


@torch.no_grad()
def read_clips(reader: ActionReader, frames: Tensor, actions: Tensor) -> Reading:
    """Clips uint8 b f h w 3 and what was done in them b f (k+2)."""
    windows, done = windows_of(list(zip(frames, actions, strict=True)))
    parts = [
        reader.model.features(torch.stack(windows[i : i + BATCH]))
        for i in range(0, len(windows), BATCH)
    ]
    each = frames.shape[1] - WINDOW + 1
    features = torch.cat(parts).unflatten(0, (len(frames), each))
    answer = reader.model.answer(features)
    done = done.unflatten(0, (len(frames), each))

    def read(clips: Tensor) -> ActionReading:
        parts = (answer[clips, :, :-1], answer[clips, :, -1], done[clips])
        return compare_reading(*(x.flatten(0, 1) for x in parts))

    def turn(clips: Tensor) -> float:
        found = read(clips).turn_correlation
        return 0.0 if math.isnan(found) else found  # one and the same turn is read everywhere

    def buttons(clips: Tensor) -> float:
        found = read(clips).button_accuracy
        return 0.5 if math.isnan(found) else found  # no button was pressed in some clips only

    def frechet(clips: Tensor) -> float:
        return frechet_distance(features[clips].flatten(0, 1), reader.reference)

    return Reading(*(resampled(len(frames), one) for one in (turn, buttons, frechet)))


def _long_play(contender: Contender, yardstick: Yardstick) -> dict[str, Drift]:
    """All kinds of long play as one batch; the real game's part of the same length beside it."""
    frames = yardstick.plan.long_frames(contender.sampler.steps)
    if not frames:
        return {}
    plays, reader = yardstick.long_plays, yardstick.reader
    past = torch.cat([play.past.frames for play in plays])
    primed = encode_frames(yardstick.autoencoder, past), torch.cat([p.past.actions for p in plays])
    actions = played_actions(contender, torch.cat([p.real.actions[:, :frames] for p in plays]))
    label = f"{contender.row.title}, long play"
    seeds = noise_seeds(len(past), "long play")
    latents = roll_out(contender.model, contender.sampler, primed, actions, label, seeds)
    made = decode_latents(yardstick.autoencoder, latents).split(yardstick.plan.streams)
    return {
        play.play: drift_of(one, play.real.frames[:, :frames], reader.model, reader.reference)
        for play, one in zip(plays, made, strict=True)
    }


def _drift_figures(drift: Drift) -> DriftFigures:
    windows = tuple(
        WindowFigures(
            brightness=(made.brightness, real.brightness),
            detail=(made.detail, real.detail),
            frechet=(made.frechet, real.frechet),
        )
        for made, real in zip(drift.generated, drift.real, strict=True)
    )
    return DriftFigures(frames=drift.frames.shape[1], windows=windows, inside=drift.inside)


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(values.tolist())
