"""Places to begin: calm moments of held-out play that show something and look different."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worldmodel.config import ConfigError
from worldmodel.storage.episodes import find_episodes, load_episode

EPISODES = 60  # looked at
APART = 25  # frames between two moments that are looked at
SMALL = (8, 6)  # pixels that say how a moment looks
ROUNDS = 10
CALM, PLAIN = 0.5, 0.3  # quantiles: of motion at most, of detail at least

Numbers = NDArray[np.float32]


def choose_starts(folder: Path, count: int, frames: int) -> dict[str, str]:
    """`count` stretches of `frames` frames: "file@first frame" -> caption.

    The first one is where the first episode begins; every other one stands for a group of moments
    that look alike, as the most ordinary of them.
    """
    places: list[str] = []
    looks: list[Numbers] = []
    motion: list[float] = []
    detail: list[float] = []
    for path in find_episodes(folder)[:EPISODES]:
        episode = load_episode(path)
        for first in range(0, len(episode) - frames + 1, APART):
            last = episode.frames[first + frames - 1].astype(np.float32)
            before = episode.frames[first + frames - 2].astype(np.float32)
            places.append(f"{path}@{first}")
            looks.append(cv2.resize(last, SMALL, interpolation=cv2.INTER_AREA).reshape(-1))
            motion.append(float(np.abs(last - before).mean()))
            detail.append(float(np.abs(np.diff(last, axis=1)).mean()))
    if not places:
        raise ConfigError(f"{folder}: no episode is as long as a start of {frames} frames")
    good = (np.array(motion) <= np.quantile(motion, CALM)) & (
        np.array(detail) >= np.quantile(detail, PLAIN)
    )
    if good.sum() <= count:  # too little to be choosy
        good[:] = True
    good[0] = False  # it is there already
    index = np.flatnonzero(good)
    chosen = [0, *(int(index[i]) for i in group(np.stack(looks)[index], count - 1))]
    return {places[i]: f"Place {number}" for number, i in enumerate(chosen, start=1)}


def group(looks: Numbers, count: int) -> list[int]:
    """The most ordinary one of each of `count` groups of rows that look alike, at most all rows.

    The groups grow around rows that are far apart (k-means, Lloyd 1982).
    """
    chosen: list[int] = []
    distance = np.linalg.norm(looks - looks.mean(axis=0), axis=1) if len(looks) else np.zeros(0)
    while len(chosen) < min(count, len(looks)):
        chosen.append(int(distance.argmax()))
        apart = np.linalg.norm(looks - looks[chosen[-1]], axis=1)
        distance = np.minimum(distance, apart) if len(chosen) > 1 else apart
    if not chosen:
        return []
    middles = looks[chosen]
    for _ in range(ROUNDS):
        nearest = np.linalg.norm(looks[:, None] - middles, axis=2).argmin(axis=1)
        middles = np.stack(
            [
                looks[nearest == i].mean(axis=0) if (nearest == i).any() else middles[i]
                for i in range(len(middles))
            ]
        )
    found = np.linalg.norm(looks[:, None] - middles, axis=2).argmin(axis=0)
    return list(dict.fromkeys(found.tolist()))
