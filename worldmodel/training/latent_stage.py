"""What the stages share that train a transformer on latents: everything but their loss."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError
from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import Device
from worldmodel.model.transformer import WorldTransformer
from worldmodel.training.clips import LatentEpisodes
from worldmodel.training.probe import Probe
from worldmodel.training.runs import load_autoencoder, load_transformer


class LatentTraining(Protocol):
    """What their configs have in common."""

    @property
    def autoencoder(self) -> Path:
        """The run of the stage `autoencoder`."""

    @property
    def heldout(self) -> Path:
        """Episodes that are not trained on."""

    @property
    def actions(self) -> ActionSpec:
        """The keys and the mouse of the clips that are trained on."""

    @property
    def model(self) -> ModelConfig:
        """The shape of the transformer."""


class LatentStage:
    """The autoencoder, unseen episodes, the student and its average."""

    student: WorldTransformer
    ema: WorldTransformer
    forward: Callable[..., Tensor]  # what `compile` makes faster
    renoise = True  # how pictures are drawn

    def __init__(self, config: LatentTraining, device: Device) -> None:
        self._shared, self._device = config, device
        self.autoencoder = load_autoencoder(config.autoencoder).to(device)
        check_latents(config.actions, config.model, self.autoencoder)
        self.probe = Probe(config.heldout, self.autoencoder, config.actions, config.model)

    def encode(self, data: Path, folder: Path) -> LatentEpisodes:
        """The latents of episodes; beside the run's folder, for the stages that follow."""
        shared, cache = self._shared, folder.parent / "latents.safetensors"
        return LatentEpisodes.encode(data, self.autoencoder, shared.actions, cache, shared.model)

    def begin(self, run: Path | None) -> None:
        """The student with the weights of a run, or new ones, and an average that begins there."""
        if run is None:
            student = WorldTransformer(self._shared.model)
        else:
            student = load_transformer(run, self._shared.model)
        self.student = student.to(self._device).requires_grad_(requires_grad=True)
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False)

    def compile(self) -> None:
        """Fuse the forward and backward passes; the first steps then take minutes."""
        self.forward = torch.compile(self.forward)

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Roll out on unseen episodes with the averaged weights; write a picture and a clip."""
        return self.probe.measure(self.ema, folder, step, renoise=self.renoise)


def check_latents(actions: ActionSpec, model: ModelConfig, autoencoder: Autoencoder) -> None:
    """Refuse a transformer that does not fit the actions or the latents."""
    if len(actions.buttons) != model.buttons or autoencoder.latent_shape != model.latent_shape:
        raise ConfigError(
            f"[model] expects {model.buttons} buttons and latents {model.latent_shape}; [actions] "
            f"names {len(actions.buttons)}, the autoencoder makes {autoencoder.latent_shape}"
        )
