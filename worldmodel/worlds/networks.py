"""The networks of a native world, read from its folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.events import Events
from worldmodel.model.motion import Motion
from worldmodel.model.transformer import WorldTransformer
from worldmodel.storage.checkpoint import check_fit, load_weights
from worldmodel.worlds.world_folder import AUTOENCODER, EVENTS, MOTION, TRANSFORMER, WorldFile


@dataclass(frozen=True, slots=True)
class Networks:
    """Those of one world, none of them trained."""

    transformer: WorldTransformer
    autoencoder: Autoencoder
    motion: Motion | None = None  # of a world that knows its place
    events: Events | None = None  # of a world whose numbers are predicted

    @classmethod
    def of(cls, file: WorldFile) -> "Networks":
        """Networks of a world's sizes, still without its weights."""
        state = file.state
        return cls(
            WorldTransformer(file.transformer),
            Autoencoder(file.autoencoder),
            Motion(file.motion, state) if file.motion and state else None,
            Events(file.events, state) if file.events and state else None,
        )

    def files(self, folder: Path) -> Iterator[tuple[nn.Module, Path]]:
        """Each network there is, and where its weights lie."""
        models = (self.transformer, self.autoencoder, self.motion, self.events)
        for model, name in zip(models, (TRANSFORMER, AUTOENCODER, MOTION, EVENTS), strict=True):
            if model is not None:
                yield model, folder / name


def check_networks(folder: Path, file: WorldFile) -> None:
    """Shapes alone, without memory: what world.toml asks for is taken only if the files have it."""
    with torch.device("meta"):
        for model, path in Networks.of(file).files(folder):
            check_fit(model, path)


def load_networks(folder: Path, file: WorldFile) -> Networks:
    """The networks with their weights, frozen."""
    networks = Networks.of(file)
    for model, path in networks.files(folder):
        load_weights(model, path)
        model.requires_grad_(requires_grad=False).eval()
    return networks
