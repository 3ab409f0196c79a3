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
from worldmodel.wan.image_encoder import (
    check_image_encoder,
    image_encoder_of,
    load_image_encoder,
    used_part,
)
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.pictures import PictureCondition, load_pictures, save_pictures
from worldmodel.wan.prompts import load_prompts, save_prompts
from worldmodel.wan.samplers import RECIPES, ReleasedSampler
from worldmodel.wan.taehv import load_taehv
from worldmodel.wan.taehv_config import TAEW2_1, TaehvConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.transformer_keys import config_of, released_names
from worldmodel.wan.vae import WanVAE, load_vae
from worldmodel.wan.vae_config import WAN21_VAE, VaeConfig
from worldmodel.wan.weight_files import load_strict, read_tensors
from worldmodel.worlds.wan import matrix_game
from worldmodel.worlds.wan.matrix_game import controls_of
from worldmodel.worlds.wan.prompt_encoder import encode
from worldmodel.worlds.wan.start import encode_picture_start
from worldmodel.worlds.wan.world_file import (
    BACKEND,
    FORMAT,
    IMAGE_ENCODER,
    PICTURES,
    PROMPTS,
    TAEHV,
    TRANSFORMER,
    VAE,
    CameraConfig,
    ControlsConfig,
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
    config: WanConfig | None = None
    taehv: dict[str, Tensor] | None = None
    vae: dict[str, Tensor] | None = None
    prompts: dict[str, Tensor] = field(default_factory=dict)
    pictures: dict[str, PictureCondition] = field(default_factory=dict)
    image_encoder: dict[str, Tensor] | None = None
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
    if world.transformer.picture is None:
        if plan.pictures or parts.pictures or parts.image_encoder:
            raise UserError(
                f"{folder}: its model reads words, no encoded picture; play it with --start"
            )
        _encode_prompts(parts, world, folder)
    else:
        _encode_pictures(parts, world, folder, plan)
        known = dict.fromkeys((*world.start_pictures, *parts.pictures))
        world = replace(world, start_pictures=tuple(known))

    def write(fresh: Path) -> None:
        if there is not None:
            _link_all(folder, fresh)
        written = _write_parts(fresh, parts, plan)
        stamps = {name: stamp_of(fresh / name) for name in written}
        done = replace(world, sha256={**world.sha256, **written}, stamps={**world.stamps, **stamps})
        for name, text in (
            (WORLD_FILE, to_toml(done)),
            ("NOTICE", matrix_game.NOTICE if done.controls else NOTICE),
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
        elif kind == "image encoder":
            check_image_encoder(tensors, str(path))
            parts.image_encoder = used_part(tensors, str(path))
        elif kind == "pictures":
            parts.pictures |= load_pictures(path)
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
    fitting = {name: r for name, r in RECIPES.items() if r.fits(config)}
    if not fitting and config.actions is not None:  # keys of a model's own
        fitting = {name: r for name, r in RECIPES.items() if r.keys}
    if not fitting:
        raise UserError(
            "the tensors are those of an image-to-video model without keys or mouse; of those "
            "only Matrix-Game 2 and its students are played"
        )
    likely = [(name, recipe) for name, recipe in fitting.items() if not recipe.is_other]
    if wanted is None and len(likely) == 1:
        return likely[0]
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
    frames = recipe.block_frames * scale
    controls: ControlsConfig | None = None
    if config.actions is not None:
        if plan.openings or plan.keys or plan.text_encoder:
            raise UserError(
                f"{name}: its model reads a picture and no words: no --prompt, no --key"
            )
        controls, actions = controls_of(config.actions, frames)
    else:
        actions = _spoken(config, plan, frames)
    return WanWorldFile(
        format=FORMAT,
        name=name,
        title=plan.title or f"{recipe_name}, {recipe.about}",
        licence="see NOTICE",
        backend=BACKEND,
        recipe=recipe_name,
        frames_per_second=recipe.frames_per_second,
        sampler=recipe.sampler,
        first_sampler=recipe.first_sampler,
        transformer=config,
        window=WindowConfig(
            rows=plan.rows or recipe.rows,
            columns=plan.columns or recipe.columns,
            block_frames=recipe.block_frames,
            window_frames=recipe.window_frames,
            sink_frames=recipe.sink_frames,
            action_frames=recipe.action_frames,
        ),
        actions=actions,
        controls=controls,
        prompts=PromptsConfig(
            opening=plan.openings, keys=dict(plan.keys), text_encoder=plan.text_encoder
        ),
        camera=MINWM_CAMERA if config.cameras else None,
        taehv=plan.taehv,
        vae=plan.vae,
    )


def _spoken(config: WanConfig, plan: ImportPlan, frames: int) -> ActionSpec:
    """The actions of a world that is told words, and of its camera if it has one."""
    buttons = (*MINWM_CAMERA.motions,) if config.cameras else ()
    names = MINWM_NAMES if config.cameras else ()
    return ActionSpec(
        buttons=(*buttons, *plan.keys),
        names=(*names, *plan.keys.values()),
        mouse_degrees=1.0,
        # 3 degrees a latent frame is the fastest turn in training.
        max_mouse_degrees=3.0 / plan.vae.frames_per_latent,
        look_up_down=config.cameras,
        look_left_right=config.cameras,
        prompts=True,
        frames=frames,
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
    if there.controls and (plan.openings or plan.keys or plan.text_encoder):
        raise UserError(
            f"{there.name}: its model reads a picture and no words: no --prompt, no --key"
        )
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


def _encode_pictures(
    parts: FoundParts, world: WanWorldFile, folder: Path, plan: ImportPlan
) -> None:
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


def _write_parts(fresh: Path, parts: FoundParts, plan: ImportPlan) -> dict[str, str]:
    """Write what was found; sha256 by file."""
    written = {}
    pack = packed(torch.bfloat16) if plan.dtype is FLOAT8 else as_dtype(plan.dtype)
    for name, tensors, packing in (
        (TRANSFORMER, parts.transformer, pack),
        (TAEHV, parts.taehv, as_it_is),
        (VAE, parts.vae, as_it_is),
        (IMAGE_ENCODER, parts.image_encoder, as_it_is),
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
    if parts.pictures:
        path = fresh / PICTURES
        before = load_pictures(path) if path.exists() else {}
        path.unlink(missing_ok=True)
        written[PICTURES] = save_pictures(path, {**before, **parts.pictures})
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


def _card_controls(world: WanWorldFile) -> list[str]:
    """What the keys do; nothing where words steer."""
    if world.controls is None:
        return []
    pairs = zip(world.actions.buttons, world.actions.names, strict=True)
    mouse = "" if not world.actions.uses_mouse else (
        f" A row of the mouse, [up, right], is its travel in units of "
        f"{world.actions.mouse_degrees:g} degrees, which is an assumption."
    )  # fmt: skip
    keys = ", ".join(button or "none" for button in world.controls.keys)
    return [
        f"Keys: {'; '.join(f'{button} {name}' for button, name in pairs)}. The model's own, in its "
        f"order: {keys}. What is done while a block is shown makes all rows of the next.{mouse}",
        "",
    ]


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
        *_card_controls(world),
        f"Noise levels: {', '.join(f'{s:.4g}' for s in world.sampler.sigmas)}; of the first block: "
        f"{', '.join(f'{s:.4g}' for s in world.first_sampler.sigmas)}.",
        "",
        "Imported from:",
        *(f"- {line}" for line in sources_of(world)),
        "",
    ]
    return "\n".join(lines)
