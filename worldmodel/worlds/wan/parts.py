"""The parts of a Wan world, from its folder or from a released file as it is.

Large weights are mapped from disk and converted tensor by tensor, so loading needs little more
memory than the weights themselves. Their sha256 was taken when they were imported, and is taken
again only where a file was touched since: several gigabytes would keep a player waiting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from worldmodel.config import UserError
from worldmodel.storage.checkpoint import refuse_broken
from worldmodel.storage.files import is_file
from worldmodel.system.limits import LARGEST_DECODER, LARGEST_IMAGE_ENCODER
from worldmodel.system.paths import list_files
from worldmodel.wan.float8 import FLOAT8, Float8Linear, holds_float8, use_float8
from worldmodel.wan.identify import recognise
from worldmodel.wan.pictures import PictureCondition, load_pictures
from worldmodel.wan.taehv import Taehv, load_taehv
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.vae import WanVAE, load_vae
from worldmodel.wan.weight_files import load_strict, networks_in, read_tensors
from worldmodel.worlds.wan.description import new_world
from worldmodel.worlds.wan.found_parts import ImportPlan, released_transformer
from worldmodel.worlds.wan.prompt_encoder import PromptEmbeddings
from worldmodel.worlds.wan.world_file import (
    IMAGE_ENCODER,
    PICTURES,
    PROMPTS,
    TAEHV,
    TRANSFORMER,
    VAE,
    WanWorldFile,
    check_files,
    read_wan_world,
)
from worldmodel.worlds.world_folder import WorldError, check_cache

WEIGHTS = (".pt", ".pth", ".safetensors")
ASSUMED = "framewise-4step"
NAMES = {"taehv": TAEHV, "vae": VAE, "pictures": PICTURES, "image encoder": IMAGE_ENCODER}


@dataclass(frozen=True, slots=True)
class WanParts:
    """Everything that is loaded."""

    file: WanWorldFile
    transformer: WanTransformer
    decoder: WanVAE | Taehv
    encoder: WanVAE | Taehv | None
    words: PromptEmbeddings
    pictures: Mapping[str, PictureCondition] = field(default_factory=dict)
    image_encoder: Path | None = None  # its file; it is loaded for a picture and not kept
    notes: tuple[str, ...] = ()


def parts_of(
    path: Path, device: torch.device, dtype: torch.dtype, prompt: str | None = None
) -> WanParts:
    """Load a world's folder, or play a released file with what lies beside it.

    Whether the first words, `prompt` or the world's own, can be said is seen before all the rest.
    """
    if path.is_file():
        return _parts_beside(path, device, dtype)
    file = read_wan_world(path)
    if not any(is_file(path / name) for name in (TAEHV, VAE)):
        raise _no_decoder(str(path))
    check_files(path, file)
    words = PromptEmbeddings(file, path / PROMPTS, device)
    opening = next(iter(file.prompts.opening), "") if prompt is None else prompt
    if file.transformer.picture is None and not words.can_say(opening):
        words.embedding(opening)  # raises and says what is missing
    weights = path / TRANSFORMER
    tensors = read_tensors(weights)
    check_cache(file.window.cache_bytes(file.transformer), weights)
    transformer = load_transformer(tensors, file, str(weights), device, dtype)
    is_small = any(isinstance(module, Float8Linear) for module in transformer.modules())
    notes = ("weights in float8",) if is_small else ()
    found = {kind: path / name for kind, name in NAMES.items() if (path / name).is_file()}
    return _together(file, transformer, words, found, str(path), notes)


def _parts_beside(path: Path, device: torch.device, dtype: torch.dtype) -> WanParts:
    found = read_tensors(path)
    if (kind := recognise(found, str(path))) != "transformer":
        raise WorldError(
            f"{path}: a file of the kind {kind!r}, and a world is played from a transformer; name "
            "that one, or add this file to a world: worldmodel import FILE --to WORLD"
        )
    tensors, config = released_transformer(found, str(path))
    recipe = None if config.cameras or config.actions else ASSUMED
    name = "".join(c if c.isalnum() or c in "_.-" else "_" for c in path.stem).lstrip(".-") or "wan"
    file = new_world(config, name, ImportPlan(recipe=recipe), networks_in(path), str(path))
    largest = LARGEST_IMAGE_ENCODER if config.picture else LARGEST_DECODER
    beside, broken = find_beside(path, largest)
    transformer = load_transformer(tensors, file, str(path), device, dtype)
    notes = (f"taken for {ASSUMED} (import it with --recipe to say otherwise)",) if recipe else ()
    words = PromptEmbeddings(file, beside.get("prompts"), device)
    if broken and not {"taehv", "vae"} & beside.keys():
        raise _no_decoder(f"{path}, and beside it {broken[0]}")
    return _together(file, transformer, words, beside, str(path), notes)


def find_beside(path: Path, largest: int = LARGEST_DECODER) -> tuple[dict[str, Path], list[str]]:
    """Decoders, prompts and pictures in the folder of a released file, recognised by contents; and
    what is wrong with files that are none.
    """
    found: dict[str, Path] = {}
    broken: list[str] = []
    for other in list_files(path.parent, "*"):
        is_small = other.stat().st_size <= largest
        if other != path and is_small and other.suffix.lower() in WEIGHTS:
            try:
                found.setdefault(recognise(read_tensors(other), str(other)), other)
            except UserError as error:
                broken.append(str(error))
    return found, broken


def load_transformer(
    tensors: dict[str, Tensor],
    file: WanWorldFile,
    where: str,
    device: torch.device,
    dtype: torch.dtype,
) -> WanTransformer:
    """The transformer on its device, converted tensor by tensor; what is float8 stays so."""
    with torch.device("meta"):
        model = WanTransformer(file.transformer)
    if holds_float8(tensors):
        if device.type == "mps":
            raise UserError(f"{where}: mps knows no float8; import the world with --dtype bfloat16")
        use_float8(model)
    load_strict(model, tensors, where)
    refuse_broken(tensors, where)
    for name in list(tensors):
        del tensors[name]
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            moved = parameter.detach().to(device, FLOAT8 if parameter.dtype is FLOAT8 else dtype)
            if moved is parameter.detach() or moved.data_ptr() == parameter.data_ptr():
                moved = moved.clone()  # what stays mapped would be read from disk in play
            setattr(module, name, nn.Parameter(moved, requires_grad=False))
    return model.eval()


def _together(
    file: WanWorldFile,
    transformer: WanTransformer,
    words: PromptEmbeddings,
    found: Mapping[str, Path],
    where: str,
    notes: tuple[str, ...],
) -> WanParts:
    """A transformer with what else was `found`, by kind."""
    tiny = load_taehv(found["taehv"], file.taehv) if "taehv" in found else None
    vae = load_vae(found["vae"], file.vae) if "vae" in found else None
    decoder = tiny or vae
    if decoder is None:
        raise _no_decoder(where)
    decoder.to(transformer.device, transformer.dtype)
    encoder = vae or tiny
    if encoder is not None and encoder is not decoder:
        encoder.to(transformer.device)
    pictures = load_pictures(found["pictures"]) if "pictures" in found else {}
    image_encoder = found.get("image encoder")
    return WanParts(file, transformer, decoder, encoder, words, pictures, image_encoder, notes)


def _no_decoder(where: str) -> WorldError:
    return WorldError(
        f"{where}: no decoder; import taew2_1.pth (small and fast) or Wan2.1_VAE.pth as well, "
        "or lay one beside the file"
    )
