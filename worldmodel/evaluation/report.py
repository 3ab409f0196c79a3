"""`worldmodel evaluate`: every quality figure of a world, as tables and one JSON line.

All comparisons run the real game on seeds from `--seed` upwards, which no training uses. The
inverse-dynamics model that judges actions is trained here, on real frames of other such seeds.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.evaluation.drift import (
    STREAMS,
    WINDOW,
    Drift,
    Play,
    measure_drift,
    record_long_play,
)
from worldmodel.evaluation.inverse_dynamics import (
    ABLE,
    ActionReading,
    InverseDynamics,
    features_of,
    read_actions,
    train_inverse_dynamics,
)
from worldmodel.evaluation.quality import (
    HORIZONS,
    FreeRollout,
    NextFrame,
    measure_next_frame,
    measure_rollout,
)
from worldmodel.evaluation.real import Clips, game_of, record_clips
from worldmodel.evaluation.starts import FRAMES as START_FRAMES
from worldmodel.evaluation.starts import HORIZONS as START_HORIZONS
from worldmodel.evaluation.starts import FromStart, play_starts, save_starts
from worldmodel.evaluation.subject import load_subjects
from worldmodel.games.doom import Doom
from worldmodel.metrics import Gaussian, frechet_distance
from worldmodel.training.samples import save_grid
from worldmodel.worlds.find import find_world
from worldmodel.worlds.settings import Settings, available_cores

JUDGE_FRAMES = 160
JUDGE_CLIPS = 320
# Seeds of the parts of an evaluation lie this far apart.
APART = 10_000
JUDGED = {"turn_correlation", "button_accuracy", "frechet", "frechet_floor"}  # what a judge says


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured of one world."""

    world: str
    next_frame: NextFrame
    rollouts: dict[str, FreeRollout]
    real_frames: Tensor  # uint8 b g h w 3, what the rollouts stand for
    real_reading: ActionReading
    real_frechet: float
    drift: dict[str, Drift]
    starts: list[FromStart]
    frames_per_second: float


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """How much to measure."""

    clips: int
    drift_frames: int
    seed: int
    teacher_steps: int
    next_clips: int = 320
    judge_clips: int = JUDGE_CLIPS  # of real play, that the inverse-dynamics model learns from
    judge_steps: int = 1200


