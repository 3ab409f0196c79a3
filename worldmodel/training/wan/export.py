"""The stage `wan_world`: what was trained becomes a folder that `play.py --world` plays.

Everything but the transformer comes from a world that `worldmodel import` has made: decoder,
actions, camera, words and their embeddings.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, UserError, build_config, load_config, read_toml, to_toml
from worldmodel.model.configs import SamplerConfig
from worldmodel.storage.files import link_or_copy, read_text
from worldmodel.storage.save_tensors import as_dtype, save_tensors
from worldmodel.training.train_loop import CONFIG
from worldmodel.training.wan.latents import WanLatents
from worldmodel.training.wan.load_weights import load_network, whole_weights
from worldmodel.training.wan.stage_config import WanModel
from worldmodel.wan.lora import load_lora, merged
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.prompts import load_prompts, save_prompts
from worldmodel.worlds.wan.description import card
from worldmodel.worlds.wan.world_file import (
    IMAGE_ENCODER,
    PICTURES,
    PROMPTS,
    TRANSFORMER,
    CameraConfig,
    WanWorldFile,
    read_wan_world,
)
from worldmodel.worlds.world_folder import (
    WORLD_FILE,
    check_own,
    replace_folder,
    sha256_of,
    stamp_of,
)

RECIPE = "trained"
COPIED = ("NOTICE", "taehv.safetensors", "vae.safetensors", PROMPTS, PICTURES, IMAGE_ENCODER)


@dataclass(frozen=True, kw_only=True, slots=True)
class WanExport:
    """Everything that the stage `wan_world` reads from its TOML file."""

    stage: Literal["wan_world"]
    title: str
    base: Path  # a world made by `worldmodel import`
    run: Path | None = None  # a finished run: its transformer is played ...
    lora: Path | None = None  # ... or a LoRA file, merged into the transformer of `base`
    sampler: SamplerConfig | None = None  # of play; none: that of `base`
    openings: tuple[str, ...] = ()  # first words, one a start; none: those of `base`
    prompts: Path | None = None  # embeddings of words that `base` does not know
    notice: Path | None = None  # what is added to NOTICE: data, licence
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of the weights

    def __post_init__(self) -> None:
        if (self.run is None) == (self.lora is None):
            raise ConfigError("name either `run` or `lora`: one of them is what will be played")


def export_wan_world(config: WanExport, folder: Path) -> dict[str, Any]:
    """Write the world, all of it or nothing."""
    check_own(folder)
    base = read_wan_world(config.base)
    known = load_prompts(config.base / PROMPTS) if (config.base / PROMPTS).is_file() else {}
    if config.prompts is not None:
        known |= load_prompts(config.prompts)
    if unknown := [text for text in config.openings if text and text not in known]:
        raise UserError(
            f"openings: no embedding of {unknown[0]!r} in {config.base} or in `prompts`; encode it "
            "with `worldmodel import … --text-encoder`"
        )
    weights, world = _trained(config, replace(base, name=folder.name, title=config.title))
    kept = {name: base.sha256[name] for name in COPIED if name in base.sha256}

    def write(fresh: Path) -> None:
        for name in COPIED:
            if (config.base / name).is_file():
                link_or_copy(config.base / name, fresh / name)
        pack = as_dtype(getattr(torch, config.dtype))
        hashes = {**kept, TRANSFORMER: save_tensors(fresh / TRANSFORMER, weights, {}, pack=pack)}
        if config.prompts is not None:
            (fresh / PROMPTS).unlink(missing_ok=True)  # a link to the other world's file
            save_prompts(fresh / PROMPTS, known, encoder="google/umt5-xxl")
            hashes[PROMPTS] = sha256_of(fresh / PROMPTS)
        if config.notice is not None:
            before = read_text(config.base / "NOTICE")
            (fresh / "NOTICE").unlink(missing_ok=True)
            text = f"{before}\n{read_text(config.notice)}"
            (fresh / "NOTICE").write_text(text, encoding="utf-8")
        stamps = {name: stamp_of(fresh / name) for name in hashes if name not in kept}
        done = replace(world, sha256=hashes, stamps={**base.stamps, **stamps})
        (fresh / WORLD_FILE).write_text(to_toml(done), encoding="utf-8")
        (fresh / "CARD.md").write_text(card(done), encoding="utf-8")

    replace_folder(folder, write)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"stage": config.stage, "world": str(folder), "megabytes": round(size / 1e6, 1)}


def _trained(config: WanExport, base: WanWorldFile) -> tuple[dict[str, Tensor], WanWorldFile]:
    """The transformer's weights, and the world's description with it."""
    sampler = config.sampler or base.sampler
    first = config.sampler.first if config.sampler else base.first_sampler
    world = replace(
        base,
        recipe=RECIPE,
        sampler=replace(sampler, first_sigmas=()),
        first_sampler=first,
        prompts=replace(base.prompts, opening=config.openings or base.prompts.opening),
    )
    if config.lora is not None:
        tensors, lora = load_lora(config.lora)
        before = whole_weights(config.base, base.transformer)
        strangers = {name.rpartition(".")[0] for name in tensors} - _modules(before)
        if strangers:
            raise ConfigError(
                f"{config.lora}: {min(strangers)} is no part of the transformer of {config.base}"
            )
        about = {"file": config.lora.name, "tensors": f"rank {lora.rank}, {len(tensors)} tensors"}
        source = {**base.source, "lora": about}
        return merged({**before, **tensors}, lora), replace(world, source=source)
    assert config.run is not None
    table = read_toml(config.run / CONFIG)
    model = build_config(WanModel, table.get("model", {}), f"{config.run / CONFIG}: model")
    size = model.load_size()
    weights = load_network(config.run, size).state_dict()
    origin = f"trained by the stage {table['stage']}, {table['loop']['steps']} steps"
    source = {**base.source, "transformer": {"file": origin, "tensors": f"{len(weights)} tensors"}}
    camera = _camera(base, size, Path(table["data"]))
    scale = base.vae.frames_per_latent
    return weights, replace(
        world,
        transformer=size,
        window=model.window,
        camera=camera,
        actions=_actions(base, camera, model.chunk_frames * scale),
        source=source,
    )


def _camera(base: WanWorldFile, size: WanConfig, data: Path) -> CameraConfig | None:
    """What moves the camera in play: what moved it in training."""
    if not size.cameras:
        return None
    if (data / CONFIG).is_file() and (made := load_config(WanLatents, data / CONFIG)).camera:
        return made.camera
    return base.camera


def _actions(base: WanWorldFile, camera: CameraConfig | None, frames: int) -> ActionSpec:
    """The base's buttons, and those that move a camera which it did not have."""
    spec = replace(base.actions, frames=frames)
    if base.controls is not None:
        return spec
    moved = [] if camera is None else [b for b in camera.motions if b not in spec.buttons]
    looks = camera is not None
    return replace(
        spec,
        buttons=(*spec.buttons, *moved),
        names=(*spec.names, *moved),
        look_up_down=looks,
        look_left_right=looks,
    )


def _modules(tensors: dict[str, Tensor]) -> set[str]:
    return {name.rpartition(".")[0] for name in tensors}
