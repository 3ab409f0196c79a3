"""Record a Gymnasium environment: one episode file for each of its episodes.

Only one episode is in memory at a time, and a file that exists is whole: a recording that is killed
loses the episode that was running and nothing else.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldmodel.action import IDLE, ActionSpec
from worldmodel.config import UserError, require_positive, to_toml
from worldmodel.data_sources.gym import GymGame
from worldmodel.data_sources.policies import MakePolicy
from worldmodel.state_spec import track_of
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import save_episode
from worldmodel.system.paths import list_files
from worldmodel.system.progress import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordPlan:
    """How much, and where to."""

    folder: Path
    frames: int  # all episodes together, about
    episode_frames: int  # the longest episode
    seed: int = 0  # of the first episode; the others count on

    def __post_init__(self) -> None:
        require_positive(self, "frames", "episode_frames")


def record_episode(game: GymGame, make_policy: MakePolicy, seed: int, frames: int) -> Episode:
    """Play one episode of at most `frames` frames."""
    pictures, actions, states = [game.reset(0, seed)], [IDLE], [game.state]
    policy = make_policy(game, seed)
    while len(pictures) < frames and not game.is_over:
        action = game.actions.known(policy.act(game))
        pictures.append(game.generate(action))
        actions.append(action)
        states.append(game.state)
    return Episode(
        frames=np.stack(pictures),
        actions=actions,
        frames_per_second=game.frames_per_second,
        buttons=game.actions.buttons,
        state=track_of(game.state_spec, states),
    )


def record_gym(game: GymGame, make_policy: MakePolicy, plan: RecordPlan) -> int:
    """Record episodes with consecutive seeds until `plan.frames` frames are on disk.

    A file that is there already is never written over. Returns the number of frames recorded.
    """
    done, seed = 0, plan.seed
    _check_free(plan, game.name)
    with Progress(total=plan.frames, unit="frame", unit_scale=True, leave=True) as progress:
        while done < plan.frames:
            episode = record_episode(game, make_policy, seed, plan.episode_frames)
            save_episode(_path(plan.folder, game.name, seed), episode)
            done += len(episode)
            seed += 1
            progress.update(len(episode))
    return done


def actions_table(spec: ActionSpec) -> str:
    """The table that a training config needs."""
    return to_toml({"actions": {name: getattr(spec, name) for name in spec.__slots__}})


def _path(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name}_{seed:06d}.safetensors"


def _check_free(plan: RecordPlan, name: str) -> None:
    """Refuse to begin among the files of an earlier recording."""
    there = list_files(plan.folder, f"{name}_*.safetensors")
    numbers = [path.stem.rpartition("_")[2] for path in there]
    taken = [int(number) for number in numbers if number.isdecimal()]
    if taken and max(taken) >= plan.seed:
        raise UserError(
            f"{_path(plan.folder, name, max(taken))}: recorded earlier; go on with "
            f"--seed {max(taken) + 1} or choose another --out"
        )
