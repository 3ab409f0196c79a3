"""Bytes that playing a Wan world takes, by formula: what stays, and what a step needs beside it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from worldmodel.wan.layer_costs import Layer, remembered_bytes, working_bytes
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.taehv import Taehv
from worldmodel.wan.taehv_config import TaehvConfig
from worldmodel.wan.taehv_cost import decoder_layers as taehv_layers
from worldmodel.wan.transformer_cost import memory
from worldmodel.wan.vae import WanVAE
from worldmodel.wan.vae_config import VaeConfig
from worldmodel.wan.vae_cost import decoder_layers as vae_layers

Autoencoder = TaehvConfig | VaeConfig


@dataclass(frozen=True, slots=True)
class PlayMemory:
    """Bytes of one session and what it is played with."""

    weights: int  # of the transformer
    cache: int  # its sinks' copies included
    text: int
    decoder: int  # weights, the encoder's that come with them included
    remembered: int  # by the decoder, from one latent frame to the next
    decoding: int  # for a moment, beside all else

    @property
    def kept(self) -> int:
        """All that stays between two frames."""
        return self.weights + self.cache + self.text + self.decoder + self.remembered


def play_memory(
    config: WanConfig,
    window: WindowConfig,
    autoencoder: Autoencoder,
    number_bytes: int,
    *,
    float8: bool,
) -> PlayMemory:
    """With numbers of `number_bytes` each; `float8`: the transformer's matrices of one."""
    transformer = memory(config, window, number_bytes, float8=float8)
    layers, size = layers_of(autoencoder), (window.rows, window.columns)
    with torch.device("meta"):
        decoder: nn.Module = kind_of(autoencoder)(autoencoder)
    return PlayMemory(
        weights=transformer.weights,
        cache=transformer.cache,
        text=transformer.text,
        decoder=number_bytes * sum(weight.numel() for weight in decoder.parameters()),
        remembered=remembered_bytes(layers, *size, number_bytes),
        decoding=working_bytes(layers, *size, number_bytes),
    )


def layers_of(autoencoder: Autoencoder) -> list[Layer]:
    """The layers of a decoder, in the order in which they run."""
    if isinstance(autoencoder, TaehvConfig):
        return taehv_layers(autoencoder)
    return vae_layers(autoencoder)


def kind_of(autoencoder: Autoencoder) -> Any:
    """The class that is made from such a config."""
    return Taehv if isinstance(autoencoder, TaehvConfig) else WanVAE
