"""A scripted player for recording levels in which one stands and shoots.

It turns to a monster, fires when it is about in line, misses, fires into the air, looks around,
and now and then does nothing at all: a world learns only what its data shows, and a player of it
will do all of that.
"""

from dataclasses import dataclass

import numpy as np

from worldmodel.action import Action
from worldmodel.data_sources.doom import Doom

# What the player does for a while: share of decisions, then frames at least and at most.
MOODS: dict[str, tuple[float, int, int]] = {
    "fight": (0.46, 15, 60),
    "watch": (0.14, 10, 30),
    "sweep": (0.16, 6, 24),
    "spray": (0.12, 6, 20),
    "idle": (0.12, 8, 50),
}
IN_LINE = 6.0  # degrees off a monster at which it shoots
FASTEST = 14.0  # degrees a frame


@dataclass(slots=True)
class _Aim:
    name: str
    frames: int
    turn: float  # degrees per frame that this mood tends to, where it does not aim


class Gunner:
    """Chooses one action after the other; what it does depends on its seed and the game alone."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.turn = 0.0  # degrees per frame, right positive
        self.mood = _Aim("watch", 12, 0.0)
        self.trigger = 0  # frames for which it stays pulled, below 0: let go
        self.choice = 0.0  # which of the monsters, from the nearest (0) to the farthest (1)

    def act(self, game: Doom) -> Action:
        """The next action, after a look at the game."""
        self.mood.frames -= 1
        if self.mood.frames <= 0:
            self.mood = self._new_mood()
        wish, off = self.mood.turn, None
        if self.mood.name in ("fight", "watch"):
            off = self._aim(game)
            wish = 0.0 if off is None else float(np.clip(0.45 * off, -FASTEST, FASTEST))
        # The hand on the mouse: it follows the wish with some inertia and some tremor.
        self.turn += 0.5 * (wish - self.turn) + self.rng.normal(0, 0.25 if wish else 0.05)
        if self.mood.name == "idle":
            self.turn = 0.0
        self._finger(off)
        held = frozenset({"Mouse0"}) if self.trigger > 0 else frozenset[str]()
        return Action(held, (float(np.clip(self.turn, -20, 20)), 0.0))

    def _aim(self, game: Doom) -> float | None:
        """Degrees to the right to the monster that it has chosen; None without any."""
        x, y, angle = game.position
        away = [(np.hypot(u - x, v - y), u, v) for u, v in game.monsters]
        if not away:
            return None
        _, u, v = sorted(away)[int(self.choice * len(away))]
        bearing = float(np.rad2deg(np.arctan2(v - y, u - x)))
        return (angle - bearing + 180) % 360 - 180

    def _finger(self, off: float | None) -> None:
        """Pull the trigger for human lengths, in line with a monster or out of mere joy."""
        if self.trigger > 0:
            self.trigger -= 1
            if not self.trigger:
                self.trigger = -int(self.rng.integers(2, 8))
        elif self.trigger < 0:
            self.trigger += 1
        elif (
            self.mood.name == "spray"
            or (self.mood.name == "fight" and off is not None and abs(off) < IN_LINE)
            or (self.mood.name == "sweep" and self.rng.random() < 0.03)
        ):
            self.trigger = int(self.rng.integers(1, 7))

    def _new_mood(self) -> _Aim:
        names = list(MOODS)
        name = str(self.rng.choice(names, p=[MOODS[n][0] for n in names]))
        _, least, most = MOODS[name]
        side = self.rng.choice([-1, 1])
        turn = {
            "sweep": side * self.rng.choice([3, 5, 8, 12]),
            "spray": side * self.rng.choice([0, 3]),
        }
        self.choice = float(self.rng.beta(1, 3))
        return _Aim(name, int(self.rng.integers(least, most + 1)), float(turn.get(name, 0.0)))
