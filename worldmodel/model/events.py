"""What happens to the numbers of a state: hit or not, one shot less, dead, a life begun anew.

    numbers and actions of the last frames, what was seen, the action  ->  numbers of the next frame

Every number has a few *bins*, the changes that occur in the data, each of one kind:

    change   s ← base + v        one shot less, a hit of so much, speed gained
    set      s ← v               full again, as at the beginning of a life
    hold     s ← s               of a heading: the mouse did not turn it

with `base` the number as it goes on by itself: a heading turned by the mouse, a phase one step on,
any other as it was. A network gives the probabilities of the bins; which of them happens is drawn,
not averaged. The numbers of a frame are drawn one after the other, each given those before it, so
that a death and what begins anew with it come together. Objects have transitions instead of bins
(`model.objects`), and all else is given of where they are. All in fp32.

Letters of its own: i numbers that are drawn, s frames of latents, q bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.config import ConfigError
from worldmodel.model.objects import Objects
from worldmodel.model.state_configs import ConditionNumber, EventsConfig
from worldmodel.model.state_numbers import encode_state_numbers
from worldmodel.state_spec import FULL_TURN, StateSpec

CHANGE, SET, HOLD, UNUSED = range(4)  # kinds of bins
LARGE = 1e9  # logit of what never happens, negative
HALF = 0.5  # of a count
HAIR = 1e-4  # of a turn's step: rounding, and not a reason for one more


@dataclass(frozen=True, slots=True)
class Recent:
    """The last frames, the latest last."""

    states: Tensor  # b f v
    actions: Tensor  # b f (k+2), each led to its frame
    latents: Tensor  # b s c h w

    def after(self, states: Tensor, actions: Tensor) -> "Recent":
        """One frame on: states b v, actions b (k+2). Its latents come later (`seeing`)."""
        return Recent(
            torch.cat((self.states[:, 1:], states[:, None]), dim=1),
            torch.cat((self.actions[:, 1:], actions[:, None]), dim=1),
            self.latents,
        )

    def seeing(self, latents: Tensor) -> "Recent":
        """With the latents b c h w of the last frame."""
        seen = torch.cat((self.latents[:, 1:], latents[:, None]), dim=1)
        return Recent(self.states, self.actions, seen)


class Events(nn.Module):
    """Draws the next numbers of a state."""

    kinds: Tensor  # i q
    values: Tensor  # i q
    low: Tensor  # v, the range that the data has
    high: Tensor  # n

    def __init__(self, config: EventsConfig, spec: StateSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        for name in config.moved:
            spec.index(name)
        numbers = spec.numbers
        placed = config.objects.numbers if config.objects else ()
        not_drawn = {*config.moved, *placed}
        self.drawn = [i for i, name in enumerate(numbers) if name not in not_drawn]
        self.follows = {spec.index(flag): spec.index(of) for flag, of in config.follows.items()}
        for flag, of in config.follows.items():
            found = (numbers[flag].kind, numbers[of].kind)
            if found != ("flag", "count") or not {flag, of}.isdisjoint(not_drawn):
                raise ConfigError(
                    f"follows = {{{flag} = {of!r}}}: expected a flag and a count that are drawn, "
                    f"found a {found[0]} and a {found[1]}"
                )
        self.own = [i for i, name in enumerate(numbers) if name not in placed]  # the player's
        self.state_numbers = tuple(
            ConditionNumber(name=name, kind=number.kind, low=number.low, high=number.high)
            for name, number in numbers.items()
            if name not in placed
        )
        g, d = len(self.drawn), config.width
        features = sum(number.features for number in self.state_numbers)
        frames, action = config.frames, config.buttons + 2
        area = config.latent_channels * config.latent_height * config.latent_width
        self.enter_numbers = nn.Linear(features + 2 * (frames - 1) * len(self.own), d)
        self.enter_actions = nn.Linear((frames + 1) * action, d)
        self.enter_latents = nn.Linear(config.seen * area, d)
        self.objects: Objects | None = None
        if config.objects is not None:
            self.objects = Objects(config.objects, spec, d, config.transitions)
            self.enter_objects = nn.Linear(d, d)
        parts = 3 if self.objects is None else 4
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(parts * d, d), nn.SiLU(), nn.Linear(d, d))
        self.branch = nn.ModuleList(nn.Linear(d, d) for _ in self.drawn)
        self.before = nn.Parameter(torch.zeros(g, g, config.bins, d))  # of earlier numbers' bins
        self.leave = nn.ModuleList(nn.Linear(d, config.bins) for _ in self.drawn)
        kinds = torch.full((g, config.bins), UNUSED, dtype=torch.int64)
        kinds[:, 0] = CHANGE
        self.register_buffer("kinds", kinds)
        self.register_buffer("values", torch.zeros(g, config.bins))
        self.register_buffer("low", torch.tensor([n.low for n in numbers.values()]))
        self.register_buffer("high", torch.tensor([n.high for n in numbers.values()]))

    def hidden(self, recent: Recent, actions: Tensor, around: Tensor | None = None) -> Tensor:
        """What the network makes of the last frames and the next action b (k+2): b d.

        `around`: what it makes of the objects, if there are any.
        """
        states, names = torch.nan_to_num(recent.states), self.spec.names
        last, span = states[:, -1:], (self.high - self.low).clamp(min=1e-6)[self.own]
        change = self.wrapped(states[:, :-1] - last)[..., self.own]
        history = torch.cat((torch.tanh(change), change / span), dim=-1).flatten(1)
        numbers = torch.cat(
            (encode_state_numbers(self.state_numbers, names, recent.states[:, -1]), history), dim=-1
        )
        done = torch.cat((recent.actions, actions[:, None]), dim=1).flatten(1)
        parts = [
            self.enter_numbers(numbers),
            self.enter_actions(done),
            self.enter_latents(recent.latents.flatten(1)),
        ]
        if around is not None:
            parts.append(self.enter_objects(around).sum(dim=1))
        return self.mix(torch.cat(parts, dim=-1))

    def around(self, recent: Recent, actions: Tensor) -> Tensor | None:
        """What each object does, seen from where the next actions turn the player to: b o d."""
        if self.objects is None:
            return None
        heading = self.spec.index(self.objects.config.viewer[2])
        turned = self.base(recent.states[:, -1], actions)[:, heading]
        return self.objects.embed(recent.states, turned)

    @property
    def chances(self) -> int:
        """How many chances a frame takes: of every number that is drawn, then of every object."""
        return len(self.drawn) + (len(self.objects.kinds) if self.objects else 0)

    def loss(self, hidden: Tensor, bins: Tensor) -> Tensor:
        """Cross entropy of the bins b i that happened, −1 where nobody knows: i."""
        losses = []
        known = bins.clamp(min=0).unbind(1)
        for number in range(len(self.drawn)):
            logits = self._logits(hidden, known[:number])
            error = F.cross_entropy(logits, known[number], reduction="none")
            is_known = (bins[:, number] >= 0).float()
            losses.append((error * is_known).sum() / is_known.sum().clamp(min=1))
        return torch.stack(losses)

    def probabilities(self, hidden: Tensor, bins: Tensor) -> Tensor:
        """How likely each number's bins are, given the true bins b i of those before it: b i q."""
        known = bins.clamp(min=0).unbind(1)
        parts = [self._logits(hidden, known[:n]).softmax(-1) for n in range(len(self.drawn))]
        return torch.stack(parts, dim=1)

    def draw(self, hidden: Tensor, chance: Tensor, possible: Tensor) -> Tensor:
        """Bins b i that happen, of those b i q that are possible, by chances b i from 0 to 1."""
        bins: list[Tensor] = []
        for number in range(len(self.drawn)):
            logits = self._logits(hidden, bins).masked_fill(~possible[:, number], -LARGE)
            likely = logits.softmax(-1).cumsum(-1)
            drawn = (likely < chance[:, number, None] * likely[:, -1:]).sum(dim=-1)
            bins.append(drawn.clamp(max=self.config.bins - 1))
        return torch.stack(bins, dim=1)

    def forward(self, recent: Recent, moved: Tensor, actions: Tensor, chance: Tensor) -> Tensor:
        """The next states b v.

        `moved` b v holds the numbers that motion has moved already, and the others as they were.
        """
        around, drawn = self.around(recent, actions), len(self.drawn)
        hidden = self.hidden(recent, actions, around)
        last = recent.states[:, -1]
        possible = self.possible(last, actions) & ~self._overdue(recent, actions)
        bins = self.draw(hidden, chance[:, :drawn], possible)
        candidates = self.candidates(last, actions)  # b i q
        values = candidates.gather(2, bins[..., None])[..., 0]
        columns = list(moved.unbind(-1))
        for i, column in zip(self.drawn, values.unbind(-1), strict=True):
            columns[i] = column
        for flag, of in self.follows.items():  # dead is who has no health: never a chance of it
            columns[flag] = (columns[of] < self.low[of] + HALF).to(columns[flag])
        if self.objects is not None and around is not None:
            logits = self.objects.logits(around, hidden, recent.states)
            places = self.objects.draw(logits, chance[:, drawn:], recent.states).flatten(1)
            for i, column in zip(self.objects.columns, places.unbind(-1), strict=True):
                columns[i] = column
        return torch.stack(columns, dim=-1)

    def candidates(self, states: Tensor, actions: Tensor) -> Tensor:
        """What each bin would make of states b v with the next actions b (k+2): b i q."""
        values = self._values(states, actions)
        low, high = (x[self.drawn, None] for x in (self.low, self.high))
        bounded = torch.minimum(torch.maximum(values, low), high)
        kinds = [self.spec.numbers[self.spec.names[i]].kind for i in self.drawn]
        columns = []
        for number, kind in enumerate(kinds):
            column = bounded[:, number]
            if kind == "heading":
                column = _remainder(values[:, number], FULL_TURN)
            elif kind == "phase":
                period = high[number] - low[number]
                column = low[number] + _remainder(values[:, number] - low[number], period)
            columns.append(column)
        return torch.stack(columns, dim=1)

    def possible(self, states: Tensor, actions: Tensor) -> Tensor:
        """Which bins keep a count or a flag within its range: b i q.

        A hit of 20 that meets a health of 5 is not a hit of 20: it sets the health to 0, which is
        a bin of its own, and another event.
        """
        values, numbers = self._values(states, actions), self.spec.numbers
        low, high = (x[self.drawn, None] for x in (self.low, self.high))
        inside = (values > low - HALF) & (values < high + HALF)
        counts = [numbers[self.spec.names[i]].kind in ("count", "flag") for i in self.drawn]
        free = ~torch.tensor(counts, device=values.device)[:, None]
        return inside | free | (torch.arange(self.config.bins, device=values.device) == 0)

    def _overdue(self, recent: Recent, actions: Tensor) -> Tensor:
        """Which bins would leave a flag at 1 that has lasted as long as it ever does: b i q."""
        values = self._values(recent.states[:, -1], actions)
        rows = torch.arange(len(self.drawn), device=values.device)[:, None]
        overdue = torch.zeros_like(values, dtype=torch.bool)
        for flag, frames in self.config.lasts.items():
            of = self.follows[self.spec.index(flag)]
            stuck = (recent.states[:, -frames:, self.spec.index(flag)] == 1).all(dim=1)
            stays = (values < self.low[of] + HALF) & (rows == self.drawn.index(of))
            overdue = overdue | (stays & stuck[:, None, None])
        return overdue

    def _values(self, states: Tensor, actions: Tensor) -> Tensor:
        """What each bin would make of numbers that know no bounds: b i q."""
        base = self.base(states, actions)[:, self.drawn, None]
        held = states[:, self.drawn, None]
        values = torch.where(self.kinds == SET, self.values, base + self.values)
        return torch.where(self.kinds == HOLD, held, values)

    def base(self, states: Tensor, actions: Tensor) -> Tensor:
        """States b v as they go on by themselves with actions b (k+2)."""
        columns = list(states.unbind(-1))
        for i, number in enumerate(self.spec.numbers.values()):
            if number.kind == "heading":
                columns[i] = _remainder(columns[i] - self._turned(actions[:, -2]), FULL_TURN)
            elif number.kind == "phase":
                period = number.high - number.low
                ahead = columns[i] + self.config.phase_step - number.low
                columns[i] = number.low + _remainder(ahead, period)
        return torch.stack(columns, dim=-1)

    def _turned(self, mouse: Tensor) -> Tensor:
        """How many degrees to the right a frame turns, of the action's number b."""
        turned, step = self.config.mouse_degrees * mouse, self.config.turn_step
        return turned if not step else -torch.ceil(-turned / step - HAIR) * step

    def shorter(self, change: Tensor, number: int) -> Tensor:
        """Changes ... of one number of the state; round the shorter side if it wraps."""
        meant = self.spec.numbers[self.spec.names[number]]
        if meant.kind not in ("heading", "phase"):
            return change
        period = FULL_TURN if meant.kind == "heading" else meant.high - meant.low
        return _remainder(change + period / 2, period) - period / 2

    def wrapped(self, change: Tensor) -> Tensor:
        """Changes ... v of all numbers, those of what wraps round the shorter side."""
        return torch.stack([self.shorter(x, i) for i, x in enumerate(change.unbind(-1))], dim=-1)

    def _logits(self, hidden: Tensor, bins: Sequence[Tensor]) -> Tensor:
        """Logits of the next number's bins, given those b of each number before it: b q."""
        number = len(bins)
        x = hidden + self.branch[number](hidden)
        for earlier, happened in enumerate(bins):
            x = x + self.before[number, earlier, happened]
        logits = self.leave[number](F.silu(x))
        return logits.masked_fill(self.kinds[number] == UNUSED, -LARGE)


def _remainder(values: Tensor, period: Tensor | float) -> Tensor:
    """`torch.remainder` for a period above 0, of what ONNX rounds alike."""
    rest = torch.fmod(values, period)
    return torch.where(rest < 0, rest + period, rest)
