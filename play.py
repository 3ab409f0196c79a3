"""Play a learned world: python play.py (--help shows everything else)."""

import sys
from dataclasses import asdict

from worldmodel.game.cli import Choice, main
from worldmodel.world import World


def open_world(choice: Choice) -> World:
    """Load the chosen world; torch is imported here and no earlier."""
    from worldmodel.worlds.find import open_world
    from worldmodel.worlds.settings import Settings

    settings = asdict(choice)
    return open_world(settings.pop("world"), Settings(**settings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], open_world))
