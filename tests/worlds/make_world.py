"""A whole world folder with random weights, small enough for tests."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from tests.conftest import make_lively
from tests.training.tiny_data import AUTOENCODER, MODEL, SPEC, draw
from worldmodel.action import IDLE
from worldmodel.config import SamplerConfig
from worldmodel.episodes import Episode, episode_bytes
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.transformer import WorldTransformer
from worldmodel.worlds.folder import (
    AUTOENCODER as AUTOENCODER_FILE,
)
from worldmodel.worlds.folder import (
    FORMAT,
    TRANSFORMER,
    WorldFile,
    save_world_folder,
    sha256_of_bytes,
)


def make_world(folder: Path, name: str = "tiny") -> Path:
    torch.manual_seed(0)
    autoencoder = Autoencoder(AUTOENCODER).eval()
    files = {
        TRANSFORMER: save(make_lively(WorldTransformer(MODEL)).state_dict()),
        AUTOENCODER_FILE: save(autoencoder.state_dict()),
        "NOTICE": b"drawn by a test",
    }
    starts = {}
    for number in range(2):
        clip = Episode(
            frames=np.stack([draw(number * 5 + f) for f in range(6)]),
            actions=[IDLE] * 6,
            frames_per_second=10.0,
            buttons=SPEC.buttons,
        )
        starts[f"{number}.safetensors"] = f"place {number}"
        files[f"starts/{number}.safetensors"] = episode_bytes(clip)
    world = WorldFile(
        format=FORMAT,
        name=name,
        title="A bar",
        licence="MIT",
        backend="native",
        frames_per_second=10.0,
        sampler=SamplerConfig(sigmas=(1.0, 0.5, 0.0), renoise=True),
        actions=SPEC,
        transformer=MODEL,
        autoencoder=AUTOENCODER,
        sha256={n: sha256_of_bytes(files[n]) for n in (TRANSFORMER, AUTOENCODER_FILE)},
        starts=starts,
    )
    save_world_folder(folder, world, files)
    return folder
