"""What training reads: frames for the autoencoder, clips of latents for everything after it.

Frames are encoded once and kept beside the runs as one file of latents, which is read where it
lies (`row_files`).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, to_toml
from worldmodel.model.autoencoder import Autoencoder, encode_frames
from worldmodel.model.configs import ModelConfig
from worldmodel.model.context import Device
from worldmodel.model.state_configs import SceneConfig
from worldmodel.model.state_numbers import encode_state
from worldmodel.state_spec import StateTrack
from worldmodel.storage.checkpoint import load_tensors
from worldmodel.storage.episode import RATES_AGREE, Episode, EpisodeError
from worldmodel.storage.episodes import find_episodes, load_episode, load_state
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.system.progress import through
from worldmodel.training.row_files import ReadSpeed, forget_others, map_rows, nearby, write_rows
from worldmodel.training.state_episodes import view_columns, views_of
from worldmodel.training.torch_streams import host_stream
from worldmodel.worlds.devices import fast_autocast

FAR = 4.0  # times too large or too small
MOST_CHANGES = 20_000  # frames that tell how much latents change


def load_frames(folder: Path, stride: int, height: int, width: int, cache: Path) -> Tensor:
    """Every `stride`-th frame of every episode: uint8 b h w 3, in a file in the folder `cache`."""
    paths = find_episodes(folder)
    stamp = hashlib.sha256(f"{_hash_files(paths)} {stride} {height} {width}".encode()).hexdigest()
    rows = cache / f"{folder.name}-{stride}-{stamp[:12]}.frames"

    def parts() -> Iterator[Tensor]:
        for path in through(paths, desc="frames", unit="episode"):
            episode = load_episode(path)
            check_size(path, episode, height, width)
            yield torch.from_numpy(episode.frames[::stride].copy())

    if not rows.exists():
        write_rows(rows, parts())
        forget_others(rows)
    return map_rows(rows, (height, width, 3), torch.uint8)


def load_views(folder: Path, stride: int, scene: SceneConfig | None = None) -> Tensor:
    """Where every `stride`-th frame of every episode is seen from, as `load_frames` counts: t 4.

    With a `scene`, what that is seen by: t n.
    """
    paths = find_episodes(folder)
    return torch.cat([view_columns(load_state(path), path, scene)[::stride] for path in paths])


def load_facts(folder: Path, model: ModelConfig) -> Tensor:
    """What is given of every frame of every episode: t features, in the order of the episodes."""
    parts = [facts_of(load_state(path), model, path) for path in find_episodes(folder)]
    return torch.cat(parts)


def facts_of(track: StateTrack | None, model: ModelConfig, path: Path) -> Tensor:
    """What is given of the frames of a track: f t; an `EpisodeError` if there is none."""
    if track is None:
        raise EpisodeError(
            f"{path}: holds no state, and the transformer is given "
            f"{', '.join(model.condition_names)}; "
            "record the episode again"
        )
    try:
        return encode_state(model, track.spec.names, torch.from_numpy(track.values))
    except ConfigError as error:
        raise EpisodeError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class LatentEpisodes:
    """Every frame of a data set as latents, with the actions that led to them."""

    latents: Tensor  # total c h w, float16, on disk
    actions: Tensor  # total (k+2), float32
    starts: Tensor  # first frame of each episode, and the total at the end
    device: Device = "cpu"  # where clips are wanted
    reading: ReadSpeed = field(default_factory=ReadSpeed)
    views: Tensor | None = None  # total 4, where frames are seen from, in a world with a floor plan
    autoencoder: Autoencoder | None = None  # whose plan says what is seen from there
    facts: Tensor | None = None  # total t, what is given of the state (`encode_state`)

    @classmethod
    def encode(
        cls,
        folder: Path,
        autoencoder: Autoencoder,
        spec: ActionSpec,
        cache: Path,
        model: ModelConfig | None = None,
    ) -> "LatentEpisodes":
        """Encode `folder`, or read what an earlier call with the same weights left in `cache`.

        The latents themselves lie beside `cache`; clips of them come on the autoencoder's device.
        `model`: the transformer whose conditions clips have; none: actions are all they have.
        """
        found = cls._encode(folder, autoencoder, spec, cache)
        if model is None or not model.is_conditioned_on_state:
            return found
        return replace(found, facts=load_facts(folder, model))

    @classmethod
    def _encode(
        cls, folder: Path, autoencoder: Autoencoder, spec: ActionSpec, cache: Path
    ) -> "LatentEpisodes":
        device = next(autoencoder.parameters()).device
        paths = find_episodes(folder)
        stamp = {
            "episodes": _hash_files(paths),
            "autoencoder": _hash_encoder(autoencoder),
            "actions": to_toml(spec),
        }
        if autoencoder.plan is not None:
            stamp["views"] = "x y z heading"
        name = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:12]
        rows = cache.with_name(f"{cache.stem}-{name}.rows")
        shape = autoencoder.latent_shape
        if cache.exists() and rows.exists():
            tensors, header = load_tensors(cache)
            if header == stamp:
                latents = nearby(map_rows(rows, shape, torch.float16), device)
                return cls._of(latents, tensors, autoencoder)
        actions, starts, views = [], [0], []
        rates: dict[Path, float] = {}
        size = (autoencoder.config.frame_height, autoencoder.config.frame_width)

        def encoded() -> Iterator[Tensor]:
            for path in through(paths, desc="latents", unit="episode"):
                episode = load_episode(path)
                check_size(path, episode, *size)
                check_buttons(path, episode, spec)
                rates[path] = episode.frames_per_second
                _check_rates(rates)
                frames = torch.from_numpy(np.ascontiguousarray(episode.frames))[None]
                actions.append(torch.from_numpy(spec.encode(episode.actions)))
                starts.append(starts[-1] + len(episode))
                if autoencoder.plan is not None:
                    views.append(views_of(episode, path))
                with fast_autocast(device):
                    yield encode_frames(autoencoder, frames)[0].half()

        write_rows(rows, encoded())
        tensors = {"actions": torch.cat(actions), "starts": torch.tensor(starts)}
        if views:
            tensors["views"] = torch.cat(views)
        save_tensors(cache, tensors, stamp)
        forget_others(rows)
        # Mapped like any later session's: not even the order in memory differs.
        latents = nearby(map_rows(rows, shape, torch.float16), device)
        return cls._of(latents, tensors, autoencoder)

    @classmethod
    def _of(
        cls, latents: Tensor, tensors: Mapping[str, Tensor], autoencoder: Autoencoder
    ) -> "LatentEpisodes":
        device = next(autoencoder.parameters()).device
        views = tensors.get("views")
        owner = None if views is None else autoencoder
        return cls(
            latents, tensors["actions"], tensors["starts"], device, ReadSpeed(), views, owner
        )

    @property
    def change(self) -> float:
        """How much latents change from frame to frame, as a standard deviation."""
        inside = torch.ones(len(self.latents), dtype=torch.bool)
        inside[self.starts[:-1]] = False  # an episode's first frame follows from none
        later = torch.nonzero(inside)[:, 0][:MOST_CHANGES]
        changed = self.latents[later].float() - self.latents[later - 1].float()
        return float(changed.square().mean().sqrt())

    def clips(
        self, batch: int, frames: int, sinks: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Random clips: latents b f c h w and conditions b f z, actions in most worlds.

        The first `sinks` frames are what the cache keeps for good. In half of the clips they come
        right before the others, as at the start of play; in the rest from any earlier moment of
        the episode, as after an hour of play.
        """
        # Places are drawn on the host, which then need not wait for a GPU to know them.
        index = self.clip_index(batch, frames, sinks, host_stream(generator, "clips"))
        latents = self.reading.gather(self.latents, index, self.device).float()
        actions = ReadSpeed().gather(self.actions, index, self.device)
        if self.facts is not None:
            facts = ReadSpeed().gather(self.facts, index, self.device)
            actions = torch.cat((facts, actions), dim=-1)
        if self.autoencoder is None or self.views is None:
            return latents, actions
        views = ReadSpeed().gather(self.views, index, self.device)
        with torch.no_grad():
            return latents, self.autoencoder.conditions(actions, views)

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


