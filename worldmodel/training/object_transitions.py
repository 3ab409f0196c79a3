"""The transitions of a state's objects, read from play (`model.objects`).

Every frame in which an object goes on as before is explained by GO_ON. Of the others, the most
frequent steps become transitions, then the most frequent places at which objects come; what
is rarer is taught as the nearest of them.

Letters of its own: o objects, q transitions, two x and y, j moments.
"""

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.model.objects import COME, GO_ON, GONE, MOVE, Objects

SAME = 1.5  # units: a step that differs by less is the same
PLACE = 4.0  # units: so is a place at which objects come
AT_ONCE = 8192  # frames
ROW = 1 << 24  # cells, more than any level has


def set_transitions(objects: Objects, states: Tensor, starts: Tensor) -> None:
    """Give a network the transitions that occur in states f v of episodes with these starts."""
    places = objects.places(states).numpy()
    later = np.ones(len(places), bool)
    later[starts[:-1].numpy()] = False
    later[np.minimum(starts[:-1].numpy() + 1, len(places) - 1)] = False
    now = np.nonzero(later)[0]
    after, here, before = places[now], places[now - 1], places[now - 2]
    transitions = objects.sorts.shape[1]
    for kind in range(len(objects.sorts)):
        own = [number for number, k in enumerate(objects.kinds) if k == kind]
        a, h, b = (x[:, own].reshape(-1, 2) for x in (after, here, before))
        step, last = a - h, h - b
        goes_on = np.abs(step - last).max(axis=1) <= SAME  # False where one is not known
        goes_on &= np.abs(step).max(axis=1) > SAME
        moves = np.isfinite(step).all(axis=1) & ~goes_on
        comes = np.isfinite(a).all(axis=1) & ~np.isfinite(h).all(axis=1)
        steps = _frequent(step[moves], SAME, transitions // 2)
        spots = _frequent(a[comes], PLACE, transitions - 2 - len(steps))
        found = [(GONE, (0.0, 0.0)), (GO_ON, (0.0, 0.0))]
        found += [(MOVE, v) for v in steps] + [(COME, v) for v in spots]
        for column, (sort, value) in enumerate(found):
            objects.sorts[kind, column] = sort
            objects.values[kind, column] = torch.tensor(value)


def _frequent(found: NDArray[np.float32], reach: float, most: int) -> list[tuple[float, float]]:
    """At most so many of the vectors j 2, the most frequent first, no two within `reach`."""
    chosen: list[tuple[float, float]] = []
    left = found
    while len(left) and len(chosen) < most:
        cells = np.round(left / reach).astype(np.int64)
        _, firsts, counts = np.unique(
            cells @ (ROW, 1), return_index=True, return_counts=True
        )  # of one number a cell, for sorting pairs takes ten times as long
        usual = cells[firsts[counts.argmax()]] * reach
        near = np.abs(left - usual).max(axis=1) <= reach
        x, y = np.median(left[near], axis=0)
        chosen.append((float(x), float(y)))
        left = left[~near & (np.abs(left - (x, y)).max(axis=1) > reach)]
    return chosen


@torch.no_grad()
def transitions_of(objects: Objects, states: Tensor, starts: Tensor) -> Tensor:
    """The transition nearest to what each object did into every frame: f o, −1 unknown."""
    found = torch.full((len(states), len(objects.kinds)), -1)
    later = torch.ones(len(states), dtype=torch.bool)
    later[starts[:-1]] = False
    later[(starts[:-1] + 1).clamp(max=len(states) - 1)] = False
    sorts = objects.sorts[objects.kinds]
    for now in torch.nonzero(later)[:, 0].split(AT_ONCE):
        true = objects.places(states[now])[:, :, None]
        past = torch.stack((states[now - 2], states[now - 1]), dim=1)
        off = (objects.candidates(past) - true).norm(dim=-1)
        off = torch.where((sorts == GO_ON) & (off <= 2 * SAME), off / 8, off)
        gone = ~torch.isfinite(true).all(dim=-1)  # j o 1
        off = torch.nan_to_num(off, nan=torch.inf)
        off = torch.where(gone, torch.where(sorts == GONE, 0.0, torch.inf), off)
        transition = off.argmin(dim=-1)
        found[now] = torch.where(torch.isfinite(off.amin(dim=-1)), transition, -1)
    return found


@torch.no_grad()
def transition_rates(objects: Objects, states: Tensor, transitions: Tensor) -> Tensor:
    """How often each transition happens, by kind and by whether one was there: kinds 2 q."""
    kinds, count = objects.sorts.shape
    here, kind = _here(objects, states[:-1]), torch.tensor(objects.kinds).expand_as(transitions[1:])
    known = transitions[1:] >= 0
    cells = (kind * 2 + here)[known] * count + transitions[1:][known]
    rates = torch.bincount(cells, minlength=kinds * 2 * count)
    rates = rearrange(rates.float(), "(kinds two q) -> kinds two q", kinds=kinds, two=2)
    return rates / rates.sum(dim=-1, keepdim=True).clamp(min=1)


def nats_by_rates(objects: Objects, rates: Tensor, before: Tensor, transitions: Tensor) -> float:
    """What transitions j o after states j v cost somebody who knows their rates alone, in all."""
    known = transitions >= 0
    kind = torch.tensor(objects.kinds).expand_as(transitions)
    likely = rates[kind[known], _here(objects, before)[known], transitions[known]]
    return -float(likely.clamp(min=1e-6).log().sum())


def _here(objects: Objects, states: Tensor) -> Tensor:
    """Whether each object is there, 0 or 1: j o."""
    return torch.isfinite(objects.places(states)).all(dim=-1).long()
