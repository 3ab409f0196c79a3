"""Where the player is next: the state of a level's visitor, one frame on.

    state of a frame + what is done in the next one  ->  state of that frame

All in fp32 and in the units of the map. The heading follows the mouse exactly. A frame is a few
`tics` of the game's own physics. Without walls, a tic follows from a few numbers: what each button
adds to the velocity along the player's own axes, and how much of it is kept:

    v ← v + push,   d = travel v,   place ← place + d,   v ← keep v

What is in the way is learned: grids over the level are read around where the tic would end, and a
network says how far one may go in four directions, about along the axes of the map. What goes
further slides along:  d ← d − max(0, n·d − c) n  for each direction n and reach c, and the velocity
loses its part along n. A gate lets through what that does not explain: corners, steps. The height
of the eye follows from the velocity and the clock (a walk bobs). Numbers of other kinds stay.

Letters: b batch, n numbers of a state, k buttons, o points around a place.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.config import ConfigError, MotionConfig
from worldmodel.state_spec import FULL_TURN, StateSpec

DIRECTIONS = 4  # in which something can be in the way
BEND = 0.6  # radians that a direction may turn from the axes of the map
GAIN = 5.0  # of what is read from the grids: an optimizer's step moves it so much faster


@dataclass(frozen=True, slots=True)
class Roles:
    """Which numbers of a state say what; positions and velocities in the order x, y, height."""

    place: tuple[int, int]
    eye: int
    heading: int
    velocity: tuple[int, int]
    phase: int | None = None
    period: float = 1.0  # of the phase

    @classmethod
    def of(cls, spec: StateSpec) -> "Roles":
        """By the kinds of the numbers; a `ConfigError` says what is missing."""
        by_kind: dict[str, list[int]] = {}
        for index, number in enumerate(spec.numbers.values()):
            by_kind.setdefault(number.kind, []).append(index)
        for kind, least in {"position": 3, "heading": 1, "velocity": 2}.items():
            if len(found := by_kind.get(kind, [])) < least:
                raise ConfigError(
                    f"a world that knows its place needs {least} numbers of the kind {kind!r} in "
                    f"its state, found {len(found)} in {', '.join(spec.names)}"
                )
        (x, y, eye, *_), (u, v, *_) = by_kind["position"], by_kind["velocity"]
        phase, period = None, 1.0
        if clocks := by_kind.get("phase"):
            phase = clocks[0]
            clock = spec.numbers[spec.names[phase]]
            period = clock.high - clock.low
        return cls((x, y), eye, by_kind["heading"][0], (u, v), phase, period)

    @property
    def view(self) -> tuple[int, int, int, int]:
        """Numbers that a view is made of: x, y, the eye's height, heading."""
        return *self.place, self.eye, self.heading


