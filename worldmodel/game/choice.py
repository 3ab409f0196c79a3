"""Which world is played and how it runs, as the command line or a recording says."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from worldmodel.world import World
from worldmodel.worlds.run_settings import RunSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice(RunSettings):
    """Which world, and how to run it."""

    world: str | None = None  # a name or a folder; None: the default one

    @property
    def settings(self) -> dict[str, Any]:
        """As a recording's header has them: the world first."""
        return {"world": self.world, **asdict(self)}


OpenWorld = Callable[[Choice], World]
