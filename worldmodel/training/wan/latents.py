"""The stage `latents`: recordings, episodes and videos become what the other stages read.

For every source one file: latents f c h w of each of its clips (the autoencoder is causal in time:
1 + 4 k frames give 1 + k latents), projections of its cameras, and embeddings of its words. A file
is written when its source is done, under a stamp of all that it depends on; so a run that was
killed goes on with the first source that is missing, and a source that has changed is done again.
The index is written last: without it, no stage reads the folder.
"""

import hashlib
import json
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor

from worldmodel.config import ConfigError, UserError, require_positive, to_toml
from worldmodel.model.context import Device
from worldmodel.storage.files import write_atomically
from worldmodel.storage.footage import left_out
from worldmodel.storage.images import fit
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.storage.tensor_files import open_tensors
from worldmodel.system.limits import LARGEST_PROMPTS
from worldmodel.system.progress import note, through
from worldmodel.training.shards import load_header
from worldmodel.training.train_loop import CONFIG, UnfinishedError, stop_on_sigterm
from worldmodel.training.wan.clips import FORMAT, INDEX, NOTHING, Index
from worldmodel.training.wan.load_weights import load_autoencoder
from worldmodel.training.wan.sources import PixelClip, caption_of, find_sources, read_clips
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.image_encoder import ImageEncoder, load_image_encoder
from worldmodel.wan.pictures import encode_picture
from worldmodel.wan.prompts import save_prompts
from worldmodel.wan.vae import WanVAE
from worldmodel.worlds.wan.prompt_encoder import encode
from worldmodel.worlds.wan.world_file import (
    IMAGE_ENCODER,
    CameraConfig,
    WanWorldFile,
    read_wan_world,
)

MOST_NAMED = 5  # of the things done that no row tells
RECENT = 64  # embeddings that are kept: many sources share their words


@dataclass(frozen=True, kw_only=True, slots=True)
class WanLatents:
    """Everything that the stage `latents` reads from its TOML file."""

    stage: Literal["latents"]
    data: Path  # a folder of episodes, recordings and videos, with words in *.txt
    vae: Path  # Wan2.1_VAE.pth, or a world that has it
    frames: int  # latent frames of a clip
    rows: int  # of latents; 8 pixels each
    columns: int
    text_width: int = 4096
    frames_per_second: float = 16.0
    every: int = 0  # pixel frames from one clip's beginning to the next; 0: none is used twice
    caption: str = ""  # the words of sources that have no *.txt
    unprompted: str = ""  # the words that stand for none (a negative prompt); "": zeros, as in play
    prompts: Path | None = None  # embeddings that are there already, as `import` takes them
    text_encoder: Path | None = None  # UMT5-XXL's weights, for all other words
    camera: CameraConfig | None = None  # what moves cameras; none: they stand
    # A world of Matrix-Game 2 with its image encoder: what keys and mouse mean; clips have its
    # rows of actions and their first picture, encoded, and no words.
    controls_of: Path | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the autoencoder

    def __post_init__(self) -> None:
        require_positive(self, "frames", "rows", "columns", "text_width")
        if self.frames_per_second <= 0 or self.every < 0:
            raise ConfigError(
                f"frames_per_second ({self.frames_per_second}) must be above 0, every "
                f"({self.every}) at least 0"
            )


