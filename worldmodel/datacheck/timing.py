"""Do the actions stand beside the frames that they caused?

An episode's action i should have led from frame i − 1 to frame i. If a recorder is off by a frame,
nothing fails: the world merely learns to answer late, or to foresee. So what is new in the actions
(they are held for many frames) is compared with what is new in the motion of the picture (which has
inertia), at lags of −2 to +2 frames. "New" is what two frames before cannot predict linearly, as
system identification whitens its signals before it correlates them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

LAGS = (-2, -1, 0, 1, 2)
MOST_FRAMES = 100_000  # more would not tell more
LEAST_FRAMES = 200
CLEAR = 1.5  # the best lag must explain so many times what the next best does
ABOVE_CHANCE = 4.0  # and so many times what unrelated numbers would


@dataclass(frozen=True, slots=True)
class Timing:
    """What the actions at each lag explain of the motion; `lag` None when that cannot be told."""

    lag: int | None  # frames that the picture comes after its action's row; 0 is right
    explained: dict[int, float]  # lag -> share of the variance, 0 to 1
    why: str = ""  # in words, when it cannot be told

    def facts(self) -> dict[str, Any]:
        """Lag and shares as JSON has them."""
        explained = {str(lag): round(share, 4) for lag, share in self.explained.items()}
        return {"lag": self.lag, "lag_explained": explained}


def estimate_timing(
    actions: Sequence[Numbers], motions: Sequence[Numbers], what: str = "actions"
) -> Timing:
    """From each episode's action vectors n a and motion n m, row 0 of no meaning in both.

    `what` names the vectors, where it is something else that should move the picture.
    """
    fresh_actions, fresh_motions = _fresh(actions), _fresh(motions)
    if sum(map(len, fresh_actions)) < LEAST_FRAMES:
        return Timing(None, {}, f"fewer than {LEAST_FRAMES} frames")
    explained = {lag: _explained(fresh_actions, fresh_motions, lag) for lag in LAGS}
    chance = max(1, actions[0].shape[1]) / sum(map(len, fresh_actions))
    ranked = sorted(LAGS, key=lambda lag: explained[lag], reverse=True)
    best, second = (explained[lag] for lag in ranked[:2])
    if best < ABOVE_CHANCE * chance:
        return Timing(None, explained, f"the picture hardly answers the {what}")
    if best < CLEAR * second:
        return Timing(None, explained, "several lags explain about as much")
    return Timing(ranked[0], explained)


def _fresh(episodes: Sequence[Numbers]) -> list[Numbers]:
    """What the two rows before each row do not predict, from row 3 on; the scale is 1."""
    past = [np.concatenate((e[2:-1], e[1:-2]), axis=1) for e in episodes if len(e) > 3]
    now = [e[3:] for e in episodes if len(e) > 3]
    if not now:
        return []
    x, y = np.concatenate(past), np.concatenate(now)
    x1 = np.concatenate((x, np.ones((len(x), 1))), axis=1)
    weights = np.linalg.lstsq(x1, y, rcond=None)[0]
    rest = y - x1 @ weights
    spread = rest.std(axis=0)
    known = spread > 1e-9
    rest = np.clip(rest[:, known] / spread[known], -5, 5)  # a cut or a restart is no evidence
    return np.split(rest, np.cumsum([len(e) for e in now])[:-1])


def _explained(actions: Sequence[Numbers], motions: Sequence[Numbers], lag: int) -> float:
    """Share of the motion's variance that the actions `lag` frames before explain linearly."""
    x, y = [], []
    for action, moved in zip(actions, motions, strict=True):
        if len(moved) > abs(lag):
            x.append(action[: len(action) - lag] if lag >= 0 else action[-lag:])
            y.append(moved[lag:] if lag >= 0 else moved[:lag])
    if not x or not x[0].shape[1] or not y[0].shape[1]:
        return 0.0
    given, wanted = np.concatenate(x), np.concatenate(y)
    weights = np.linalg.lstsq(given, wanted, rcond=None)[0]
    rest = wanted - given @ weights
    return float(max(0.0, 1 - (rest**2).sum() / max(1e-12, (wanted**2).sum())))
