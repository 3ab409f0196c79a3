"""From released files to a world's folder: `worldmodel import FILE… --to WORLD`.

What each file is comes from its tensors. What the tensors cannot say, how a student is sampled, is
a recipe, which the user names. A second import into the same folder adds or replaces parts.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldmodel.action import ActionSpec
from worldmodel.config import UserError, to_toml
from worldmodel.storage.checkpoint import refuse_broken
from worldmodel.storage.save_tensors import as_dtype, as_it_is, save_tensors
from worldmodel.system.paths import list_files, to_path
from worldmodel.system.printable import shown
from worldmodel.wan.float8 import FLOAT8, packed, refuse_float8
from worldmodel.wan.identify import recognise
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.prompts import load_prompts, save_prompts
from worldmodel.wan.samplers import RECIPES, ReleasedSampler
from worldmodel.wan.taehv import load_taehv
from worldmodel.wan.taehv_config import TAEW2_1, TaehvConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.transformer_keys import config_of, released_names
from worldmodel.wan.vae import load_vae
from worldmodel.wan.vae_config import WAN21_VAE, VaeConfig
from worldmodel.wan.weight_files import load_strict, read_tensors
from worldmodel.worlds.wan.prompt_encoder import encode
from worldmodel.worlds.wan.world_file import (
    BACKEND,
    FORMAT,
    PROMPTS,
    TAEHV,
    TRANSFORMER,
    VAE,
    CameraConfig,
    PromptsConfig,
    WanWorldFile,
    read_wan_world,
)
from worldmodel.worlds.world_folder import (
    WORLD_FILE,
    WorldError,
    replace_folder,
    sha256_of,
    stamp_of,
)

ROWS, COLUMNS = 60, 104  # latents of 480 x 832 pixels, what all these models were trained on
FRAMES_PER_SECOND = 16.0
ENCODER = "google/umt5-xxl"
# Training intrinsics of minWM and its motions, one latent frame each: 0.08 units, 3 degrees.
MINWM_CAMERA = CameraConfig(
    focal=(0.5050505, 0.89786756),
    motions={
        "KeyW": (0.0, 0.0, 0.08, 0.0, 0.0),
        "KeyS": (0.0, 0.0, -0.08, 0.0, 0.0),
        "KeyA": (-0.08, 0.0, 0.0, 0.0, 0.0),
        "KeyD": (0.08, 0.0, 0.0, 0.0, 0.0),
        "KeyJ": (0.0, 0.0, 0.0, -3.0, 0.0),
        "KeyL": (0.0, 0.0, 0.0, 3.0, 0.0),
        "KeyI": (0.0, 0.0, 0.0, 0.0, 3.0),
        "KeyK": (0.0, 0.0, 0.0, 0.0, -3.0),
    },
)
MINWM_NAMES = (
    "forward", "back", "left", "right", "turn left", "turn right", "look up", "look down"
)  # fmt: skip
NOTICE = """\
The weights in this folder were converted from the files that CARD.md names; nothing was trained.

Causal-Forcing (github.com/thu-ml/Causal-Forcing) and minWM (github.com/shengshu-ai/minWM) publish
their code under Apache-2.0, Wan2.1 (github.com/Wan-Video/Wan2.1) its code and models under
Apache-2.0, TAEHV (github.com/madebyollin/taehv) under MIT; the code of Causal-Forcing's long video
models carries a licence of its own. The licence that was shown where the weights were downloaded
is the one that counts: keep it with this folder.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportPlan:
    """What the tensors do not say."""

    recipe: str | None = None
    title: str = ""
    openings: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)  # button -> prompt
    text_encoder: str = ""
    # Of the transformer; None: as in the file; float8: its matrices only, the rest in bfloat16.
    dtype: torch.dtype | None = torch.bfloat16
    rows: int = ROWS
    columns: int = COLUMNS
    taehv: TaehvConfig = TAEW2_1
    vae: VaeConfig = WAN21_VAE


@dataclass(slots=True)
class FoundParts:
    """What was found in the files."""

    transformer: dict[str, Tensor] | None = None
    config: WanConfig | None = None
    taehv: dict[str, Tensor] | None = None
    vae: dict[str, Tensor] | None = None
    prompts: dict[str, Tensor] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)


