"""A recording as a clip to share: the pressed keys and the mouse drawn into the pictures.

The recording itself stays as it is: it is what replays and trains.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pygame

from worldmodel.action import Action, ActionSpec
from worldmodel.config import UserError
from worldmodel.font import start_fonts
from worldmodel.game import key_overlay
from worldmodel.game.free_space import FreeSpace
from worldmodel.game.panels import line_height
from worldmodel.storage.recording import FrameRow, free_name, read_recording
from worldmodel.storage.video import VideoWriter, read_video
from worldmodel.world import Frame

FASTEST = 1.0  # degrees per frame: what fills the arrow where nobody turned faster


def draw_keys(path: Path, out: Path | None = None) -> Path:
    """Write NAME_keys.mp4 (or `out`) for the recording NAME; returns where it is."""
    rows_path = path.with_suffix(".jsonl")
    header, rows = read_recording(rows_path)
    target = out or rows_path.with_name(f"{rows_path.stem}_keys.mp4")
    name = free_name(target, (".mp4",))
    target = name.with_name(f"{name.name}.mp4")
    spec = _spec(header.buttons, rows)
    start_fonts()
    writer = None
    try:
        pictures = read_video(rows_path.with_suffix(".mp4"))
        for picture, row in zip(pictures, rows, strict=False):  # a killed one ends a little apart
            if writer is None:
                writer = VideoWriter(target, picture.shape[:2], header.frames_per_second)
            writer.write(_drawn(picture, spec, row.action), row.time)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from error
    if writer is None:
        raise UserError(f"{rows_path}: the recording holds no frames")
    writer.close()
    return target


def _drawn(picture: Frame, spec: ActionSpec, action: Action) -> Frame:
    rows, columns = picture.shape[:2]
    pixels = bytearray(picture.tobytes())
    surface = pygame.image.frombuffer(pixels, (columns, rows), "RGB")  # draws into `pixels`
    unit = line_height(surface.get_size())
    key_overlay.draw_keys(surface, FreeSpace(surface.get_size()), spec, action, unit)
    return np.frombuffer(pygame.image.tobytes(surface, "RGB"), np.uint8).reshape(picture.shape)


def _spec(buttons: Sequence[str], rows: Sequence[FrameRow]) -> ActionSpec:
    """The buttons of the recording, and a mouse as fast as it was."""
    travel = max((abs(row.action.mouse[0]) for row in rows), default=0.0)
    return ActionSpec(
        buttons=tuple(buttons),
        names=tuple(buttons),
        mouse_degrees=1.0,
        max_mouse_degrees=max(FASTEST, travel),
        look_left_right=travel > 0,
    )
