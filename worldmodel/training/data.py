"""What training reads: frames for the autoencoder, clips of latents for everything after it.

Frames are encoded once and kept beside the run as one file of latents; random reads then cost
nothing. Letters: b batch, f frames, c h w latents, k buttons.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from worldmodel.action import ActionSpec
from worldmodel.checkpoint import load_tensors, save_tensors
from worldmodel.config import ConfigError, to_toml
from worldmodel.episodes import EpisodeError, find_episodes, load_episode
from worldmodel.model.autoencoder import Autoencoder, encode_frames


def load_frames(folder: Path, stride: int, height: int, width: int) -> Tensor:
    """Every `stride`-th frame of every episode: uint8 b h w 3, in memory."""
    parts: list[NDArray[np.uint8]] = []
    for path in tqdm(find_episodes(folder), desc="frames", unit="episode", leave=False):
        frames = load_episode(path).frames
        if frames.shape[1:] != (height, width, 3):
            raise EpisodeError(
                f"{path}: frames are {frames.shape[2]} x {frames.shape[1]}, "
                f"the config says {width} x {height}"
            )
        parts.append(frames[::stride].copy())
    return torch.from_numpy(np.concatenate(parts))


@dataclass(frozen=True, slots=True)
class LatentEpisodes:
    """Every frame of a data set as latents, with the actions that led to them."""

    latents: Tensor  # total c h w, float16
    actions: Tensor  # total (k+2), float32
    starts: Tensor  # first frame of each episode, and the total at the end; on the CPU

    @classmethod
    def encode(
        cls, folder: Path, autoencoder: Autoencoder, spec: ActionSpec, cache: Path
    ) -> "LatentEpisodes":
        """Encode `folder`, or read what an earlier call with the same weights left in `cache`.

        They end on the autoencoder's device.
        """
        device = next(autoencoder.parameters()).device
        paths = find_episodes(folder)
        stamp = {
            "episodes": _hash_files(paths),
            "autoencoder": _hash_encoder(autoencoder),
            "actions": to_toml(spec),
        }
        if cache.exists():
            tensors, header = load_tensors(cache)
            if header == stamp:
                return cls(
                    tensors["latents"].to(device), tensors["actions"].to(device), tensors["starts"]
                )
        parts, actions, starts = [], [], [0]
        for path in tqdm(paths, desc="latents", unit="episode", leave=False):
            episode = load_episode(path)
            frames = torch.from_numpy(np.ascontiguousarray(episode.frames))[None]
            with torch.autocast(device.type, torch.bfloat16):
                # Contiguous as the file will be: a resumed run must read the same bytes in the
                # same order, or its sums round differently.
                parts.append(encode_frames(autoencoder, frames)[0].half().cpu().contiguous())
            actions.append(torch.from_numpy(spec.encode(episode.actions)))
            starts.append(starts[-1] + len(episode))
        found = cls(torch.cat(parts), torch.cat(actions), torch.tensor(starts))
        tensors = {"latents": found.latents, "actions": found.actions, "starts": found.starts}
        save_tensors(cache, tensors, stamp)
        return cls(found.latents.to(device), found.actions.to(device), found.starts)

    def clips(
        self, batch: int, frames: int, sinks: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Random clips: latents b f c h w and actions b f (k+2).

        The first `sinks` frames are what the cache keeps for good. In half of the clips they come
        right before the others, as at the start of play; in the rest from any earlier moment of
        the episode, as after an hour of play.
        """
        # Places are drawn on the host, which then need not wait for a GPU to know them.
        host = torch.Generator().manual_seed(generator.initial_seed())
        index = self.clip_index(batch, frames, sinks, host).to(self.latents.device)
        return self.latents[index].float(), self.actions[index]

    def clip_index(self, batch: int, frames: int, sinks: int, generator: torch.Generator) -> Tensor:
        """Frame numbers b f of random clips."""
        lengths = self.starts.diff()
        places = (lengths - frames + 1).clamp(min=0)
        if not int(places.sum()):
            raise ConfigError(f"no episode is as long as a clip of {frames} frames")
        episode = torch.multinomial(places.float(), batch, replacement=True, generator=generator)
        rolls = torch.rand(3, batch, generator=generator)
        offset = (rolls[0] * places[episode]).long()
        first = self.starts[episode] + offset
        index = first[:, None] + torch.arange(frames)
        jump = (rolls[1] * (offset + 1)).long() * (rolls[2] < 0.5).long()
        index[:, :sinks] -= jump[:, None]
        return index


def _hash_files(paths: list[Path]) -> str:
    """Changes with any episode's name, size or time of writing."""
    digest = hashlib.sha256()
    for path in paths:
        for part in dict.fromkeys((path, path.with_suffix(".mp4"))):
            if part.exists():
                stat = part.stat()
                digest.update(f"{part.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _hash_encoder(autoencoder: Autoencoder) -> str:
    """Changes with the weights that make latents, the normalisation's statistics included."""
    digest = hashlib.sha256()
    for name, tensor in autoencoder.state_dict().items():
        if not name.startswith("decoder."):
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
