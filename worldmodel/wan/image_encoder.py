"""The image encoder of Wan's image-to-video models: CLIP's ViT-H/14, all but its last layer.

    encoder = load_image_encoder(path)
    features = encoder.encode(picture)      # h w 3 bytes -> 257 1280, fp32 on the CPU

Modules are named as in `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`, whose other half
reads text and is not needed; neither are the last layer, the norm after it and the projection.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from worldmodel.config import ConfigError, require_at_most, require_positive
from worldmodel.storage.checkpoint import CheckpointError, refuse_broken
from worldmodel.wan.weight_files import load_strict, read_tensors

PREFIX = "visual."
UNUSED = ("post_norm.", "head")  # behind the last layer
TEXT = ("textual.", "log_scale")  # the other half of the file
VISION = "vision_model."  # of `CLIPVisionModel`, which conversions hold instead
APART = re.compile(r"(vision_model\..+\.self_attn\.)([qkv])(_proj\.(weight|bias))")
PLACES = {
    "vision_model.encoder.layers.": "visual.transformer.",
    "vision_model.embeddings.class_embedding": "visual.cls_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.pos_embedding",
    "vision_model.embeddings.": "visual.",
    "vision_model.pre_layrnorm.": "visual.pre_norm.",
    "vision_model.post_layernorm.": "visual.post_norm.",
    ".layer_norm": ".norm",
    ".self_attn.out_proj.": ".attn.proj.",
    ".self_attn.": ".attn.",
    ".mlp.fc1.": ".mlp.0.",
    ".mlp.fc2.": ".mlp.2.",
}
HEAD_WIDTH = 80
EPSILON = 1e-5
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageEncoderConfig:
    """Sizes of the encoder."""

    width: int
    layers: int
    feed_forward: int
    patch: int  # rows and columns of pixels that make a token
    side: int  # of the picture, in pixels

    def __post_init__(self) -> None:
        require_positive(self, "width", "layers", "feed_forward", "patch", "side")
        require_at_most(self, 1 << 14, "width", "side")
        require_at_most(self, 1024, "layers", "patch")
        if self.width % HEAD_WIDTH or self.side % self.patch:
            raise ConfigError(
                f"an image encoder of width {self.width} for pictures of {self.side} pixels a "
                f"side: expected multiples of {HEAD_WIDTH} and of patch ({self.patch})"
            )


class ImageAttention(nn.Module):
    """Tokens attend to tokens."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """b u d -> b u d."""
        q, k, v = rearrange(self.to_qkv(x), "b u (o n e) -> o b n u e", o=3, e=HEAD_WIDTH)
        seen = F.scaled_dot_product_attention(q, k, v)
        found: Tensor = self.proj(rearrange(seen, "b n u e -> b u (n e)"))
        return found


class ImageLayer(nn.Module):
    """Attention and a feed-forward layer, each behind a norm."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        d = config.width
        self.norm1, self.norm2 = nn.LayerNorm(d, EPSILON), nn.LayerNorm(d, EPSILON)
        self.attn = ImageAttention(config)
        self.mlp = nn.Sequential(
            nn.Linear(d, config.feed_forward), nn.GELU(), nn.Linear(config.feed_forward, d)
        )

    def forward(self, x: Tensor) -> Tensor:
        """b u d -> b u d."""
        x = x + self.attn(self.norm1(x))
        found: Tensor = x + self.mlp(self.norm2(x))
        return found


