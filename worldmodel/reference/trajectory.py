"""Trajectories on disk: beside a start NAME.safetensors, NAME.way leads the real game to it.

A safetensors file, `buttons` uint8 f k and `mouse` float32 f 2 (degrees): the f actions since the
episode's first frame, the last of which led to the start's last frame. Its header says the seed and
the buttons. It takes a few KB, and it is never training data.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from worldmodel.config import UserError
from worldmodel.reference.game import ReferenceTrajectory
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import actions_as_arrays, to_actions
from worldmodel.storage.files import is_file, read_file, write_atomically
from worldmodel.system.limits import LARGEST_TRAJECTORY, LONGEST_SHOWN, MOST_BUTTONS
from worldmodel.system.printable import shown

FORMAT = "worldmodel way 1"
ENDING = ".way"
BROKEN = (SafetensorError, LookupError, TypeError, ValueError, OverflowError, RecursionError)
LARGEST_SEED = 2**32 - 1  # what a game takes


class TrajectoryError(UserError):
    """A file that should hold a trajectory does not."""


def trajectory_bytes(trajectory: ReferenceTrajectory, buttons: tuple[str, ...]) -> bytes:
    """The content of a trajectory's file."""
    header = {"format": FORMAT, "seed": str(trajectory.seed), "buttons": json.dumps(buttons)}
    return bytes(save(actions_as_arrays(trajectory.actions, buttons), metadata=header))


def save_trajectory(clip: Path, trajectory: ReferenceTrajectory, buttons: tuple[str, ...]) -> None:
    """Write the trajectory to a clip, beside it."""
    write_atomically(clip.with_suffix(ENDING), trajectory_bytes(trajectory, buttons))


def load_trajectory(clip_path: Path, clip: Episode) -> ReferenceTrajectory:
    """The trajectory to a clip; a `TrajectoryError` where there is none or a broken one."""
    path = clip_path.with_suffix(ENDING)
    if not is_file(path):
        raise TrajectoryError(f"no {path.name} says how the real game comes to {clip_path.name}")
    try:
        content = read_file(path, LARGEST_TRAJECTORY)
        arrays, header = load(content), _header(content)
        names = tuple(map(str, json.loads(header["buttons"])))
        seed, held, mouse = int(header["seed"]), arrays["buttons"], arrays["mouse"]
    except BROKEN as error:
        raise TrajectoryError(f"{path}: not a trajectory: {str(error)[:LONGEST_SHOWN]}") from error
    if header.get("format") != FORMAT or not 0 <= seed <= LARGEST_SEED:
        found = shown(header.get("format"))
        raise TrajectoryError(f"{path}: not a trajectory: format {found}, seed {shown(seed)}")
    count = len(held) if held.ndim else 0
    if len(names) > MOST_BUTTONS or held.shape != (count, len(names)) or mouse.shape != (count, 2):
        raise TrajectoryError(
            f"{path}: not a trajectory: buttons {held.shape} and mouse {mouse.shape}"
        )
    if not np.isfinite(mouse).all():
        raise TrajectoryError(f"{path}: mouse travel holds values that are no numbers")
    return ReferenceTrajectory(
        seed=seed, actions=to_actions(held, mouse, names), frame=clip.frames[-1]
    )


def _header(content: bytes) -> dict[str, str]:
    """The free part of a safetensors header."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])
