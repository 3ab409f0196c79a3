"""Names of the Wan transformer's weights: as released, and as diffusers calls them.

The sizes of a model follow from its tensors' shapes, except the number of heads: all of Wan's have
128 channels.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.wan.model_config import WanConfig
from worldmodel.wan.weight_files import size

HEAD_WIDTH = 128

# (as released, in diffusers); norm2 and norm3 change places, only one of them has weights.
PLACES = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "self_attn.prope_o": "attn1.prope_o",  # diffusers has no such weights
    **{
        f"{ours}.{part}": f"{theirs}.{there}"
        for ours, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for part, there in (
            ("q", "to_q"),
            ("k", "to_k"),
            ("v", "to_v"),
            ("o", "to_out.0"),
            ("norm_q", "norm_q"),
            ("norm_k", "norm_k"),
        )
    },
}
RELEASED = {there: ours for ours, there in PLACES.items()}
BLOCK = re.compile(r"(blocks\.\d+\.)(.+)")
TABLES = {"head.modulation": "scale_shift_table", "modulation": "scale_shift_table"}


def diffusers_name(name: str) -> str:
    """What diffusers' `WanTransformer3DModel` calls the weight that the release calls `name`."""
    block, rest = _in_block(name)
    if rest in TABLES:
        return block + TABLES[rest]
    place, _, kind = rest.rpartition(".")
    return f"{block}{PLACES[place]}.{kind}"


def released_name(name: str) -> str:
    """The other way round; a name that it does not know stays."""
    block, rest = _in_block(name)
    if rest == "scale_shift_table":
        return f"{block}modulation" if block else "head.modulation"
    place, _, kind = rest.rpartition(".")
    return f"{block}{RELEASED[place]}.{kind}" if place in RELEASED else name


def _in_block(name: str) -> tuple[str, str]:
    match = BLOCK.fullmatch(name)
    return (match[1], match[2]) if match else ("", name)


def released_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of either layout under their released names."""
    if not any(name.startswith("condition_embedder.") for name in tensors):
        return dict(tensors)
    return {released_name(name): tensor for name, tensor in tensors.items()}


def config_of(tensors: Mapping[str, Tensor], where: str) -> WanConfig:
    """The sizes of the transformer whose released tensors these are."""
    patch = _shape(tensors, "patch_embedding.weight", 5, where)
    width, channels = patch[0], patch[1]
    if width % HEAD_WIDTH:
        raise CheckpointError(
            f"{where}: patch_embedding.weight has {width} outputs, expected a multiple of "
            f"{HEAD_WIDTH}, the channels of each of Wan's heads"
        )
    if _shape(tensors, "head.head.weight", 2, where)[0] != channels * patch[3] ** 2:
        raise CheckpointError(
            f"{where}: takes {channels} latent channels and gives others back, as Wan's "
            "image-to-video models do; only text-to-video models and their students are played"
        )
    blocks = {match[1] for name in tensors if (match := BLOCK.fullmatch(name))}
    return WanConfig(
        width=width,
        heads=width // HEAD_WIDTH,
        layers=len(blocks),
        feed_forward=_shape(tensors, "blocks.0.ffn.0.weight", 2, where)[0],
        text_width=_shape(tensors, "text_embedding.0.weight", 2, where)[1],
        time_features=_shape(tensors, "time_embedding.0.weight", 2, where)[1],
        latent_channels=channels,
        patch=patch[3],
        cameras="blocks.0.self_attn.prope_o.weight" in tensors,
    )


def _shape(tensors: Mapping[str, Tensor], name: str, axes: int, where: str) -> tuple[int, ...]:
    if name not in tensors:
        raise CheckpointError(f"{where}: {name} is missing; the file is not a whole transformer")
    tensor = tensors[name]
    if tensor.ndim != axes:
        raise CheckpointError(f"{where}: {name} is {size(tensor)}, expected {axes} axes")
    return tuple(tensor.shape)
