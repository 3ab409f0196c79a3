"""Which changes of a state's numbers occur, read from play (`model.events`).

The most frequent ones first, a change or a value that is set, whichever explains more frames; where
there are too many, as of a speed, they are the quantiles of what occurs.

Letters of its own: i numbers that are drawn, q bins.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.model.events import CHANGE, HOLD, SET, Events
from worldmodel.state_spec import StateSpec
from worldmodel.training.state_episodes import StateEpisodes

EXACT = 1e-3  # of a number's range, or this itself: two values are the same
EXACT_DEGREES = 0.05
COVERED = 0.9  # share of the frames with a change that bins name exactly; else they are quantiles
RARE = 2  # frames in which a change occurs at least, to have a bin of its own


def set_bins(model: Events, data: StateEpisodes) -> None:
    """Give a network the changes that occur in the data."""
    later = _later(data.starts)
    before, after = data.states[later - 1], data.states[later]
    base = model.base(before, data.actions[later])
    change = model.wrapped(after - base)
    numbers = list(data.spec.numbers.values())
    for row, i in enumerate(model.drawn):
        number = numbers[i]
        held = None
        if number.kind == "heading":
            held = model.wrapped(after - before)[:, i].numpy()
        exact = EXACT_DEGREES if number.kind == "heading" else EXACT
        span = max(1.0, number.high - number.low) if number.kind != "heading" else 1.0
        is_free = number.kind in ("number", "velocity", "position")
        found = find_bins(
            change[:, i].numpy(),
            after[:, i].numpy(),
            held,
            model.config.bins,
            exact * span if is_free else exact,
        )
        for column, (kind, value) in enumerate(found):
            model.kinds[row, column], model.values[row, column] = kind, value


def find_bins(
    change: NDArray[np.float32],
    after: NDArray[np.float32],
    held: NDArray[np.float32] | None,
    bins: int,
    exact: float,
) -> list[tuple[int, float]]:
    """Kinds and values of at most `bins` bins for changes f that led to values f.

    `held`: the changes f from the number as it was, where it goes on by itself.
    """
    known = np.isfinite(change) & np.isfinite(after)
    left = known & (np.abs(change) > exact)
    moving = left.copy()
    found: list[tuple[int, float]] = [(CHANGE, 0.0)]
    if held is not None:
        found.append((HOLD, 0.0))
        left &= ~(np.abs(held) <= exact)
    changes, values = np.round(change / exact) * exact, np.round(after / exact) * exact
    while len(found) < bins and left.any():
        best = [(*_most(changes[left]), CHANGE), (*_most(values[left]), SET)]
        count, value, kind = max(best, key=lambda one: one[0])
        if count < RARE:
            break
        near = np.abs((change if kind == CHANGE else after) - value) <= exact
        value = float(np.median((change if kind == CHANGE else after)[left & near]))
        found.append((kind, value))
        left &= ~near
    if not moving.any() or 1 - left.sum() / moving.sum() >= COVERED:
        return found
    return _quantiles(change[known], after[known], bins, exact)


def _quantiles(
    change: NDArray[np.float32], after: NDArray[np.float32], bins: int, exact: float
) -> list[tuple[int, float]]:
    """Bins for a number that changes by any amount: of its changes, or of its values."""
    parts = (np.arange(bins - 1) + 0.5) / (bins - 1)
    still = np.abs(change) <= exact
    options = []
    for kind, of in ((CHANGE, change), (SET, after)):
        centres = np.unique(np.quantile(of[~still], parts))
        off = np.abs(of[~still, None] - centres).min(axis=1).mean()
        options.append((float(off), [(kind, float(centre)) for centre in centres]))
    return [(CHANGE, 0.0), *min(options, key=lambda one: one[0])[1]]


def _most(values: NDArray[np.floating[Any]]) -> tuple[int, float]:
    """How often the most frequent value occurs, and the value."""
    found, counts = np.unique(values, return_counts=True)
    best = int(counts.argmax())
    return int(counts[best]), float(found[best])


def _later(starts: Tensor) -> Tensor:
    """All frames but the first of each episode."""
    inside = torch.ones(int(starts[-1]), dtype=torch.bool)
    inside[starts[:-1]] = False
    return torch.nonzero(inside)[:, 0]


@torch.no_grad()
def bins_of(model: Events, data: StateEpisodes) -> Tensor:
    """Which bin happened in every frame: f i, −1 where nobody knows.

    The first of those that give the number to the game's own; else the nearest.
    """
    found = torch.full((len(data.states), len(model.drawn)), -1)
    for later in _later(data.starts).split(8192):
        made = model.candidates(data.states[later - 1], data.actions[later])
        true = data.states[later][:, model.drawn]
        off = torch.stack(
            [
                model.shorter(made[:, row] - true[:, row, None], i).abs()
                for row, i in enumerate(model.drawn)
            ],
            dim=1,
        )
        possible = model.possible(data.states[later - 1], data.actions[later])
        off = off.masked_fill((model.kinds > HOLD) | ~possible, math.inf)
        exact = torch.tensor([_exact(data.spec, i) for i in model.drawn], dtype=off.dtype)[:, None]
        near = torch.where(off <= exact, torch.zeros_like(off), off)
        known = torch.isfinite(near.amin(dim=-1))
        found[later] = torch.where(known, near.argmin(dim=-1), -1)
    return found


def _exact(spec: StateSpec, index: int) -> float:
    number = spec.numbers[spec.names[index]]
    return EXACT_DEGREES if number.kind == "heading" else EXACT
