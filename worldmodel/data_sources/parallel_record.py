"""Record a game by several processes at once: the same files, however many there are.

Episodes have numbers, which are their seeds. Each is played by whoever is free, and the first ones
that together have as many frames as were asked for are kept. A file that is there is whole and is
not played again, so a recording that was killed goes on.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel.action import ActionSpec
from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom, DoomConfig
from worldmodel.data_sources.doom_players import make_doom_player
from worldmodel.data_sources.record import episode_path, record_episode
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import load_episode, save_episode
from worldmodel.system.progress import Progress

if TYPE_CHECKING:
    from worldmodel.data_sources.gym import GymConfig

AHEAD = 2  # episodes a process has to do, so that none waits


@dataclass(frozen=True, slots=True)
class GameSource:
    """What is recorded: levels of Doom, in turns, or an environment."""

    doom: tuple[DoomConfig, ...] = ()
    gym: "GymConfig | None" = None
    player: str = "sticky"  # of the environment
    allow_code: bool = False  # whether the player may be code

    def describe(self) -> tuple[ActionSpec, float]:
        """Keys and mouse, and frames per second."""
        if self.doom:
            return self.doom[0].actions, self.doom[0].frames_per_second
        from worldmodel.data_sources.gym import open_game

        assert self.gym is not None
        with open_game(self.gym) as game:
            return game.actions, game.frames_per_second

    def path(self, folder: Path, number: int) -> Path:
        """The file of an episode in `folder`."""
        name = self.gym.name if self.gym else self.doom[number % len(self.doom)].level
        return episode_path(folder, name, number)


class Studio:
    """The running games of one process, each started when it is first needed."""

    def __init__(self, source: GameSource) -> None:
        self.source = source
        self._doom: dict[str, Doom] = {}
        self._running = contextlib.ExitStack()

    def play(self, number: int, frames: int) -> Episode:
        """One episode of at most `frames` frames."""
        if self.source.gym is not None:
            return self._play_gym(self.source.gym, number, frames)
        config = self.source.doom[number % len(self.source.doom)]
        if config.level not in self._doom:
            self._doom[config.level] = self._running.enter_context(Doom(config))
        game = self._doom[config.level]
        return record_episode(game, make_doom_player, number, frames)

    def _play_gym(self, config: "GymConfig", number: int, frames: int) -> Episode:
        from worldmodel.data_sources.gym import open_game
        from worldmodel.data_sources.gym_players import find_player

        player = find_player(self.source.player, allow_code=self.source.allow_code)
        with open_game(config) as game:
            return record_episode(game, player, number, frames)

    def close(self) -> None:
        """End the games that this process has started."""
        self._running.close()


_own_studio: Studio | None = None  # of a process that `record_together` has started
_playing = threading.Lock()


def _enter(source: GameSource) -> None:
    global _own_studio  # a process of a pool keeps its game from one call to the next
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that has started them
    _own_studio = Studio(source)
    Finalize(_own_studio, _own_studio.close, exitpriority=10)
    # A daemon: it waits for the parent as long as this process lives, and must not prolong that.
    threading.Thread(target=_leave_with_parent, args=(_own_studio,), daemon=True).start()


def _leave_with_parent(studio: Studio) -> None:
    """When the recording is killed, end the games after the running episode, and this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    with _playing:
        studio.close()
        os._exit(1)


def _record(folder: Path, number: int, frames: int) -> int:
    """Record one episode unless it is there; how long it is."""
    assert _own_studio is not None
    path = _own_studio.source.path(folder, number)
    if path.exists():
        return len(load_episode(path))
    with _playing:
        episode = _own_studio.play(number, frames)
        save_episode(path, episode)
    return len(episode)


def record_together(
    source: GameSource, folder: Path, frames: int, first: int, episode_frames: int, processes: int
) -> int:
    """Record episodes from number `first` on until `frames` frames are there; how many are."""
    done = 0
    context = multiprocessing.get_context("spawn")  # torch has threads, which no fork survives
    with (
        ProcessPoolExecutor(processes, context, _enter, (source,)) as pool,
        Progress(
            total=frames, desc=folder.name, unit="frame", unit_scale=True, leave=True
        ) as progress,
    ):
        waiting: deque[Future[int]] = deque()
        number = first

        def results() -> Iterator[int]:
            nonlocal number
            while done < frames:
                while len(waiting) < AHEAD * processes:
                    waiting.append(pool.submit(_record, folder, number, episode_frames))
                    number += 1
                yield waiting.popleft().result()

        try:
            kept = first
            for length in results():
                done += length
                kept += 1
                progress.update(length)
        except BrokenProcessPool as error:
            raise UserError(
                f"{folder}: a recording process was killed, perhaps for want of memory; the "
                "episodes so far are kept, the same command goes on"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for surplus in range(kept, number):
        source.path(folder, surplus).unlink(missing_ok=True)
    return done
