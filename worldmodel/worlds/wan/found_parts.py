"""Released files, recognised and held against the model that each should be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.storage.checkpoint import refuse_broken
from worldmodel.system.paths import to_path
from worldmodel.wan.float8 import FLOAT8, refuse_float8
from worldmodel.wan.identify import recognise
from worldmodel.wan.image_encoder import (
    check_image_encoder,
    image_encoder_of,
    load_image_encoder,
    used_part,
)
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.pictures import PictureCondition, load_pictures
from worldmodel.wan.prompts import load_prompts
from worldmodel.wan.taehv import load_taehv
from worldmodel.wan.taehv_config import TAEW2_1, TaehvConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.transformer_keys import config_of, released_names
from worldmodel.wan.vae import WanVAE, load_vae
from worldmodel.wan.vae_config import WAN21_VAE, VaeConfig
from worldmodel.wan.weight_files import load_strict, networks_in, read_tensors
from worldmodel.worlds.wan.prompt_encoder import encode
from worldmodel.worlds.wan.start import check_features, check_picture, encode_picture_start
from worldmodel.worlds.wan.world_file import (
    IMAGE_ENCODER,
    PROMPTS,
    VAE,
    WanWorldFile,
)

MANY = ("prompts", "pictures")  # kinds of which a world takes several files


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportPlan:
    """What the tensors do not say."""

    recipe: str | None = None
    title: str = ""
    openings: tuple[str, ...] = ()
    pictures: tuple[Path, ...] = ()  # that an image-to-video world begins with, encoded now
    keys: Mapping[str, str] = field(default_factory=dict)  # button -> prompt
    text_encoder: str = ""
    # Of the transformer; None: as in the file; float8: its matrices only, the rest in bfloat16.
    dtype: torch.dtype | None = torch.bfloat16
    rows: int = 0  # 0: the recipe's
    columns: int = 0
    taehv: TaehvConfig = TAEW2_1
    vae: VaeConfig = WAN21_VAE


@dataclass(slots=True)
class FoundParts:
    """What was found in the files."""

    transformer: dict[str, Tensor] | None = None
    where: str = ""  # the transformer's file
    config: WanConfig | None = None
    networks: tuple[str, ...] = ()  # in the transformer's file
    taehv: dict[str, Tensor] | None = None
    vae: dict[str, Tensor] | None = None
    prompts: dict[str, Tensor] = field(default_factory=dict)
    pictures: dict[str, PictureCondition] = field(default_factory=dict)
    image_encoder: dict[str, Tensor] | None = None
    source: dict[str, Any] = field(default_factory=dict)


def read_parts(files: Sequence[Path], plan: ImportPlan) -> FoundParts:
    """Recognise each file, and hold it against the model that it should be."""
    parts = FoundParts()
    for path in files:
        tensors = read_tensors(path)
        kind = recognise(tensors, str(path))
        if kind in parts.source and kind not in MANY:
            raise UserError(f"{path}: a second {kind}; a world has one, so name one of the files")
        match kind:
            case "text encoder":
                raise UserError(
                    f"{path}: a text encoder; it stays where it is, name it as --text-encoder"
                )
            case "transformer":
                parts.transformer, parts.config = released_transformer(tensors, str(path))
                parts.where = str(path)
                refuse_broken(parts.transformer, str(path))
            case "taehv":
                parts.taehv = load_taehv(path, plan.taehv).state_dict()
            case "vae":
                parts.vae = load_vae(path, plan.vae).state_dict()
            case "image encoder":
                check_image_encoder(tensors, str(path))
                parts.image_encoder = used_part(tensors, str(path))
            case "pictures":
                parts.pictures |= load_pictures(path)
            case "prompts":
                parts.prompts |= load_prompts(path)
        count = len(parts.transformer) if kind == "transformer" and parts.transformer else 0
        small = ", its matrices as float8" if count and plan.dtype is FLOAT8 else ""
        if kind == "transformer":
            parts.networks = networks_in(path)
        network = f" of {parts.networks[0]}" if count and parts.networks else ""
        number = f"{count or len(tensors)} tensors{network}{small}"
        parts.source[kind] = {"file": path.name, "tensors": number}
    return parts


def released_transformer(
    tensors: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Tensor], WanConfig]:
    """The transformer's tensors under their released names, all accounted for, and its sizes."""
    refuse_float8(tensors, where, "imported again")
    released = released_names(tensors)
    config = config_of(released, where)
    with torch.device("meta"):
        model = WanTransformer(config)
    load_strict(model, released, where)
    return released, config


def encode_prompts(parts: FoundParts, world: WanWorldFile, folder: Path) -> None:
    """Encode what keys and openings say, where there is an encoder: play then needs none."""
    weights, path = world.prompts.text_encoder, folder / PROMPTS
    known = {*parts.prompts, *(load_prompts(path) if path.is_file() else ())}
    texts = [text for text in world.prompts.all_texts() if text not in known]
    if weights and texts:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        embeddings = encode(texts, to_path(weights), device)
        parts.prompts |= dict(zip(texts, embeddings, strict=True))


def check_pictures(parts: FoundParts, world: WanWorldFile) -> None:
    """Refuse encoded pictures, or an encoder of pictures, that were made for another model."""
    for name, picture in parts.pictures.items():
        check_picture(world, picture, name)
    if parts.image_encoder is not None:
        encoder = check_image_encoder(parts.image_encoder, "the image encoder")
        check_features(world, encoder.config.tokens, encoder.config.width, "the image encoder")


def encode_pictures(parts: FoundParts, world: WanWorldFile, folder: Path, plan: ImportPlan) -> None:
    """Encode the pictures that were named: play then needs neither encoder."""
    if not plan.pictures:
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae = WanVAE(world.vae)
    if parts.vae is not None:
        vae.load_state_dict(parts.vae)
    elif (folder / VAE).is_file():
        vae = load_vae(folder / VAE, world.vae)
    else:
        raise UserError("--picture: encoding one needs Wan2.1_VAE.pth; name it too")
    if parts.image_encoder is not None:
        encoder = image_encoder_of(parts.image_encoder, "the image encoder")
    elif (folder / IMAGE_ENCODER).is_file():
        encoder = load_image_encoder(folder / IMAGE_ENCODER)
    else:
        raise UserError(
            "--picture: encoding one needs models_clip_open-clip-xlm-roberta-large-vit-huge-14"
            ".pth; name it too"
        )
    encoders = vae.to(device).eval(), encoder.to(device)
    for path in plan.pictures:
        parts.pictures[path.name] = encode_picture_start(world, path, *encoders)
