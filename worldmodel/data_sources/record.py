"""Record a real game: episodes of frames, the actions that led to them, and the game's state.

    episode = record_episode(game, make_player, seed=7, frames=600)
    done = record_episodes(game, make_player, plan)      # a file for each, their seeds count on

Only one episode is in memory at a time, and a file that exists is whole: a recording that is killed
loses the episode that was running and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.config import UserError, require_positive, to_toml
from worldmodel.reference.game import RealGame
from worldmodel.state_spec import StateSpec, track_of
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import HALVED, save_episode, told_sizes
from worldmodel.system.paths import list_files
from worldmodel.system.progress import Progress


class RecordableGame(RealGame, Protocol):
    """A real game that says what a recording of it has to know."""

    @property
    def name(self) -> str:
        """What its files are called."""

    @property
    def actions(self) -> ActionSpec:
        """The keys and the mouse that the game understands."""

    @property
    def frames_per_second(self) -> float:
        """Frames of a recording in a second of the game."""

    @property
    def draws_its_end(self) -> bool:
        """Whether the frame at which an episode ends is a new picture."""

    @property
    def state_spec(self) -> StateSpec:
        """What the numbers of `state` are."""

    @property
    def state(self) -> NDArray[np.float32]:
        """The numbers of the frame that is shown; never written to again."""


Game = TypeVar("Game", bound=RecordableGame)
Seen = TypeVar("Seen", bound=RecordableGame, contravariant=True)


class GamePlayer(Protocol[Seen]):
    """Chooses an action in every frame of one episode."""

    def act(self, game: Seen) -> Action:
        """The next action, after a look at the game."""


MakePlayer = Callable[[Game, int], GamePlayer[Game]]  # for an episode and its seed


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordPlan:
    """How many frames are recorded, in which folder, from which seed on."""

    folder: Path
    frames: int  # all episodes together, about
    episode_frames: int  # the longest episode
    seed: int = 0  # of the first episode; the others count on

    def __post_init__(self) -> None:
        require_positive(self, "frames", "episode_frames")


def record_episode(game: Game, make_player: MakePlayer[Game], seed: int, frames: int) -> Episode:
    """Play one episode of at most `frames` frames; it ends early where the game does.

    The player depends on the game and the seed alone, so any episode can be made again.
    """
    pictures, actions, states = [game.reset(seed)], [IDLE], [game.state]
    player = make_player(game, seed)
    while len(pictures) < frames and not game.is_over:
        action = game.actions.known(player.act(game))
        picture = game.step(action)
        if game.is_over and not game.draws_its_end:
            break
        pictures.append(picture)
        actions.append(action)
        states.append(game.state)
    return Episode(
        frames=np.stack(pictures),
        actions=actions,
        frames_per_second=game.frames_per_second,
        buttons=game.actions.buttons,
        state=track_of(game.state_spec, states),
    )


def record_episodes(game: Game, make_player: MakePlayer[Game], plan: RecordPlan) -> int:
    """Record episodes with consecutive seeds until `plan.frames` frames are on disk.

    The same seeds give the same files again. Returns the number of frames recorded.
    """
    done, seed = 0, plan.seed
    with Progress(total=plan.frames, unit="frame", unit_scale=True, leave=True) as progress:
        while done < plan.frames:
            episode = record_episode(game, make_player, seed, plan.episode_frames)
            save_episode(episode_path(plan.folder, game.name, seed), episode)
            done += len(episode)
            seed += 1
            progress.update(len(episode))
    return done


def read_size(text: str) -> tuple[int, int]:
    """Rows and columns of "64x48", width first; what nothing can be trained on is refused."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"--size {text!r}: expected width x height, for instance 64x48")
    size = int(height), int(width)
    if any(side % HALVED for side in size):
        raise UserError(f"--size {text}: nothing could be trained on it; {told_sizes(size)}")
    return size


def episode_path(folder: Path, game: str, seed: int) -> Path:
    """The file of the episode of a seed."""
    return folder / f"{game}_{seed:06d}.safetensors"


def check_free(plan: RecordPlan, game: str) -> None:
    """Refuse to begin among the files of an earlier recording."""
    there = list_files(plan.folder, f"{game}_*.safetensors")
    numbers = [path.stem.rpartition("_")[2] for path in there]
    taken = [int(number) for number in numbers if number.isdecimal()]
    if taken and max(taken) >= plan.seed:
        raise UserError(
            f"{episode_path(plan.folder, game, max(taken))}: recorded earlier; go on with "
            f"--seed {max(taken) + 1} or choose another --out"
        )


def actions_table(spec: ActionSpec) -> str:
    """The table that a training config needs."""
    return to_toml({"actions": {name: getattr(spec, name) for name in spec.__slots__}})
