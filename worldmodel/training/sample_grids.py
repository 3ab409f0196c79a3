"""Pictures of what a model makes, for a person to look at."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.storage.files import FileWriteError, write_atomically
from worldmodel.storage.video import VideoWriter

Frames = NDArray[np.uint8] | Tensor  # f h w 3


def make_grid(rows: Sequence[Frames], scale: int = 2) -> NDArray[np.uint8]:
    """Rows of frames f h w 3 as one picture, every frame `scale` times as large."""
    wide = [np.concatenate(list(_to_numpy(row)), axis=1) for row in rows]
    grid = np.concatenate(wide, axis=0)
    size = (grid.shape[1] * scale, grid.shape[0] * scale)
    return np.asarray(cv2.resize(grid, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def save_grid(path: Path, rows: Sequence[Frames], scale: int = 2) -> None:
    """Write rows of frames as a PNG."""
    picture = cv2.cvtColor(make_grid(rows, scale), cv2.COLOR_RGB2BGR)
    write_atomically(path, cv2.imencode(".png", picture)[1].tobytes())


def save_clip(path: Path, frames: Frames, frames_per_second: float) -> None:
    """Write frames as an MP4, replacing an older one."""
    from av.error import FFmpegError  # the package is there: the writer below needs it

    try:
        path.unlink(missing_ok=True)
        writer = VideoWriter(path, (frames.shape[1], frames.shape[2]), frames_per_second)
        for number, frame in enumerate(_to_numpy(frames)):
            writer.write(frame, number / frames_per_second)
        writer.close()
    except (OSError, FFmpegError) as error:
        raise FileWriteError(f"{path}: cannot be written: {error}") from error


def _to_numpy(frames: Frames) -> NDArray[np.uint8]:
    return frames.cpu().numpy() if isinstance(frames, Tensor) else frames
