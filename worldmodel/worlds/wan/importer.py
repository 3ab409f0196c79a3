"""From released files to a world's folder: `worldmodel import FILE… --to WORLD`.

What each file is comes from its tensors. What the tensors cannot say, how a student is sampled, is
a recipe, which the user names. A second import into the same folder adds or replaces parts.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from worldmodel.config import UserError, to_toml
from worldmodel.storage.files import link_or_copy
from worldmodel.storage.save_tensors import as_dtype, as_it_is, save_tensors
from worldmodel.system.paths import list_files, to_path
from worldmodel.wan.float8 import FLOAT8, packed
from worldmodel.wan.pictures import load_pictures, save_pictures
from worldmodel.wan.prompts import load_prompts, save_prompts
from worldmodel.worlds.wan import matrix_game
from worldmodel.worlds.wan.description import card, describe_world
from worldmodel.worlds.wan.found_parts import (
    FoundParts,
    ImportPlan,
    check_pictures,
    encode_pictures,
    encode_prompts,
    read_parts,
)
from worldmodel.worlds.wan.world_file import (
    IMAGE_ENCODER,
    PICTURES,
    PROMPTS,
    TAEHV,
    TRANSFORMER,
    VAE,
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
NOTICE = """\
The weights in this folder were converted from the files that CARD.md names; nothing was trained.

Causal-Forcing (github.com/thu-ml/Causal-Forcing) and minWM (github.com/shengshu-ai/minWM) publish
their code under Apache-2.0, Wan2.1 (github.com/Wan-Video/Wan2.1) its code and models under
Apache-2.0, TAEHV (github.com/madebyollin/taehv) under MIT; the code of Causal-Forcing's long video
models carries a licence of its own. The licence that was shown where the weights were downloaded
is the one that counts: keep it with this folder.
"""


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
    world = describe_world(parts, folder.name, plan, there)
    if world.transformer.picture is None:
        if plan.pictures or parts.pictures or parts.image_encoder:
            raise UserError(
                f"{folder}: its model reads words, no encoded picture; play it with --start"
            )
        encode_prompts(parts, world, folder)
    else:
        check_pictures(parts, world)
        encode_pictures(parts, world, folder, plan)
        known = dict.fromkeys((*world.start_pictures, *parts.pictures))
        world = replace(world, start_pictures=tuple(known))

    def write(fresh: Path) -> None:
        for path in list_files(folder, "*") if there is not None else ():
            link_or_copy(path, fresh / path.name)
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
