"""Play a learned world: python play.py (--help shows everything else).

The main loop is `Game.play` in worldmodel/game/loop.py; `main` parses the flags and opens worlds.
"""

import sys

try:
    from worldmodel.system.starting import Starting, leave
except KeyboardInterrupt:
    sys.exit(130)

with Starting("play"):
    from worldmodel.commands.play import open_real, open_world
    from worldmodel.game.cli import main

__all__ = ["open_real", "open_world"]

if __name__ == "__main__":
    leave(main(sys.argv[1:], open_world, open_real))
