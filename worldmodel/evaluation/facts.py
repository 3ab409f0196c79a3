"""The figures of each part of an evaluation, ready for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from worldmodel.evaluation.drift import Drift
from worldmodel.evaluation.inverse_dynamics import ActionReading
from worldmodel.evaluation.played import Off
from worldmodel.evaluation.quality import FreeRollout, NextFrame
from worldmodel.evaluation.start_pictures import FromStart


def rollout_facts(rollout: FreeRollout) -> dict[str, Any]:
    """Play from the model's own frames."""
    return {
        "psnr": {str(h): round(s.psnr, 2) for h, s in rollout.horizons.items()},
        "ssim": {str(h): round(s.ssim, 3) for h, s in rollout.horizons.items()},
        "sharpness": round(rollout.sharpness, 3),
        "turn_correlation": round(rollout.turn_correlation, 3),
        "button_accuracy": round(rollout.button_accuracy, 3),
        "frechet": round(rollout.frechet, 2),
        **(
            {"state": _plain(rollout.state), "still": _plain(rollout.still)}
            if rollout.state
            else {}
        ),
    }


def _plain(off: Off) -> dict[str, dict[str, float]]:
    """Errors of numbers, each number's by frame."""
    names = next(iter(off.values()))
    return {name: {str(h): round(row[name], 3) for h, row in off.items()} for name in names}


def next_facts(near: NextFrame) -> dict[str, Any]:
    """The next frame; no gap where there is none."""
    return {
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
    }


def real_facts(reading: ActionReading, floor: float) -> dict[str, Any]:
    """What the inverse-dynamics model reads from the real game."""
    return {
        "turn_correlation": round(reading.turn_correlation, 3),
        "button_accuracy": round(reading.button_accuracy, 3),
        "frechet_floor": round(floor, 2),
    }


def start_facts(starts: Sequence[FromStart]) -> dict[str, Any]:
    """dB at some frames after each start."""
    return {one.caption: {str(h): round(db, 2) for h, db in one.psnr.items()} for one in starts}


def drift_facts(drift: Drift) -> dict[str, Any]:
    """Long play, window by window."""

    def rounded(windows: list[Any]) -> list[dict[str, float]]:
        return [{key: round(v, 2) for key, v in asdict(window).items()} for window in windows]

    return {
        "inside": round(drift.inside, 4),
        "last_psnr": round(drift.last_psnr, 2),
        "generated": rounded(drift.generated),
        "real": rounded(drift.real),
    }
