"""Latents that the stage `latents` has written, read clip by clip from their files.

No more of them is in memory than the batch that is trained on.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from worldmodel.config import ConfigError
from worldmodel.model.context import Device
from worldmodel.storage.checkpoint import CheckpointError, load_tensors
from worldmodel.storage.files import read_text
from worldmodel.storage.tensor_files import OpenFiles, rows_of
from worldmodel.system.limits import (
    LARGEST_INDEX,
    LARGEST_PROMPTS,
    LARGEST_WEIGHTS,
    LONGEST_SHOWN,
    MOST_CLIPS,
)
from worldmodel.system.printable import shown
from worldmodel.training.row_files import ReadSpeed
from worldmodel.training.shards import broken_clip
from worldmodel.training.torch_streams import host_stream
from worldmodel.training.train_loop import UnfinishedError
from worldmodel.training.wan.forward import Conditions, WanClip
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.prompts import padded

OPEN = 64  # files that are kept open
INDEX = "index.json"
NOTHING = "unprompted.safetensors"  # the embedding that stands for no words
FORMAT = 1
BROKEN = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class Index:
    """What a folder of latents holds."""

    files: dict[str, int]  # name -> clips
    shape: tuple[int, int, int, int]  # f c h w of each clip
    text_width: int
    cameras: bool  # whether cameras move

    @classmethod
    def read(cls, folder: Path) -> "Index":
        """The index that the stage leaves when it is done."""
        path = folder / INDEX
        if not path.is_file():
            raise UnfinishedError(
                f"{folder}: no finished latents; run the stage `latents` with `worldmodel train`"
            )
        try:
            table = json.loads(read_text(path, LARGEST_INDEX))
            if table["format"] != FORMAT:
                raise ValueError(f"format {shown(table['format'])}")
            frames, channels, rows, columns = map(int, table["shape"])
            files = {str(name): int(count) for name, count in table["files"].items()}
            shape = frames, channels, rows, columns
            _check_index(files, shape)
            return cls(files, shape, int(table["text_width"]), bool(table["cameras"]))
        except BROKEN as error:
            raise CheckpointError(
                f"{path}: not an index of latents ({str(error)[:LONGEST_SHOWN]}); run the stage "
                "`latents` again"
            ) from error


def _check_index(files: Mapping[str, int], shape: tuple[int, ...]) -> None:
    """Refuse files outside the folder, and more clips than any data set has."""
    if any(Path(name).name != name or not name.isprintable() for name in files):
        raise ValueError("a file outside its own folder")
    if min(shape) < 1 or min(files.values(), default=0) < 0 or sum(files.values()) > MOST_CLIPS:
        raise ValueError(f"{sum(files.values())} clips of {shape}; at most {MOST_CLIPS}")


class LatentClips:
    """The clips of a folder, on the device where batches are wanted."""

    def __init__(self, folder: Path, size: WanConfig, device: Device = "cpu") -> None:
        self.folder, self.size, self.device = folder, size, torch.device(device)
        self.index, self.reading = Index.read(folder), ReadSpeed()
        self.places = [(name, i) for name, count in self.index.files.items() for i in range(count)]
        if self.index.text_width != size.text_width:
            raise ConfigError(
                f"{folder}: embeddings of {self.index.text_width} channels, the transformer reads "
                f"{size.text_width}"
            )
        if self.index.cameras and not size.cameras:
            raise ConfigError(
                f"{folder}: clips whose cameras move, but the size in [model] has no cameras; "
                "choose one with cameras = true, or make latents without [camera]"
            )
        if missing := [name for name in self.index.files if not (folder / name).is_file()]:
            raise CheckpointError(
                f"{folder / missing[0]}: missing, {len(missing)} of {len(self.index.files)} files "
                "are; run the stage `latents` again"
            )
        self.nothing = self._nothing()
        self._files = OpenFiles(OPEN, LARGEST_WEIGHTS)

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, batch: int, frames: int, dropout: float, generator: torch.Generator) -> WanClip:
        """Random clips; a share of them, at random, without their words."""
        # Drawn on the host, which then need not wait for a GPU to know what to read.
        host = host_stream(generator, "clips")
        chosen = torch.randint(len(self.places), (batch,), generator=host).tolist()
        silent = torch.rand(batch, generator=host) < dropout
        clip = self.read(chosen, frames)
        hidden = silent.to(self.device)[:, None, None]
        conditions = clip.conditions
        text = torch.where(hidden, conditions.nothing, conditions.text)
        return WanClip(clip.clean, Conditions(text, conditions.nothing, conditions.cameras))

    def read(self, numbers: Sequence[int], frames: int) -> WanClip:
        """The clips of these numbers, their first `frames` latent frames."""
        began = time.perf_counter()
        rows = [self._row(*self.places[number], frames) for number in numbers]
        latents, cameras, text = (torch.stack(part) for part in zip(*rows, strict=True))
        self.reading.frames += len(rows) * frames
        self.reading.seconds += time.perf_counter() - began
        there = (x.to(self.device) for x in (text, self.nothing, cameras))
        return WanClip(latents.to(self.device), Conditions(*there))

    def _row(self, name: str, row: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        try:
            file = self._files.get(self.folder / name)
            latents = rows_of(file, "latents", self.index.shape)[row, :frames]
            cameras = rows_of(file, "cameras", (self.index.shape[0], 4, 4))[row, :frames]
            prompt = int(rows_of(file, "prompts", ())[row])
            text = self.nothing if prompt < 0 else self._prompt(file, f"prompt.{prompt:05}")
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            raise broken_clip(self.folder / name, row, error, "latents") from error
        return latents.float(), cameras, padded(text.float(), self.size.text_tokens)

    def _prompt(self, file: Any, name: str) -> Tensor:
        """An embedding; its shape is looked at before it is read."""
        shape = file.get_slice(name).get_shape()
        if len(shape) != 2 or shape[0] > self.size.text_tokens or shape[1] != self.size.text_width:
            raise ValueError(f"{name} is {shape}")
        return file.get_tensor(name)

    def _nothing(self) -> Tensor:
        """What stands for no words: zero, as in play, or what the folder says."""
        path = self.folder / NOTHING
        if not path.is_file():
            return torch.zeros(self.size.text_tokens, self.size.text_width)
        return padded(
            load_tensors(path, LARGEST_PROMPTS)[0]["prompt.00000"].float(), self.size.text_tokens
        )


def check_clips(data: LatentClips, rows: int, columns: int, frames: int) -> None:
    """Refuse latents that are not what the config was written for."""
    there, channels, height, width = data.index.shape
    if (height, width) != (rows, columns) or channels != data.size.latent_channels:
        raise ConfigError(
            f"{data.folder}: latents of {channels} x {height} x {width}, [model] says "
            f"{data.size.latent_channels} x {rows} x {columns}"
        )
    if frames > there:
        raise ConfigError(
            f"[clips] frames = {frames}, but the clips in {data.folder} have {there} latent frames"
        )
