"""Names of the Wan autoencoder's weights: as released, and as diffusers calls them."""

import re
from collections.abc import Mapping

from torch import Tensor

from worldmodel.wan.vae_config import VaeConfig

# Within a residual block, and for everything outside the levels: (as released, in diffusers).
BLOCK = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
PLACES = {
    "conv1": "quant_conv",
    "conv2": "post_quant_conv",
    "encoder.conv1": "encoder.conv_in",
    "decoder.conv1": "decoder.conv_in",
    "encoder.head.0": "encoder.norm_out",
    "decoder.head.0": "decoder.norm_out",
    "encoder.head.2": "encoder.conv_out",
    "decoder.head.2": "decoder.conv_out",
    "encoder.middle.0": "encoder.mid_block.resnets.0",
    "encoder.middle.1": "encoder.mid_block.attentions.0",
    "encoder.middle.2": "encoder.mid_block.resnets.1",
    "decoder.middle.0": "decoder.mid_block.resnets.0",
    "decoder.middle.1": "decoder.mid_block.attentions.0",
    "decoder.middle.2": "decoder.mid_block.resnets.1",
}
LAYER = re.compile(r"((?:en|de)coder)\.(down|up)samples\.(\d+)\.(.+)")


def diffusers_name(config: VaeConfig, name: str) -> str:
    """What diffusers' `AutoencoderKLWan` calls the weight that the release calls `name`."""
    if match := LAYER.fullmatch(name):
        coder, direction, number, rest = match[1], match[2], int(match[3]), match[4]
        if direction == "down":  # diffusers keeps one flat list going down
            return f"{coder}.down_blocks.{number}.{_in_block(rest)}"
        level, place = divmod(number, config.blocks + 2)
        inner = "upsamplers.0" if place == config.blocks + 1 else f"resnets.{place}"
        return f"{coder}.up_blocks.{level}.{inner}.{_in_block(rest)}"
    outside = max((place for place in PLACES if name.startswith(f"{place}.")), key=len)
    return f"{PLACES[outside]}.{_in_block(name[len(outside) + 1 :])}"


def _in_block(rest: str) -> str:
    inner, _, kind = rest.rpartition(".")
    return f"{BLOCK[inner]}.{kind}" if inner in BLOCK else rest


def released_names(
    config: VaeConfig, expected: list[str], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors of either layout under their released names; names it does not know stay."""
    if not any(name.startswith("quant_conv.") for name in tensors):
        return dict(tensors)
    released = {diffusers_name(config, name): name for name in expected}
    return {released.get(name, name): tensor for name, tensor in tensors.items()}