def check_change(frame_change: float, data: LatentEpisodes) -> None:
    """Refuse a `frame_change` far from what these latents do: training would weigh noise wrongly.

    The right number depends on the game and on the autoencoder, so nobody knows it beforehand.
    """
    found = data.change
    if found and not 1 / FAR < frame_change / found < FAR:
        raise ConfigError(
            f"[model] frame_change = {frame_change}, but from frame to frame these latents change "
            f"by {found:.2f}; write that"
        )


def check_size(path: Path, episode: Episode, height: int, width: int) -> None:
    """Refuse frames of another size."""
    rows, columns = episode.frames.shape[1:3]
    if (rows, columns) != (height, width):
        raise EpisodeError(f"{path}: frames are {columns} x {rows}, expected {width} x {height}")


def check_buttons(path: Path, episode: Episode, spec: ActionSpec) -> None:
    """Nobody may press what the world will not hear of: its effects would come from nowhere."""
    pressed = {button for action in episode.actions for button in action.buttons}
    if unknown := sorted(pressed - set(spec.buttons)):
        raise EpisodeError(
            f"{path}: {', '.join(unknown)} is pressed in it, but [actions] has only "
            f"{', '.join(spec.buttons) or 'no buttons'}; name it there or leave the file out"
        )


def _check_rates(rates: dict[Path, float]) -> None:
    """The last of the files read so far must be as fast as the first."""
    (first, rate), (last, other) = next(iter(rates.items())), next(reversed(rates.items()))
    if abs(other - rate) > RATES_AGREE * rate:
        raise EpisodeError(
            f"{last} has {other:g} frames/s, {first} has {rate:g}; a world has one speed, so give "
            "each a data folder of its own"
        )


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
        if not name.startswith(("decoder.", "plan.")):
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
