"""The stage `motion`: a network that says where the player is next.

From a true state it is played on for `unroll` frames with the true actions, as play does, and every
frame's place, velocity and eye are held against the game's:

    L = mean over frames of  H(place / stride) + H(velocity / speed) + H(eye),   H: Huber, δ small

so that what counts is being right to a fraction of a step, and the few frames at which a player
hits an edge do not drown the rest. It is trained and played in fp32.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, require_positive, to_toml
from worldmodel.model.context import Device
from worldmodel.model.ground import walked_ground
from worldmodel.model.motion import Motion
from worldmodel.model.state_configs import MotionConfig
from worldmodel.storage.files import write_atomically
from worldmodel.training.row_files import ReadSpeed
from worldmodel.training.runs import STATE_SPEC
from worldmodel.training.stage import LoopConfig
from worldmodel.training.state_episodes import StateEpisodes, check_actions
from worldmodel.training.torch_streams import host_stream, seed_default

DELTA = 0.001  # of a step
FAR = 8.0  # steps: whoever is so far on was moved, and did not move
HORIZONS = (1, 16, 64, 256, 1000)  # frames after which the error of the place is measured
WALKS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionTraining:
    """Everything that the stage `motion` reads from its TOML file."""

    stage: Literal["motion"]
    data: Path
    heldout: Path
    actions: ActionSpec
    model: MotionConfig
    loop: LoopConfig
    batch: int
    unroll: int = 4  # frames

    def __post_init__(self) -> None:
        require_positive(self, "batch", "unroll")
        if self.loop.dtype == "bfloat16":
            raise ConfigError(
                f"[loop] dtype = {self.loop.dtype!r}: places need float32, half a unit is a pixel"
            )
        check_actions(self.actions, self.model.buttons, self.model.mouse_degrees)


class MotionStage:
    """Holds the states and the network; gives the loop its loss."""

    def __init__(self, config: MotionTraining, folder: Path, device: Device = "cpu") -> None:
        self.config, self.reading, self.device = config, ReadSpeed(), device
        data = StateEpisodes.load(config.data, config.actions)
        self.heldout = StateEpisodes.load(config.heldout, config.actions)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / STATE_SPEC, to_toml(data.spec).encode())
        seed_default(config.loop.seed, config.stage, "weights")
        model = Motion(config.model, data.spec)
        roles = model.roles
        stride, speed, eye = measure_units(data, model)
        model.stride.fill_(stride / config.model.tics)
        model.speed.fill_(speed)
        model.eye.copy_(eye)
        places = data.states[:, list(roles.place)]
        places = places[torch.isfinite(places).all(dim=1)]
        model.ground.free.copy_(walked_ground(places, config.model))
        with torch.no_grad():
            model.travel.fill_(stride / config.model.tics / speed)
        self.student = model.to(device)
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False)
        self.numbers: tuple[int, ...] = (*roles.place, *roles.velocity, roles.eye, roles.heading)
        if roles.phase is not None:
            self.numbers += (roles.phase,)
        self.jump = FAR * stride
        self.begins = data.windows(config.unroll + 1, self.numbers, self.jump)
        if not len(self.begins):
            raise ConfigError(
                f"{config.data}: no {config.unroll + 1} frames in a row with a known state"
            )
        self.states, self.actions = data.states, data.actions

    def judge(self, figures: Mapping[str, float | None]) -> tuple[str, dict[str, float], bool]:
        """How far off it is after a second or so of unseen walking, beside standing still."""
        stride = float(self.student.stride) * self.config.model.tics
        numbers = {k: v for k in ("place_1", "place_16", "place_256") if (v := figures.get(k))}
        after = numbers.get("place_16", math.nan)
        off = f"off by {after:.1f} units of the map after 16 unseen frames (a step: {stride:.1f})"
        if not after < 16 * stride:
            return f"FAILED: {off}: no better than standing still", numbers, True
        return f"good: {off}", numbers, False

    def compile(self) -> None:
        """Nothing: the network is small."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """How far the network is off after each of the next frames."""
        del step
        host = host_stream(generator, "walks")
        chosen = torch.randint(len(self.begins), (self.config.batch,), generator=host)
        index = self.begins[chosen][:, None] + torch.arange(self.config.unroll + 1)
        states = self.reading.gather(self.states, index, self.device)
        actions = ReadSpeed().gather(self.actions, index, self.device)
        model, roles = self.student, self.student.roles
        state, places, others = states[:, 0], [], []
        for f in range(1, self.config.unroll + 1):
            state, true = model(state, actions[:, f]), states[:, f]
            places.append(_huber((state - true)[:, list(roles.place)] / model.stride))
            speeds = _huber((state - true)[:, list(roles.velocity)] / model.speed)
            others.append(speeds + _huber((state - true)[:, roles.eye] / model.eye[1]))
        place = torch.stack(places).mean()
        return place + torch.stack(others).mean(), {"place": place}

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Error of the place in units of the map after unseen walks: median and worst tenth."""
        del folder, step
        return measure_walks(self.ema, self.heldout, self.numbers, self.jump)


def measure_units(data: StateEpisodes, model: Motion) -> tuple[float, float, Tensor]:
    """Usual way and velocity of a frame; mean and deviation of the eye's height: 2."""
    roles = model.roles
    speed = data.states[:, list(roles.velocity)].norm(dim=1)
    speed = speed[torch.isfinite(speed) & (speed > 0)]
    eye = data.states[:, roles.eye]
    eye = eye[torch.isfinite(eye)]
    if not len(speed) or not len(eye):
        raise ConfigError("the state's velocity or the height of the eye is never known")
    deviation = eye.std().clamp(min=1e-3)
    stride = data.stride(roles.place)
    return stride, float(speed.square().mean().sqrt()), torch.stack((eye.mean(), deviation))


@torch.no_grad()
def measure_walks(
    model: Motion, data: StateEpisodes, numbers: tuple[int, ...], jump: float
) -> dict[str, float]:
    """`place_F` and `place_F_worst` for every horizon F that the data is long enough for."""
    figures: dict[str, float] = {}
    device = model.stride.device
    place = list(model.roles.place)
    for horizon in HORIZONS:
        begins = data.windows(horizon + 1, numbers, jump)
        if not len(begins):
            continue
        chosen = begins[torch.linspace(0, len(begins) - 1, min(WALKS, len(begins))).long()]
        state = data.states[chosen].to(device)
        for f in range(1, horizon + 1):
            state = model(state, data.actions[chosen + f].to(device))
        off = (state.cpu() - data.states[chosen + horizon])[:, place].norm(dim=1)
        figures[f"place_{horizon}"] = float(off.median())
        figures[f"place_{horizon}_worst"] = float(off.quantile(0.9))
    return figures


def _huber(off: Tensor) -> Tensor:
    return F.huber_loss(off, torch.zeros_like(off), delta=DELTA)
