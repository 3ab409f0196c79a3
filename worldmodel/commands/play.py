"""Play a world: `worldmodel play` and `play.py` are the same program."""

import argparse
from collections.abc import Mapping
from typing import Any

from worldmodel.game.choice import Choice
from worldmodel.game.cli import play
from worldmodel.game.flags import DESCRIPTION, PlayHelp, add_flags
from worldmodel.reference.game import RealGame
from worldmodel.world import World

__all__ = ["PlayHelp", "add", "open_real", "open_world", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    parser.description = DESCRIPTION
    add_flags(parser)
    parser.set_defaults(run=run, handles_signals=True, is_watched=True)


def run(options: argparse.Namespace) -> int:
    """Do it; the answer is the exit code."""
    return play(options, open_world, open_real)


def open_world(choice: Choice) -> World:
    """Load the chosen world; torch is imported here and no earlier."""
    from worldmodel.worlds.find import open_world

    return open_world(choice.world, choice)


def open_real(source: Mapping[str, Any]) -> RealGame:
    """Start the real game that a world was learned from, in the process that calls this."""
    from worldmodel.data_sources.doom import open_game

    return open_game(source)
