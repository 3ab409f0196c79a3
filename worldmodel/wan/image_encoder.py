"""The image encoder of Wan's image-to-video models: CLIP's ViT-H/14, all but its last layer.

    encoder = load_image_encoder(path)
    features = encoder.encode(picture)      # h w 3 bytes -> 257 1280, fp32 on the CPU

The network is `CLIPVisionModel` of transformers. Files have the names of Wan's own,
`models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`, whose other half reads text and is not
needed; neither are the last layer, the norm after it and the projection.
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
from worldmodel.wan.text_encoder import import_extra
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
    "vision_model.pre_layrnorm.": "visual.pre_norm.",
    "vision_model.post_layernorm.": "visual.post_norm.",
    "vision_model.embeddings.": "visual.",  # behind all that begin in the same way
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

    @property
    def tokens(self) -> int:
        """Features of a picture: its class, and one for each patch."""
        return 1 + (self.side // self.patch) ** 2


class ImageEncoder(nn.Module):
    """Describes a picture by features of its patches; begins without weights, on `meta`."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        transformers = import_extra("transformers")
        sizes = transformers.CLIPVisionConfig(
            hidden_size=config.width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.width // HEAD_WIDTH,
            image_size=config.side,
            patch_size=config.patch,
            hidden_act="gelu",
            layer_norm_eps=EPSILON,
        )
        with torch.device("meta"):
            model = transformers.CLIPVisionModel(sizes)
        parts = dict(model.named_children())
        self.network: nn.Module = parts.get("vision_model", model)  # older versions wrap it
        self.network.post_layernorm = nn.Identity()
        self.network.embeddings.position_ids = torch.arange(config.tokens)[None]  # of no file

    def load(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Take the weights that `used_part` gives; a `CheckpointError` if they do not fit."""
        load_strict(self.network, library_layout(tensors), where)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pictures b 3 h w -> b u d."""
        found: Tensor = self.network(pixel_values=x).last_hidden_state
        return found

    @torch.no_grad()
    def encode(self, picture: NDArray[np.uint8]) -> Tensor:
        """A picture h w 3, squeezed into a square, as in training: features u d."""
        shown = rearrange(torch.from_numpy(picture), "h w c -> 1 c h w").float() / 127.5 - 1
        side = (self.config.side, self.config.side)
        shown = F.interpolate(shown, size=side, mode="bicubic", align_corners=False)
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        weight = next(self.parameters())
        square = ((shown / 2 + 0.5 - mean) / std).to(weight.device, weight.dtype)
        found: Tensor = self(square)[0].float().cpu()
        return found


def used_part(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors that are needed, of a released file or of what was kept of one.

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
            continue
        match = APART.fullmatch(name)
        if match and match[2] == "q":
            parts = [tensors.get(f"{match[1]}{part}{match[3]}", tensor[:0]) for part in "qkv"]
            found[_released_name(f"{match[1]}to_qkv.{match[4]}")] = torch.cat(parts)
        elif not match and not name.endswith(".position_ids"):
            table = name.endswith(("class_embedding", "position_embedding.weight"))
            axes = "... -> 1 1 ..." if tensor.ndim == 1 else "... -> 1 ..."
            found[_released_name(name)] = rearrange(tensor, axes) if table else tensor
    return found


def library_layout(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of Wan's layout as `CLIPVisionModel` calls them, without its prefix."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        theirs = name
        for library, released in PLACES.items():
            theirs = theirs.replace(released, library)
        theirs = theirs.removeprefix(VISION)
        if ".to_qkv." in name and tensor.ndim:
            parts = zip("qkv", tensor.chunk(3), strict=False)
            found |= {theirs.replace("to_qkv.", f"{part}_proj."): x for part, x in parts}
            continue
        axes = {"cls_embedding": 1, "pos_embedding": 2}.get(name.rpartition(".")[2])
        while axes and tensor.ndim > axes and len(tensor) == 1:
            tensor = tensor[0]
        found[theirs] = tensor
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
    encoder = ImageEncoder(ImageEncoderConfig(**sizes, side=side))
    encoder.load(used, where)
    refuse_broken(used, where)
    return encoder


def load_image_encoder(path: Path) -> ImageEncoder:
    """The encoder from a released file, or from what an import has kept of one."""
    return image_encoder_of(read_tensors(path), str(path))
