"""Eight tiny episodes of a drawn game: a bright bar that moves as the keys say."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.conftest import TINY
from worldmodel.action import IDLE, Action, ActionSpec
from worldmodel.model.configs import AutoencoderConfig
from worldmodel.state_spec import StateTrack
from worldmodel.storage.episode import Episode
from worldmodel.storage.episodes import save_episode

SPEC = ActionSpec(
    buttons=("KeyA", "KeyD"),
    names=("left", "right"),
    mouse_degrees=8.0,
    max_mouse_degrees=20.0,
)
AUTOENCODER = AutoencoderConfig(
    widths=(8, 16), blocks=1, latent_channels=4, frame_height=8, frame_width=16
)
MODEL = replace(TINY, latent_channels=4, latent_width=4, buttons=2, context_frames=5)


def draw(position: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    frame = np.full((8, 16, 3), 40, np.uint8)
    frame[:, position % 16] = 220
    frame[2:6, (position + 1) % 16] = (220, 120, 40)
    return frame


def save(
    folder: Path,
    number: int,
    frames: list["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"],
    actions: list[Action],
    state: StateTrack | None = None,
) -> None:
    """One episode of 10 frames a second."""
    episode = Episode(
        frames=np.stack(frames),
        actions=actions,
        frames_per_second=10.0,
        buttons=SPEC.buttons,
        state=state,
    )
    save_episode(folder / f"{number:03d}.safetensors", episode)


def write_episodes(folder: Path, count: int = 8, length: int = 60, first: int = 0) -> Path:
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        position, frames, actions = int(rng.integers(16)), [], []
        for f in range(length):
            key = str(rng.choice(["KeyA", "KeyD", ""])) if f else ""
            position += {"KeyA": -1, "KeyD": 1, "": 0}[key]
            frames.append(draw(position))
            actions.append(Action(frozenset({key})) if key else IDLE)
        save(folder, number, frames, actions)
    return folder