def write_latents(config: WanLatents, folder: Path, device: Device = "cpu") -> dict[str, Any]:
    """Write the files that are not there yet, then the index. SIGTERM ends between two sources."""
    vae = load_autoencoder(config.vae).to(device, getattr(torch, config.dtype))
    driven = Driven.load(config, device) if config.controls_of else None
    words, sources = CaptionEmbeddings(config, torch.device(device)), find_sources(config.data)
    if warning := left_out(config.data, sources):
        note(warning)
    write_atomically(folder / CONFIG, to_toml(config).encode())
    if config.unprompted:
        path = folder / NOTHING
        save_prompts(path, words.embeddings([config.unprompted]), encoder="umt5-xxl")
    else:
        (folder / NOTHING).unlink(missing_ok=True)
    recipe, files, began = _recipe(config, vae, driven), {}, time.perf_counter()
    with stop_on_sigterm() as stopping:
        for number, source in enumerate(
            through(sources, desc="latents", unit="source", leave=True)
        ):
            path = folder / _name(config.data, source)
            caption = "" if driven else caption_of(source, config.caption)
            stamp = _stamp(recipe, source, caption)
            header = load_header(path)
            is_new = header.get("stamp") != stamp
            if is_new and stopping():
                raise UnfinishedError(
                    f"{folder}: stopped at source {number} of {len(sources)}; what is written "
                    "stays, the same command goes on from here"
                )
            if is_new:
                stamped = {"stamp": stamp}
                header = _encode(config, vae, words, driven, source, path, stamped, caption)
            if header["clips"]:
                files[path.name] = int(header["clips"])
    if driven and driven.warning:
        note(driven.warning)
    if not files:
        raise UserError(
            f"{config.data}: none of the {len(sources)} sources is as long as a clip of "
            f"{config.frames} latent frames ({_length(config, vae) / config.frames_per_second:.1f} "
            "s); record longer ones or set a smaller `frames`"
        )
    return _finish(config, vae, driven, folder, files, time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Driven:
    """What clips of a world with keys and mouse are made with."""

    world: WanWorldFile
    encoder: ImageEncoder
    not_in_rows: Counter[str] = field(default_factory=Counter)  # by what rows cannot say, frames

    @classmethod
    def load(cls, config: WanLatents, device: Device) -> "Driven":
        """The world whose devices count, and its image encoder."""
        folder = config.controls_of
        assert folder is not None
        world = read_wan_world(folder)
        if world.controls is None or not (folder / IMAGE_ENCODER).is_file():
            raise UserError(
                f"controls_of = {folder}: expected a world of Matrix-Game 2 or ForgeWM with its "
                "image encoder; import models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
            )
        return cls(world, load_image_encoder(folder / IMAGE_ENCODER).to(device))

    def conditions(self, clip: PixelClip, config: WanLatents, vae: WanVAE) -> dict[str, Tensor]:
        """Rows of a clip's actions, and its first picture as a session would begin with it."""
        scale = vae.config.pixels_per_latent
        picture = fit(clip.frames[0], scale * config.rows, scale * config.columns)
        keys, mouse = clip.rows(self.world)
        self.not_in_rows.update(clip.not_in_rows(self.world.actions))
        return {
            "keys": keys,
            "mouse": mouse,
            "features": self.encoder.encode(picture).half(),
            "picture": encode_picture(vae, picture, config.frames).half(),
        }

    @property
    def warning(self) -> str:
        """A sentence about what was done and is told by no row; nothing where all is."""
        if not self.not_in_rows:
            return ""
        most = (f"{what} ({frames})" for what, frames in self.not_in_rows.most_common(MOST_NAMED))
        return (
            f"no row tells of what was done in so many frames of the new clips: {', '.join(most)}; "
            f"[controls] and [actions] in world.toml of {self.world.name} say what rows tell of"
        )

    @property
    def facts(self) -> str:
        """Changes with whatever the clips depend on."""
        world = self.world
        actions = [world.controls, world.actions, world.sha256.get(IMAGE_ENCODER)]
        return hashlib.sha256(repr(actions).encode()).hexdigest()


def _encode(
    config: WanLatents,
    vae: WanVAE,
    words: "CaptionEmbeddings",
    driven: Driven | None,
    source: Path,
    path: Path,
    header: dict[str, Any],
    caption: str,
) -> dict[str, Any]:
    """Write the clips of one source; what its header says."""
    size, step = vae.config.pixels_per_latent, vae.config.frames_per_latent
    length = _length(config, vae)
    latents: list[Tensor] = []
    cameras: list[Tensor] = []
    conditions: list[dict[str, Tensor]] = []
    for clip in read_clips(source, config.frames_per_second, length, config.every or length):
        video = clip.video(size * config.rows, size * config.columns)
        found = rearrange(vae.encode(video), "1 c f h w -> f c h w").half().cpu()
        if not bool(found.isfinite().all()):
            raise UserError(f"{source}: its latents hold values that are no numbers; wrong --vae?")
        latents.append(found)
        conditions.append(driven.conditions(clip, config, vae) if driven else {})
        moved = clip.cameras(config.camera, step) if config.camera else None
        cameras.append(no_cameras(1, config.frames)[0].clone() if moved is None else moved)
    header = {**header, "clips": len(latents), "caption": caption}
    tensors: dict[str, Tensor] = {}
    if latents:
        number = 0 if caption else -1
        tensors = {"latents": torch.stack(latents), "cameras": torch.stack(cameras)}
        tensors["prompts"] = torch.full((len(latents),), number)
        tensors |= {name: torch.stack([one[name] for one in conditions]) for name in conditions[0]}
        for embedding in words.embeddings([caption]).values() if caption else ():
            tensors["prompt.00000"] = embedding
    save_tensors(path, tensors, header)
    return header


class CaptionEmbeddings:
    """Embeddings of captions: looked up one by one in a file, or made by the text encoder."""

    def __init__(self, config: WanLatents, device: torch.device) -> None:
        self.config, self.device = config, device
        self._places: dict[str, str] = {}
        self._recent: OrderedDict[str, Tensor] = OrderedDict()
        if config.prompts is not None:
            header = load_header(config.prompts)
            if not isinstance(header.get("prompts"), list):
                raise UserError(
                    f"{config.prompts}: no file of prompt embeddings; `worldmodel import` and "
                    "`worldmodel.wan.prompts.save_prompts` write them"
                )
            self._places = {text: f"prompt.{n:05}" for n, text in enumerate(header["prompts"])}

    def embeddings(self, texts: list[str]) -> dict[str, Tensor]:
        """Each text's embedding u d."""
        for text in texts:
            if text not in self._recent:
                self._recent[text] = self._checked(text, self._embedding(text))
        found = {text: self._recent[text] for text in texts}
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return found

    def _embedding(self, text: str) -> Tensor:
        if text in self._places and self.config.prompts is not None:
            with open_tensors(self.config.prompts, LARGEST_PROMPTS, "pt") as file:
                found: Tensor = file.get_tensor(self._places[text])
                return found
        if self.config.text_encoder is None:
            raise UserError(
                f"{text!r}: no embedding of these words in `prompts`, and no `text_encoder` to "
                "make one; name UMT5-XXL's weights or add the words to the file"
            )
        return encode([text], self.config.text_encoder, self.device)[0].half()

    def _checked(self, text: str, embedding: Tensor) -> Tensor:
        if embedding.shape[1] != self.config.text_width:
            raise UserError(
                f"{text!r}: its embedding has {embedding.shape[1]} channels, text_width says "
                f"{self.config.text_width}"
            )
        return embedding


def _length(config: WanLatents, vae: WanVAE) -> int:
    """Pixel frames of a clip."""
    return 1 + vae.config.frames_per_latent * (config.frames - 1)


def _name(folder: Path, source: Path) -> str:
    """A source's own file name: its path below the data folder, in one word."""
    place = source.relative_to(folder)
    tail = hashlib.sha256(place.as_posix().encode()).hexdigest()[:8]
    return f"{source.stem[:60]}-{tail}.safetensors"


def _recipe(config: WanLatents, vae: WanVAE, driven: Driven | None) -> str:
    """Changes with whatever latents of any source depend on."""
    digest = hashlib.sha256()
    for name, tensor in vae.state_dict().items():
        if not name.startswith("decoder."):
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    lines = to_toml(config).splitlines()
    apart = (
        "data =", "prompts =", "text_encoder =", "caption =", "unprompted =", "vae =",
        "controls_of =",
    )  # fmt: skip
    devices = driven.facts if driven else ""
    facts = [line for line in lines if not line.startswith(apart)]
    return hashlib.sha256(f"{digest.hexdigest()} {facts}{devices}".encode()).hexdigest()


def _stamp(recipe: str, source: Path, caption: str) -> str:
    """Changes with the source, its words and the recipe."""
    stats = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in dict.fromkeys((source, source.with_suffix(".mp4")))
        if path.exists()
    ]
    return hashlib.sha256(f"{recipe} {stats} {caption}".encode()).hexdigest()


