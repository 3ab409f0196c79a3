"""Sizes of a Wan transformer, and how much of a session it sees.

Everything comes from TOML or from the shapes in a checkpoint; no size is written anywhere else.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from worldmodel.config import ConfigError, require_at_most, require_positive
from worldmodel.system.limits import LARGEST_WAN_CACHE, MOST_WAN_LATENTS

Kind = Literal["frames", "mouse", "keys"]  # of attention over time


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureConfig:
    """What an image-to-video model is given of the picture that a session begins with."""

    width: int  # channels of the image encoder
    tokens: int = 257  # of the image encoder: its class, and 16 x 16 patches
    mask_channels: int = 4  # beside the noise, before the picture's latents

    def __post_init__(self) -> None:
        require_positive(self, "width", "tokens", "mask_channels")
        require_at_most(self, 1 << 16, "width")
        require_at_most(self, 4096, "tokens")
        require_at_most(self, 64, "mask_channels")


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionModuleConfig:
    """The keyboard and mouse module of Matrix-Game 2, which some layers have."""

    layers: tuple[int, ...]  # those that have one, in order
    keys: int
    mouse: int = 2  # numbers of the mouse; 0: the model knows no mouse
    key_width: int = 128  # channels of one embedded row of keys
    heads: int = 16
    head_width: int = 64
    turned: int = 8  # of a head's channels, those that turn with time
    rows_per_latent: int = 4  # rows of actions, one a pixel frame, that come with a latent frame
    latents_per_window: int = 3  # a latent frame is given the rows of so many latent frames

    def __post_init__(self) -> None:
        require_positive(self, "keys", "key_width", "heads", "head_width")
        require_positive(self, "rows_per_latent", "latents_per_window")
        require_at_most(self, 1024, "keys", "mouse", "heads", "head_width")
        require_at_most(self, 1 << 16, "key_width")
        require_at_most(self, 64, "rows_per_latent", "latents_per_window")
        if not self.layers or list(self.layers) != sorted({*self.layers}) or self.layers[0] < 0:
            raise ConfigError(f"layers {list(self.layers)} must be numbers of layers, in order")
        if self.mouse < 0:
            raise ConfigError(f"mouse = {self.mouse}: must be 0 or more")
        if self.turned % 2 or self.head_width % 2 or not 2 <= self.turned <= self.head_width:
            raise ConfigError(
                f"turned ({self.turned}) must be even and at most head_width ({self.head_width})"
            )

    @property
    def width(self) -> int:
        """Channels of all heads together."""
        return self.heads * self.head_width

    @property
    def rows(self) -> int:
        """Rows of actions that a latent frame is given."""
        return self.rows_per_latent * self.latents_per_window


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Attention over time of one kind, in all layers that have it: what is kept of a frame."""

    banks: int  # attentions that keep keys and values
    timed: int  # of these, the first ones, whose keys are turned with time
    places: int  # sequences for each session: the mouse's attention goes place by place
    heads: int
    head_width: int
    tokens: int  # of a frame in each sequence, that are attended to
    window: int  # latent frames that a query sees, its own chunk included, sinks excluded

    @property
    def numbers(self) -> int:
        """Keys and values of one frame of one session."""
        return 2 * self.banks * self.places * self.heads * self.tokens * self.head_width


