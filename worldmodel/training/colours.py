"""The palette of a game, from its own frames.

    colours = choose_palette(frames)       # for `AutoencoderConfig.palette`

A colour that is close to a commoner one is left out: what is drawn then repeats from pixel to pixel
about as often as in the game.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from worldmodel.config import ConfigError
from worldmodel.model.configs import MOST_COLOURS

APART = 5.0  # levels between two colours (RGB, Euclidean)
COVERED = 0.95  # share of a game's pixels that a colour must be near
MOST_SEEN = 1 << 16  # different colours that are looked at, the commonest first


def choose_palette(
    frames: Iterable[NDArray[np.uint8]], most: int = MOST_COLOURS, apart: float = APART
) -> tuple[str, ...]:
    """The commonest colours of frames ... h w 3 that are at least `apart` levels from each other.

    A `ConfigError` where they stand for too few of the pixels: such a game has no palette.
    """
    seen: dict[int, int] = {}
    for part in frames:
        red, green, blue = part.reshape(-1, 3).astype(np.int64).T
        values, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            seen[value] = seen.get(value, 0) + count
    common = sorted(seen, key=lambda value: (-seen[value], value))[:MOST_SEEN]
    colours = np.array([[v >> 16, v >> 8 & 255, v & 255] for v in common], np.float32)
    counts = np.array([seen[value] for value in common])
    chosen: list[int] = []
    is_far = np.ones(len(common), bool)
    while is_far.any() and len(chosen) < most:
        chosen.append(int(is_far.argmax()))
        is_far &= np.square(colours - colours[chosen[-1]]).sum(axis=1) >= apart**2
    covered = float(counts[~is_far].sum() / max(1, sum(seen.values())))
    if covered < COVERED:
        raise ConfigError(
            f"palette: {len(chosen)} colours that are {apart:g} levels apart come near "
            f"{100 * covered:.0f} % of the pixels, {100 * COVERED:.0f} % are needed: this game "
            "has no palette, leave it out"
        )
    return tuple(f"{common[i]:06x}" for i in chosen)
