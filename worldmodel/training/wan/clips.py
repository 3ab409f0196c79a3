"""Latents that the stage `latents` has written, read clip by clip from their files.

No more of them is in memory than the batch that is trained on.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
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
from worldmodel.training.shards import reading_clip
from worldmodel.training.torch_streams import host_stream
from worldmodel.training.train_loop import UnfinishedError
from worldmodel.training.wan.forward import Conditions, WanClip
from worldmodel.wan.controls import row_windows
from worldmodel.wan.kv_cache import FrameConditions
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.pictures import PictureCondition
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
    keys: int = 0  # of clips with rows of keys and mouse
    picture: tuple[int, int] = (0, 0)  # tokens and channels of its features

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
            tokens, width = map(int, table.get("picture", (0, 0)))
            sizes = int(table.get("keys", 0)), (tokens, width)
            return cls(files, shape, int(table["text_width"]), bool(table["cameras"]), *sizes)
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
        self._check_conditions()
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

    def _check_conditions(self) -> None:
        """Refuse clips without the keys and pictures that the model is given, and others' ones."""
        sizes, actions = self.size.picture, self.size.actions
        wanted = (sizes.tokens, sizes.width) if sizes else (0, 0)
        keys = actions.keys if actions else 0
        if (self.index.keys, self.index.picture) != (keys, wanted):
            raise ConfigError(
                f"{self.folder}: clips with {self.index.keys} keys and pictures of "
                f"{list(self.index.picture)} features, the size in [model] is given {keys} and "
                f"{list(wanted)}; make latents with `controls_of` a world of that model"
            )

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
        if conditions.per_frame is not None:
            return WanClip(
                clip.clean, replace(conditions, per_frame=_some(conditions.per_frame, hidden))
            )
        text = torch.where(hidden, conditions.nothing, conditions.text)
        return WanClip(clip.clean, replace(conditions, text=text))

    def read(self, numbers: Sequence[int], frames: int) -> WanClip:
        """The clips of these numbers, their first `frames` latent frames."""
        began = time.perf_counter()
        rows = [self._row(*self.places[number], frames) for number in numbers]
        latents, cameras, text = (torch.stack(part) for part in zip(*rows, strict=True))
        per_frame = self._frame_conditions(numbers, frames) if self.size.picture else None
        self.reading.frames += len(rows) * frames
        self.reading.seconds += time.perf_counter() - began
        conditions = Conditions(
            text=text.to(self.device),
            nothing=self.nothing.to(self.device),
            cameras=cameras.to(self.device),
            per_frame=per_frame.to(self.device) if per_frame else None,
        )
        return WanClip(latents.to(self.device), conditions)

    def _frame_conditions(self, numbers: Sequence[int], frames: int) -> FrameConditions:
        """Pictures and windows of rows of the clips of these numbers."""
        sizes, actions = self.size.picture, self.size.actions
        assert sizes is not None
        assert actions is not None
        count, shape = 1 + actions.rows_per_latent * (self.index.shape[0] - 1), self.index.shape
        pictures, windows = [], []
        for number in numbers:
            name, row = self.places[number]
            with reading_clip(self.folder / name, row, "latents"):
                file = self._files.get(self.folder / name)
                latents = rows_of(file, "picture", shape)[row, :frames].float()
                parts = [rows_of(file, "keys", (count, actions.keys))[row]]
                parts.append(rows_of(file, "mouse", (count, 2))[row])
            found = PictureCondition(latents.new_zeros(1, 1), latents)
            pictures.append(found.channels(0, frames, sizes.mask_channels)[0])
            steps = actions.rows, actions.rows_per_latent
            windows.append([row_windows(part[None].float(), *steps)[0, :frames] for part in parts])
        keys, mouse = (torch.stack(part) for part in zip(*windows, strict=True))
        return FrameConditions(torch.stack(pictures), keys, mouse if actions.mouse else None)

    def _row(self, name: str, row: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        with reading_clip(self.folder / name, row, "latents"):
            file = self._files.get(self.folder / name)
            latents = rows_of(file, "latents", self.index.shape)[row, :frames]
            cameras = rows_of(file, "cameras", (self.index.shape[0], 4, 4))[row, :frames]
            if self.size.picture is not None:
                text = rows_of(file, "features", self.index.picture)[row]
                return latents.float(), cameras, text.float()
            prompt = int(rows_of(file, "prompts", ())[row])
            text = self.nothing if prompt < 0 else self._prompt(file, f"prompt.{prompt:05}")
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
        if self.size.picture is not None:
            return torch.zeros(1, 1)  # a picture is never hidden
        if not path.is_file():
            return torch.zeros(self.size.text_tokens, self.size.text_width)
        return padded(
            load_tensors(path, LARGEST_PROMPTS)[0]["prompt.00000"].float(), self.size.text_tokens
        )


def _some(given: FrameConditions, hidden: Tensor) -> FrameConditions:
    """Clips without their actions where `hidden` b 1 1."""
    still, mouse = given.still, given.mouse
    if mouse is not None and still.mouse is not None:
        mouse = torch.where(hidden[..., None], still.mouse, mouse)
    return replace(given, keys=torch.where(hidden[..., None], still.keys, given.keys), mouse=mouse)


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
