"""The starts of a world: clips that become the past, and how the real game comes to them."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from worldmodel.action import IDLE
from worldmodel.config import UserError
from worldmodel.reference.game import Origin, ReferenceTrajectory
from worldmodel.reference.trajectory import ENDING, TrajectoryError, load_trajectory
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import load_episode
from worldmodel.storage.footage import is_episode, is_video, nearest, open_footage
from worldmodel.storage.images import fit, read_picture
from worldmodel.system.paths import Pathlike, to_path
from worldmodel.worlds.world_folder import WorldFile, check_part, source_of

NO_TRAJECTORY = UserError("the real game does not come to it")


@dataclass(frozen=True, slots=True)
class Start:
    """One place to begin at: its clip, caption, and how the real game comes to it."""

    caption: str
    clip: Episode
    trajectory: ReferenceTrajectory | UserError = NO_TRAJECTORY  # or why there is none


def load_starts(folder: Path, file: WorldFile, own: Pathlike | None) -> list[Start]:
    """The world's starts; a clip or an image of the user's own comes first."""
    starts = []
    if own is not None:
        path = to_path(own)
        clip = _load_own(path, file)
        starts.append(Start(path.name, clip, _find_trajectory(path, clip)))
    for name, caption in file.starts.items():
        clip = _load_clip(folder / "starts" / name, file)
        starts.append(Start(caption, clip, _trajectory_inside(folder, name, clip, file)))
    return starts


def read_origin(folder: Path, file: WorldFile, own: Pathlike | None) -> Origin:
    """The real game behind a world that is not loaded otherwise."""
    return origin_of(file, [start.trajectory for start in load_starts(folder, file, own)])


def origin_of(file: WorldFile, trajectories: Sequence[ReferenceTrajectory | UserError]) -> Origin:
    """What a world's file and its trajectories say."""
    return Origin(
        world=file.name, source=source_of(file) if file.game else {}, trajectories=trajectories
    )


def _trajectory_inside(
    folder: Path, name: str, clip: Episode, file: WorldFile
) -> ReferenceTrajectory | UserError:
    """The trajectory to a start of the world's own, or what to say to who asks for it."""
    part = str(PurePosixPath("starts", name).with_suffix(ENDING))
    if part not in file.sha256:
        return TrajectoryError(
            f"{file.name} does not say how the real game comes to {file.starts[name]}"
        )
    try:
        check_part(folder, file, part)
    except UserError as error:
        return error
    return _find_trajectory(folder / "starts" / name, clip)


def _find_trajectory(path: Path, clip: Episode) -> ReferenceTrajectory | UserError:
    try:
        return load_trajectory(path, clip)
    except UserError as error:
        return error


def _load_clip(path: Path, file: WorldFile) -> Episode:
    """An episode or a recording, in the world's own frame size."""
    model = file.transformer
    clip, wanted = load_episode(path, model.context_frames + model.sink_frames), file.autoencoder
    if clip.frames.shape[1:3] != (wanted.frame_height, wanted.frame_width):
        raise UserError(
            f"{path}: frames are {clip.frames.shape[2]} x {clip.frames.shape[1]}, "
            f"{file.name} plays {wanted.frame_width} x {wanted.frame_height}"
        )
    return clip


def _load_own(path: Path, file: WorldFile) -> Episode:
    """A start of the user's own: an episode, a recording, a video, or an image, which stands."""
    if is_episode(path):
        return _load_clip(path, file)
    size = file.autoencoder.frame_height, file.autoencoder.frame_width
    model = file.transformer
    if is_video(path):  # its end: play goes on from there
        most = model.context_frames + model.sink_frames
        found = nearest(open_footage(path), file.frames_per_second)
        frames = list(deque((fit(frame, *size) for frame, _ in found), maxlen=most))
    else:
        frames = [fit(read_picture(path), *size)] * model.context_frames
    if not frames:
        raise UserError(f"{path}: holds no frames")
    return Episode(
        frames=np.stack(frames),
        actions=[IDLE] * len(frames),
        frames_per_second=file.frames_per_second,
        buttons=file.actions.buttons,
    )
