"""Who plays Doom while it is recorded, as its config says."""

from worldmodel.data_sources.doom import Doom
from worldmodel.data_sources.explorer import Explorer
from worldmodel.data_sources.gunner import Gunner
from worldmodel.data_sources.record import GamePlayer


def make_doom_player(game: Doom, seed: int) -> GamePlayer[Doom]:
    """The player of an episode: what it does depends on the seed and the game alone."""
    return Gunner(seed) if game.config.player == "gunner" else Explorer(seed)
