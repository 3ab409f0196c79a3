"""Released files of Matrix-Game 2 at tiny size, with the real names, and worlds made of them."""

from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.wan.image_tensors import released_shapes
from tests.worlds.wan.wan_tiny import TINY_TAEHV, TINY_VAE, lively, save_taehv, save_vae
from worldmodel.wan.image_encoder import ImageEncoderConfig
from worldmodel.wan.model_config import ActionModuleConfig, PictureConfig, WanConfig
from worldmodel.wan.pictures import CHANGING, PictureCondition, save_pictures
from worldmodel.wan.transformer import WanTransformer
from worldmodel.worlds.wan.found_parts import ImportPlan
from worldmodel.worlds.wan.importer import import_files

ENCODER = ImageEncoderConfig(width=80, layers=2, feed_forward=96, patch=14, side=224)
TOKENS = 257  # no tensor says it
KEYS = {"matrix-game2": 4, "matrix-game2-gta": 2, "matrix-game2-templerun": 7, "forgewm": 6}


def size(keys: int = 4, layers: int = 15) -> WanConfig:
    """As many layers as the recipes look for; else as small as can be."""
    return WanConfig(
        width=128,
        heads=1,
        layers=layers,
        feed_forward=32,
        time_features=16,
        picture=PictureConfig(width=80, tokens=TOKENS),
        actions=ActionModuleConfig(
            layers=tuple(range(layers)),
            keys=keys,
            mouse=0 if keys == 7 else 2,
            key_width=8,
            heads=1,
            head_width=16,
        ),
    )


def student_tensors(keys: int = 4, layers: int = 15) -> dict[str, Tensor]:
    """A student whose pixels show what keys, mouse and picture said."""
    torch.manual_seed(keys)
    return lively(WanTransformer(size(keys, layers)), 1.5)


def save_student(
    path: Path, keys: int = 4, layers: int = 15, network: str = "generator_ema"
) -> Path:
    """A file as it is released: Matrix-Game 2's safetensors, ForgeWM's pickle with wrappers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = student_tensors(keys, layers)
    if keys == 6:
        wrapped = {f"model._fsdp_wrapped_module.{name}": t for name, t in tensors.items()}
        torch.save({network: wrapped}, path)
    else:
        save_file({f"model.{name}": t.contiguous() for name, t in tensors.items()}, path)
    return path


def save_image_encoder(path: Path) -> Path:
    """Wan's file of CLIP: the last layer, what is behind it, and a piece of the text half too."""
    torch.manual_seed(7)
    tensors = {
        name: torch.ones(shape) if "norm" in name else shape[-1] ** -0.5 * torch.randn(shape)
        for name, shape in released_shapes(ENCODER, ENCODER.layers + 1).items()
    }
    tensors |= {"visual.post_norm.weight": torch.ones(80), "visual.post_norm.bias": torch.zeros(80)}
    tensors |= {"visual.head": torch.zeros(80, 8), "textual.norm.weight": torch.ones(4)}
    torch.save({**tensors, "log_scale": torch.ones(1)}, path)
    return path


def save_picture(path: Path, seed: int = 0) -> Path:
    """A picture that fits no latents."""
    picture = np.random.default_rng(seed).integers(0, 255, (90, 110, 3), np.uint8)
    cv2.imwrite(str(path), picture)
    return path


def save_encoded(path: Path, names: tuple[str, ...] = ("hall", "field")) -> Path:
    """Encoded pictures: play then needs no encoder."""
    torch.manual_seed(8)
    save_pictures(
        path,
        {
            name: PictureCondition(torch.randn(TOKENS, 80), torch.randn(CHANGING, 16, 4, 6))
            for name in names
        },
    )
    return path


def plan(recipe: str | None = None) -> ImportPlan:
    return ImportPlan(
        recipe=recipe, rows=4, columns=6, taehv=TINY_TAEHV, vae=TINY_VAE, dtype=torch.float32
    )


def make_matrix_world(folder: Path, recipe: str = "matrix-game2") -> Path:
    """A world with a student, TAEHV and two encoded pictures."""
    given = folder.parent / f"{folder.name}_files"
    given.mkdir(parents=True, exist_ok=True)
    files = [
        save_student(given / "model.bin", KEYS[recipe]),
        save_taehv(given / "tiny.pth"),
        save_encoded(given / "pictures.safetensors"),
    ]
    import_files(files, folder, plan())
    return folder


def save_encoders(folder: Path) -> list[Path]:
    """Of pictures: the video autoencoder and CLIP."""
    return [save_vae(folder / "v.pth"), save_image_encoder(folder / "c.pth")]