def evaluate(name: str | None, plan: EvaluationPlan) -> Evaluation:
    """Measure a world against its real game."""
    torch.set_num_threads(available_cores())
    subjects = load_subjects(find_world(name), Settings(), plan.teacher_steps)
    everyone = [subjects.student, *subjects.others]
    world, autoencoder = subjects.file, subjects.autoencoder
    spec, seed = world.actions, plan.seed
    frames = plan.drift_frames // WINDOW * WINDOW  # whole windows
    past = world.transformer.context_frames + world.transformer.sink_frames
    with Doom(game_of(world)) as game:
        lessons = record_clips(game, spec, seed + 3 * APART, plan.judge_clips, JUDGE_FRAMES)
        judge = train_inverse_dynamics(lessons.pairs(), plan.judge_steps)
        fresh = record_clips(game, spec, seed + 2 * APART, plan.judge_clips // 2, JUDGE_FRAMES)
        reference = Gaussian.of(_features(judge, lessons))
        next_clips = record_clips(game, spec, seed + APART, plan.next_clips, past)
        clips = record_clips(game, spec, seed, plan.clips, past + max(HORIZONS))
        next_frame = measure_next_frame(everyone, autoencoder, next_clips)
        rollouts = {
            subject.name: measure_rollout(subject, autoencoder, clips, past, judge, reference)
            for subject in everyone
        }
        plays: tuple[Play, ...] = ("idle", "random") if frames else ()
        drift: dict[str, Drift] = {}
        for play in plays:
            visible = world.transformer.context_frames
            long_play = record_long_play(
                game, spec, play, frames, seed + 4 * APART, visible, STREAMS
            )
            drift[play] = measure_drift(subjects.student, autoencoder, long_play, judge, reference)
        starts = play_starts(find_world(name), subjects, game, START_FRAMES)
    return Evaluation(
        world=world.name,
        next_frame=next_frame,
        rollouts=rollouts,
        real_frames=clips.frames[:, past:],
        real_reading=read_actions(judge, clips.pairs(past)),
        real_frechet=frechet_distance(_features(judge, fresh), reference),
        drift=drift,
        starts=starts,
        frames_per_second=world.frames_per_second,
    )


def _features(judge: InverseDynamics, clips: Clips) -> Tensor:
    return torch.cat([features_of(judge, clip, stride=2) for clip in clips.frames])


def save_pictures(evaluation: Evaluation, out: Path) -> None:
    """Contact sheets: rollouts beside the real game, long play every 200 frames."""
    rows = []
    for clip in range(min(6, len(evaluation.real_frames))):
        rows.append(evaluation.real_frames[clip, 3::4].numpy())
        rows += [rollout.frames[clip, 3::4].numpy() for rollout in evaluation.rollouts.values()]
    save_grid(out / "rollouts.png", rows)
    for play, drift in evaluation.drift.items():
        pairs = []
        for made, seen in zip(drift.frames, drift.real_frames, strict=True):
            pairs += [made[::WINDOW].numpy(), seen[::WINDOW].numpy()]
        save_grid(out / f"drift_{play}.png", pairs)
    if evaluation.starts:
        both = [frames for one in evaluation.starts for frames in (one.dream, one.real)]
        save_grid(out / "starts.png", [_stretched(frames[::8]) for frames in both])
        save_starts(evaluation.starts, out, evaluation.frames_per_second)


def _stretched(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As many frames as all rows have: where the level ended, its last one stays."""
    missing = START_FRAMES // 8 + 1 - len(frames)
    return np.concatenate([frames, frames[-1:].repeat(missing, axis=0)])


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """The figures alone, ready for JSON."""
    rollouts = {}
    for name, rollout in evaluation.rollouts.items():
        rollouts[name] = {
            "psnr": {str(h): round(s.psnr, 2) for h, s in rollout.horizons.items()},
            "ssim": {str(h): round(s.ssim, 3) for h, s in rollout.horizons.items()},
            "sharpness": round(rollout.sharpness, 3),
            "turn_correlation": round(rollout.turn_correlation, 3),
            "button_accuracy": round(rollout.button_accuracy, 3),
            "frechet": round(rollout.frechet, 2),
        }
    near = evaluation.next_frame
    return {
        "world": evaluation.world,
        "next_frame": {
            "copy_psnr": round(near.copy.psnr, 2),
            "limit_psnr": round(near.limit.psnr, 2),
            **{
                name: {
                    "psnr": round(score.psnr, 2),
                    "ssim": round(score.ssim, 3),
                    **({"gap": round(near.gap_gained(name), 3)} if near.has_gap else {}),
                }
                for name, score in near.drawn.items()
            },
        },
        "rollout": rollouts,
        "real": {
            "turn_correlation": round(evaluation.real_reading.turn_correlation, 3),
            "button_accuracy": round(evaluation.real_reading.button_accuracy, 3),
            "frechet_floor": round(evaluation.real_frechet, 2),
        },
        "starts": {
            one.caption: {str(h): round(db, 2) for h, db in one.psnr.items()}
            for one in evaluation.starts
        },
        "drift": {play: _drift_summary(drift) for play, drift in evaluation.drift.items()},
    }


def headline(evaluation: Evaluation) -> dict[str, Any]:
    """The figures that belong into `world.toml`; what a judge says that is none stays out."""
    whole = summarise(evaluation)
    unknown = JUDGED if _is_blind(evaluation) else set()
    for drift in whole["drift"].values():
        for who in ("generated", "real"):  # a range says enough there
            windows = drift.pop(who)
            for key in ("brightness", "detail", *({"frechet"} - unknown)):
                values = [window[key] for window in windows]
                drift[f"{who}_{key}"] = [min(values), max(values)]
    for figures in (*whole["rollout"].values(), whole["real"]):
        for key in unknown & figures.keys():
            del figures[key]
    del whole["world"]
    return whole


def _is_blind(evaluation: Evaluation) -> bool:
    """Whether the judge cannot even read turning from real frames."""
    return not evaluation.real_reading.turn_correlation >= ABLE  # it may be no number


def _drift_summary(drift: Drift) -> dict[str, Any]:
    def rounded(windows: list[Any]) -> list[dict[str, float]]:
        return [{key: round(v, 2) for key, v in asdict(window).items()} for window in windows]

    return {
        "inside": round(drift.inside, 4),
        "last_psnr": round(drift.last_psnr, 2),
        "generated": rounded(drift.generated),
        "real": rounded(drift.real),
    }


def print_report(evaluation: Evaluation) -> None:
    """Tables for a person, then one line of JSON."""
    lines = [f"world {evaluation.world}", "", *_next_lines(evaluation.next_frame), ""]
    lines += [*_rollout_lines(evaluation), ""]
    lines += [*_start_lines(evaluation.starts), ""] if evaluation.starts else []
    for play, drift in evaluation.drift.items():
        lines += [*_drift_lines(play, drift), ""]
    print("\n".join(lines))  # noqa: T201  # this is the command's output
    print(json.dumps(summarise(evaluation)))  # noqa: T201


def _next_lines(near: NextFrame) -> list[str]:
    lines = [
        "next frame with true history, frames in motion     PSNR dB   SSIM   share of the gap",
        f"  {'copy of the last frame':48} {near.copy.psnr:6.2f}  {near.copy.ssim:.3f}      0 %",
    ]
    for name, score in near.drawn.items():
        gap = 100 * near.gap_gained(name)
        lines.append(f"  {name:48} {score.psnr:6.2f}  {score.ssim:.3f}   {gap:4.0f} %")
    limit = near.limit
    lines.append(f"  {'limit of the autoencoder':48} {limit.psnr:6.2f}  {limit.ssim:.3f}    100 %")
    return lines


def _rollout_lines(evaluation: Evaluation) -> list[str]:
    head = "".join(f"{h:>7}" for h in HORIZONS)
    lines = [f"free rollout, PSNR dB at frame{head}   sharp   turn r   keys   Fréchet"]
    for name, rollout in evaluation.rollouts.items():
        row = "".join(f"{s.psnr:7.2f}" for s in rollout.horizons.values())
        lines.append(
            f"  {name:27}{row}   {rollout.sharpness:5.2f}   {rollout.turn_correlation:6.3f}"
            f"   {rollout.button_accuracy:.3f}   {rollout.frechet:6.2f}"
        )
    real = evaluation.real_reading
    gap = " " * 7 * len(HORIZONS)
    lines.append(
        f"  {'the real game':27}{gap}    1.00   {real.turn_correlation:6.3f}"
        f"   {real.button_accuracy:.3f}   {evaluation.real_frechet:6.2f}"
    )
    if _is_blind(evaluation):
        lines.append(
            "  The judge has not learned to read turning from real frames: turn r, keys and "
            "Fréchet mean nothing. Give it more --judge-clips or --judge-steps."
        )
    return lines


def _start_lines(starts: list[FromStart]) -> list[str]:
    head = "".join(f"{h:>7}" for h in START_HORIZONS)
    lines = [f"from the world's own starts, dB at frame{head}"]
    for one in starts:
        row = "".join(f"{db:7.2f}" for db in one.psnr.values())
        lines.append(f"  {one.caption:37}{row}{'' if one.exact else '   (another build of it)'}")
    return lines


def _drift_lines(play: str, drift: Drift) -> list[str]:
    lines = [
        f"{play} play, windows of {WINDOW} frames   brightness      detail       Fréchet   "
        "(generated / real)"
    ]
    for number, (made, real) in enumerate(zip(drift.generated, drift.real, strict=True)):
        lines.append(
            f"  frame {number * WINDOW:5}…{'':20} {made.brightness:5.1f} / {real.brightness:5.1f}"
            f"  {made.detail:5.2f} / {real.detail:5.2f}  {made.frechet:6.1f} / {real.frechet:6.1f}"
        )
    lines.append(
        f"  frames within the range of real frames: {100 * drift.inside:.1f} %; against the real "
        f"game in the last window: {drift.last_psnr:.1f} dB"
    )
    return lines
