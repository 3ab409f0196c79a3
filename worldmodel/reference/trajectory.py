"""Ways on disk: beside a start NAME.safetensors, NAME.way says how the real game comes to it.

A way is a safetensors file, `buttons` uint8 f k and `mouse` float32 f 2 (degrees): the f actions
since the episode's first frame, the last of which led to the start's last frame. Its header says
the seed and the buttons. It takes a few KB, and it is never training data.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from worldmodel.config import UserError
from worldmodel.reference.game import Way
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import actions_as_arrays, to_actions
from worldmodel.storage.files import is_file, read_file, write_atomically
from worldmodel.system.limits import LARGEST_WAY, LONGEST_SHOWN, MOST_BUTTONS
from worldmodel.system.printable import shown

FORMAT = "worldmodel way 1"
ENDING = ".way"
BROKEN = (SafetensorError, LookupError, TypeError, ValueError, OverflowError, RecursionError)
LARGEST_SEED = 2**32 - 1  # what a game takes


class WayError(UserError):
    """A file that should hold a way does not."""


def way_bytes(way: Way, buttons: tuple[str, ...]) -> bytes:
    """The content of a way's file."""
    header = {"format": FORMAT, "seed": str(way.seed), "buttons": json.dumps(buttons)}
    return bytes(save(actions_as_arrays(way.actions, buttons), metadata=header))


def save_way(clip: Path, way: Way, buttons: tuple[str, ...]) -> None:
    """Write the way to a clip, beside it."""
    write_atomically(clip.with_suffix(ENDING), way_bytes(way, buttons))


def load_way(clip_path: Path, clip: Episode) -> Way:
    """The way to a clip; a `WayError` says that there is none, or what is wrong with it."""
    path = clip_path.with_suffix(ENDING)
    if not is_file(path):
        raise WayError(f"no {path.name} says how the real game comes to {clip_path.name}")
    try:
        content = read_file(path, LARGEST_WAY)
        arrays, header = load(content), _header(content)
        names = tuple(map(str, json.loads(header["buttons"])))
        seed, held, mouse = int(header["seed"]), arrays["buttons"], arrays["mouse"]
    except BROKEN as error:
        raise WayError(f"{path}: not a way: {str(error)[:LONGEST_SHOWN]}") from error
    if header.get("format") != FORMAT or not 0 <= seed <= LARGEST_SEED:
        found = shown(header.get("format"))
        raise WayError(f"{path}: not a way: format {found}, seed {shown(seed)}")
    count = len(held) if held.ndim else 0
    if len(names) > MOST_BUTTONS or held.shape != (count, len(names)) or mouse.shape != (count, 2):
        raise WayError(f"{path}: not a way: buttons {held.shape} and mouse {mouse.shape}")
    if not np.isfinite(mouse).all():
        raise WayError(f"{path}: mouse travel holds values that are no numbers")
    return Way(seed=seed, actions=to_actions(held, mouse, names), frame=clip.frames[-1])


def _header(content: bytes) -> dict[str, str]:
    """The free part of a safetensors header."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])
