"""The stage `events`: a network that says what happens to the numbers of the state.

Which changes occur is read from the data (`find_bins`): the most frequent ones first, a change or a
value that is set, whichever explains more frames; where there are too many, as of a speed, they are
the quantiles of what occurs. Then, with bins q of number n given the past and the numbers before n:

    L = mean over n of  −log p(q_n | past, action, q_1 … q_(n−1))

The latents have noise added, for those of play are not exact. What is measured is calibration (how
often each number changes, how often the network expects it), and how far a number is off after some
frames of its own draws on unseen play, beside the number that stays what it was.

Letters of its own: i numbers that are drawn, q bins.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, require_positive, to_toml
from worldmodel.model.context import Device
from worldmodel.model.events import CHANGE, HOLD, SET, Events, Recent
from worldmodel.model.objects import Objects
from worldmodel.model.state_configs import EventsConfig
from worldmodel.random_streams import arrays
from worldmodel.state_spec import StateSpec
from worldmodel.storage.files import write_atomically
from worldmodel.training.clips import LatentEpisodes
from worldmodel.training.object_ways import nats_by_rates, set_ways, way_rates, ways_of
from worldmodel.training.row_files import ReadSpeed
from worldmodel.training.runs import STATE_SPEC, load_autoencoder
from worldmodel.training.stage import LoopConfig
from worldmodel.training.state_episodes import StateEpisodes, check_actions
from worldmodel.training.torch_streams import host_stream, seed_default

HORIZONS = (16, 64, 256)  # frames after which the error of a number is measured
WALKS = 128  # stretches of unseen play
EXACT = 1e-3  # of a number's range, or this itself: two values are the same
EXACT_DEGREES = 0.05
COVERED = 0.9  # share of the frames with a change that bins name exactly; else they are quantiles
RARE = 2  # frames in which a change occurs at least, to have a bin of its own
MEASURED = 8192  # unseen frames that calibration is measured on


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsTraining:
    """Everything that the stage `events` reads from its TOML file."""

    stage: Literal["events"]
    data: Path
    heldout: Path
    autoencoder: Path  # whose latents are what is seen
    actions: ActionSpec
    model: EventsConfig
    loop: LoopConfig
    batch: int = 256
    latent_noise: float = 0.3
    latent_dropout: float = 0.1  # share of latents that are hidden

    def __post_init__(self) -> None:
        require_positive(self, "batch")
        if self.loop.dtype == "bfloat16":
            raise ConfigError(f"[loop] dtype = {self.loop.dtype!r}: numbers need float32")
        check_actions(self.actions, self.model.buttons, self.model.mouse_degrees)
        if not 0 <= self.latent_dropout < 1 or self.latent_noise < 0:
            raise ConfigError(
                f"latent_dropout ({self.latent_dropout}) must be in [0, 1), latent_noise "
                f"({self.latent_noise}) at least 0"
            )


@dataclass(frozen=True, slots=True)
class EventsPlay:
    """States, actions and latents of a data set, frame by frame."""

    states: StateEpisodes
    latents: Tensor  # f c h w, float16, on disk
    begins: Tensor  # frames with a whole past behind them, and a frame after them in their episode

    @classmethod
    def load(cls, folder: Path, cache: Path, config: EventsTraining) -> "EventsPlay":
        """Encode a folder's frames, or read what an earlier stage has left in `cache`."""
        autoencoder = load_autoencoder(config.autoencoder)
        latents = LatentEpisodes.encode(folder, autoencoder, config.actions, cache)
        if autoencoder.latent_shape != config.model.latent_shape:
            raise ConfigError(
                f"[model] expects latents {config.model.latent_shape}, the autoencoder makes "
                f"{autoencoder.latent_shape}"
            )
        states = StateEpisodes.load(folder, config.actions)
        return cls(states, latents.latents, begins(states.starts, config.model.frames))

    def recent(self, index: Tensor, config: EventsConfig, reading: ReadSpeed) -> Recent:
        """The past of frames b, itself the last."""
        past = index[:, None] + torch.arange(1 - config.frames, 1)
        seen = past[:, config.frames - config.seen :]
        latents = reading.gather(self.latents, seen, "cpu").float()
        return Recent(self.states.states[past], self.states.actions[past], latents)


