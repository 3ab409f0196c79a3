"""Sizes of a Wan transformer, and how much of a session it sees.

Everything comes from TOML or from the shapes in a checkpoint; no size is written anywhere else.
"""

from dataclasses import dataclass

from worldmodel.config import ConfigError, require_at_most, require_positive
from worldmodel.system.limits import LARGEST_WAN_CACHE, MOST_WAN_LATENTS


@dataclass(frozen=True, kw_only=True, slots=True)
class WanConfig:
    """The shape of a Wan transformer's weights."""

    width: int
    heads: int
    layers: int
    feed_forward: int
    text_width: int  # channels of the text encoder
    time_features: int  # sines and cosines that describe the noise level
    latent_channels: int = 16
    patch: int = 2  # latent rows and columns that make one token
    text_tokens: int = 512
    cameras: bool = False  # whether a second attention sees through cameras (PRoPE)

    def __post_init__(self) -> None:
        require_positive(self, "width", "heads", "layers", "feed_forward", "text_width")
        require_positive(self, "latent_channels", "patch", "text_tokens")
        require_at_most(self, 1 << 16, "width", "text_width", "time_features")
        require_at_most(self, 1 << 20, "feed_forward")
        require_at_most(self, 4096, "text_tokens")
        require_at_most(self, 1024, "heads", "layers", "latent_channels")
        require_at_most(self, 16, "patch")
        if self.width % self.heads or self.head_width % 2 or self.head_width < 6:
            raise ConfigError(
                f"width ({self.width}) must be an even multiple, 6 or more, of heads ({self.heads})"
            )
        if self.cameras and self.head_width % 4:
            raise ConfigError(f"cameras need heads of 4, 8, … channels, not {self.head_width}")
        if self.time_features < 2 or self.time_features % 2:
            raise ConfigError(f"time_features ({self.time_features}) must be even, at least 2")

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def banks(self) -> int:
        """Attentions that keep keys and values: one a layer, two where there are cameras."""
        return self.layers * (2 if self.cameras else 1)

    @property
    def token_width(self) -> int:
        """Numbers in one token's patch of latents."""
        return self.latent_channels * self.patch**2


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowConfig:
    """What is drawn at once and what it sees: sizes in latent rows, columns and frames."""

    rows: int
    columns: int
    block_frames: int = 1  # drawn together; 1 is frame-wise
    window_frames: int = 21  # a query sees so many, its own block included, sinks excluded
    sink_frames: int = 0  # the first frames of a session, which stay visible for good

    def __post_init__(self) -> None:
        require_positive(self, "rows", "columns", "block_frames", "window_frames")
        require_at_most(self, 4096, "block_frames", "window_frames", "sink_frames")
        if self.rows * self.columns > MOST_WAN_LATENTS:
            raise ConfigError(
                f"latents of {self.rows} x {self.columns}: at most {MOST_WAN_LATENTS} positions"
            )
        n, window, sinks = self.block_frames, self.window_frames, self.sink_frames
        if sinks < 0 or window % n or sinks % n:
            raise ConfigError(
                f"window_frames ({window}) and sink_frames ({sinks}) must be multiples of "
                f"block_frames ({n}): a block is seen as a whole or not at all"
            )

    @property
    def slots(self) -> int:
        """Latent frames that are kept."""
        return self.sink_frames + self.window_frames

    def tokens(self, config: WanConfig) -> int:
        """Tokens of one latent frame."""
        if self.rows % config.patch or self.columns % config.patch:
            raise ConfigError(
                f"latents of {self.rows} x {self.columns} do not divide into patches of "
                f"{config.patch} x {config.patch}"
            )
        tokens = self.rows * self.columns // config.patch**2
        if (cache := 4 * config.banks * self.slots * tokens * config.width) > LARGEST_WAN_CACHE:
            raise ConfigError(
                f"window_frames ({self.window_frames}) and sink_frames ({self.sink_frames}) of "
                f"{tokens} tokens need a cache of {cache >> 30} GB in bfloat16, at most "
                f"{LARGEST_WAN_CACHE >> 30} are allowed"
            )
        return tokens

    def cache_bytes(self, config: WanConfig) -> int:
        """Of keys and values in fp32."""
        return 8 * config.banks * self.slots * self.tokens(config) * config.width
