"""Play as the stage `events` reads it: states, actions and latents, frame by frame."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError
from worldmodel.model.events import Recent
from worldmodel.model.state_configs import EventsConfig
from worldmodel.training.clips import LatentEpisodes
from worldmodel.training.row_files import ReadSpeed
from worldmodel.training.runs import load_autoencoder
from worldmodel.training.state_episodes import StateEpisodes

MEASURED = 8192  # frames of unseen play that are measured on


@dataclass(frozen=True, slots=True)
class EventsPlay:
    """States, actions and latents of a data set, frame by frame."""

    states: StateEpisodes
    latents: Tensor  # f c h w, float16, on disk
    begins: Tensor  # frames with a whole past behind them, and a frame after them in their episode

    @classmethod
    def load(
        cls, folder: Path, cache: Path, run: Path, actions: ActionSpec, config: EventsConfig
    ) -> "EventsPlay":
        """Encode a folder's frames with the autoencoder of a run, or read them from `cache`."""
        autoencoder = load_autoencoder(run)
        latents = LatentEpisodes.encode(folder, autoencoder, actions, cache)
        if autoencoder.latent_shape != config.latent_shape:
            raise ConfigError(
                f"[model] expects latents {config.latent_shape}, the autoencoder makes "
                f"{autoencoder.latent_shape}"
            )
        states = StateEpisodes.load(folder, actions)
        return cls(states, latents.latents, begins(states.starts, config.frames))

    def recent(self, index: Tensor, config: EventsConfig, reading: ReadSpeed) -> Recent:
        """The past of frames b, itself the last."""
        past = index[:, None] + torch.arange(1 - config.frames, 1)
        seen = past[:, config.frames - config.seen :]
        latents = reading.gather(self.latents, seen, "cpu").float()
        return Recent(self.states.states[past], self.states.actions[past], latents)

    @property
    def spread(self) -> Tensor:
        """Moments of all the play, so many as are measured: b."""
        return self.begins[:: max(1, len(self.begins) // MEASURED)][:MEASURED]


def begins(starts: Tensor, frames: int) -> Tensor:
    """Frames f of all episodes with `frames` frames up to them and one after them."""
    spans = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    parts = [torch.arange(first + frames - 1, end - 1) for first, end in spans]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)
