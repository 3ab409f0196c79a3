"""Where real play comes from: the real game on unseen seeds, or episodes recorded of any game.

    with Doom(game_of(world)) as game:
        clips = FromGame(game, spec, seed).clips(CLIPS, count=64, length=77)
    clips = FromEpisodes(Path("data/heldout"), world, seed).clips(CLIPS, count=64, length=77)

No clip of one part is in another: each part of an evaluation has seeds of its own, and of recorded
episodes every second one is for the inverse-dynamics model; the world is held against the others.
"""

from pathlib import Path
from typing import Protocol

from worldmodel.action import ActionSpec
from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom
from worldmodel.evaluation.reference_clips import Clips, record_clips
from worldmodel.random_streams import arrays
from worldmodel.storage.episode import RATES_AGREE, Episode, EpisodeError
from worldmodel.storage.episodes import find_episodes, load_episode
from worldmodel.system.printable import counted
from worldmodel.system.progress import through
from worldmodel.training.clips import check_buttons, check_size
from worldmodel.worlds.world_folder import WorldFile

CLIPS, NEXT, FRESH, LESSONS, LONG = range(5)  # the parts of an evaluation
APART = 10_000  # seeds of two parts


class TooLittleError(UserError):
    """Episodes that are good and too few, or too short."""


class Source(Protocol):
    """Whatever gives stretches of real play."""

    @property
    def game(self) -> Doom | None:
        """The game itself, where it can be played."""

    @property
    def stamp(self) -> str:
        """Changes with what is given."""

    def clips(self, part: int, count: int, length: int, least: int) -> Clips:
        """Clips of `length` frames for a part: `count` of them if there are so many.

        Where nothing is so long they are shorter, but not below `least` frames.
        """


class FromGame:
    """The real game, played by a scripted player."""

    stamp = ""

    def __init__(self, game: Doom, spec: ActionSpec, seed: int) -> None:
        self.game, self.spec, self.seed = game, spec, seed

    def clips(self, part: int, count: int, length: int, least: int) -> Clips:
        """Each from an episode of its own; the game plays as long as it takes."""
        del least
        return record_clips(self.game, self.spec, self.seed + part * APART, count, length)


class FromEpisodes:
    """A folder of episodes of the world's own game that no training has read."""

    game = None

    def __init__(self, folder: Path, world: WorldFile, seed: int) -> None:
        self.folder, self.world, self.seed = folder, world, seed
        self.paths = find_episodes(folder)
        if len(self.paths) < 2:
            raise TooLittleError(
                f"{folder}: holds one episode; --data needs two or more: every second one teaches "
                "the inverse-dynamics model, and the world is held against the others"
            )
        # All are read: whatever is wrong is said before anything is measured.
        reading = through(self.paths, desc="episodes", unit="episode")
        self.lengths = {path: len(self._load(path)) for path in reading}

    @property
    def stamp(self) -> str:
        """Names, sizes and times of the files."""
        stats = [(path, path.stat()) for path in self.paths]
        return " ".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)

    def clips(self, part: int, count: int, length: int, least: int) -> Clips:
        """One after the other without overlap, in random order."""
        self.check(part, least)
        stream, whose = arrays(self.seed, "clips", part), self._whose(part)
        length = min(length, max(self.lengths[path] for path in whose))
        places: list[tuple[Path, int]] = []
        for path in whose:
            frames = self.lengths[path]
            first = int(stream.integers(0, frames % length + 1))
            places += [(path, begin) for begin in range(first, frames - length + 1, length)]
        chosen = [places[i] for i in stream.permutation(len(places))[:count]]
        found: dict[tuple[Path, int], Clips] = {}
        for path in through(list(dict.fromkeys(path for path, _ in chosen)), desc="real play"):
            episode = self._load(path)  # one at a time: a folder may be larger than memory
            for place in chosen:
                if place[0] == path:
                    found[place] = self._clip(episode.cut(place[1], place[1] + length))
        return Clips.together([found[place] for place in chosen])

    def check(self, part: int, least: int) -> None:
        """Refuse episodes of which none has `least` frames, for a part."""
        whose = self._whose(part)
        if max(self.lengths[path] for path in whose) < least:
            raise TooLittleError(
                f"{self.folder}: none of the {counted(len(whose), 'episode')} from "
                f"{whose[0].name} on, every second one, has the {least} frames that are needed"
            )

    def _whose(self, part: int) -> list[Path]:
        """The episodes to learn from, or those that the world is held against."""
        return self.paths[part == LESSONS :: 2]

    def _clip(self, episode: Episode) -> Clips:
        """A stretch in memory; numbers only where the world has some, too."""
        spec, actions = self.world.actions, episode.actions
        if episode.state is None or self.world.state is None:
            return Clips.of(spec, episode.frames, actions)
        return Clips.of(spec, episode.frames, actions, episode.state.values)

    def _load(self, path: Path) -> Episode:
        """An episode of the world's own size, rate, keys and numbers; else an `EpisodeError`."""
        episode, world = load_episode(path), self.world
        shape, rate = world.autoencoder, episode.frames_per_second
        check_size(path, episode, shape.frame_height, shape.frame_width)
        check_buttons(path, episode, world.actions)
        if abs(rate - world.frames_per_second) > RATES_AGREE * world.frames_per_second:
            raise EpisodeError(
                f"{path}: {rate:g} frames/s, {world.name} plays {world.frames_per_second:g}"
            )
        names = () if episode.state is None else episode.state.spec.names
        if world.state is not None and names != world.state.names:
            raise EpisodeError(
                f"{path}: {', '.join(names) or 'no state'} in every frame, {world.name} knows "
                f"{', '.join(world.state.names)}"
            )
        return episode