class EventsStage:
    """Holds the play and the network; gives the loop its loss."""

    def __init__(self, config: EventsTraining, folder: Path, device: Device = "cpu") -> None:
        del device  # it is small, and draws on the CPU in play
        self.config, self.reading = config, ReadSpeed()
        self.play = EventsPlay.load(config.data, folder.parent / "latents.safetensors", config)
        unseen = folder.parent / "unseen_latents.safetensors"
        self.heldout = EventsPlay.load(config.heldout, unseen, config)
        data = self.play.states
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / STATE_SPEC, to_toml(data.spec).encode())
        seed_default(config.loop.seed, config.stage, "weights")
        self.student = Events(config.model, data.spec)
        if not len(self.play.begins):
            raise ConfigError(f"{config.data}: no episode has {config.model.frames + 1} frames")
        set_bins(self.student, data)
        self.ways: Tensor | None = None
        if self.student.objects is not None:
            set_ways(self.student.objects, data.states, data.starts)
            self.ways = ways_of(self.student.objects, data.states, data.starts)
        self.bins = bins_of(self.student, data)
        self.heldout_bins = bins_of(self.student, self.heldout.states)
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False)

    def judge(self, figures: Mapping[str, float | None]) -> tuple[str, dict[str, float], bool]:
        """Whether it expects what happens as often as it happens, on unseen play."""
        numbers = {k: float(v) for k, v in figures.items() if v is not None}
        gained, ways = numbers.get("gained", math.nan), numbers.get("ways_gained", math.nan)
        sentence = f"says {100 * gained:.0f} % of what rates alone leave open, on unseen frames"
        if self.student.objects is not None:
            sentence += f", {100 * ways:.0f} % of it where objects go"
        if not gained > 0 or ways <= 0:
            return f"FAILED: {sentence}: no better than the rates of what happens", numbers, True
        return f"good: {sentence}", numbers, False

    def compile(self) -> None:
        """Nothing: the network is small."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy of what happened in the frames after a batch of pasts."""
        del step
        host = host_stream(generator, "moments")
        chosen = torch.randint(len(self.play.begins), (self.config.batch,), generator=host)
        index = self.play.begins[chosen]
        recent = self.play.recent(index, self.config.model, self.reading)
        latents = recent.latents
        latents = latents + self.config.latent_noise * torch.randn(latents.shape, generator=host)
        kept = torch.rand(latents.shape, generator=host) >= self.config.latent_dropout
        recent = Recent(recent.states, recent.actions, latents * kept)
        actions = self.play.states.actions[index + 1]
        around = self.student.around(recent, actions)
        hidden = self.student.hidden(recent, actions, around)
        losses = self.student.loss(hidden, self.bins[index + 1])
        figures = {"bits": losses.detach().sum() / math.log(2)}
        if self.student.objects is None or self.ways is None or around is None:
            return losses.sum(), figures
        logits = self.student.objects.logits(around, hidden, recent.states)
        ways = self.ways[index + 1]
        error = F.cross_entropy(logits.flatten(0, 1), ways.flatten(), ignore_index=-1)
        objects = error * ways.shape[1]
        return losses.sum() + objects, figures | {"way_bits": objects.detach() / math.log(2)}

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Calibration and errors on unseen play."""
        del folder, step
        figures = measure_calibration(self.ema, self.heldout, self.heldout_bins, self.bins)
        if self.ema.objects is not None and self.ways is not None:
            rates = way_rates(self.ema.objects, self.play.states.states, self.ways)
            figures |= measure_ways(self.ema, self.heldout, rates)
        return figures | measure_numbers(self.ema, self.heldout)


def begins(starts: Tensor, frames: int) -> Tensor:
    """Frames of all episodes with `frames` frames up to them and one after them."""
    spans = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    parts = [torch.arange(first + frames - 1, end - 1) for first, end in spans]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)


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
        off = off.masked_fill(model.kinds > HOLD, math.inf)
        exact = torch.tensor([_exact(data.spec, i) for i in model.drawn], dtype=off.dtype)[:, None]
        near = torch.where(off <= exact, torch.zeros_like(off), off)
        known = torch.isfinite(near.amin(dim=-1))
        found[later] = torch.where(known, near.argmin(dim=-1), -1)
    return found


def _exact(spec: StateSpec, index: int) -> float:
    number = spec.numbers[spec.names[index]]
    return EXACT_DEGREES if number.kind == "heading" else EXACT


def measure_calibration(
    model: Events, play: EventsPlay, bins: Tensor, taught: Tensor
) -> dict[str, float]:
    """How often each number changes and is expected to; what the network knows beyond rates.

    `taught`: the bins f i of the training data, whose rates are what a coin would know.
    """
    spread = _spread(play)
    cost, plain = 0.0, 0.0
    expected = torch.zeros(len(model.drawn), model.config.bins)
    happened = bins[spread + 1]
    rates = _rates(taught, model.config.bins)
    for index in spread.split(1024):
        recent = play.recent(index, model.config, ReadSpeed())
        actions = play.states.actions[index + 1]
        hidden = model.hidden(recent, actions, model.around(recent, actions))
        expected += model.probabilities(hidden, bins[index + 1]).sum(dim=0)
        cost += float(model.loss(hidden, bins[index + 1]).sum()) * len(index)
        true = bins[index + 1].clamp(min=0)
        plain -= float(rates.gather(1, true.T).clamp(min=1e-6).log().sum())
    figures = {"bits": cost / len(spread) / math.log(2), "gained": 1 - cost / plain}
    for row, i in enumerate(model.drawn):
        name = model.spec.names[i]
        figures[f"{name}_rate"] = float((happened[:, row] > 0).float().mean())
        figures[f"{name}_expected"] = float(1 - expected[row, 0] / len(spread))
    return figures


@torch.no_grad()
def measure_ways(model: Events, play: EventsPlay, rates: Tensor) -> dict[str, float]:
    """What the network knows of where objects go beyond the `rates` of their ways (kinds 2 q)."""
    assert model.objects is not None
    ways = ways_of(model.objects, play.states.states, play.states.starts)
    cost, plain = 0.0, 0.0
    for index in _spread(play).split(1024):
        recent = play.recent(index, model.config, ReadSpeed())
        actions, true = play.states.actions[index + 1], ways[index + 1]
        around = model.around(recent, actions)
        assert around is not None
        hidden = model.hidden(recent, actions, around)
        logits = model.objects.logits(around, hidden, recent.states).flatten(0, 1)
        cost += float(F.cross_entropy(logits, true.flatten(), ignore_index=-1, reduction="sum"))
        plain += nats_by_rates(model.objects, rates, recent.states[:, -1], true)
    return {"ways_gained": 1 - cost / plain if plain else math.nan}


def _spread(play: EventsPlay) -> Tensor:
    """Frames of all the play, so many as are measured."""
    return play.begins[:: max(1, len(play.begins) // MEASURED)][:MEASURED]


def _rates(bins: Tensor, count: int) -> Tensor:
    """How often each bin of each number happens, i q."""
    columns = [torch.bincount(column[column >= 0], minlength=count) for column in bins.T]
    rates = torch.stack(columns).float()
    return rates / rates.sum(dim=1, keepdim=True).clamp(min=1)


@torch.no_grad()
def measure_numbers(model: Events, play: EventsPlay) -> dict[str, float]:
    """Mean error of every number after some frames of its own draws, seeing the game's frames.

    Beside it, as NAME_F_still, the error of the number that stays what it was.
    """
    figures: dict[str, float] = {}
    spec, config, reading = play.states.spec, model.config, ReadSpeed()
    for horizon in HORIZONS:
        ends = play.begins + horizon
        inside = ends < play.states.starts[-1]
        episode = torch.searchsorted(play.states.starts, play.begins, right=True)
        inside &= torch.searchsorted(play.states.starts, ends, right=True) == episode
        chosen = play.begins[inside]
        if not len(chosen):
            continue
        chosen = chosen[torch.linspace(0, len(chosen) - 1, min(WALKS, len(chosen))).long()]
        recent, first = play.recent(chosen, config, reading), play.states.states[chosen]
        for f in range(1, horizon + 1):
            chance = arrays("events", "measured", horizon, f).random((len(chosen), model.chances))
            actions = play.states.actions[chosen + f]
            last = recent.states[:, -1]
            states = model(recent, last, actions, torch.from_numpy(chance).float())
            recent = recent.after(states, actions)
            recent = recent.seeing(reading.gather(play.latents, chosen + f, "cpu").float())
        true = play.states.states[chosen + horizon]
        off, still = (model.wrapped(x - true).abs() for x in (recent.states[:, -1], first))
        for i in model.drawn:
            figures[f"{spec.names[i]}_{horizon}"] = float(off[:, i].nanmean())
            figures[f"{spec.names[i]}_{horizon}_still"] = float(still[:, i].nanmean())
        if model.objects is not None:
            figures |= _objects_there(model.objects, recent.states[:, -1], true, horizon)
    return figures


def _objects_there(objects: Objects, drawn: Tensor, true: Tensor, horizon: int) -> dict[str, float]:
    """How many objects of each kind are there after some frames: drawn, and in the game."""
    figures = {}
    for kind, name in enumerate(objects.config.kinds):
        own = [number for number, k in enumerate(objects.kinds) if k == kind]
        for suffix, states in (("", drawn), ("_game", true)):
            there = torch.isfinite(objects.places(states)[:, own]).all(dim=-1)
            figures[f"{name}s_{horizon}{suffix}"] = float(there.float().sum(dim=1).mean())
    return figures
