"""What there is to play: worlds, their starts, the last sessions, saved moments.

Reading it takes a while where much was saved, so a thread does it and the menu is there at once.

    library = Library(find_world(None)); library.look()
    ...; library.worlds, library.sessions, library.moments       # what was found so far
    library.close()
"""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from worldmodel.action import ActionSpec
from worldmodel.config import UserError
from worldmodel.game.known_speeds import speeds_here
from worldmodel.storage.moments import MomentEntry, last_sessions_folder, list_moments
from worldmodel.storage.tensor_files import open_tensors
from worldmodel.system.limits import LARGEST_EPISODE
from worldmodel.world import Frame
from worldmodel.worlds.find import Description, list_all_worlds, read_any_world

MOST_MOMENTS = 200  # that are shown


@dataclass(frozen=True, kw_only=True, slots=True)
class StartEntry:
    """A place to begin at, as the menu lists it."""

    caption: str
    picture: Frame | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """A world that can be played."""

    folder: Path
    name: str
    title: str
    frame_size: tuple[int, int]  # rows, columns
    frames_per_second: float
    megabytes: float  # on disk
    actions: ActionSpec
    starts: Sequence[StartEntry]
    measured: float | None  # frames per second here, the last time


class Library:
    """Looks things up in a thread of its own."""

    def __init__(self, here: Path | None) -> None:
        self.here = here  # the folder of the world that is played
        self.worlds: Sequence[Installed] = ()
        self.sessions: Sequence[MomentEntry] = ()  # that ended, well or not
        self.moments: Sequence[MomentEntry] = ()
        self.is_looking = False
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> Installed | None:
        """The entry of the world that is played."""
        return next((world for world in self.worlds if world.folder == self.here), None)

    def look(self) -> None:
        """Begin to look, unless it is being done."""
        if self._thread and self._thread.is_alive():
            return
        self.is_looking = True
        self._thread = threading.Thread(target=self._look, name="library")
        self._thread.start()

    def close(self) -> None:
        """Wait until a look that was begun has ended."""
        if self._thread:
            self._thread.join()

    def _look(self) -> None:
        try:
            speeds = speeds_here()
            found = list_all_worlds()
            if self.here and self.here not in [folder for folder, _ in found]:
                with contextlib.suppress(UserError):
                    found.insert(0, (self.here, read_any_world(self.here)))
            found.sort(key=lambda one: one[0] != self.here)
            self.worlds = [describe_world(folder, file, speeds) for folder, file in found]
            kept = list_moments()
            last = list_moments(folder=last_sessions_folder())
            broken = [one for one in kept if one.is_autosave]
            self.sessions = sorted([*last, *broken], key=_saved_at, reverse=True)
            self.moments = [one for one in kept if not one.is_autosave][:MOST_MOMENTS]
        except OSError:  # a folder that may not be looked into: what was found is shown
            pass
        finally:
            self.is_looking = False


def describe_world(folder: Path, file: Description, speeds: dict[str, float]) -> Installed:
    """What a tile says about a world."""
    starts = [
        StartEntry(caption=caption, picture=last_frame(folder / "starts" / name) if name else None)
        for caption, name in zip(file.captions, file.pictures, strict=True)
    ]
    return Installed(
        folder=folder,
        name=file.name,
        title=file.title,
        frame_size=file.frame_size,
        frames_per_second=file.frames_per_second,
        megabytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6,
        actions=file.actions,
        starts=starts,
        measured=speeds.get(file.name),
    )


def last_frame(path: Path) -> Frame | None:
    """What is seen when play begins at a start; None if it cannot be read."""
    try:
        with open_tensors(path, LARGEST_EPISODE, "np") as file:
            frames = file.get_slice("frames")
            count, *shape = frames.get_shape()
            if len(shape) != 3 or shape[2] != 3 or not count or max(shape) > 8192:
                return None
            return np.array(frames[count - 1 : count][0], np.uint8)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _saved_at(kept: MomentEntry) -> float:
    return kept.header.saved_at
