"""`worldmodel evaluate --places`: does a world stay itself, as tables and one JSON line."""

import math
from pathlib import Path
from typing import Any

from worldmodel.config import UserError
from worldmodel.evaluation.places import HORIZONS, Alike, Places, measure_places
from worldmodel.evaluation.subject import opened
from worldmodel.system.printable import counted, tell, tell_json
from worldmodel.training.perceptual import PerceptualDistance

AFTER = 4  # frames that are walked on after a horizon
SHORTEST, LONGEST = min(HORIZONS) + AFTER, max(HORIZONS) + AFTER  # to reach one, to reach all


def evaluate_places(
    name: str | None, seed: int, walks: int, frames: int = LONGEST, perceptual: Path | None = None
) -> Places:
    """Measure a world on walks of so many frames each, of unseen seeds.

    `perceptual`: weights of `PerceptualDistance`, for that distance too.
    """
    if frames < SHORTEST:
        raise UserError(
            f"--walk-frames {frames}: at least {SHORTEST}, to look around frame {min(HORIZONS)}"
        )
    with opened(name) as (subjects, game):
        shape, distance = subjects.file.autoencoder, None
        if perceptual is not None:
            size = shape.frame_height, shape.frame_width
            distance = PerceptualDistance.load(perceptual, size)
        return measure_places(subjects, game, seed, walks, frames, distance)


def facts(places: Places) -> dict[str, Any]:
    """The figures alone, ready for JSON and for `world.toml`."""
    return {
        "walks": places.walks,
        "lockstep": {
            str(h): {
                "psnr": round(one.psnr, 2),
                "whole_psnr": round(one.whole_psnr, 2),
                "limit": round(one.limit, 2),
                "sharpness": round(one.sharpness, 3),
                **(
                    {"off": round(one.off, 2), "off_worst": round(one.off_worst, 1)}
                    if math.isfinite(one.off)
                    else {}
                ),
                **(
                    {
                        "perceptual": round(one.perceptual, 3),
                        "perceptual_limit": round(one.perceptual_limit, 3),
                    }
                    if math.isfinite(one.perceptual)
                    else {}
                ),
            }
            for h, one in places.lockstep.items()
        },
        "return": {f"{seconds:g} s": _alike(one) for seconds, one in places.returns.items()},
        "turn": _alike(places.turn),
        "mirror": _alike(places.mirror),
    }


def print_places(places: Places, name: str) -> None:
    """Tables for a person, then one line of JSON."""
    lines = [
        f"world {name}, {counted(places.walks, 'walk')} with the game's own keys; dB at 64 x 48",
        "",
        "lockstep, around frame     world   limit   whole size   sharpness   off (worst tenth)",
    ]
    for h, one in places.lockstep.items():
        off = f"{one.off:7.1f} ({one.off_worst:.0f})" if math.isfinite(one.off) else "  no place"
        lines.append(
            f"  {h:20} {one.psnr:9.2f} {one.limit:7.2f} {one.whole_psnr:12.2f} "
            f"{100 * one.sharpness:9.0f} % {off}"
        )
    if any(math.isfinite(one.perceptual) for one in places.lockstep.values()):
        lines += ["", "perceptual distance        world   limit"]
        for h, one in places.lockstep.items():
            lines.append(f"  {h:20} {one.perceptual:9.3f} {one.perceptual_limit:7.3f}")
    lines += ["", "the same place again       world    game   any other frame"]
    rows = {f"after {seconds:g} s": one for seconds, one in places.returns.items()}
    rows |= {"once around": places.turn, "there and back": places.mirror}
    for label, alike in rows.items():
        lines.append(f"  {label:20} {alike.world:9.2f} {alike.game:7.2f} {alike.other:12.2f}")
    tell(*lines)
    tell_json({"world": name, "places": facts(places)})


def write_places(folder: Path, places: Places) -> None:
    """Put the figures into `world.toml`, beside what else was measured."""
    from worldmodel.worlds.world_folder import read_world_file, write_measured

    measured = read_world_file(folder).measured
    write_measured(folder, {**measured, "places": facts(places)})


def _alike(one: Alike) -> dict[str, float]:
    return {
        "world": round(one.world, 2),
        "game": round(one.game, 2),
        "other": round(one.other, 2),
    }
