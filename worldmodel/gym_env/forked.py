"""A world in a process that must not compute: it has its spaces, and says why it does not begin.

Gymnasium's workers pass on what `reset` raises; what their constructors raise ends in an EOFError.
"""

from pathlib import Path
from typing import cast

from worldmodel.system.paths import Pathlike
from worldmodel.world import Frame, World
from worldmodel.worlds.find import find_world, read_any_world
from worldmodel.worlds.fork_guard import ForkedError


class ForkedWorld:
    """What `world.toml` says, and nothing that computes."""

    def __init__(self, folder: Path, error: ForkedError) -> None:
        file = read_any_world(folder)
        self.name, self.actions = file.name, file.actions
        self.frames_per_second = file.frames_per_second
        self._error = error
        self.frame_size, self.starts = file.frame_size, file.captions

    def reset(self, start: int, seed: int) -> Frame:
        """Always a `ForkedError`, which says why the world cannot be loaded here."""
        del start, seed
        raise self._error


def forked_world(name: Pathlike | None, error: ForkedError) -> World:
    """In place of a world that cannot be loaded here; nothing but `reset` is ever called."""
    return cast(World, ForkedWorld(find_world(name), error))