@dataclass(frozen=True, kw_only=True, slots=True)
class WanConfig:
    """The shape of a Wan transformer's weights."""

    width: int
    heads: int
    layers: int
    feed_forward: int
    text_width: int = 0  # channels of the text encoder; 0: the model reads a picture instead
    time_features: int  # sines and cosines that describe the noise level
    latent_channels: int = 16
    patch: int = 2  # latent rows and columns that make one token
    text_tokens: int = 512
    cameras: bool = False  # whether a second attention sees through cameras (PRoPE)
    picture: PictureConfig | None = None  # of image-to-video models
    actions: ActionModuleConfig | None = None

    def __post_init__(self) -> None:
        require_positive(self, "width", "heads", "layers", "feed_forward")
        require_positive(self, "latent_channels", "patch", "text_tokens")
        if (self.text_width > 0) == (self.picture is not None):
            raise ConfigError(
                f"text_width = {self.text_width}: a model reads words, of 1 channel or more, or "
                "has a [picture], one of both"
            )
        if self.actions is not None and self.actions.layers[-1] >= self.layers:
            raise ConfigError(
                f"actions.layers: layer {self.actions.layers[-1]} of {self.layers}, from 0"
            )
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

    @property
    def condition_channels(self) -> int:
        """Channels beside the noise: the mask and the latents of the picture."""
        return self.picture.mask_channels + self.latent_channels if self.picture else 0

    @property
    def read_tokens(self) -> int:
        """Tokens of what is read: the words, or the picture."""
        return self.picture.tokens if self.picture else self.text_tokens

    @property
    def read_width(self) -> int:
        """Channels of what is read."""
        return self.picture.width if self.picture else self.text_width


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowConfig:
    """What is drawn at once and what it sees: sizes in latent rows, columns and frames."""

    FORMERLY: ClassVar[dict[str, str]] = {"block_frames": "chunk_frames"}
    rows: int
    columns: int
    chunk_frames: int = 1  # drawn together; 1 is frame-wise
    window_frames: int = 21  # a query sees so many, its own chunk included, sinks excluded
    sink_frames: int = 0  # the first frames of a session, which stay visible for good
    action_frames: int = 0  # the window of attention to keys and mouse; 0: the same

    def __post_init__(self) -> None:
        require_positive(self, "rows", "columns", "chunk_frames", "window_frames")
        require_at_most(self, 4096, "chunk_frames", "window_frames", "sink_frames", "action_frames")
        if self.rows * self.columns > MOST_WAN_LATENTS:
            raise ConfigError(
                f"latents of {self.rows} x {self.columns}: at most {MOST_WAN_LATENTS} positions"
            )
        n, sinks = self.chunk_frames, self.sink_frames
        if sinks < 0 or sinks % n:
            raise ConfigError(
                f"sink_frames ({sinks}) must be a multiple of chunk_frames ({n}): a chunk is drawn "
                "as a whole"
            )
        for name, frames in (
            ("window_frames", self.window_frames),
            ("action_frames", self.action_frames or self.window_frames),
        ):
            if frames < n:
                raise ConfigError(
                    f"{name} ({frames}) must be at least chunk_frames ({n}): a chunk sees itself"
                )

    @property
    def slots(self) -> int:
        """Latent frames that are seen."""
        return self.sink_frames + self.window_frames

    def kept_frames(self, window: int) -> int:
        """Latent frames that are kept for a window: chunks are written as a whole."""
        chunks = -(-window // self.chunk_frames)
        return self.sink_frames + chunks * self.chunk_frames

    def streams(self, config: WanConfig) -> dict[Kind, Stream]:
        """What each kind of attention over time keeps of a frame."""
        p, actions = self._tokens(config), config.actions
        found: dict[Kind, Stream] = {
            "frames": Stream(
                banks=config.banks, timed=config.layers, places=1, heads=config.heads,
                head_width=config.head_width, tokens=p, window=self.window_frames,
            )
        }  # fmt: skip
        if actions is None:
            return found
        keys = Stream(
            banks=len(actions.layers), timed=len(actions.layers), places=1, heads=actions.heads,
            head_width=actions.head_width, tokens=1,
            window=self.action_frames or self.window_frames,
        )  # fmt: skip
        return {
            **found,
            "keys": keys,
            **({"mouse": replace(keys, places=p)} if actions.mouse else {}),
        }

    def tokens(self, config: WanConfig) -> int:
        """Tokens of one latent frame."""
        tokens, cache = self._tokens(config), self.cache_bytes(config) // 2
        if cache > LARGEST_WAN_CACHE:
            raise ConfigError(
                f"window_frames ({self.window_frames}) and sink_frames ({self.sink_frames}) of "
                f"{tokens} tokens need a cache of {cache >> 30} GB in bfloat16, at most "
                f"{LARGEST_WAN_CACHE >> 30} are allowed"
            )
        return tokens

    def cache_bytes(self, config: WanConfig) -> int:
        """Bytes of keys and values in fp32."""
        return sum(
            4 * stream.numbers * self.kept_frames(stream.window)
            for stream in self.streams(config).values()
        )

    def _tokens(self, config: WanConfig) -> int:
        if self.rows % config.patch or self.columns % config.patch:
            raise ConfigError(
                f"latents of {self.rows} x {self.columns} do not divide into patches of "
                f"{config.patch} x {config.patch}"
            )
        return self.rows * self.columns // config.patch**2
