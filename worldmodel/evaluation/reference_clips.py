"""The real game on seeds that no training has seen: what generated play is held against."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom, DoomConfig, config_of
from worldmodel.data_sources.record import record_episode
from worldmodel.evaluation.evaluation_streams import player_of
from worldmodel.players import RandomPlayer
from worldmodel.random_streams import arrays, seed_of
from worldmodel.storage.episode import Episode
from worldmodel.system.progress import Progress
from worldmodel.worlds.world_folder import WorldFile, source_of

EPISODE_FRAMES = 300


@dataclass(frozen=True, slots=True)
class Clips:
    """Stretches of real play: what was seen, and the actions that led to it."""

    frames: Tensor  # uint8 b f h w 3
    actions: Tensor  # b f (k+2)
    states: Tensor | None = None  # b f v, what the game said of itself

    @classmethod
    def of(
        cls,
        spec: ActionSpec,
        frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
        actions: Sequence[Action],
        states: Sequence[NDArray[np.float32]] | NDArray[np.float32] | None = None,
    ) -> "Clips":
        """One stretch, in memory of its own."""
        return cls(
            torch.from_numpy(np.array(frames))[None],
            torch.from_numpy(spec.encode(actions))[None],
            None if states is None else torch.from_numpy(np.array(states))[None],
        )

    @classmethod
    def of_episode(cls, spec: ActionSpec, episode: Episode) -> "Clips":
        """A whole episode of a game that says its state in every frame."""
        assert episode.state is not None
        return cls.of(spec, episode.frames, episode.actions, episode.state.values)

    @classmethod
    def together(cls, clips: Sequence["Clips"]) -> "Clips":
        """Clips of one length side by side."""
        states = [clip.states for clip in clips if clip.states is not None]
        return cls(
            torch.cat([clip.frames for clip in clips]),
            torch.cat([clip.actions for clip in clips]),
            torch.cat(states) if states else None,
        )

    def cut(self, first: int, end: int) -> "Clips":
        """Frames from `first` until before `end`."""
        states = None if self.states is None else self.states[:, first:end]
        return Clips(self.frames[:, first:end], self.actions[:, first:end], states)

    def joined(self, other: "Clips") -> "Clips":
        """These clips and what comes after them."""
        states = (
            None
            if self.states is None or other.states is None
            else torch.cat((self.states, other.states), dim=1)
        )
        return Clips(
            torch.cat((self.frames, other.frames), dim=1),
            torch.cat((self.actions, other.actions), dim=1),
            states,
        )

    def pairs(self, first: int = 0) -> list[tuple[Tensor, Tensor]]:
        """One (frames, actions) for each clip, from frame `first` on."""
        return list(zip(self.frames[:, first:], self.actions[:, first:], strict=True))


def game_of(world: WorldFile) -> DoomConfig:
    """The real game that a world was learned from."""
    return config_of(source_of(world))


def check_state(world: WorldFile, game: Doom) -> None:
    """Refuse to hold a world's places against a game that counts its state in another way."""
    if world.state is not None and world.state.names != game.state_spec.names:
        raise UserError(
            f"{world.name} knows {', '.join(world.state.names)} of itself, this version of the "
            f"game tells {', '.join(game.state_spec.names)}; record and train it anew"
        )


def record_clips(game: Doom, spec: ActionSpec, seed: int, count: int, length: int) -> Clips:
    """`count` clips of `length` frames, each from an episode of its own."""
    clips: list[Clips] = []
    with Progress(total=count, desc=f"real play, seeds {seed}…") as progress:
        while len(clips) < count:
            episode = record_episode(game, player_of, seed, EPISODE_FRAMES)
            cut = arrays(seed, "cut")
            seed += 1
            if len(episode) < length:
                continue
            first = int(cut.integers(0, len(episode) - length + 1))
            clips.append(Clips.of_episode(spec, episode.cut(first, first + length)))
            progress.update()
    return Clips.together(clips)


def play_on(
    game: Doom, spec: ActionSpec, seed: int, past: int, actions: list[Action]
) -> tuple[Clips, Clips]:
    """Play for `past` frames, then do `actions`: both stretches, as one clip each.

    Where the level ends, the next seed's episode goes on.
    """
    frames, done = [game.reset(seed)], [IDLE]
    states = [game.state]
    player = player_of(game, seed)
    plan = iter(actions)
    while len(frames) < past + len(actions):
        action = player.act(game) if len(frames) < past else next(plan)
        frame = game.step(action)
        if game.is_over:
            seed += 100_000
            frame = game.reset(seed)
        frames.append(frame)
        done.append(action)
        states.append(game.state)
    whole = Clips.of(spec, frames, done, states)
    return whole.cut(0, past), whole.cut(past, len(frames))


def random_actions(spec: ActionSpec, seed: int, frames: int) -> list[Action]:
    """What the random player does in the stream of an episode of that seed."""
    player = RandomPlayer(spec, seed_of(seed, "random actions"))
    return [player.act(index) for index in range(1, frames + 1)]
