"""A "real game" that draws what `DrawnWorld` draws, so that a right pairing is an exact one."""

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.game.drawn_world import DrawnWorld
from worldmodel.action import Action
from worldmodel.config import UserError
from worldmodel.reference.game import Origin, RealGame, ReferenceTrajectory
from worldmodel.state_spec import StateNumber, StateSpec
from worldmodel.world import Frame

FORWARD = Action(frozenset({"KeyW"}))
PLACE_NUMBERS = StateSpec(
    {
        "x": StateNumber(kind="position", low=-100.0, high=100.0),
        "y": StateNumber(kind="position", low=-100.0, high=100.0),
        "heading": StateNumber(kind="heading", high=360.0),
    }
)
MORE = {
    "health": StateNumber(kind="count", high=100.0),
    "score": StateNumber(kind="number", high=9999.0),
    "lives": StateNumber(kind="count", low=3.0, high=3.0),
    "armor": StateNumber(kind="count", high=100.0),
}
SAME = 10 * np.log10(255.0**2 / 1e-2)  # dB of equal pictures


class DrawnGame:
    """Three steps before each start of `DrawnWorld` when it begins; breaks as `source` says."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self.source, self.world, self.steps = source, DrawnWorld(), 0

    def reset(self, seed: int) -> Frame:
        self.world.reset(0, 0)
        self.world._place = np.array([40.0 * seed, -3.0 + self.source.get("off", 0), 0.0])
        self.steps = 0
        return self.world._draw()

    def step(self, action: Action) -> Frame:
        self.steps += 1
        if self.steps == self.source.get("raises_at"):
            raise ValueError("the level is on fire")
        if self.steps == self.source.get("exits_at"):
            os._exit(7)
        if self.steps == self.source.get("hangs_at"):
            time.sleep(60)
        time.sleep(self.source.get("seconds", 0.0))
        return self.world.generate(self.world.actions.known(action))

    @property
    def is_over(self) -> bool:
        return self.steps >= self.source.get("ends_at", 10**9)

    @property
    def has_died(self) -> bool:
        return self.is_over and bool(self.source.get("dies"))

    def close(self) -> None: ...


class TellingGame(DrawnGame):
    """One that says where its player is, `aside` map units from where the world's would be."""

    state_spec = PLACE_NUMBERS

    @property
    def state(self) -> NDArray[np.float32]:
        right, forward, degrees = self.world._place
        return np.array([right + self.source.get("aside", 0), forward, degrees], np.float32)


def open_telling(source: Mapping[str, Any]) -> RealGame:
    return TellingGame(source)


def open_drawn(source: Mapping[str, Any]) -> RealGame:
    if "refuses" in source:
        raise UserError("the drawn game is not installed")
    return DrawnGame(source)


class LearnedWorld(DrawnWorld):
    """A drawn world that says which game it is like; nothing leads to its third start."""

    def __init__(self, **source: Any) -> None:
        super().__init__()
        self.starts = ["the red room", "the blue room", "a picture"]
        trajectories: list[ReferenceTrajectory | UserError] = [
            ReferenceTrajectory(
                seed=start, actions=[FORWARD] * 3, frame=DrawnWorld().reset(start, 0)
            )
            for start in range(2)
        ]
        trajectories.append(UserError("no way leads to a picture"))
        self.origin = Origin(
            world="drawn", source={"kind": "drawn", **source}, trajectories=trajectories
        )


class PlacedWorld(LearnedWorld):
    """One that says where its player is, and how the player is."""

    state_spec = StateSpec({**PLACE_NUMBERS.numbers, **MORE})

    @property
    def state(self) -> NDArray[np.float32]:
        return np.array([*self._place, 42.0, 1234.0, 3.0, np.nan], np.float32)
