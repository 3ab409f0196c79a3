"""Record a real game: episodes of frames and the actions that led to them."""

from pathlib import Path
from typing import Protocol

import numpy as np

from worldmodel.action import IDLE, Action
from worldmodel.data_sources.doom import Doom, DoomConfig
from worldmodel.data_sources.explorer import Explorer
from worldmodel.data_sources.gunner import Gunner
from worldmodel.state_spec import track_of
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import save_episode
from worldmodel.system.progress import Progress


class DoomPlayer(Protocol):
    """Chooses one action after the other, in one episode."""

    def act(self, game: Doom) -> Action:
        """The next action, after a look at the game."""


def make_player(config: DoomConfig, seed: int) -> DoomPlayer:
    """Who plays the episode of a seed."""
    return Gunner(seed) if config.player == "gunner" else Explorer(seed)


def record_episode(game: Doom, player: DoomPlayer, seed: int, frames: int) -> Episode:
    """Play one episode of at most `frames` frames; it ends early where the level does."""
    pictures, actions, states = [game.reset(seed)], [IDLE], [game.state]
    while len(pictures) < frames:
        action = game.actions.known(player.act(game))
        picture = game.step(action)
        if game.over:
            break
        pictures.append(picture)
        actions.append(action)
        states.append(game.state)
    return Episode(
        frames=np.stack(pictures),
        actions=actions,
        frames_per_second=game.config.frames_per_second,
        buttons=game.actions.buttons,
        state=track_of(game.state_spec, states),
    )


def record_doom(
    config: DoomConfig, folder: Path, frames: int, first_seed: int, episode_frames: int
) -> int:
    """Record episodes with consecutive seeds until `frames` frames are on disk.

    The same seeds give the same files again. Returns the number of frames recorded.
    """
    done, seed = 0, first_seed
    with (
        Doom(config) as game,
        Progress(total=frames, unit="frame", unit_scale=True, leave=True) as progress,
    ):
        while done < frames:
            path = folder / f"{config.level}_{seed:06d}.safetensors"
            # The player's plan depends on the seed alone: any episode can be made again.
            episode = record_episode(game, make_player(config, seed), seed, episode_frames)
            save_episode(path, episode)
            done += len(episode)
            seed += 1
            progress.update(len(episode))
    return done