def import_files(files: Sequence[Path], folder: Path, plan: ImportPlan) -> WanWorldFile:
    """Write a world from released files, or add their parts to the one that is there."""
    if plan.text_encoder and not to_path(plan.text_encoder).is_file():
        raise UserError(f"--text-encoder {plan.text_encoder}: no such file")
    parts = read_parts(files, plan)
    there = read_wan_world(folder) if (folder / WORLD_FILE).is_file() else None
    if folder.exists() and there is None:
        raise WorldError(f"{folder}: exists and is no Wan world; choose another folder for --to")
    if parts.config is None and there is None:
        raise UserError(
            f"{', '.join(map(str, files))}: no transformer among these files; name one, or with "
            "--to a world that has one"
        )
    world = _describe(parts, folder.name, plan, there)
    _encode_prompts(parts, world, folder)

    def write(fresh: Path) -> None:
        if there is not None:
            _link_all(folder, fresh)
        written = _write_parts(fresh, parts, plan)
        stamps = {name: stamp_of(fresh / name) for name in written}
        done = replace(world, sha256={**world.sha256, **written}, stamps={**world.stamps, **stamps})
        for name, text in (
            (WORLD_FILE, to_toml(done)),
            ("NOTICE", NOTICE),
            ("CARD.md", card(done)),
        ):
            (fresh / name).unlink(missing_ok=True)  # a link to the old world's file
            (fresh / name).write_text(text, encoding="utf-8")

    replace_folder(folder, write)
    return read_wan_world(folder)


def read_parts(files: Sequence[Path], plan: ImportPlan) -> FoundParts:
    """Recognise each file, and hold it against the model that it should be."""
    parts = FoundParts()
    for path in files:
        tensors = read_tensors(path)
        kind = recognise(tensors, str(path))
        if kind == "text encoder":
            raise UserError(
                f"{path}: a text encoder; it stays where it is, name it as --text-encoder"
            )
        if kind == "transformer":
            if parts.transformer is not None:
                raise UserError(f"{path}: a second transformer; a world has one")
            parts.transformer, parts.config = released_transformer(tensors, str(path))
            refuse_broken(parts.transformer, str(path))
        elif kind == "taehv":
            parts.taehv = load_taehv(path, plan.taehv).state_dict()
        elif kind == "vae":
            parts.vae = load_vae(path, plan.vae).state_dict()
        else:
            parts.prompts |= load_prompts(path)
        count = len(parts.transformer) if kind == "transformer" and parts.transformer else 0
        small = ", its matrices as float8" if count and plan.dtype is FLOAT8 else ""
        told = f"{count or len(tensors)} tensors{small}"
        parts.source[kind] = {"file": path.name, "tensors": told}
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


def choose_recipe(config: WanConfig, wanted: str | None) -> tuple[str, ReleasedSampler]:
    """The recipe that was named; else the only one that fits the tensors."""
    fitting = {name: r for name, r in RECIPES.items() if r.cameras == config.cameras}
    if wanted is None and len(fitting) == 1:
        return next(iter(fitting.items()))
    choices = "; ".join(f"{name} ({recipe.about})" for name, recipe in fitting.items())
    if wanted is None:
        raise UserError(
            "the tensors are those of several kinds of model and do not say which; "
            f"name one as --recipe: {choices}"
        )
    if wanted not in fitting:
        raise UserError(f"--recipe {wanted}: for these tensors there are: {choices}")
    return wanted, fitting[wanted]


def new_world(config: WanConfig, name: str, plan: ImportPlan) -> WanWorldFile:
    """A world's description for a transformer of these sizes."""
    recipe_name, recipe = choose_recipe(config, plan.recipe)
    scale = plan.vae.frames_per_latent
    buttons = (*MINWM_CAMERA.motions,) if config.cameras else ()
    names = MINWM_NAMES if config.cameras else ()
    return WanWorldFile(
        format=FORMAT,
        name=name,
        title=plan.title or f"{recipe_name}, {recipe.about}",
        licence="see NOTICE",
        backend=BACKEND,
        recipe=recipe_name,
        frames_per_second=FRAMES_PER_SECOND,
        sampler=recipe.sampler,
        first_sampler=recipe.first_sampler,
        transformer=config,
        window=WindowConfig(
            rows=plan.rows,
            columns=plan.columns,
            block_frames=recipe.block_frames,
            window_frames=recipe.window_frames,
            sink_frames=recipe.sink_frames,
        ),
        actions=ActionSpec(
            buttons=(*buttons, *plan.keys),
            names=(*names, *plan.keys.values()),
            mouse_degrees=1.0,
            # 3 degrees a latent frame is the fastest turn in training.
            max_mouse_degrees=3.0 / scale,
            look_up_down=config.cameras,
            look_left_right=config.cameras,
            prompts=True,
            frames=recipe.block_frames * scale,
        ),
        prompts=PromptsConfig(
            opening=plan.openings, keys=dict(plan.keys), text_encoder=plan.text_encoder
        ),
        camera=MINWM_CAMERA if config.cameras else None,
        taehv=plan.taehv,
        vae=plan.vae,
    )


