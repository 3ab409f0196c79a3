"""What a Wan transformer costs, by formula: operations, memory, bytes moved.

A pass takes a block of latent frames through all layers while `seen` latent frames, its own
included, lie in the cache. A multiply-add counts as two operations. What is elementwise is left
out of operations: it costs memory traffic, not arithmetic.
"""

from dataclasses import dataclass

from worldmodel.wan.float8 import FEWEST_INPUTS
from worldmodel.wan.model_config import WanConfig, WindowConfig


def parameters(config: WanConfig) -> int:
    """How many numbers the weights have."""
    d, ff = config.width, config.feed_forward
    linear = d * d + d
    attention = 4 * linear + 2 * d
    block = 2 * attention + 2 * d + (d * ff + ff) + (ff * d + d) + 6 * d
    block += linear if config.cameras else 0
    outside = (_input_width(config) * d + d) + _reading_parameters(config)
    outside += (config.time_features * d + d) + linear + (6 * d * d + 6 * d)
    head = d * config.token_width + config.token_width + 2 * d
    return config.layers * block + outside + head + _action_parameters(config)


def _input_width(config: WanConfig) -> int:
    """Numbers in one token's patch of noise and of what stands beside it."""
    return (config.latent_channels + config.condition_channels) * config.patch**2


def _reading_parameters(config: WanConfig) -> int:
    """Of what reads the words, or the picture."""
    d = config.width
    if config.picture is None:
        return (config.text_width * d + d) + d * d + d
    width = config.picture.width
    return 2 * width + (width * width + width) + (width * d + d) + 2 * d


def _action_matrices(config: WanConfig) -> list[tuple[int, int]]:
    """Inputs and outputs of the matrices in one action module."""
    actions, d = config.actions, config.width
    if actions is None:
        return []
    width, keys = actions.width, actions.key_width
    found = [(actions.keys, keys), (keys, keys), (d, width), (keys * actions.rows, 2 * width)]
    found.append((width, d))
    if actions.mouse:
        told = actions.mouse * actions.rows
        found += [(d + told, width), (width, width), (width, 3 * width), (width, d)]
    return found


def _action_parameters(config: WanConfig) -> int:
    """Of all action modules."""
    if (actions := config.actions) is None:
        return 0
    one = sum(inputs * outputs for inputs, outputs in _action_matrices(config))
    one += 2 * actions.key_width + 2 * actions.head_width  # biases, and norms that nothing uses
    one += 4 * actions.width + 2 * actions.head_width if actions.mouse else 0
    return len(actions.layers) * one


def large_parameters(config: WanConfig) -> tuple[int, int]:
    """Numbers in the layers' matrices, and rows of these: what float8 weights are about."""
    d, ff = config.width, config.feed_forward
    square = 9 if config.cameras else 8
    numbers = config.layers * (square * d * d + 2 * d * ff)
    rows = config.layers * (square * d + d + ff)
    for inputs, outputs in _action_matrices(config):
        if config.actions and inputs >= FEWEST_INPUTS:
            numbers += len(config.actions.layers) * inputs * outputs
            rows += len(config.actions.layers) * outputs
    return numbers, rows


def weight_bytes(config: WanConfig, number_bytes: int, *, float8: bool = False) -> int:
    """Of weights whose numbers take `number_bytes`, or the matrices one and the scales the rest."""
    whole = parameters(config) * number_bytes
    large, rows = large_parameters(config)
    return whole - large * (number_bytes - 1) + rows * number_bytes if float8 else whole


def pass_flops(config: WanConfig, window: WindowConfig, seen: int) -> int:
    """Operations of one pass over one block, the prompt's keys and values being there already."""
    d, p, n = config.width, window.tokens(config), window.block_frames
    tokens, keys = n * p, seen * p
    projections = 6 * d * d + 2 * d * config.feed_forward  # q k v o, q o of the prompt, both of ffn
    attended = 2 * d * keys + 2 * d * config.read_tokens
    if config.cameras:
        projections += d * d + 4 * 4 * d  # prope_o; a 4 x 4 matrix on q, k, v and on what comes out
        attended += 2 * d * keys
    layers = config.layers * tokens * (projections + attended)
    ends = tokens * (_input_width(config) + config.token_width) * d
    level = n * (config.time_features * d + d * d + 6 * d * d)
    return 2 * (layers + ends + level + _action_products(config, window, seen))


def _action_products(config: WanConfig, window: WindowConfig, seen: int) -> int:
    """Multiply-adds of all action modules in one pass over one block."""
    if (actions := config.actions) is None:
        return 0
    d, width, keys, n = config.width, actions.width, actions.key_width, window.block_frames
    seen = min(seen, window.sink_frames + (window.action_frames or window.window_frames))
    told = actions.rows * (actions.keys * keys + keys * keys) + actions.rows * keys * 2 * width
    each = 2 * d * width + 2 * width * seen
    if actions.mouse:
        each += (d + actions.mouse * actions.rows) * width + 4 * width**2 + width * d
        each += 2 * width * seen
    return len(actions.layers) * n * (told + window.tokens(config) * each)


def block_flops(config: WanConfig, window: WindowConfig, seen: int, steps: int) -> int:
    """Of a block in play: every denoising step and the clean pass."""
    return (steps + 1) * pass_flops(config, window, seen)


@dataclass(frozen=True, slots=True)
class SessionMemory:
    """Bytes that a session keeps; what a pass needs for a moment is not in it."""

    weights: int
    cache: int
    text: int

    @property
    def whole(self) -> int:
        """All bytes together."""
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