def _finish(
    config: WanLatents,
    vae: WanVAE,
    driven: Driven | None,
    folder: Path,
    files: dict[str, int],
    seconds: float,
) -> dict[str, Any]:
    """Write index and summary, and remove files of sources that are gone."""
    shape = (config.frames, vae.latent_channels, config.rows, config.columns)
    index = {
        "format": FORMAT,
        "shape": shape,
        "text_width": 0 if driven else config.text_width,
        "cameras": config.camera is not None,
        **(_sizes(driven.world) if driven else {}),
        "files": files,
    }
    write_atomically(folder / INDEX, json.dumps(index, indent=1).encode())
    for path in folder.glob("*-????????.safetensors"):
        if path.name not in files and "clips" in load_header(path):
            path.unlink()
    Index.read(folder)
    size = sum((folder / name).stat().st_size for name in files)
    summary = {
        "stage": config.stage,
        "clips": sum(files.values()),
        "sources": len(files),
        "minutes": round(seconds / 60, 2),
        "megabytes": round(size / 1e6, 1),
    }
    write_atomically(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def _sizes(world: WanWorldFile) -> dict[str, Any]:
    """Sizes of what clips are given beside their latents."""
    model, picture = world.transformer.actions, world.transformer.picture
    assert model is not None
    assert picture is not None
    return {"keys": model.keys, "picture": [picture.tokens, picture.width]}
