"""Play a learned world: python play.py (--help shows everything else)."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from worldmodel.game.choice import Choice
from worldmodel.game.cli import main
from worldmodel.reference.game import RealGame
from worldmodel.world import World


def open_world(choice: Choice) -> World:
    """Load the chosen world; torch is imported here and no earlier."""
    from worldmodel.worlds.find import open_world
    from worldmodel.worlds.run_settings import RunSettings

    settings = asdict(choice)
    return open_world(settings.pop("world"), RunSettings(**settings))


def open_real(source: Mapping[str, Any]) -> RealGame:
    """Start the real game that a world was learned from, in the process that calls this."""
    from worldmodel.data_sources.doom import open_game

    return open_game(source)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], open_world, open_real))
