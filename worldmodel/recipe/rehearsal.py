"""A rehearsal: every step of a recipe, in minutes on any machine, on frames of the real size.

What comes out is no world worth playing; that it comes out at all is what is rehearsed.
"""

from typing import Any

MINUTES = 5.0  # of which all stages get the same
FRAMES = 3000  # recorded, at most
HELDOUT = 700
EPISODE = 120  # frames
MOST = {"batch": 2, "clips": 16, "steps": 20}  # clips of own play
WIDTH, HEADS, LAYERS = 64, 2, 2  # of the transformer
NARROWEST = 8  # channels of the autoencoder


def shrink(table: dict[str, Any]) -> dict[str, Any]:
    """The recipe with small models, batches and few frames."""
    record, autoencoder = dict(table["record"]), dict(table["autoencoder"])
    record |= {
        "frames": min(FRAMES, record["frames"]),
        "heldout": min(HELDOUT, record["heldout"]),
        "episode_frames": min(EPISODE, record.get("episode_frames", EPISODE)),
        "minutes": 0.4,
    }
    autoencoder["widths"] = [max(NARROWEST, width // 8) for width in autoencoder["widths"]]
    autoencoder["blocks"] = 1
    small = {"width": WIDTH, "heads": HEADS, "layers": LAYERS}
    if "time_attention_every" in table["model"]:
        small["time_attention_every"] = min(LAYERS, table["model"]["time_attention_every"])
    measured = {
        "clips": 2,
        "next_clips": 4,
        "inverse_dynamics_clips": 4,
        "inverse_dynamics_steps": 20,
    }
    return {
        **table,
        "name": f"{table['name']}-rehearsal",
        "minutes": MINUTES,
        "record": record,
        "autoencoder": autoencoder,
        "model": {**table["model"], **small},
        "stages": [_small_stage(_even(stage)) for stage in table["stages"]],
        "play": {**table["play"], "starts": 2},
        "evaluate": {**measured, "teacher_steps": 2, "minutes": 0.5},
    }


def _even(stage: dict[str, Any]) -> dict[str, Any]:
    """Pictures and reading data take the same in all stages, the steps hardly anything."""
    return {**stage, "share": 1.0} if "share" in stage else stage


def _small_stage(stage: dict[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {}
    for key, value in stage.items():
        if key == "compile":  # takes longer than all the rest
            continue
        if isinstance(value, dict):
            small[key] = _small_stage(value)
        else:
            small[key] = min(MOST[key], value) if key in MOST else value
    return small
