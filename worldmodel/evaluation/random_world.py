"""Worlds of any size with random weights: how fast would it be, before anyone has trained it.

    random:38m                                 a size of the table below
    random:width=512,layers=8,rows=8           or its parts; what is not named is that of 16m

Frames are noise. Speed does not depend on what the weights are.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import nn

from worldmodel.action import IDLE, ActionSpec
from worldmodel.config import ConfigError
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import AutoencoderConfig, ModelConfig, SamplerConfig
from worldmodel.model.transformer import WorldTransformer
from worldmodel.schedule import sigma_grid
from worldmodel.storage.episode import Episode
from worldmodel.worlds.native import NativeWorld
from worldmodel.worlds.networks import Networks
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.starts import Start
from worldmodel.worlds.world_folder import AUTOENCODER, FORMAT, TRANSFORMER, WorldFile

PREFIX = "random:"
BUTTONS = ("KeyW", "KeyS", "KeyA", "KeyD")


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What the time of a frame depends on; defaults are those of `16m`."""

    width: int = 384
    layers: int = 6
    head_width: int = 64
    rows: int = 8  # latent positions: a frame is 16 times as many pixels high
    columns: int = 10
    channels: int = 32
    context: int = 12  # frames
    steps: int = 1  # of denoising
    decoder: int = 256  # widest layer of the autoencoder

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ConfigError(f"{field.name} = {getattr(self, field.name)}: at least 1")
        if self.decoder % 8:
            raise ConfigError(f"decoder = {self.decoder}: must be a multiple of 8")


# Names are parameters of the transformer, adaLN included.
SIZES = {
    "5m": Size(width=256, layers=4, rows=6, columns=8),
    "16m": Size(),
    "38m": Size(width=512, layers=8),
    "300m": Size(width=1024, layers=16, rows=32, columns=32),
    "1b": Size(width=1792, layers=18, head_width=128, rows=32, columns=32),
    "2b": Size(width=2304, layers=21, head_width=128, rows=32, columns=32),
}


def parse_size(text: str) -> Size:
    """What stands behind `random:`; a `ConfigError` names the choices."""
    if text in SIZES:
        return SIZES[text]
    names = [field.name for field in fields(Size)]
    values = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key not in names or not value.isdecimal() or len(value) > 6:
            raise ConfigError(
                f"random:{text}: expected one of {', '.join(SIZES)}, or name=number of "
                f"{', '.join(names)}; found {part!r}"
            )
        values[key] = int(value)
    return Size(**values)


def random_world(size: Size, settings: RunSettings, name: str = "random") -> NativeWorld:
    """A world of that size, ready to play on the engine that `settings` ask for."""
    sampler = SamplerConfig(sigmas=tuple(sigma_grid(size.steps).tolist()), renoise=True)
    autoencoder = AutoencoderConfig(
        widths=tuple(size.decoder // part for part in (8, 4, 2, 1)),
        blocks=2,
        latent_channels=size.channels,
        frame_height=16 * size.rows,
        frame_width=16 * size.columns,
    )
    model = ModelConfig(
        width=size.width,
        heads=max(1, size.width // size.head_width),
        layers=size.layers,
        latent_channels=size.channels,
        latent_height=size.rows,
        latent_width=size.columns,
        buttons=len(BUTTONS),
        context_frames=size.context,
        sink_frames=1,
        frame_change=0.7,
    )
    actions = ActionSpec(
        buttons=BUTTONS,
        names=("forward", "back", "left", "right"),
        mouse_degrees=8.0,
        max_mouse_degrees=20.0,
    )
    file = WorldFile(
        format=FORMAT,
        name=name,
        title="random weights",
        licence="none",
        backend="native",
        frames_per_second=17.5,
        sampler=sampler,
        actions=actions,
        transformer=model,
        autoencoder=autoencoder,
        sha256={TRANSFORMER: str(model), AUTOENCODER: str(autoencoder)},  # nothing else to tell by
        starts={"noise": "Noise"},
    )
    torch.manual_seed(0)
    models = WorldTransformer(model), Autoencoder(autoencoder)
    for part in models:
        part.apply(_stir)
    rng = np.random.default_rng(0)
    frames = size.context + 1
    shape = (frames, 16 * size.rows, 16 * size.columns, 3)
    clip = Episode(
        frames=rng.integers(0, 256, shape, dtype=np.uint8),
        actions=[IDLE] * frames,
        frames_per_second=file.frames_per_second,
        buttons=BUTTONS,
    )
    return NativeWorld.of(file, Networks(*models), [Start("Noise", clip)], settings)


def _stir(module: nn.Module) -> None:
    """Weights that begin as zeros would let a compiler leave work out."""
    for name, parameter in module.named_parameters(recurse=False):
        if name == "weight" and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
