"""What a stage draws over many batches, and whether any of it has to do with any other.

A stage is trained by the real loop; its network, of which only the numbers that it is shown matter
here, is replaced by an eye that answers zero.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.tiny_recipe import KillAfter
from worldmodel.training.stage import LoopConfig, Stage
from worldmodel.training.train_loop import train

CHANCE = 1e-6  # of calling one family of pairs related that is not


@dataclass
class Watch:
    """What was drawn, batch by batch."""

    rows: list[dict[str, Tensor]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)  # as torch takes them on a CPU

    def begin(self) -> None:
        self.rows.append({})

    def see(self, **values: Tensor) -> None:
        """Of a batch, the first of each name counts."""
        for name, value in values.items():
            self.rows[-1].setdefault(name, value.detach().flatten().double())

    @property
    def columns(self) -> dict[str, Tensor]:
        """Each name's values: batches n, values of a batch k; those left out that never change."""
        every = {name: torch.stack([row[name] for row in self.rows]) for name in self.rows[0]}
        return {name: values for name, values in every.items() if len(values.unique()) > 1}


class Watched(KillAfter):
    """A stage whose losses are drawn and not learned from."""

    def __init__(self, stage: Stage, watch: Watch) -> None:
        super().__init__(stage, -1)
        self.watch = watch

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        self.watch.begin()
        with torch.no_grad():
            self.stage.loss(step, generator)
        trained = next(p for p in self.student.parameters() if p.requires_grad)
        return 0.0 * trained.sum(), {}

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        del folder, step
        return {}


def watch_training(
    stage: Stage, loop: LoopConfig, folder: Path, watch: Watch, batches: int, micro: int = 1
) -> None:
    """Let the loop draw so many batches."""
    loop = replace(loop, steps=batches // micro, micro_batches=micro, muon_learning_rate=0.0)
    train(Watched(stage, watch), replace(loop, save_every=10**9, log_every=10**9), folder)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Sees every seed that torch and Python are given."""
    watch = Watch()
    given, seed_default, seed_random = torch.Generator, torch.manual_seed, random.Random.seed

    class Generator(given):  # type: ignore[misc,valid-type]  # a class all the same
        def manual_seed(self, seed: int) -> Any:
            watch.seeds.append(seed % 2**32)
            return super().manual_seed(seed)

    def manual_seed(seed: int) -> torch.Generator:
        watch.seeds.append(seed % 2**32)
        return seed_default(seed)

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if isinstance(a, int):
            watch.seeds.append(a % 2**32)
        seed_random(self, a, version)

    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch, "manual_seed", manual_seed)
    monkeypatch.setattr(random.Random, "seed", seed)
    yield watch
    monkeypatch.undo()


def unblended(noisy: Tensor, clean: Tensor, sigmas: Tensor) -> Tensor:
    """The noise in x_σ of clips b ... f c h w, a few numbers of each: b 2."""
    level = sigmas[..., None, None, None].clamp(min=1e-6)
    return ((noisy - (1 - level) * clean) / level).flatten(1)[:, -2:]


def with_sizes(noise: Tensor) -> Tensor:
    """Numbers and how large they are: a size that follows from something shows in no sign."""
    return torch.stack((noise.flatten(), noise.flatten().abs()))


def ranks(values: Tensor) -> Tensor:
    """Each column n k as ranks of mean 0 and deviation 1, equals alike; constant ones left out."""
    columns = [torch.unique(column, return_inverse=True)[1].double() for column in values.T]
    spread = torch.stack([c - c.mean() for c in columns if len(c.unique()) > 1], dim=1)
    return spread / spread.square().mean(dim=0).sqrt()


def relation(a: Tensor, b: Tensor, apart: int, *, same: bool) -> tuple[float, float]:
    """The strongest rank correlation of columns, a's row n + apart beside b's row n; the limit."""
    found = (ranks(a[apart:]).T @ ranks(b[: len(b) - apart]) / (len(a) - apart)).abs()
    if same and not apart:
        found.fill_diagonal_(0.0)
    limit = NormalDist().inv_cdf(1 - CHANCE / (2 * found.numel())) / (len(a) - apart) ** 0.5
    return float(found.max()), limit


def assert_independent(columns: dict[str, Tensor], aparts: tuple[int, ...]) -> None:
    """In a batch, and between batches that lie so far apart, nothing goes with anything."""
    pairs = [(a, b, 0) for a, b in combinations(columns, 2)] + [(a, a, 0) for a in columns]
    pairs += [(a, b, apart) for (a, b), apart in product(product(columns, repeat=2), aparts)]
    for a, b, apart in pairs:
        strongest, limit = relation(columns[a], columns[b], apart, same=a == b)
        assert limit < 0.4, f"{a}, {b}: too few batches to tell"
        assert strongest < limit, f"{a} and {b}, {apart} batches apart: {strongest:.2f}"


def assert_no_seed_twice(seeds: list[int]) -> None:
    """Whatever was seeded, in all batches."""
    twice = sorted(seed for seed, times in Counter(seeds).items() if times > 1)
    assert not twice, f"{len(twice)} of {len(seeds)} seeds are given twice, first {twice[0]}"


def shares(places: Tensor, chosen: Tensor) -> list[float]:
    """Of the clips of each third of the places, the share for which a yes was drawn."""
    order = places.flatten().argsort(stable=True)
    return [float(part.float().mean()) for part in chosen.flatten()[order].tensor_split(3)]


def assert_same_shares(places: Tensor, chosen: Tensor, share: float) -> None:
    """As many yes in every third of the places as were asked for."""
    spread = (share * (1 - share) * 3 / places.numel()) ** 0.5
    found = shares(places, chosen)
    assert found == pytest.approx([share] * 3, abs=5 * spread), found