class ImageEncoder(nn.Module):
    """Describes a picture by features of its patches."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        d, tokens = config.width, 1 + (config.side // config.patch) ** 2
        self.cls_embedding = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embedding = nn.Parameter(torch.zeros(1, tokens, d))
        self.patch_embedding = nn.Conv2d(3, d, config.patch, stride=config.patch, bias=False)
        self.pre_norm = nn.LayerNorm(d, EPSILON)
        self.transformer = nn.ModuleList(ImageLayer(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pictures b 3 h w -> b u d."""
        patches = rearrange(self.patch_embedding(x), "b d h w -> b (h w) d")
        first = self.cls_embedding.expand(len(x), -1, -1)
        x = self.pre_norm(torch.cat((first, patches), dim=1) + self.pos_embedding)
        for layer in self.transformer:
            x = layer(x)
        return x

    @torch.no_grad()
    def encode(self, picture: NDArray[np.uint8]) -> Tensor:
        """A picture h w 3, squeezed into a square, as in training: features u d."""
        shown = rearrange(torch.from_numpy(picture), "h w c -> 1 c h w").float() / 127.5 - 1
        side = (self.config.side, self.config.side)
        shown = F.interpolate(shown, size=side, mode="bicubic", align_corners=False)
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        weight = self.pre_norm.weight
        square = ((shown / 2 + 0.5 - mean) / std).to(weight.device, weight.dtype)
        found: Tensor = self(square)[0].float().cpu()
        return found


def used_part(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Of a released file, or of what was kept of one, the tensors that are needed.

    All others are ones that are known not to be: anything else is an error.
    """
    tensors = released_layout(tensors)
    names = [name for name in tensors if name.startswith(PREFIX)]
    is_whole = any(name.removeprefix(PREFIX).startswith(UNUSED) for name in names)
    last = f"transformer.{_layers(tensors) - 1}." if is_whole else None
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(PREFIX)
        if name not in names:
            if not name.startswith(TEXT):
                raise CheckpointError(f"{where}: {name} is no tensor of CLIP's ViT-H/14")
        elif not bare.startswith(UNUSED) and not (last and bare.startswith(last)):
            found[name] = tensor
    return found


def released_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under Wan's names, whether the file is Wan's or `CLIPVisionModel`'s of transformers.

    That one keeps the queries', keys' and values' matrices apart, and tables without a batch axis.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith(VISION):
            found[name] = tensor
        elif (match := APART.fullmatch(name)) and match[2] == "q":
            parts = [tensors.get(f"{match[1]}{part}{match[3]}", tensor[:0]) for part in "qkv"]
            found[_released_name(f"{match[1]}to_qkv.{match[4]}")] = torch.cat(parts)
        elif not match and not name.endswith(".position_ids"):
            table = name.endswith(("class_embedding", "position_embedding.weight"))
            axes = "... -> 1 1 ..." if tensor.ndim == 1 else "... -> 1 ..."
            found[_released_name(name)] = rearrange(tensor, axes) if table else tensor
    return found


def _released_name(name: str) -> str:
    for theirs, ours in PLACES.items():
        name = name.replace(theirs, ours)
    return name


def _layers(tensors: Mapping[str, Tensor]) -> int:
    start = f"{PREFIX}transformer."
    return len(
        {name.removeprefix(start).split(".")[0] for name in tensors if name.startswith(start)}
    )


def image_encoder_of(tensors: Mapping[str, Tensor], where: str) -> ImageEncoder:
    """The encoder with the weights of a file, in fp32."""
    encoder = check_image_encoder(tensors, where)
    return encoder.float().requires_grad_(requires_grad=False).eval()


def check_image_encoder(tensors: Mapping[str, Tensor], where: str) -> ImageEncoder:
    """The encoder with the weights of a file as they are there; else an error that says why not."""
    used = used_part(tensors, where)
    try:
        width, _, patch, _ = used[f"{PREFIX}patch_embedding.weight"].shape
        tokens = used[f"{PREFIX}pos_embedding"].shape[1]
        feed_forward = used[f"{PREFIX}transformer.0.mlp.0.weight"].shape[0]
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{where}: not CLIP's ViT-H/14 ({error}); expected "
            "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth of Wan2.1"
        ) from error
    side = patch * isqrt(max(0, tokens - 1))
    sizes = {"width": width, "layers": _layers(used), "feed_forward": feed_forward, "patch": patch}
    with torch.device("meta"):
        encoder = ImageEncoder(ImageEncoderConfig(**sizes, side=side))
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in used.items()}
    load_strict(encoder, weights, where)
    refuse_broken(weights, where)
    return encoder


def load_image_encoder(path: Path) -> ImageEncoder:
    """The encoder from a released file, or from what an import has kept of one."""
    return image_encoder_of(read_tensors(path), str(path))
