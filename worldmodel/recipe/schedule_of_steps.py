"""What a recipe will do, when, and what it needs, said before anything begins."""

import shutil
from pathlib import Path

import torch

from worldmodel.config import ConfigError
from worldmodel.recipe.derive import SharedSettings, count_parameters
from worldmodel.recipe.recipe_file import Recipe
from worldmodel.system.printable import counted
from worldmodel.training.kept_states import KEPT

WORLD_MINUTES = 0.3  # to pack the world
STATE_COPIES = 5  # of a model's weights in its state: raw, average, optimizer
HEADROOM = 1.1


def fixed_minutes(recipe: Recipe, *, after_data: bool = False) -> float:
    """What all that is not training is expected to take."""
    measuring = recipe.evaluate.minutes if recipe.evaluate.clips else 0.0
    return (0.0 if after_data else recipe.record.minutes) + WORLD_MINUTES + measuring


def against(recipe: Recipe) -> str:
    """What the world is held against at the end; only Doom can be played again."""
    return "the real game" if recipe.doom else "unseen episodes"


def disk_bytes(shared: SharedSettings) -> int:
    """What the run's folder will hold at most, about."""
    record = shared.recipe.record
    width, height = record.size
    channels, rows, columns = shared.autoencoder.latent_shape
    strides = [
        part.settings.get("frame_stride", 6)
        for part in shared.recipe.parts
        if part.stage in ("autoencoder", "decoder")
    ]
    frames = record.frames + record.heldout
    per_frame = 3 * width * height * (1 + sum(1 / stride for stride in set(strides)))
    per_frame += 2 * channels * rows * columns
    states = sum(
        count_parameters(shared)[
            "autoencoder" if part.stage in ("autoencoder", "decoder") else "transformer"
        ]
        for part in shared.recipe.parts
    )
    return int(HEADROOM * (frames * per_frame + 4 * KEPT * STATE_COPIES * states))


def check_disk(shared: SharedSettings) -> None:
    """Refuse to begin what cannot be finished."""
    place = shared.root
    while not place.exists():
        place = place.parent
    there = sum(path.stat().st_size for path in shared.root.rglob("*") if path.is_file())
    needed, free = disk_bytes(shared) - there, shutil.disk_usage(place).free
    if needed > free:
        raise ConfigError(
            f"{shared.root}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; "
            "record fewer frames or choose another disk with --run"
        )


def describe(
    shared: SharedSettings, minutes: float, device: torch.device, processes: int
) -> list[str]:
    """The plan as lines for people."""
    recipe = shared.recipe
    record, sizes = recipe.record, count_parameters(shared)
    width, height = record.size
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    training = minutes - fixed_minutes(recipe)
    shares = sum(part.share for part in recipe.parts)
    rows = [
        (
            "data",
            record.minutes,
            f"{record.frames:,} + {record.heldout:,} frames of {width}x{height} recorded by "
            f"{processes} processes, then checked",
        )
    ]
    for part in recipe.parts:
        kind = "autoencoder" if part.stage in ("autoencoder", "decoder") else "transformer"
        summary = f"{kind} of {sizes[kind] / 1e6:.1f} M parameters"
        if part.stage == "events":
            summary = "what happens to the numbers of the state"
        if not part.share:
            summary += f", {part.settings['loop']['steps']} steps"
        rows.append((part.stage, training * part.share / shares if shares else 0.0, summary))
    rows.append(("world", WORLD_MINUTES, f"{counted(recipe.play.starts, 'place')} to begin"))
    if recipe.evaluate.clips:
        rows.append(("evaluation", recipe.evaluate.minutes, f"against {against(recipe)}"))
    lines = [f"{recipe.name}: {minutes:g} minutes on {where}, in {shared.root}"]
    begin = 0.0
    for name, length, summary in rows:
        lines.append(f"  {begin:5.1f} min  {name:13} {length:5.1f} min  {summary}")
        begin += length
    lines.append(f"  disk: {disk_bytes(shared) / 1e9:.1f} GB")
    return lines


def share_of_rest(
    shared: SharedSettings, stage: str, minutes: float, spent: float, done: set[str]
) -> float:
    """The minutes of a stage: its share of what is left to those that are not done."""
    recipe = shared.recipe
    left = minutes - spent / 60 - fixed_minutes(recipe, after_data=True)
    shares = {part.stage: part.share for part in recipe.parts if part.stage not in done}
    found = left * shares[stage] / sum(shares.values())
    if found <= 0:
        raise ConfigError(
            f"{shared.root}: {spent / 60:.1f} of {minutes:g} minutes are over and "
            f"{fixed_minutes(recipe, after_data=True):.1f} are kept for the end: none are left for "
            f"the stage {stage}; go on with more --minutes"
        )
    return found


def folder_of(recipe: Recipe, root: Path | None) -> Path:
    """Where everything but the world itself is kept."""
    return root or Path("runs") / recipe.name
