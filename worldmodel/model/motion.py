"""Where the player is next: the state of a level's visitor, one frame on.

    state of a frame + what is done in the next one  ->  state of that frame

All in fp32 and in the units of the map. A frame is a few `tics` of the game's own physics. The
heading follows the mouse, in whole steps of the game where it has such. Without walls, a tic
follows from a few numbers that are learned: what each button adds to the velocity along the
player's own axes, and how much of it is kept:

    v ← v + push,   d = travel v,   place ← place + d,   v ← keep v,   0 where it is slow

Where that would end in a wall (`model.ground`), the player goes on along it, as in Doom (the public
source of its engine, `P_SlideMove`; found again here from a frame a tic):

    t: share of d that is free     place ← place + (t − short) d
    d ← (1 − t) d                  place ← place + d along the wall,  v ← that direction

Twice, if the second move ends in a wall too; then what is left is tried along y, or along x. What
only grazes a wall is not slowed. The height of the eye follows from the velocity and the clock (a
walk bobs). Numbers of other kinds stay; `unpredicted` are those of them that change in the game.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldmodel.config import ConfigError
from worldmodel.model.ground import Ground
from worldmodel.model.state_configs import MotionConfig
from worldmodel.state_spec import FULL_TURN, StateSpec

SLIDES = 2  # along walls in a tic
HAIR = 1e-4  # of a turn's step: rounding, and not a reason for one more


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

    @property
    def moved(self) -> frozenset[int]:
        """All numbers that a frame changes."""
        clock = () if self.phase is None else (self.phase,)
        return frozenset((*self.view, *self.velocity, *clock))


class Motion(nn.Module):
    """Predicts the next state from this one and an action vector."""

    stride: Tensor  # usual move in a tic, in units of the map
    speed: Tensor  # usual velocity
    eye: Tensor  # its height: mean and deviation

    def __init__(self, config: MotionConfig, spec: StateSpec) -> None:
        super().__init__()
        self.config, self.roles = config, Roles.of(spec)
        self.unpredicted = [
            i
            for i, number in enumerate(spec.numbers.values())
            if i not in self.roles.moved and number.low < number.high
        ]
        self.ground = Ground(config)
        self.rise = nn.Sequential(nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.lift = nn.Linear(64, 1)
        nn.init.zeros_(self.lift.weight)
        nn.init.zeros_(self.lift.bias)
        self.push = nn.Parameter(torch.zeros(config.buttons, 2))  # forward, left; of a tic
        self.keep = nn.Parameter(torch.tensor(0.9))  # of the velocity, a tic
        self.travel = nn.Parameter(torch.tensor(1.0))  # move of a tic for a velocity of 1
        self.register_buffer("stride", torch.tensor(1.0))
        self.register_buffer("speed", torch.tensor(1.0))
        self.register_buffer("eye", torch.tensor([0.0, 1.0]))

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """States b v, fp32, and the action vectors b (k+2) of the next frame -> states b v."""
        roles, tics = self.roles, self.config.tics
        place, velocity = state[:, list(roles.place)], state[:, list(roles.velocity)]
        before, turned = state[:, roles.heading], self._turned(actions[:, -2])
        ahead, left = (actions[:, :-2] @ self.push).unbind(-1)
        pushes = (actions[:, :-2] != 0).any(dim=1)
        for tic in range(1, tics + 1):
            angle = before.double() - turned.double() * (tic / tics)
            cos, sin = (self._sine(angle + ahead_of).float() for ahead_of in (90.0, 0.0))
            pushed = torch.stack((cos * ahead - sin * left, sin * ahead + cos * left), dim=-1)
            place, velocity = self._tic(place, velocity + pushed)
            slow = (velocity.abs() < self.config.stop * self.keep).all(dim=1) & ~pushes
            velocity = torch.where(slow[:, None], torch.zeros_like(velocity), velocity)
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
        """What a floor plan is looked at from: ... v -> x, y, eye's height, heading: ... 4."""
        return state[..., list(self.roles.view)]

    def _sine(self, degrees: Tensor) -> Tensor:
        """Sines b, fp64, as the game has them.

        A table of a quarter turn is mirrored: between its entries a sine is the one nearer to 0.
        """
        if not self.config.sines:
            return torch.sin(degrees * (torch.pi / 180))
        entry, whole = FULL_TURN / self.config.sines, torch.remainder(degrees, FULL_TURN)
        half = torch.remainder(whole, FULL_TURN / 2)
        up, down = half / entry, (FULL_TURN / 2 - half) / entry
        index = torch.where(half < FULL_TURN / 4, (up + HAIR).floor(), (down - HAIR).ceil() - 1)
        size = torch.sin(index * (entry * torch.pi / 180))
        return torch.where(whole < FULL_TURN / 2, size, -size)

    def _turned(self, mouse: Tensor) -> Tensor:
        """How many degrees to the right a frame turns, of the action's number b."""
        turned, step = self.config.mouse_degrees * mouse, self.config.turn_step
        if not step:
            return turned
        left = -turned.double() / (self.config.tics * step)  # whole steps of every tic, to the left
        return (-torch.ceil(left - HAIR) * (self.config.tics * step)).to(turned.dtype)

    def _tic(self, place: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """Place and velocity b 2 after one tic, the push of the buttons being in the velocity."""
        move = self.travel * velocity
        aim = place + move
        # Whoever is where the map knows no ground walks on, and out.
        arrived = self.ground(aim) | ~self.ground(place)
        if not bool(arrived.all()):
            aim, slid = self._slide(place, move, arrived)
            velocity = torch.where(arrived[:, None], velocity, slid / self.travel)
        return aim, self.keep * velocity

    def _slide(self, place: Tensor, move: Tensor, arrived: Tensor) -> tuple[Tensor, Tensor]:
        """Places b 2 and what is left of the moves b 2, of all who have not arrived."""
        here = torch.where(arrived[:, None], place + move, place)
        left, after, slides = move, move, ~arrived
        for _ in range(SLIDES):
            if not bool(slides.any()):
                break
            # Where a wall is met jumps with the move: its slope would drown what is to be learned.
            share, stops_x = self.ground.meet(here.detach(), left.detach())
            stopped = torch.where(stops_x, left[:, 0], left[:, 1]).abs()
            slides = slides & ((1 - share) * stopped > self.config.graze)
            near = (share - self.config.short).clamp(min=0)
            aim = here + near[:, None] * left
            slides = slides & (self.ground(aim) | (near == 0))
            here = torch.where(slides[:, None], aim, here)
            left = torch.where(slides[:, None], (1 - share)[:, None] * left, left)
            along = left * torch.stack((~stops_x, stops_x), dim=-1)
            after = torch.where(slides[:, None], along, after)
            ends = slides & self.ground(here + along)
            here = torch.where(ends[:, None], here + along, here)
            arrived, slides = arrived | ends, slides & ~ends
        if bool(arrived.all()):
            return here, after
        zero = torch.zeros_like(left[:, 0])
        for rest in (torch.stack((zero, left[:, 1]), -1), torch.stack((left[:, 0], zero), -1)):
            ends = ~arrived & self.ground(here + rest)
            here = torch.where(ends[:, None], here + rest, here)
            arrived = arrived | ends
        return here, after

    def _eye(self, velocity: Tensor, phase: Tensor | None) -> Tensor:
        """The eye's height b after a frame, from velocity b 2 and phase b."""
        turn = torch.zeros_like(velocity[:, 0]) if phase is None else phase / self.roles.period
        angle = 2 * torch.pi * turn
        moving = velocity / self.speed
        fast = moving.square().sum(dim=-1, keepdim=True)
        known = torch.cat((moving, fast, angle.cos()[:, None], angle.sin()[:, None]), dim=-1)
        return self.eye[0] + self.eye[1] * self.lift(self.rise(known))[:, 0]