def _describe(
    parts: FoundParts, name: str, plan: ImportPlan, there: WanWorldFile | None
) -> WanWorldFile:
    if parts.config is not None:
        world = new_world(parts.config, name, plan)
        if there is None:
            return replace(world, source=parts.source)
        return replace(
            world,
            sha256={name: x for name, x in there.sha256.items() if name != TRANSFORMER},
            stamps={name: x for name, x in there.stamps.items() if name != TRANSFORMER},
            source={**there.source, **parts.source},
        )
    assert there is not None
    if plan.recipe not in (None, there.recipe):
        raise UserError(
            f"--recipe {plan.recipe}: {there.name} has the recipe {there.recipe}; name the "
            "transformer's file as well to change it"
        )
    return _told_more(there, plan, {**there.source, **parts.source})


def _told_more(there: WanWorldFile, plan: ImportPlan, source: dict[str, Any]) -> WanWorldFile:
    """A world that is there, with the title, openings, keys and encoder that were named now."""
    prompts = there.prompts
    if taken := [k for k in plan.keys if k in there.actions.buttons and k not in prompts.keys]:
        raise UserError(f"--key {taken[0]}: this key moves the camera of {there.name}")
    keys = {**prompts.keys, **plan.keys}
    named = dict(zip(there.actions.buttons, there.actions.names, strict=True)) | keys
    return replace(
        there,
        title=plan.title or there.title,
        prompts=replace(
            prompts,
            opening=plan.openings or prompts.opening,
            keys=keys,
            text_encoder=plan.text_encoder or prompts.text_encoder,
        ),
        actions=replace(there.actions, buttons=tuple(named), names=tuple(named.values())),
        source=source,
    )


def _encode_prompts(parts: FoundParts, world: WanWorldFile, folder: Path) -> None:
    """Encode what keys and openings say, where there is an encoder: play then needs none."""
    weights, path = world.prompts.text_encoder, folder / PROMPTS
    known = {*parts.prompts, *(load_prompts(path) if path.is_file() else ())}
    texts = [text for text in world.prompts.all_texts() if text not in known]
    if weights and texts:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        embeddings = encode(texts, to_path(weights), device)
        parts.prompts |= dict(zip(texts, embeddings, strict=True))


def _write_parts(fresh: Path, parts: FoundParts, plan: ImportPlan) -> dict[str, str]:
    """Write what was found; sha256 by file."""
    written = {}
    pack = packed(torch.bfloat16) if plan.dtype is FLOAT8 else as_dtype(plan.dtype)
    for name, tensors, packing in (
        (TRANSFORMER, parts.transformer, pack),
        (TAEHV, parts.taehv, as_it_is),
        (VAE, parts.vae, as_it_is),
    ):
        if tensors is not None:
            (fresh / name).unlink(missing_ok=True)  # a link to the old world's file
            written[name] = save_tensors(fresh / name, tensors, {}, pack=packing)
    if parts.prompts:
        path = fresh / PROMPTS
        known = load_prompts(path) if path.exists() else {}
        path.unlink(missing_ok=True)
        save_prompts(path, {**known, **parts.prompts}, encoder=ENCODER)
        written[PROMPTS] = sha256_of(path)
    return written


def _link_all(folder: Path, fresh: Path) -> None:
    """The old files in the new folder, without copying where the disk allows it."""
    for path in list_files(folder, "*"):
        _link(path, fresh / path.name)


def _link(path: Path, fresh: Path) -> None:
    try:
        os.link(path, fresh)
    except OSError:
        shutil.copy2(path, fresh)


def sources_of(world: WanWorldFile) -> list[str]:
    """The files that a world was made of, a line each, as its file has them."""
    lines = []
    for kind, told in world.source.items():
        table = told if isinstance(told, Mapping) else {"file": shown(told)}
        lines.append(", ".join((f"{kind}: {table.get('file')}", str(table.get("tensors", "")))))
    return lines


def card(world: WanWorldFile) -> str:
    """What the world is, for people."""
    window, config = world.window, world.transformer
    rows, columns = world.frame_size
    lines = [
        f"# {world.title}",
        "",
        f"{columns} x {rows} at {world.frames_per_second:g} frames/s; width {config.width}, "
        f"{config.layers} layers, {config.heads} heads; {world.actions.frames} frames are drawn "
        f"together from one action; window {window.window_frames} and {window.sink_frames} sinks, "
        "in latent frames.",
        "",
        f"Noise levels: {', '.join(f'{s:.4g}' for s in world.sampler.sigmas)}; of the first block: "
        f"{', '.join(f'{s:.4g}' for s in world.first_sampler.sigmas)}.",
        "",
        "Imported from:",
        *(f"- {line}" for line in sources_of(world)),
        "",
    ]
    return "\n".join(lines)
