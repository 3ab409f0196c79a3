"""The real game on seeds that no training has seen: what generated play is held against.

Letters: b batch (clips), f frames, h w rows, columns, k buttons.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.games.doom import Doom, DoomConfig, config_of
from worldmodel.games.explorer import Explorer
from worldmodel.games.record import record_episode
from worldmodel.players import RandomPlayer
from worldmodel.worlds.folder import WorldFile, source_of

EPISODE_FRAMES = 300


@dataclass(frozen=True, slots=True)
class Clips:
    """Stretches of real play: what was seen, and the actions that led to it."""

    frames: Tensor  # uint8 b f h w 3
    actions: Tensor  # b f (k+2)

    def pairs(self, first: int = 0) -> list[tuple[Tensor, Tensor]]:
        """One (frames, actions) for each clip, from frame `first` on."""
        return list(zip(self.frames[:, first:], self.actions[:, first:], strict=True))


def game_of(world: WorldFile) -> DoomConfig:
    """The real game that a world was learned from."""
    return config_of(source_of(world))


def record_clips(game: Doom, spec: ActionSpec, seed: int, count: int, length: int) -> Clips:
    """`count` clips of `length` frames, each from an episode of its own."""
    frames: list[Tensor] = []
    actions: list[Tensor] = []
    rng = np.random.default_rng(seed)
    with tqdm(total=count, desc=f"real play, seeds {seed}…", leave=False) as progress:
        while len(frames) < count:
            episode = record_episode(game, Explorer(seed), seed, EPISODE_FRAMES)
            seed += 1
            if len(episode) < length:
                continue
            first = int(rng.integers(0, len(episode) - length + 1))
            stretch = slice(first, first + length)
            frames.append(torch.from_numpy(episode.frames[stretch].copy()))
            actions.append(torch.from_numpy(spec.encode(episode.actions[stretch])))
            progress.update()
    return Clips(torch.stack(frames), torch.stack(actions))


def play_on(
    game: Doom, spec: ActionSpec, seed: int, past: int, actions: list[Action]
) -> tuple[Clips, Clips]:
    """Explore for `past` frames, then do `actions`: both stretches, as one clip each.

    Where the level ends, the next seed's episode goes on.
    """
    frames, done = [game.reset(seed)], [IDLE]
    explorer = Explorer(seed)
    plan = iter(actions)
    while len(frames) < past + len(actions):
        action = explorer.act(game) if len(frames) < past else next(plan)
        frame = game.step(action)
        if game.over:
            seed += 100_000
            frame = game.reset(seed)
        frames.append(frame)
        done.append(action)
    whole = Clips(
        torch.from_numpy(np.stack(frames))[None], torch.from_numpy(spec.encode(done))[None]
    )
    return (
        Clips(whole.frames[:, :past], whole.actions[:, :past]),
        Clips(whole.frames[:, past:], whole.actions[:, past:]),
    )


def random_actions(spec: ActionSpec, seed: int, frames: int) -> list[Action]:
    """What the random player does."""
    player = RandomPlayer(spec, seed)
    return [player.act(index) for index in range(1, frames + 1)]
