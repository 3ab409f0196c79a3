"""Which world is played and how it runs, as the command line or a recording says."""

from collections.abc import Callable
from dataclasses import dataclass

from worldmodel.world import World
from worldmodel.worlds.run_settings import RunSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice(RunSettings):
    """Which world, and how to run it."""

    world: str | None = None  # a name or a folder; None: the default one


OpenWorld = Callable[[Choice], World]
