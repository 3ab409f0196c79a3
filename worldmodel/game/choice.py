"""Which world is played and how it runs, as the command line or a recording says."""

from collections.abc import Callable
from dataclasses import dataclass

from worldmodel.config import ConfigError
from worldmodel.system.limits import MOST_STEPS, MOST_THREADS
from worldmodel.world import World


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which world, and how to run it; None and `auto` leave it to the world."""

    world: str | None = None  # a name or a folder
    steps: int = 0  # denoising steps; 0: as the world says
    device: str = "auto"
    dtype: str = "auto"
    engine: str = "auto"  # what computes the frames
    compile: bool = False  # torch on fixed shapes, fused
    threads: int = 0  # 0: as many as is fastest
    start: str | None = None  # a clip or an image to begin with
    prompt: str | None = None  # the first words, in worlds with text

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= MOST_STEPS or not 0 <= self.threads <= MOST_THREADS:
            raise ConfigError(
                f"steps ({self.steps}) must be from 0 to {MOST_STEPS}, "
                f"threads ({self.threads}) from 0 to {MOST_THREADS}"
            )


OpenWorld = Callable[[Choice], World]
