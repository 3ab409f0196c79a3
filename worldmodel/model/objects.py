"""Objects around the player: where they are next, and what a transformer is given of them.

    places of the last frames, what was seen, the action  ->  places in the next frame

An object comes to the next frame by one of its kind's *transitions*, each of one sort:

    GONE     it is not there (any more)
    GO_ON    p ← p + (p − p before)    a ball of fire flies on
    MOVE     p ← p + v                 a step to the left
    COME     p ← v                     it comes out of a door

The transitions that occur are read from play (`training.object_transitions`), one is sampled.
Objects of one kind share their weights. All in fp32.

Letters of its own: o objects, q transitions, two x and y, a features.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.config import ConfigError
from worldmodel.model.state_configs import OBJECT_FEATURES, ObjectsConfig, kind_of
from worldmodel.state_spec import StateSpec

GONE, GO_ON, MOVE, COME, UNUSED = range(5)  # sorts of transitions
LARGE = 1e9  # logit of what never happens, negative
RADIANS = math.pi / 180
FAR = 64.0  # units: the scale of distances
CLOSE = (2.0, 8.0, 30.0)  # degrees: the scales of a direction, aimed at or not
FEATURES = 3 + 10 + 6 + len(CLOSE) + 3  # of an object in the network


def encode_objects(config: ObjectsConfig, names: Sequence[str], states: Tensor) -> Tensor:
    """What each ray of the view is given, of states ... v with the `names`: ... (rays a), fp32.

    First where the ray points, as waves; then of every object how far beside the ray it stands,
    in rays and in its own widths, and how large it looks. Zeros of what is not in sight.
    """
    x, y, heading = (_column(names, name, states) for name in config.viewer)
    ahead, right = _seen_from(config, names, states, x, y, heading)
    reach = math.tan(math.radians(config.field_of_view) / 2)
    across = (torch.arange(config.rays, device=states.device) + 0.5) * 2 / config.rays - 1
    turned = RADIANS * torch.nan_to_num(heading)[..., None] - torch.atan(across * reach)
    waves = torch.stack([n * turned for n in config.waves], dim=-1)
    there = torch.isfinite(ahead) & (ahead > config.nearest)
    ahead = torch.where(there, ahead, torch.ones_like(ahead)) * reach
    screen = torch.where(there, right, torch.zeros_like(right)) / ahead
    size = config.half_width / ahead  # both in halves of the picture's width
    off = screen[..., None, :] - across[:, None]  # ... r o
    rays_off = off * config.rays / 2
    widths_off = off / size.clamp(min=1 / config.rays)[..., None, :]
    near, on = torch.exp(-(rays_off**2) / 2), torch.exp(-(widths_off**2) / 2)
    large = torch.log2(size / 0.25)[..., None, :].expand_as(off)
    features = torch.stack(
        (
            near,
            near * rays_off.clamp(-4, 4),
            on,
            on * widths_off.clamp(-4, 4),
            on * large,
            near * size.clamp(max=4)[..., None, :],
        ),
        dim=-1,
    )
    assert features.shape[-1] == OBJECT_FEATURES
    features = features * there[..., None, :, None]
    given = torch.cat((waves.cos(), waves.sin(), features.flatten(-2)), dim=-1)
    return given.flatten(-2)


class Objects(nn.Module):
    """Draws the next places of a state's objects."""

    sorts: Tensor  # kinds q
    values: Tensor  # kinds q two
    low: Tensor  # two, the range in which objects are
    high: Tensor  # two

    def __init__(
        self, config: ObjectsConfig, spec: StateSpec, width: int, transitions: int
    ) -> None:
        super().__init__()
        self.config, self.names = config, spec.names
        for name in (*config.numbers, *config.viewer):
            spec.index(name)
        kinds = config.kinds
        self.kinds = [kinds.index(kind_of(name)) for name in config.names]
        self.columns = [spec.index(name) for name in config.numbers]
        self.enter = nn.Linear(FEATURES + len(kinds), width)
        self.inner = nn.Linear(width, width)
        self.pool = nn.Linear(width, width)
        self.told = nn.Linear(2 * width, width)
        self.leave = nn.ModuleList(nn.Linear(width, transitions) for _ in kinds)
        self.register_buffer(
            "sorts", torch.full((len(kinds), transitions), UNUSED, dtype=torch.int64)
        )
        self.sorts[:, 0] = GONE
        self.register_buffer("values", torch.zeros(len(kinds), transitions, 2))
        numbers = [spec.numbers[name] for name in config.numbers]
        for name, pick, of in (("low", min, "low"), ("high", max, "high")):
            ends = [pick(getattr(n, of) for n in numbers[axis::2]) for axis in (0, 1)]
            self.register_buffer(name, torch.tensor(ends))

    def places(self, states: Tensor) -> Tensor:
        """Where states ... v say the objects are: ... o two, NaN where there is none."""
        return states[..., self.columns].unflatten(-1, (len(self.kinds), 2))

    def embed(self, states: Tensor, heading: Tensor) -> Tensor:
        """What each object does, from states b f v (f ≥ 3) and the next heading b: b o d."""
        places = self.places(states[:, -3:])
        there = torch.isfinite(places).all(dim=-1)
        places = torch.where(there[..., None], places, torch.zeros_like(places))
        before, earlier, last = there[:, 1] & there[:, 2], there[:, 0] & there[:, 1], there[:, 2]
        steps = torch.stack(
            (
                (places[:, 2] - places[:, 1]) * before[..., None],
                (places[:, 1] - places[:, 0]) * earlier[..., None],
            ),
            dim=2,
        ).flatten(2)
        scaled = 2 * (places[:, 2] - self.low) / (self.high - self.low).clamp(min=1e-6) - 1
        waves = torch.cat((math.pi * scaled, 4 * math.pi * scaled), dim=-1)
        x, y = (_column(self.names, name, states[:, -1]) for name in self.config.viewer[:2])
        ahead, right = _seen_from(self.config, self.names, states[:, -1], x, y, heading)
        ahead, right = torch.nan_to_num(ahead), torch.nan_to_num(right)
        far = torch.sqrt(ahead**2 + right**2).clamp(min=1.0)
        aside = torch.asin((right / far).clamp(-1, 1)) / RADIANS
        aimed = [torch.tanh(aside / scale) for scale in CLOSE]
        seen = torch.stack((*aimed, ahead / far, FAR / far, far / (4 * FAR)), dim=-1)
        features = torch.cat(
            (
                rearrange(there, "b f o -> b o f").float(),
                scaled * last[..., None],
                waves.cos() * last[..., None],
                waves.sin() * last[..., None],
                torch.tanh(steps / 10),
                torch.tanh((steps / 40)[..., :2]),
                seen * last[..., None],
            ),
            dim=-1,
        )
        kinds = F.one_hot(torch.tensor(self.kinds, device=states.device), len(self.leave))
        kinds = kinds.float().expand(len(states), -1, -1)
        x = F.silu(self.enter(torch.cat((features, kinds), dim=-1)))
        return F.silu(self.inner(x))

    def logits(self, embedded: Tensor, hidden: Tensor, states: Tensor) -> Tensor:
        """Logits b o q of transitions, by `embed`, all else known b d, states b f v."""
        everything = self.told(torch.cat((hidden, self.pool(embedded).sum(dim=1)), dim=-1))
        x = F.silu(embedded + everything[:, None])
        logits = torch.stack(
            [self.leave[kind](x[:, number]) for number, kind in enumerate(self.kinds)], dim=1
        )
        sorts = self.sorts[self.kinds]
        there = torch.isfinite(self.places(states[:, -2:])).all(dim=-1)  # b 2 o
        is_here, goes_on = there[:, 1, :, None], (there[:, 0] & there[:, 1])[..., None]
        cannot = sorts == UNUSED
        cannot = cannot | ((sorts == GO_ON) & ~goes_on) | ((sorts == MOVE) & ~is_here)
        return logits.masked_fill(cannot, -LARGE)

    def candidates(self, states: Tensor) -> Tensor:
        """Where each transition leads from states b f v: b o q two; NaN of what is gone."""
        places = self.places(states[:, -2:])
        before, here = places[:, 0, :, None], places[:, 1, :, None]
        sorts, values = self.sorts[self.kinds][..., None], self.values[self.kinds]
        nowhere = torch.full_like(values, math.nan)
        transitions = torch.where(sorts == COME, values, nowhere).expand(len(states), -1, -1, -1)
        transitions = torch.where(sorts == MOVE, here + values, transitions)
        return torch.where(sorts == GO_ON, 2 * here - before, transitions)

    def draw(self, logits: Tensor, chance: Tensor, states: Tensor) -> Tensor:
        """The next places b o two, by chances b o from 0 to 1."""
        likely = logits.softmax(-1).cumsum(-1)
        transition = (likely < chance[..., None] * likely[..., -1:]).sum(dim=-1)
        transition = transition.clamp(max=logits.shape[-1] - 1)[..., None, None].expand(
            -1, -1, 1, 2
        )
        return self.candidates(states).gather(2, transition)[:, :, 0]


