"""What the player can ask for that is more than a key: a start by its number, a saved moment."""

from dataclasses import dataclass
from pathlib import Path

from worldmodel.game.controls import Command
from worldmodel.world import Spot


@dataclass(frozen=True, slots=True)
class ToStart:
    """Begin at a start of the world that is played."""

    start: int


@dataclass(frozen=True, slots=True)
class ToSpot:
    """Begin at a place of the world that is played."""

    spot: Spot


@dataclass(frozen=True, slots=True)
class ToMoment:
    """Go on from a saved moment of the world that is played."""

    path: Path


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Play another world, from a start or from a moment; None is the world that is shipped."""

    world: str | None
    load: Path | None = None


Order = Command | ToStart | ToSpot | ToMoment  # what a session obeys between two frames
