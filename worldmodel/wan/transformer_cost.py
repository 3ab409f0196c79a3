"""What a Wan transformer costs, by formula: operations, memory, bytes moved.

A pass takes a block of latent frames through all layers while `seen` latent frames, its own
included, lie in the cache. A multiply-add counts as two operations. What is elementwise is left
out of operations: it costs memory traffic, not arithmetic.
"""

from dataclasses import dataclass

from worldmodel.wan.model_config import WanConfig, WindowConfig


def parameters(config: WanConfig) -> int:
    """How many numbers the weights have."""
    d, ff = config.width, config.feed_forward
    linear = d * d + d
    attention = 4 * linear + 2 * d
    block = 2 * attention + 2 * d + (d * ff + ff) + (ff * d + d) + 6 * d
    block += linear if config.cameras else 0
    outside = (config.token_width * d + d) + (config.text_width * d + d) + linear
    outside += (config.time_features * d + d) + linear + (6 * d * d + 6 * d)
    head = d * config.token_width + config.token_width + 2 * d
    return config.layers * block + outside + head


def large_parameters(config: WanConfig) -> tuple[int, int]:
    """Numbers in the layers' matrices, and rows of these: what float8 weights are about."""
    d, ff = config.width, config.feed_forward
    square = 9 if config.cameras else 8
    return config.layers * (square * d * d + 2 * d * ff), config.layers * (square * d + d + ff)


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
    attended = 2 * d * keys + 2 * d * config.text_tokens
    if config.cameras:
        projections += d * d + 4 * 4 * d  # prope_o; a 4 x 4 matrix on q, k, v and on what comes out
        attended += 2 * d * keys
    layers = config.layers * tokens * (projections + attended)
    ends = 2 * tokens * config.token_width * d
    level = n * (config.time_features * d + d * d + 6 * d * d)
    return 2 * (layers + ends + level)


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
    token = 2 * config.banks * config.width * number_bytes  # a key and a value in every bank
    frames = window.slots + window.sink_frames  # sinks are kept twice: as they came, and as seen
    text = 2 * config.layers * config.text_tokens * config.width * number_bytes
    return SessionMemory(
        weights=weight_bytes(config, number_bytes, float8=float8),
        cache=batch * frames * window.tokens(config) * token,
        text=batch * text,
    )


def pass_bytes(
    config: WanConfig, window: WindowConfig, seen: int, number_bytes: int, *, float8: bool = False
) -> int:
    """Bytes that one pass must move at least: all weights, the cache that is seen, the prompt.

    Matrices in float8 are written as what is computed in, and read again.
    """
    kept = memory(config, window, number_bytes, float8=float8)
    token = 2 * config.banks * config.width * number_bytes
    again = 2 * large_parameters(config)[0] * number_bytes if float8 else 0
    return kept.weights + again + seen * window.tokens(config) * token + kept.text
