"""A recipe of a tiny game: a square that goes where it is pushed."""

from pathlib import Path
from typing import Any

from worldmodel.config import to_toml

LOOP = {"steps": 24, "learning_rate": 3e-3, "dtype": "float32", "warmup_steps": 2}
# More than a copy of the last frame, or nothing would be trained on it.
LEARNS = {**LOOP, "steps": 240}
CLIPS = {"batch": 4, "frames": 6}


def tiny_table(notice: Path) -> dict[str, Any]:
    """Everything but the name of the file."""
    return {
        "name": "squares",
        "title": "A square",
        "licence": "none",
        "notice": str(notice),
        "minutes": 1.0,
        "gym": {"env": "tests.data_sources.squares:Squares", "arguments": {"length": 59}},
        "record": {"frames": 300, "heldout": 120, "size": [16, 8], "episode_frames": 60},
        "autoencoder": {"widths": [8, 16], "blocks": 1, "latent_channels": 4},
        "model": {"width": 32, "heads": 2, "layers": 2, "context_frames": 5, "sink_frames": 1},
        "play": {
            "sampler": {"sigmas": [1.0, 0.0], "renoise": True},
            "starts": 3,
            "start_frames": 6,
            "palette": True,
        },
        "evaluate": {"clips": 0},
        "stages": [
            {"stage": "autoencoder", "batch": 16, "frame_stride": 2, "loop": LEARNS},
            {"stage": "teacher", "clips": CLIPS, "loop": LOOP},
            {"stage": "student", "clips": CLIPS, "levels": 2, "loop": LOOP},
            {
                "stage": "decoder",
                "batch": 8,
                "own_play": {"clips": 4, "frames": 4},
                "loop": {**LOOP, "learning_rate": 1e-3},
            },
        ],
    }


def write_recipe(folder: Path, table: dict[str, Any]) -> Path:
    """The recipe as a file."""
    path = folder / "recipe.toml"
    plain = {key: value for key, value in table.items() if key != "stages"}
    text = to_toml(plain)
    for stage in table["stages"]:
        flat = {k: v for k, v in stage.items() if not isinstance(v, dict)}
        text += "\n[[stages]]\n" + to_toml(flat)
        for key, value in stage.items():
            if isinstance(value, dict):
                text += f"\n[stages.{key}]\n" + to_toml(value)
    path.write_text(text, encoding="utf-8")
    return path
