"""Names of the Wan transformer's weights: as released, as in diffusers, and as in FastVideo.

The sizes of a model follow from its tensors' shapes, except the number of heads: all of Wan's have
128 channels.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from worldmodel.config import ConfigError
from worldmodel.storage.checkpoint import CheckpointError
from worldmodel.wan.model_config import ActionModuleConfig, PictureConfig, WanConfig
from worldmodel.wan.weight_files import size

HEAD_WIDTH = 128

# (as released, in diffusers); norm2 and norm3 change places, only one of them has weights.
PLACES = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
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
# FastVideo's own names, which its conversions of Matrix-Game 2 have in part or in whole.
RELEASED |= {
    "patch_embedding.proj": "patch_embedding",
    "condition_embedder.image_embedder.ff.fc_in": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.fc_out": "img_emb.proj.3",
    "condition_embedder.time_embedder.mlp.fc_in": "time_embedding.0",
    "condition_embedder.time_embedder.mlp.fc_out": "time_embedding.2",
    "condition_embedder.time_modulation.linear": "time_projection.1",
    "self_attn_residual_norm.norm": "norm3",
    "ffn.fc_in": "ffn.0",
    "ffn.fc_out": "ffn.2",
    "to_out": "self_attn.o",
    "attn2.to_out": "cross_attn.o",
    **{f"to_{part}": f"self_attn.{part}" for part in "qkv"},
    **{f"norm_{part}": f"self_attn.norm_{part}" for part in "qk"},
}
BLOCK = re.compile(r"(blocks\.\d+\.)(.+)")
# Any of what every action module has: where one is missing, it is that one which is told of.
MODULE = re.compile(
    r"blocks\.(\d{1,4})\.action_model\."
    r"(keyboard_embed\.[02]|keyboard_attn_kv|mouse_attn_q|proj_keyboard)\.weight"
)
PICTURE = "img_emb.proj.0.weight"  # of what reads a picture
ROWS_PER_LATENT = 4  # of actions: the time that Wan's autoencoder puts into a latent frame
TABLES = {"head.modulation": "scale_shift_table", "modulation": "scale_shift_table"}


def diffusers_name(name: str) -> str:
    """What diffusers' `WanTransformer3DModel` calls the weight that the release calls `name`."""
    block, rest = _in_block(name)
    if rest in TABLES:
        return block + TABLES[rest]
    place, _, kind = rest.rpartition(".")
    return f"{block}{PLACES.get(place, place)}.{kind}"  # action modules keep their names


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
    """The sizes of the transformer whose released tensors these are; else a `CheckpointError`."""
    try:
        return _config_of(tensors, where)
    except ConfigError as error:
        raise CheckpointError(
            f"{where}: the shapes of its tensors make sizes that no transformer has: {error}; "
            "name a released file, or download it again"
        ) from error


def _config_of(tensors: Mapping[str, Tensor], where: str) -> WanConfig:
    patch = _shape(tensors, "patch_embedding.weight", 5, where)
    width, inputs, side = patch[0], patch[1], patch[3]
    if width % HEAD_WIDTH:
        raise CheckpointError(
            f"{where}: patch_embedding.weight has {width} outputs, expected a multiple of "
            f"{HEAD_WIDTH}, the channels of each of Wan's heads"
        )
    channels = _shape(tensors, "head.head.weight", 2, where)[0] // side**2
    picture = _picture_of(tensors, inputs, channels, where)
    words = 0 if picture else _shape(tensors, "text_embedding.0.weight", 2, where)[1]
    blocks = {match[1] for name in tensors if (match := BLOCK.fullmatch(name))}
    return WanConfig(
        width=width,
        heads=width // HEAD_WIDTH,
        layers=len(blocks),
        feed_forward=_shape(tensors, "blocks.0.ffn.0.weight", 2, where)[0],
        text_width=words,
        time_features=_shape(tensors, "time_embedding.0.weight", 2, where)[1],
        latent_channels=channels,
        patch=side,
        cameras="blocks.0.self_attn.prope_o.weight" in tensors,
        picture=picture,
        actions=_actions_of(tensors, width, where),
    )


def _picture_of(
    tensors: Mapping[str, Tensor], inputs: int, channels: int, where: str
) -> PictureConfig | None:
    """What an image-to-video model is given of a picture, which takes the place of the words."""
    reads = PICTURE in tensors
    if inputs == channels and not reads:
        return None
    if not reads or "text_embedding.0.weight" in tensors or inputs <= 2 * channels:
        raise CheckpointError(
            f"{where}: takes {inputs} latent channels and gives {channels} back, as Wan's "
            "image-to-video models do; of those only Matrix-Game 2 and its students are played, "
            "which read a picture and no words"
        )
    width = _shape(tensors, PICTURE, 1, where)[0]
    return PictureConfig(width=width, mask_channels=inputs - 2 * channels)


def _actions_of(tensors: Mapping[str, Tensor], width: int, where: str) -> ActionModuleConfig | None:
    """The sizes of the action modules, and which layers have one."""
    layers = sorted({int(match[1]) for name in tensors if (match := MODULE.fullmatch(name))})
    if not layers:
        return None
    module = f"blocks.{layers[0]}.action_model."
    key_width, keys = _shape(tensors, f"{module}keyboard_embed.0.weight", 2, where)
    head_width = _shape(tensors, f"{module}key_attn_q_norm.weight", 1, where)[0]
    heads = _shape(tensors, f"{module}mouse_attn_q.weight", 2, where)[0] // head_width
    rows = _shape(tensors, f"{module}keyboard_attn_kv.weight", 2, where)[1] // key_width
    mouse = 0
    if (name := f"{module}mouse_mlp.0.weight") in tensors:
        inputs = _shape(tensors, name, 2, where)[1]
        mouse = (inputs - width) // rows if rows else 0
        if mouse < 1 or inputs != width + mouse * rows:
            raise CheckpointError(
                f"{where}: {name} takes {inputs} numbers, expected {width} of a frame and a "
                f"multiple of {rows}, the rows of the mouse; the file is of another model"
            )
    return ActionModuleConfig(
        layers=tuple(layers),
        keys=keys,
        mouse=mouse,
        key_width=key_width,
        heads=heads,
        head_width=head_width,
        latents_per_window=rows // ROWS_PER_LATENT,
    )


def _shape(tensors: Mapping[str, Tensor], name: str, axes: int, where: str) -> tuple[int, ...]:
    if name not in tensors:
        raise CheckpointError(
            f"{where}: {name} is missing; the file is not a whole transformer, download it again"
        )
    tensor = tensors[name]
    if tensor.ndim != axes or not tensor.numel():
        raise CheckpointError(
            f"{where}: {name} is {size(tensor)}, expected {axes} axes, none of them empty; "
            "download the file again"
        )
    return tuple(tensor.shape)
