"""What episodes say of the state, read without their frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError
from worldmodel.model.motion import Roles
from worldmodel.model.scene import scene_views
from worldmodel.model.state_configs import SceneConfig
from worldmodel.state_spec import StateSpec, StateTrack, join_specs
from worldmodel.storage.episode import Episode, EpisodeError
from worldmodel.storage.episodes import find_episodes, load_actions, load_state


def check_actions(actions: ActionSpec, buttons: int, mouse_degrees: float) -> None:
    """Refuse [actions] that a network of states in [model] was not made for."""
    if len(actions.buttons) != buttons:
        raise ConfigError(f"[actions] names {len(actions.buttons)} buttons, [model] {buttons}")
    if actions.mouse_degrees != mouse_degrees:
        raise ConfigError(
            f"mouse_degrees is {actions.mouse_degrees} in [actions], {mouse_degrees} in [model]"
        )


@dataclass(frozen=True, slots=True)
class StateEpisodes:
    """State and actions of every frame of a data set."""

    spec: StateSpec  # with the ranges of all of it
    states: Tensor  # f v, fp32
    actions: Tensor  # f (k+2)
    starts: Tensor  # first frame of each episode, and the total at the end

    @classmethod
    def load(cls, folder: Path, spec: ActionSpec) -> "StateEpisodes":
        """Read a folder; an episode without state, or with another one, is an `EpisodeError`."""
        paths = find_episodes(folder)
        tracks = [load_state(path) for path in paths]
        for path, track in zip(paths, tracks, strict=True):
            if track is None:
                raise EpisodeError(
                    f"{path}: holds no state; a world that knows its place needs one in every "
                    "episode: record them again, or leave this one out"
                )
        known = [track for track in tracks if track is not None]
        try:
            joined = join_specs([track.spec for track in known])
        except ConfigError as error:
            raise EpisodeError(f"{folder}: {error}") from error
        lengths = [0, *(len(track) for track in known)]
        return cls(
            joined,
            torch.from_numpy(np.concatenate([track.values for track in known])),
            torch.from_numpy(np.concatenate([spec.encode(load_actions(path)) for path in paths])),
            torch.from_numpy(np.cumsum(lengths)),
        )

    def windows(self, frames: int, numbers: Sequence[int], jump: float) -> Tensor:
        """The first frames f of all stretches whose numbers are known and where nobody was moved.

        A step of more than `jump` in any of the first two numbers (a death, a teleport) ends a
        stretch.
        """
        chosen = self.states[:, list(numbers)]
        bad = ~torch.isfinite(chosen).all(dim=1)
        bad[1:] |= (chosen[1:, :2] - chosen[:-1, :2]).abs().amax(dim=1) > jump
        first = torch.zeros(len(chosen), dtype=torch.bool)
        first[self.starts[:-1]] = True
        # A stretch may begin with an episode or a jump, and may contain neither later on.
        broken = torch.cumsum((bad | first).long(), dim=0)
        last = len(chosen) - frames + 1
        if last < 1:
            return torch.empty(0, dtype=torch.long)
        whole = broken[frames - 1 :] == broken[:last]
        return torch.nonzero(whole & torch.isfinite(chosen[:last]).all(dim=1))[:, 0]

    def stride(self, place: Sequence[int]) -> float:
        """The usual way in a frame, as a root mean square, of those who move; jumps left out."""
        way = (self.states[1:, list(place)] - self.states[:-1, list(place)]).norm(dim=1)
        way = way[torch.isfinite(way) & (way > 0)]
        usual = way[way <= 10 * way.median()] if len(way) else way
        if not len(usual):
            raise ConfigError("nobody moves in this data, so there is no motion to learn")
        return float(usual.square().mean().sqrt())


def read_states(folder: Path) -> StateSpec:
    """The state of a folder of episodes, with the ranges of all; `EpisodeError` without one."""
    tracks = [load_state(path) for path in find_episodes(folder)]
    known = [track.spec for track in tracks if track is not None]
    if not known or len(known) < len(tracks):
        raise EpisodeError(
            f"{folder}: {len(tracks) - len(known)} of {len(tracks)} episodes hold no state; "
            "record them again with one"
        )
    return join_specs(known)


def views_of(episode: Episode, path: Path, scene: SceneConfig | None = None) -> Tensor:
    """Where an episode's frames are seen from: f 4 (x, y, the eye's height, heading).

    With a `scene`, what that is seen by: f n. Every one must be known: clips are cut from anywhere.
    An `EpisodeError` names the first that is not.
    """
    views = view_columns(episode.state, path, scene)
    unknown = torch.nonzero(~torch.isfinite(views).all(dim=1))
    if len(unknown):
        raise EpisodeError(
            f"{path}: frame {int(unknown[0])} does not say where it is seen from "
            f"({len(unknown)} of {len(views)} do not); record the episode again, or leave it out"
        )
    return views


def view_columns(track: StateTrack | None, path: Path, scene: SceneConfig | None = None) -> Tensor:
    """The numbers of a track that a view is made of: f 4, NaN in frames that do not know them.

    With a `scene`: f n.

    An `EpisodeError` if there are none.
    """
    if track is None:
        raise EpisodeError(
            f"{path}: holds no state, so nobody knows where its frames are seen from"
        )
    try:
        if scene is not None:
            return scene_views(scene, track.spec.names, torch.from_numpy(track.values.copy()))
        numbers = Roles.of(track.spec).view
    except ConfigError as error:
        raise EpisodeError(f"{path}: {error}") from error
    return torch.from_numpy(track.values[:, list(numbers)].copy())
