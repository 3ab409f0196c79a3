"""Where the player is next: the state of a level's visitor, one frame on.

    state of a frame + what is done in the next one  ->  state of that frame

All in fp32 and in the units of the map. The heading follows the mouse exactly. Without walls, place
and velocity would follow from a few numbers: how much speed is kept, what each button adds along
the player's own axes. What walls, doors and edges change is learned: grids over the level are read
around the place and where the free motion would end, and a small network says by how much the place
and the velocity differ from free motion. The height of the eye follows from the velocity and the
clock (a walk bobs). Numbers of other kinds stay as they are.

Letters: b batch, n numbers of a state, k buttons, o points around a place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.config import ConfigError, MotionConfig
from worldmodel.state_spec import FULL_TURN, StateSpec

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

    stride: Tensor  # usual way in a frame, in units of the map
    speed: Tensor  # usual velocity
    eye: Tensor  # its height: mean and deviation
    low: Tensor
    span: Tensor
    around: Tensor  # o 2, points around the place
    ahead: Tensor  # o 2, points around where the free motion would end

    def __init__(self, config: MotionConfig, spec: StateSpec) -> None:
        super().__init__()
        self.config, self.roles = config, Roles.of(spec)
        features = config.features * len(config.cells)
        proportion = (config.high[0] - config.low[0]) / (config.high[1] - config.low[1])
        self.grids = nn.ParameterList(
            (0.1 / GAIN) * torch.randn(1, config.features, cells, round(cells * proportion))
            for cells in config.cells
        )
        around, ahead = _offsets(config.around), _offsets((config.body,))
        width, points = config.width, len(around) + len(ahead)
        leave = nn.Linear(width, 4)
        self.correct = nn.Sequential(
            nn.Linear(features * points + 8, width),
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
        self.push = nn.Parameter(torch.zeros(config.buttons, 2))  # forward, left
        self.keep = nn.Parameter(torch.tensor(0.8))  # of the velocity, a frame
        self.travel = nn.Parameter(torch.tensor([1.0, 1.0]))  # of kept and of new velocity
        self.register_buffer("stride", torch.tensor(1.0))
        self.register_buffer("speed", torch.tensor(1.0))
        self.register_buffer("eye", torch.tensor([0.0, 1.0]))
        low, high = torch.tensor(config.low), torch.tensor(config.high)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("span", high - low, persistent=False)
        self.register_buffer("around", around, persistent=False)
        self.register_buffer("ahead", ahead, persistent=False)

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """States b n, fp32, and the action vectors b (k+2) of the next frame -> states b n."""
        roles = self.roles
        place, velocity = state[:, list(roles.place)], state[:, list(roles.velocity)]
        before = state[:, roles.heading]
        turned = self.config.mouse_degrees * actions[:, -2]
        heading = torch.remainder(before - turned, FULL_TURN)
        toward = torch.deg2rad(before - self.config.turn_first * turned)
        cos, sin = toward.cos(), toward.sin()
        ahead, left = (actions[:, :-2] @ self.push).unbind(-1)
        pushed = torch.stack((cos * ahead - sin * left, sin * ahead + cos * left), dim=-1)
        kept = self.keep * velocity
        free = self.travel[0] * kept + self.travel[1] * pushed
        around = self._read(place[:, None] + self.around)
        aim = self._read((place + free)[:, None] + self.ahead)
        motion = torch.cat(
            (free / self.stride, *(v / self.speed for v in (kept, velocity, pushed))), -1
        )
        fixed = self.correct(torch.cat((around.flatten(1), aim.flatten(1), motion), dim=-1))
        place = place + free + self.stride * fixed[:, :2]
        velocity = kept + pushed + self.speed * fixed[:, 2:]
        phase = None if roles.phase is None else self._phase(state)
        columns = list(state.unbind(-1))
        for index, value in zip(
            (*roles.place, *roles.velocity), (*place.unbind(-1), *velocity.unbind(-1)), strict=True
        ):
            columns[index] = value
        columns[roles.heading] = heading
        if phase is not None and roles.phase is not None:
            columns[roles.phase] = phase
        columns[roles.eye] = self._eye(velocity, phase)
        return torch.stack(columns, dim=-1)

    def views(self, state: Tensor) -> Tensor:
        """What a plan is looked at from: ... n -> x, y, eye's height, heading: ... 4."""
        return state[..., list(self.roles.view)]

    def _phase(self, state: Tensor) -> Tensor:
        assert self.roles.phase is not None
        return torch.remainder(
            state[:, self.roles.phase] + self.config.phase_step, self.roles.period
        )

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


def _offsets(distances: Sequence[float]) -> Tensor:
    """Points around a place: itself, each distance along both axes, and the nearest diagonals."""
    points = [(0.0, 0.0)]
    for far in distances:
        points += [(far, 0.0), (-far, 0.0), (0.0, far), (0.0, -far)]
    near = distances[0]
    points += [(a * near, b * near) for a in (-1, 1) for b in (-1, 1)]
    return torch.tensor(points)
