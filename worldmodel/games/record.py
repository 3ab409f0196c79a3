"""Record a real game: episodes of frames and the actions that led to them."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from worldmodel.action import IDLE
from worldmodel.episodes import Episode, save_episode
from worldmodel.games.doom import ACTIONS, Doom, DoomConfig
from worldmodel.games.explorer import Explorer


def record_episode(game: Doom, explorer: Explorer, seed: int, frames: int) -> Episode:
    """Play one episode of at most `frames` frames; it ends early where the level does."""
    pictures, actions = [game.reset(seed)], [IDLE]
    while len(pictures) < frames:
        action = ACTIONS.known(explorer.act(game))
        picture = game.step(action)
        if game.over:
            break
        pictures.append(picture)
        actions.append(action)
    return Episode(
        frames=np.stack(pictures),
        actions=actions,
        frames_per_second=game.config.frames_per_second,
        buttons=ACTIONS.buttons,
    )


def record_doom(
    config: DoomConfig, folder: Path, frames: int, first_seed: int, episode_frames: int
) -> int:
    """Record episodes with consecutive seeds until `frames` frames are on disk.

    The same seeds give the same files again. Returns the number of frames recorded.
    """
    done, seed = 0, first_seed
    with Doom(config) as game, tqdm(total=frames, unit="frame", unit_scale=True) as progress:
        while done < frames:
            path = folder / f"{config.level}_{seed:06d}.safetensors"
            # The explorer's plan depends on the seed alone: any episode can be made again.
            episode = record_episode(game, Explorer(seed), seed, episode_frames)
            save_episode(path, episode)
            done += len(episode)
            seed += 1
            progress.update(len(episode))
    return done
