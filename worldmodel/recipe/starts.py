"""Places to begin: moments of held-out play that look as different as can be."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.config import ConfigError
from worldmodel.episodes import find_episodes, load_episode

EPISODES = 60  # looked at
APART = 25  # frames between two moments that are looked at
SMALL = (8, 6)  # pixels that say how a moment looks


def choose_starts(folder: Path, count: int, frames: int) -> dict[str, str]:
    """`count` stretches of `frames` frames: "file@first frame" -> caption.

    The first one is the first episode's beginning; every next one is the moment that is least like
    those before it.
    """
    places: list[str] = []
    looks: list[NDArray[np.float32]] = []
    for path in find_episodes(folder)[:EPISODES]:
        episode = load_episode(path)
        for first in range(0, len(episode) - frames + 1, APART):
            places.append(f"{path}@{first}")
            small = cv2.resize(episode.frames[first + frames - 1], SMALL)
            looks.append(small.astype(np.float32).reshape(-1))
    if not places:
        raise ConfigError(f"{folder}: no episode is as long as a start of {frames} frames")
    seen = np.stack(looks)
    chosen = [0]
    distance = np.linalg.norm(seen - seen[0], axis=1)
    while len(chosen) < min(count, len(places)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(seen - seen[chosen[-1]], axis=1))
    return {places[i]: f"Place {number}" for number, i in enumerate(chosen, start=1)}
