"""A scripted player for recording: it explores a level the way people do.

It walks where the level is open and where it has been least, holds keys for human lengths,
strafes, backs off, turns fast and slow, stands still, and now and then runs into a wall, because a
world learns only what its data shows: stopping at walls, and staying the same when nobody moves.
"""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

from worldmodel.action import Action
from worldmodel.data_sources.doom import Doom

FIELD_OF_VIEW = 90.0  # degrees, the engine's default
NEAR = 10.0  # the engine's depth units: about an arm's length
CELL = 48.0  # map units; a corridor is about 96 wide
BORED_AFTER = 80  # frames

# What the player does for a while: share of decisions, then frames at least and at most.
MOODS: dict[str, tuple[float, int, int]] = {
    "wander": (0.32, 20, 60),
    "sweep": (0.16, 8, 30),
    "strafe": (0.22, 8, 30),
    "retreat": (0.12, 6, 24),
    "idle": (0.10, 8, 80),
    "bump": (0.08, 8, 20),
}


@dataclass(slots=True)
class _Mood:
    name: str
    frames: int
    buttons: frozenset[str]
    turn: float  # degrees per frame that this mood tends to


class Explorer:
    """Chooses one action after the other; what it does depends on its seed and the game alone."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.visits: Counter[tuple[int, int]] = Counter()
        self.trail: deque[tuple[float, float]] = deque(maxlen=BORED_AFTER)
        self.turn = 0.0  # degrees per frame, right positive
        self.mood = _Mood("wander", 0, frozenset(), 0.0)

    def act(self, game: Doom) -> Action:
        """The next action, after a look at the game."""
        x, y, _ = game.position
        self.visits[_cell(x, y)] += 1
        self.trail.append((x, y))
        self.mood.frames -= 1
        if self._is_bored():
            self.trail.clear()
            side = float(self.rng.choice([-1, 1]) * self.rng.choice([9, 12, 15]))
            self.mood = _Mood("sweep", int(180 / abs(side)), frozenset(), side)
        elif self.mood.frames <= 0:
            self.mood = self._new_mood()
        wish, buttons = self.mood.turn, self.mood.buttons
        if self.mood.name == "wander":
            wish, buttons = self._steer(game)
        # The hand on the mouse: it follows the wish with some inertia and some tremor.
        self.turn += 0.45 * (wish - self.turn) + self.rng.normal(0, 0.25 if wish else 0.05)
        if self.mood.name == "idle":
            self.turn = 0.0
        return Action(buttons, (float(np.clip(self.turn, -20, 20)), 0.0))

    def _is_bored(self) -> bool:
        """Whether it has been in one place for long: time to turn around and go elsewhere."""
        x, y = self.trail[0]
        far = max(abs(x - u) + abs(y - v) for u, v in self.trail)
        return len(self.trail) == BORED_AFTER and far < 2 * CELL

    def _new_mood(self) -> _Mood:
        names = list(MOODS)
        name = str(self.rng.choice(names, p=[MOODS[n][0] for n in names]))
        _, least, most = MOODS[name]
        side = str(self.rng.choice(["KeyA", "KeyD"]))
        forward = {"KeyW"} if self.rng.random() < 0.5 else set()
        buttons, turn = {
            "wander": ({"KeyW"}, 0.0),
            "sweep": (forward, self.rng.choice([-1, 1]) * self.rng.choice([2, 5, 7, 12, 18])),
            "strafe": ({side} | forward, self.rng.choice([0, 0, -3, 3, -6, 6])),
            "retreat": ({"KeyS"}, self.rng.choice([0, 0, -4, 4])),
            "idle": (set(), 0.0),
            "bump": ({"KeyW"} | ({side} if self.rng.random() < 0.3 else set()), 0.0),
        }[name]
        frames = int(self.rng.integers(least, most + 1))
        return _Mood(name, frames, frozenset(buttons), float(turn))

    def _steer(self, game: Doom) -> tuple[float, frozenset[str]]:
        """Turn towards the most open, least visited direction in view; walk unless blocked."""
        x, y, angle = game.position
        height = game.depth.shape[0]
        columns = game.depth[height // 2 - 20 : height // 2 + 20].min(axis=0).astype(float)
        reach = [float(part.min()) for part in np.array_split(columns, 9)]
        offsets = np.linspace(-0.9, 0.9, len(reach)) * FIELD_OF_VIEW / 2  # right positive
        scores = []
        for offset, free in zip(offsets, reach, strict=True):
            heading = np.deg2rad(angle - offset)
            ahead = min(free, 40.0) * 4.0
            cell = _cell(x + ahead * np.cos(heading), y + ahead * np.sin(heading))
            novelty = 1.0 / np.sqrt(1.0 + self.visits[cell])
            scores.append(min(free, 60.0) * (0.3 + novelty) - 0.1 * abs(offset))
        best = int(np.argmax(scores))
        middle = float(reach[len(reach) // 2])
        if middle < NEAR and reach[best] < 2 * NEAR:  # a corner: turn on the spot to get out
            sign = 1.0 if reach[-1] >= reach[0] else -1.0
            return sign * 11.0, frozenset()
        wish = float(np.clip(offsets[best] * 0.25, -9, 9))
        return wish, frozenset({"KeyW"}) if middle > NEAR else frozenset()


def _cell(x: float, y: float) -> tuple[int, int]:
    return int(x // CELL), int(y // CELL)
