"""A whole world folder with random weights, small enough for tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from tests.conftest import make_lively
from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, draw
from worldmodel.action import IDLE
from worldmodel.config import AutoencoderConfig, SamplerConfig
from worldmodel.episodes import Episode, episode_bytes
from worldmodel.games.doom import ACTIONS
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.transformer import WorldTransformer
from worldmodel.world import Frame
from worldmodel.worlds.folder import (
    AUTOENCODER as AUTOENCODER_FILE,
)
from worldmodel.worlds.folder import (
    FORMAT,
    TEACHER,
    TRANSFORMER,
    WorldFile,
    save_world_folder,
    sha256_of_bytes,
)


def make_world(folder: Path, *, is_doom: bool = False) -> Path:
    """A 16 x 8 world of a bar, or one of random pictures in the size and keys of Doom's."""
    torch.manual_seed(0)
    shape, spec, model = AUTOENCODER, SPEC, MODEL
    if is_doom:
        shape = replace(AUTOENCODER, widths=(8, 8, 8, 8), frame_height=48, frame_width=64)
        spec = ACTIONS
        model = replace(MODEL, latent_height=3, latent_width=4, buttons=len(spec.buttons))
    autoencoder = Autoencoder(shape).eval()
    files = {
        TRANSFORMER: save(make_lively(WorldTransformer(model)).state_dict()),
        TEACHER: save(make_lively(WorldTransformer(model)).state_dict()),
        AUTOENCODER_FILE: save(autoencoder.state_dict()),
        "NOTICE": b"drawn by a test",
    }
    starts = {}
    for number in range(2):
        clip = Episode(
            frames=np.stack([_fill(draw(number * 5 + f), shape) for f in range(6)]),
            actions=[IDLE] * 6,
            frames_per_second=10.0,
            buttons=spec.buttons,
        )
        starts[f"{number}.safetensors"] = f"place {number}"
        files[f"starts/{number}.safetensors"] = episode_bytes(clip)
    world = WorldFile(
        format=FORMAT,
        name=folder.name,
        title="A bar",
        licence="MIT",
        backend="native",
        frames_per_second=10.0,
        sampler=SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True),
        actions=spec,
        transformer=model,
        autoencoder=shape,
        sha256={n: sha256_of_bytes(data) for n, data in files.items() if n != "NOTICE"},
        starts=starts,
        game={"level": "my_way_home", "tics_per_frame": 2} if is_doom else {},
    )
    save_world_folder(folder, world, files)
    return folder


def _fill(frame: Frame, shape: AutoencoderConfig) -> Frame:
    """The picture repeated until it has the world's size."""
    rows, columns = shape.frame_height // 8, shape.frame_width // 16
    return np.tile(frame, (rows, columns, 1))
