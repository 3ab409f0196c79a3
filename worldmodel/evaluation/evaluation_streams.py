"""The streams of chance of evaluation (`worldmodel.random_streams` makes the seeds).

An episode of the real game has a number, which is the game's own seed. Whatever else is drawn for
it has a key of that number and a purpose: who plays, where a clip is cut, which noise a rollout
sees. So no two of them have numbers in common, and none has the game's.
"""

from worldmodel.data_sources.doom import Doom
from worldmodel.data_sources.doom_players import make_doom_player
from worldmodel.data_sources.record import GamePlayer
from worldmodel.random_streams import Key, seed_of


def player_of(game: Doom, *key: Key) -> GamePlayer[Doom]:
    """Who plays the real game, with a stream of that key."""
    return make_doom_player(game, seed_of("player", *key))


def noise_seeds(count: int, *key: Key) -> list[int]:
    """The seeds of the noise of `count` rollouts side by side, for one measurement."""
    return [seed_of("noise", *key, number) for number in range(count)]
