"""What a Wan transformer costs in play: operations as they are counted, memory, bytes moved.

A pass takes a chunk of latent frames through all layers while `seen` latent frames, its own
included, lie in the cache. What is elementwise is left out of operations: it costs memory traffic,
not arithmetic.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from worldmodel.model.counting import Cost, count, fake_tensors
from worldmodel.wan.camera import no_cameras
from worldmodel.wan.float8 import FLOAT8, use_float8
from worldmodel.wan.kv_cache import RollingCache, no_conditions
from worldmodel.wan.model_config import WanConfig, WindowConfig
from worldmodel.wan.transformer import WanTransformer


@lru_cache(maxsize=32)
def parameters(config: WanConfig) -> int:
    """How many numbers the weights have."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in WanTransformer(config).parameters())


@lru_cache(maxsize=32)
def large_parameters(config: WanConfig) -> tuple[int, int]:
    """Numbers in the layers' matrices, and rows of these: what float8 weights are about."""
    with torch.device("meta"):
        model = WanTransformer(config)
        use_float8(model)
    large = [weight for weight in model.parameters() if weight.dtype is FLOAT8]
    return sum(weight.numel() for weight in large), sum(len(weight) for weight in large)


def weight_bytes(config: WanConfig, number_bytes: int, *, float8: bool = False) -> int:
    """Bytes of weights: `number_bytes` a number, or one each for matrices and some for scales."""
    whole = parameters(config) * number_bytes
    large, rows = large_parameters(config)
    return whole - large * (number_bytes - 1) + rows * number_bytes if float8 else whole


def over_layers(config: WanConfig, run: Callable[[WanConfig], Cost]) -> Cost:
    """The cost at a size, which is a sum over layers, from what the smallest sizes cost."""
    actions = config.actions
    one, two = replace(config, layers=1, actions=None), replace(config, layers=2, actions=None)
    if actions is None:
        least = run(one)
        return least + (run(two) + least * -1) * (config.layers - 1)
    first, both = replace(actions, layers=(0,)), replace(actions, layers=(0, 1))
    least, count_of = run(replace(one, actions=first)), len(actions.layers)
    plain = run(replace(two, actions=first)) + least * -1
    acting = run(replace(two, actions=both)) + least * -1
    return least + plain * (config.layers - count_of) + acting * (count_of - 1)


@lru_cache(maxsize=64)
def pass_flops(config: WanConfig, window: WindowConfig, seen: int) -> int:
    """Operations of one pass over one chunk, the prompt's keys and values being there already."""
    n = window.chunk_frames

    def run(part: WanConfig) -> Cost:
        with fake_tensors(), torch.no_grad():
            model, cache = WanTransformer(part), RollingCache(part, window)
            cache.text = model.read_text(torch.zeros(1, part.read_tokens, part.read_width))
            cache.conditions = no_conditions(part, window, n)
            for _ in range(n, seen, n):
                cache.advance()
            latents = torch.zeros(1, n, part.latent_channels, window.rows, window.columns)
            return count(lambda: model(latents, torch.ones(1, n), no_cameras(1, n), cache))

    return over_layers(config, run).flops


def chunk_flops(config: WanConfig, window: WindowConfig, seen: int, steps: int) -> int:
    """Operations of a chunk in play: every denoising step and the clean pass."""
    return (steps + 1) * pass_flops(config, window, seen)


@dataclass(frozen=True, slots=True)
class SessionMemory:
    """Bytes that a session keeps; what a pass needs for a moment is not in it."""

    weights: int
    cache: int
    text: int

    @property
    def whole(self) -> int:
        """All bytes of weights, cache and text together."""
        return self.weights + self.cache + self.text


def memory(
    config: WanConfig,
    window: WindowConfig,
    number_bytes: int,
    batch: int = 1,
    *,
    float8: bool = False,
) -> SessionMemory:
    """What weights and sessions of a batch keep, with numbers of `number_bytes` each."""
    streams = window.streams(config).values()
    kept = sum(
        # Sinks are kept twice: as they came, and as seen.
        stream.numbers * (window.kept_frames(stream.window) + window.sink_frames)
        for stream in streams
    )
    text = 2 * config.layers * config.read_tokens * config.width * number_bytes
    return SessionMemory(
        weights=weight_bytes(config, number_bytes, float8=float8),
        cache=batch * kept * number_bytes,
        text=batch * text,
    )


def pass_bytes(
    config: WanConfig, window: WindowConfig, seen: int, number_bytes: int, *, float8: bool = False
) -> int:
    """Bytes that one pass must move at least: all weights, the cache that is seen, the prompt.

    Matrices in float8 are written as what is computed in, and read again.
    """
    kept = memory(config, window, number_bytes, float8=float8)
    again = 2 * large_parameters(config)[0] * number_bytes if float8 else 0
    past = sum(
        stream.numbers * min(seen, window.sink_frames + stream.window)
        for stream in window.streams(config).values()
    )
    return kept.weights + again + past * number_bytes + kept.text
