"""Released files at tiny size, with the real names, and worlds made of them."""

from pathlib import Path

import torch
from torch import Tensor, nn

from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.prompts import save_prompts
from worldmodel.wan.taehv import Taehv
from worldmodel.wan.taehv_config import TaehvConfig
from worldmodel.wan.transformer import WanTransformer
from worldmodel.wan.vae import WanVAE
from worldmodel.wan.vae_config import WAN21_VAE, VaeConfig
from worldmodel.worlds.wan.found_parts import ImportPlan
from worldmodel.worlds.wan.importer import import_files

TINY_TAEHV = TaehvConfig(
    encoder_width=4,
    decoder_widths=(8, 8, 4, 4),
    blocks=3,
    time_halvings=(2, 2, 1),
    time_doublings=(1, 2, 2),
    latent_channels=16,
)
TINY_VAE = VaeConfig(
    width=4,
    multipliers=(1, 2, 4, 4),
    blocks=2,
    time_halvings=(False, True, True),
    latent_channels=16,
    latent_mean=WAN21_VAE.latent_mean,
    latent_std=WAN21_VAE.latent_std,
)
WORDS = ("a forest", "a forest + rain", "a desert")


def transformer_tensors(*, cameras: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """A transformer of one head; its second layer's keys know what the prompt said."""
    torch.manual_seed(seed)
    config = WanConfig(
        width=128,
        heads=1,
        layers=2,
        feed_forward=64,
        text_width=12,
        time_features=16,
        cameras=cameras,
    )
    return lively(WanTransformer(config), 2.0)


def lively(model: nn.Module, factor: float) -> dict[str, Tensor]:
    """A fresh model's tensors, matrices enlarged: every input shows in the pixels."""
    return {
        name: tensor.detach() * (factor if tensor.ndim > 1 else 1.0)
        for name, tensor in model.state_dict().items()
    }


def save_student(path: Path, *, cameras: bool = False) -> Path:
    """A checkpoint as the trainers write it, wrappers included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = transformer_tensors(cameras=cameras)
    wrapped = {f"model._fsdp_wrapped_module.{name}": t for name, t in tensors.items()}
    torch.save({"generator_ema": wrapped}, path)
    return path


def save_taehv(path: Path) -> Path:
    torch.manual_seed(1)
    torch.save(lively(Taehv(TINY_TAEHV), 2.0), path)
    return path


def save_vae(path: Path) -> Path:
    torch.manual_seed(2)
    torch.save(WanVAE(TINY_VAE).state_dict(), path)
    return path


def save_words(path: Path) -> Path:
    torch.manual_seed(3)
    save_prompts(path, {text: torch.randn(6, 12) for text in WORDS}, encoder="none")
    return path


def plan(recipe: str | None = "framewise-2step") -> ImportPlan:
    return ImportPlan(
        recipe=recipe,
        openings=("a forest", "a desert"),
        keys={"Digit1": "+ + rain", "Digit2": "a desert"},
        rows=4,
        columns=6,
        taehv=TINY_TAEHV,
        vae=TINY_VAE,
        dtype=torch.float32,
    )


def make_wan_world(
    folder: Path, recipe: str | None = "framewise-2step", *, cameras: bool = False
) -> Path:
    """A world with a student, TAEHV and prompts."""
    given = folder.parent / f"{folder.name}_files"
    files = [
        save_student(given / "model.pt", cameras=cameras),
        save_taehv(given / "tiny.pth"),
        save_words(given / "words.safetensors"),
    ]
    import_files(files, folder, plan(recipe))
    return folder
