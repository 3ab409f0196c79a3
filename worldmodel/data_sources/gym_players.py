"""Who plays a Gymnasium environment while it is recorded.

`sticky` holds keys for about as long as people do and rests now and then; `random` decides anew in
every frame. A policy of one's own is code, `module:callable`: it is called once per episode with
the environment and returns what chooses an action of the environment from each observation.

    def make(env):
        return lambda observation: env.action_space.sample()
"""

from collections.abc import Callable
from typing import Any

from worldmodel.action import IDLE, Action
from worldmodel.config import UserError
from worldmodel.data_sources.gym import GymGame
from worldmodel.data_sources.record import MakePlayer
from worldmodel.players import load_code
from worldmodel.random_streams import arrays

SHORTEST, LONGEST = 0.15, 0.8  # seconds that a key is held
REST = 0.12  # share of the holds in which nothing is done
CLUMSY = 0.06  # share of them in which keys of two actions are held: it happens to people too


class HoldingPlayer:
    """Random actions, each held for a while: `shortest` to `longest` seconds."""

    def __init__(self, game: GymGame, seed: int, shortest: float, longest: float) -> None:
        # Not the episode's seed itself: the environment draws the very numbers that follow from it.
        self.rng = arrays(seed, "player")
        self.choices = list(game.action_mapping.choices)
        rate = game.frames_per_second
        self.frames = (max(1, round(shortest * rate)), max(1, round(longest * rate)))
        self.action, self.left = IDLE, 0

    def act(self, game: GymGame) -> Action:
        """The held action, or a new one."""
        if not self.left:
            low, high = self.frames
            self.left = int(self.rng.integers(low, high + 1))
            self.action = IDLE if self.rng.random() < REST else self._choose(game)
        self.left -= 1
        return self.action

    def _choose(self, game: GymGame) -> Action:
        keys = self.choices[int(self.rng.integers(len(self.choices)))]
        if self.rng.random() < CLUMSY:
            keys |= self.choices[int(self.rng.integers(len(self.choices)))]
        spec = game.actions
        if not spec.uses_mouse:
            return Action(keys)
        reach = spec.max_mouse_degrees
        right, down = (float(x) for x in self.rng.uniform(-reach, reach, size=2))
        return Action(keys, (right, down if spec.look_up_down else 0.0))


class OwnPlayer:
    """A function of the user's from observations to actions of the environment."""

    def __init__(self, choose: Callable[[Any], Any]) -> None:
        self.choose = choose

    def act(self, game: GymGame) -> Action:
        """The keys that mean what the function chose; they are what is played."""
        return game.action_mapping.from_env(self.choose(game.observation))


def find_player(name: str, *, allow_code: bool) -> MakePlayer[GymGame]:
    """The player that `--player` names."""
    if name == "random":
        return lambda game, seed: HoldingPlayer(game, seed, 0.0, 0.0)
    if name == "sticky":
        return lambda game, seed: HoldingPlayer(game, seed, SHORTEST, LONGEST)
    if ":" not in name:
        raise UserError(
            f"--player {name}: choose human, sticky, random or code of your own as module:callable"
        )
    make = load_code(name, allow_code=allow_code)
    return lambda game, _: OwnPlayer(make(game.env))
