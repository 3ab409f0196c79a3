"""CarRacing without its panel, and somebody who drives it as people do.

The picture is that of `CarRacing-v3`; what the panel at its bottom shows is in `info`: speed,
steering and turning. The second in which the camera comes down is over before an episode begins,
and the small picture that nobody looks at is not drawn, which halves the time of a step.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.envs.box2d.car_racing import STATE_H, STATE_W, CarRacing

IDLE, RIGHT, LEFT, GAS, BRAKE = range(5)
LANDING = 55  # steps until the camera has come down
AHEAD = (4, 9)  # tiles of road that a driver looks ahead


class Drive(CarRacing):
    """CarRacing with five actions: nothing, right, left, gas, brake."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode, continuous=False)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """A new track, seen from above."""
        super().reset(**kwargs)
        for _ in range(LANDING):
            observation, _, _, _, info = self.step(IDLE)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One fiftieth of a second."""
        observation, reward, terminated, truncated, info = super().step(action)
        hull = self.car.hull
        info |= {
            "speed": float(hull.linearVelocity.length),
            "steering": float(self.car.wheels[0].joint.angle),
            "turning": math.degrees(hull.angularVelocity),
        }
        return observation, float(reward), terminated, truncated, info

    def _render(self, mode: str) -> Any:
        if mode == "state_pixels":
            return np.zeros((STATE_H, STATE_W, 3), np.uint8)
        return super()._render(mode)


class Driver:
    """Follows the road at a speed of its own, with lapses: a key held too long, a rest."""

    def __init__(self, env: Drive) -> None:
        self.env = env
        self.rng = np.random.default_rng(int(env.np_random.integers(2**31)))
        self.speed = float(self.rng.uniform(20, 75))
        self.ahead = int(self.rng.integers(*AHEAD))
        self.side = 0.0  # of the road, in its half widths
        self.lapse, self.left = IDLE, 0

    def choose(self) -> int:
        """The next action."""
        if self.left:
            self.left -= 1
            return self.lapse
        if self.rng.random() < 0.02:
            self.lapse = int(self.rng.choice((IDLE, RIGHT, LEFT, GAS, BRAKE)))
            self.left = int(self.rng.integers(4, 22))
        if self.rng.random() < 0.01:
            self.speed = float(self.rng.uniform(10, 80))
            self.side = float(self.rng.uniform(-1.2, 1.2))
        hull, angle = self.env.car.hull, self._angle()
        speed = float(hull.linearVelocity.length)
        if abs(angle) > 0.12 and self.rng.random() < 0.8:
            return LEFT if angle > 0 else RIGHT
        wanted = self.speed * max(0.4, 1 - abs(angle))
        if speed > wanted + 12:
            return BRAKE
        return GAS if speed < wanted else IDLE

    def _angle(self) -> float:
        """To the road ahead, in radians, positive to the left."""
        hull = self.env.car.hull
        x, y = hull.position
        road = np.array([tile[1:4] for tile in self.env.track])  # direction, x, y
        near = int(np.argmin((road[:, 1] - x) ** 2 + (road[:, 2] - y) ** 2))
        heading, px, py = road[(near + self.ahead) % len(road)]
        px, py = px + 3 * self.side * math.cos(heading), py + 3 * self.side * math.sin(heading)
        # The car looks along its own y axis.
        angle = math.atan2(py - y, px - x) - math.pi / 2 - hull.angle
        return (angle + math.pi) % (2 * math.pi) - math.pi


def driver(env: Any) -> Callable[[Any], int]:
    """A policy for `worldmodel record --player configs.carracing.drive:driver --allow-code`."""
    found: list[Driver] = []

    def choose(_: Any) -> int:
        if not found:
            found.append(Driver(env.unwrapped))
        return found[0].choose()

    return choose
