"""`worldmodel evaluate`: every quality figure of a world as tables, a verdict, one JSON line."""

import math
from typing import Any

from worldmodel.evaluation.drift import WINDOW, Drift
from worldmodel.evaluation.facts import (
    drift_facts,
    next_facts,
    real_facts,
    rollout_facts,
    start_facts,
)
from worldmodel.evaluation.inverse_dynamics import ABLE
from worldmodel.evaluation.quality import NextFrame
from worldmodel.evaluation.start_pictures import HORIZONS as START_HORIZONS
from worldmodel.evaluation.start_pictures import FromStart
from worldmodel.evaluation.whole_evaluation import Evaluation
from worldmodel.system.printable import tell, tell_json

KEYS_ABLE = 0.7  # balanced accuracy with the real game's keys, from which the model is able
READ_FIGURES = {"turn_correlation", "button_accuracy", "frechet", "frechet_floor"}  # by the model


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """The figures alone, ready for JSON."""
    return {
        "world": evaluation.world,
        "next_frame": next_facts(evaluation.next_frame),
        "rollout": {name: rollout_facts(one) for name, one in evaluation.rollouts.items()},
        "real": real_facts(evaluation.real_reading, evaluation.real_frechet),
        "starts": start_facts(evaluation.starts),
        "drift": {play: drift_facts(drift) for play, drift in evaluation.drift.items()},
    }


def headline(evaluation: Evaluation) -> dict[str, Any]:
    """The figures that belong into `world.toml`; what a model reads that cannot read stays out."""
    whole = summarise(evaluation)
    unknown = READ_FIGURES if _is_blind(evaluation) else set()
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
    """Whether even in real frames turning cannot be read; where nobody turns, keys."""
    reading = evaluation.real_reading
    if evaluation.turns:
        return not reading.turn_correlation >= ABLE  # it may be no number
    return not reading.button_accuracy >= KEYS_ABLE


def print_report(evaluation: Evaluation) -> None:
    """Tables for a person, then one line of JSON."""
    lines = [f"world {evaluation.world}", "", *_next_lines(evaluation.next_frame), ""]
    lines += [*_rollout_lines(evaluation), ""]
    lines += [*state, ""] if (state := _state_lines(evaluation)) else []
    lines += [*_start_lines(evaluation.starts), ""] if evaluation.starts else []
    for play, drift in evaluation.drift.items():
        lines += [*_drift_lines(play, drift), ""]
    lines += [verdict(evaluation)]
    tell(*lines)
    tell_json(summarise(evaluation))


def _next_lines(near: NextFrame) -> list[str]:
    share = "share of the gap" if near.has_gap else ""
    lines = [
        f"next frame with true history, frames in motion     PSNR dB   SSIM   {share}".rstrip()
    ]
    gaps = {"copy of the last frame": 0.0, "limit of the autoencoder": 1.0}
    gaps |= {name: near.gap_gained(name) for name in near.drawn}
    scores = {
        "copy of the last frame": near.copy,
        **near.drawn,
        "limit of the autoencoder": near.limit,
    }
    for name, score in scores.items():
        gap = f"   {100 * gaps[name]:4.0f} %" if near.has_gap else ""
        lines.append(f"  {name:48} {score.psnr:6.2f}  {score.ssim:.3f}{gap}")
    if not near.has_gap:
        lines.append(
            "  FAILED: the autoencoder shows these frames no better than a copy of the last, so "
            "there is no gap that a model could close"
        )
    return lines


def verdict(evaluation: Evaluation) -> str:
    """One line for a person: what the world is worth, and the three numbers that say so."""
    near = evaluation.next_frame
    name, score = next(iter(near.drawn.items()))  # as it is played
    numbers = (
        f"next frame {score.psnr:.1f} dB, a copy of the last {near.copy.psnr:.1f} dB, at best "
        f"{near.limit.psnr:.1f} dB"
    )
    if not near.has_gap or not math.isfinite(score.psnr):
        return (
            f"verdict: FAILED: {numbers}: what it shows is worse than a picture that stands still"
        )
    gained = near.gap_gained(name)
    word = "good" if gained > 0 else "weak"
    gain = f"{100 * gained:.0f} % of the gap" if gained > 0 else "no better than standing still"
    return f"verdict: {word}: {numbers}: {gain}"


def _rollout_lines(evaluation: Evaluation) -> list[str]:
    horizons = next(iter(evaluation.rollouts.values())).horizons  # of long clips, all there are
    head = "".join(f"{h:>7}" for h in horizons)
    lines = [f"free rollout, PSNR dB at frame{head}   sharp   turn r   keys   Fréchet"]
    for name, rollout in evaluation.rollouts.items():
        row = "".join(f"{s.psnr:7.2f}" for s in rollout.horizons.values())
        lines.append(
            f"  {name:27}{row}   {rollout.sharpness:5.2f}   {_turning(rollout.turn_correlation)}"
            f"   {rollout.button_accuracy:.3f}   {rollout.frechet:6.2f}"
        )
    real = evaluation.real_reading
    gap = " " * 7 * len(horizons)
    lines.append(
        f"  {'the real game':27}{gap}    1.00   {_turning(real.turn_correlation)}"
        f"   {real.button_accuracy:.3f}   {evaluation.real_frechet:6.2f}"
    )
    if _is_blind(evaluation):
        more = "Give it more --inverse-dynamics-clips or --inverse-dynamics-steps."
        more = "Evaluate without --quick." if evaluation.is_quick else more
        lines.append(
            "  The inverse-dynamics model has not learned to read "
            f"{'turning' if evaluation.turns else 'keys'} from real frames: turn r, keys and "
            f"Fréchet mean nothing. {more}"
        )
    return lines


def _turning(correlation: float) -> str:
    """r of turning; none where nobody turned with the mouse."""
    return "  none" if math.isnan(correlation) else f"{correlation:6.3f}"


def _state_lines(evaluation: Evaluation) -> list[str]:
    """How far each number is off, as the world is played; nothing where none is predicted."""
    name, played = next(iter(evaluation.rollouts.items()))
    if not played.state:
        return []
    head = "".join(f"{h:>9}" for h in played.state)
    lines = [f"state, {name}: mean error of each number at frame{head}   (and of what it was)"]
    for number in next(iter(played.state.values())):
        row = "".join(f"{off[number]:9.2f}" for off in played.state.values())
        still = " ".join(f"{off[number]:.2f}" for off in played.still.values())
        lines.append(f"  {number:46}{row}   ({still})")
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