class Motion(nn.Module):
    """Predicts the next state from this one and an action vector."""

    stride: Tensor  # usual way in a tic, in units of the map
    speed: Tensor  # usual velocity
    eye: Tensor  # its height: mean and deviation
    low: Tensor
    span: Tensor
    around: Tensor  # o 2, points around where a tic would end

    def __init__(self, config: MotionConfig, spec: StateSpec) -> None:
        super().__init__()
        self.config, self.roles = config, Roles.of(spec)
        features = config.features * len(config.cells)
        proportion = (config.high[0] - config.low[0]) / (config.high[1] - config.low[1])
        self.grids = nn.ParameterList(
            (0.1 / GAIN) * torch.randn(1, config.features, cells, round(cells * proportion))
            for cells in config.cells
        )
        around = _points(config)
        width, answers = config.width, 2 * DIRECTIONS + 5
        leave = nn.Linear(width, answers)
        self.walls = nn.Sequential(
            nn.Linear(features * len(around) + 4, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            leave,
        )
        self.rise = nn.Sequential(nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.lift = nn.Linear(64, 1)
        for last in (leave, self.lift):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.push = nn.Parameter(torch.zeros(config.buttons, 2))  # forward, left; of a tic
        self.keep = nn.Parameter(torch.tensor(0.9))  # of the velocity, a tic
        self.travel = nn.Parameter(torch.tensor(1.0))  # way of a tic for a velocity of 1
        self.register_buffer("stride", torch.tensor(1.0))
        self.register_buffer("speed", torch.tensor(1.0))
        self.register_buffer("eye", torch.tensor([0.0, 1.0]))
        low, high = torch.tensor(config.low), torch.tensor(config.high)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("span", high - low, persistent=False)
        self.register_buffer("around", around, persistent=False)

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """States b n, fp32, and the action vectors b (k+2) of the next frame -> states b n."""
        roles, tics = self.roles, self.config.tics
        place, velocity = state[:, list(roles.place)], state[:, list(roles.velocity)]
        before, turned = state[:, roles.heading], self.config.mouse_degrees * actions[:, -2]
        ahead, left = (actions[:, :-2] @ self.push).unbind(-1)
        for tic in range(1, tics + 1):
            angle = (before - turned * (tic / tics)) * (torch.pi / 180)
            cos, sin = angle.cos(), angle.sin()
            pushed = torch.stack((cos * ahead - sin * left, sin * ahead + cos * left), dim=-1)
            place, velocity = self._tic(place, velocity + pushed)
        columns = list(state.unbind(-1))
        for number, value in zip(roles.place, place.unbind(-1), strict=True):
            columns[number] = value
        for number, value in zip(roles.velocity, velocity.unbind(-1), strict=True):
            columns[number] = value
        columns[roles.heading] = torch.remainder(before - turned, FULL_TURN)
        phase = None
        if roles.phase is not None:
            phase = torch.remainder(state[:, roles.phase] + self.config.phase_step, roles.period)
            columns[roles.phase] = phase
        columns[roles.eye] = self._eye(velocity, phase)
        return torch.stack(columns, dim=-1)

    def views(self, state: Tensor) -> Tensor:
        """What a plan is looked at from: ... n -> x, y, eye's height, heading: ... 4."""
        return state[..., list(self.roles.view)]

    def _tic(self, place: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """Place and velocity b 2 after one tic, the push of the buttons being in the velocity."""
        way = self.travel * velocity
        near = self._read((place + way)[:, None] + self.around).flatten(1)
        moving = torch.cat((way / self.stride, velocity / self.speed), dim=-1)
        told = self.walls(torch.cat((near, moving), dim=-1))
        bends, reaches, rest = told.split((DIRECTIONS, DIRECTIONS, 5), dim=-1)
        turns = torch.arange(DIRECTIONS, device=told.device) / DIRECTIONS
        angles = 2 * torch.pi * turns + BEND * torch.tanh(bends)
        for angle, reach in zip(angles.unbind(-1), F.softplus(reaches).unbind(-1), strict=True):
            normal = torch.stack((angle.cos(), angle.sin()), dim=-1)
            over = F.relu((normal * way).sum(dim=-1) - self.stride * reach)
            way = way - over[:, None] * normal
            into = F.relu((normal * velocity).sum(dim=-1)) * (over > 0)
            velocity = velocity - into[:, None] * normal
        gate = torch.sigmoid(rest[:, :1] - 2)
        place = place + way + gate * self.stride * rest[:, 1:3]
        return place, self.keep * (velocity + gate * self.speed * rest[:, 3:])

    def _eye(self, velocity: Tensor, phase: Tensor | None) -> Tensor:
        """The eye's height b after a frame, from velocity b 2 and phase b."""
        turn = torch.zeros_like(velocity[:, 0]) if phase is None else phase / self.roles.period
        angle = 2 * torch.pi * turn
        moving = velocity / self.speed
        fast = moving.square().sum(dim=-1, keepdim=True)
        known = torch.cat((moving, fast, angle.cos()[:, None], angle.sin()[:, None]), dim=-1)
        return self.eye[0] + self.eye[1] * self.lift(self.rise(known))[:, 0]

    def _read(self, points: Tensor) -> Tensor:
        """The grids at points b o 2 in units of the map: b o a."""
        at = ((points - self.low) / self.span * 2 - 1)[None]
        read = [
            F.grid_sample(g, at, padding_mode="border", align_corners=True)[0] for g in self.grids
        ]
        return GAIN * torch.cat(read).permute(1, 2, 0)


def _points(config: MotionConfig) -> Tensor:
    """The middle, sides and corners of the player's box, and each distance along both axes."""
    points = [(0.0, 0.0)]
    for far in (config.body, *config.around):
        points += [(far, 0.0), (-far, 0.0), (0.0, far), (0.0, -far)]
    points += [(a * config.body, b * config.body) for a in (-1, 1) for b in (-1, 1)]
    return torch.tensor(points)