def _seen_from(
    config: ObjectsConfig, names: Sequence[str], states: Tensor, x: Tensor, y: Tensor, turn: Tensor
) -> tuple[Tensor, Tensor]:
    """How far ahead of who looks from x, y to `turn` objects are, and to the right: ... o."""
    for name in config.numbers:
        check_known(names, name)
    columns = [list(names).index(name) for name in config.numbers]
    return seen_from(states[..., columns].float(), x, y, torch.nan_to_num(turn))


def seen_from(places: Tensor, x: Tensor, y: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """How far ahead objects at places ... (o two) are, and to the right: ... o.

    Of who looks from x, y in the direction `turn`: ... each, degrees that grow to the left.
    """
    across, along = places[..., ::2] - x[..., None], places[..., 1::2] - y[..., None]
    angle = RADIANS * turn[..., None]
    cos, sin = angle.cos(), angle.sin()
    return across * cos + along * sin, across * sin - along * cos


def _column(names: Sequence[str], name: str, states: Tensor) -> Tensor:
    """The number of a name in states ... v: ...; an error names those that there are."""
    check_known(names, name)
    return states[..., list(names).index(name)].float()


def check_known(names: Sequence[str], name: str) -> None:
    """Refuse a number that the state does not have; the error names those that there are."""
    if name not in names:
        raise ConfigError(f"the world wants {name!r}, the state has {', '.join(names)}")
