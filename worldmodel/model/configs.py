"""Shapes of the transformer and the autoencoder, and how frames are sampled."""

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from worldmodel.config import ConfigError, require_at_most, require_positive
from worldmodel.model.state_configs import (
    ConditionNumber,
    FloorPlanConfig,
    ObjectsConfig,
    SceneConfig,
)
from worldmodel.system.limits import (
    FASTEST,
    FINEST_STEP,
    LARGEST_ACTIVATION,
    LARGEST_CACHE,
    LONGEST_SIDE,
    MOST_FOREIGN_STEPS,
    MOST_STEPS,
    SLOWEST,
)
from worldmodel.system.printable import shown

MOST_COLOURS = 256  # of a palette: one byte names a colour


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The shape of a world transformer; stored in every checkpoint beside the weights."""

    width: int
    heads: int
    layers: int
    latent_channels: int
    latent_height: int
    latent_width: int
    buttons: int
    context_frames: int  # the window: frames a query can see, its own included, sinks excluded
    sink_frames: int  # the first frames ever shown, which stay visible for good
    frame_change: float  # how much latents change from frame to frame, as a standard deviation
    patch: int = 1  # rows and columns of latents that one token shows
    action_tokens: int = 1  # tokens per frame that carry its action
    feed_forward_ratio: int = 4
    chunk_frames: int = 1  # frames that are drawn together and see each other, future included
    time_attention_every: int = 1  # of so many layers the last sees other frames, the rest do not
    rays: int = (
        0  # of the view, that a frame's condition holds (`FloorPlanConfig`, `ObjectsConfig`)
    )
    ray_features: int = 0  # numbers of each
    state_numbers: tuple[ConditionNumber, ...] = ()  # of the state, in a frame's condition
    objects: ObjectsConfig | None = None  # whose places the rays tell, without a floor plan

    def __post_init__(self) -> None:
        require_positive(self, "width", "heads", "layers", "feed_forward_ratio", "chunk_frames")
        require_positive(self, "latent_channels", "latent_height", "latent_width", "patch")
        if not 1 <= self.time_attention_every <= self.layers:
            raise ConfigError(
                f"time_attention_every ({self.time_attention_every}) must be from 1 to layers "
                f"({self.layers}), or no layer sees the past"
            )
        if self.latent_height % self.patch or self.latent_width % self.patch:
            raise ConfigError(
                f"patch ({self.patch}) must divide the {self.latent_height} rows and "
                f"{self.latent_width} columns of latents"
            )
        if self.width % (4 * self.heads) or self.width // self.heads < 8:
            raise ConfigError(
                f"width ({self.width}) must be a multiple of 4 x heads ({4 * self.heads}), at "
                "least 8 a head: rotary embedding turns pairs of channels along time, rows, columns"
            )
        if self.buttons < 0:  # none at all: a world of the mouse alone
            raise ConfigError(f"buttons = {self.buttons}: cannot be negative")
        if not 0 < self.frame_change < 1e6:
            raise ConfigError(f"frame_change ({self.frame_change}) must be above 0")
        require_at_most(self, 1 << 16, "width", "latent_channels", "latent_height", "latent_width")
        require_at_most(self, 1024, "heads", "layers", "buttons", "sink_frames", "action_tokens")
        require_at_most(self, 4096, "context_frames")
        require_at_most(self, 64, "feed_forward_ratio")
        if self.context_frames < 2 or self.sink_frames < 0 or self.action_tokens < 1:
            raise ConfigError(
                f"context_frames ({self.context_frames}) must be at least 2, sink_frames "
                f"({self.sink_frames}) at least 0, action_tokens ({self.action_tokens}) at least 1"
            )
        chunk = self.chunk_frames
        if self.context_frames % chunk or self.sink_frames % chunk or self.context_frames <= chunk:
            raise ConfigError(
                f"context_frames ({self.context_frames}) and sink_frames ({self.sink_frames}) must "
                f"be multiples of chunk_frames ({chunk}), and the window hold more than one chunk"
            )
        self._check_conditions()
        if self.cache_bytes > LARGEST_CACHE:
            raise ConfigError(
                f"context_frames ({self.context_frames}) of {self.tokens_per_frame} tokens need "
                f"{self.cache_bytes >> 30} GB of cache, at most {LARGEST_CACHE >> 30} are allowed"
            )

    def _check_conditions(self) -> None:
        require_at_most(self, 4096, "rays", "ray_features")
        if self.rays < 0 or bool(self.rays) != bool(self.ray_features):
            raise ConfigError(
                f"rays ({self.rays}) and ray_features ({self.ray_features}): expected both or none"
            )
        if self.rays % self.token_grid[1]:
            raise ConfigError(
                f"rays ({self.rays}) must be as many for each of the {self.token_grid[1]} columns "
                "of tokens"
            )

        if self.objects is not None and (self.rays, self.ray_features) != (
            self.objects.rays,
            self.objects.ray_features,
        ):
            raise ConfigError(
                f"{self.rays} rays of {self.ray_features} numbers, but the objects are given in "
                f"{self.objects.rays} of {self.objects.ray_features}"
            )
        if (
            len({number.name for number in self.state_numbers}) < len(self.state_numbers)
            or len(self.state_numbers) > 64
        ):
            raise ConfigError("state_numbers: expected at most 64 numbers of the state, each once")

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values in fp32."""
        slots = self.context_frames + self.sink_frames
        return 8 * self.time_layers * slots * self.tokens_per_frame * self.width

    @property
    def time_layers(self) -> int:
        """How many layers see other frames than their own: those whose keys are kept."""
        return self.layers // self.time_attention_every

    @property
    def tokens_per_frame(self) -> int:
        """Action tokens, then one token per patch of latents."""
        rows, columns = self.token_grid
        return self.action_tokens + rows * columns

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of a frame's tokens, its action tokens aside."""
        return self.latent_height // self.patch, self.latent_width // self.patch

    @property
    def token_channels(self) -> int:
        """Latent channels that one token shows: of all positions of its patch."""
        return self.latent_channels * self.patch**2

    @property
    def condition_width(self) -> int:
        """Numbers of a frame's condition: rays, numbers of the state, then its action vector."""
        return self.seen_features + self.buttons + 2

    @property
    def state_features(self) -> int:
        """How many numbers of a frame's condition stand for the state."""
        return sum(number.features for number in self.state_numbers)

    @property
    def seen_features(self) -> int:
        """How many numbers of a frame's condition come before its action vector."""
        return self.rays * self.ray_features + self.state_features

    @property
    def is_conditioned_on_state(self) -> bool:
        """Whether a frame's condition holds more of the state than a floor plan gives."""
        return bool(self.state_numbers or self.objects)

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Numbers of the state that this takes."""
        placed = () if self.objects is None else (*self.objects.viewer, *self.objects.numbers)
        numbers = (number.name for number in self.state_numbers)
        return tuple(dict.fromkeys((*numbers, *placed)))

    @property
    def tokens_per_chunk(self) -> int:
        """Tokens of the frames that are sampled together."""
        return self.chunk_frames * self.tokens_per_frame

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """One frame of latents: c h w."""
        return self.latent_channels, self.latent_height, self.latent_width


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig:
    """The shape of a frame autoencoder. Every entry of `widths` makes the frame smaller once."""

    widths: tuple[int, ...]  # channels after each step down, finest first
    blocks: int  # residual blocks at each resolution
    latent_channels: int
    frame_height: int
    frame_width: int
    strides: tuple[int, ...] = ()  # how much smaller each step makes it; none: half
    plan: FloorPlanConfig | None = (
        None  # of the level, which the decoder reads (`model.floor_plan`)
    )
    scene: SceneConfig | None = None  # or what is around a player who stands (`model.scene`)
    palette: tuple[str, ...] = ()  # colours `rrggbb` that frames are shown in; none: all

    def __post_init__(self) -> None:
        require_positive(self, "blocks", "latent_channels", "frame_height", "frame_width")
        _check_palette(self.palette)
        require_at_most(self, 64, "blocks")
        require_at_most(self, 1 << 16, "latent_channels")
        require_at_most(self, LONGEST_SIDE, "frame_height", "frame_width")
        if not 1 <= len(self.widths) <= 12 or not 1 <= min(self.widths) <= max(self.widths) <= 8192:
            raise ConfigError(
                f"widths {shown(list(self.widths))} must hold 1 to 12 numbers from 1 to 8192"
            )
        if self.strides and (
            len(self.strides) != len(self.widths) or not all(2 <= n <= 16 for n in self.strides)
        ):
            raise ConfigError(
                f"strides {shown(list(self.strides))} must hold a number from 2 to 16 for each of "
                f"the {len(self.widths)} widths"
            )
        down = self.downsampling
        if self.frame_height % down or self.frame_width % down:
            raise ConfigError(
                f"frames of {self.frame_height} x {self.frame_width} do not divide by "
                f"{down}, which steps of {shown(list(self.steps))} need"
            )
        if self.plan and self.scene:
            raise ConfigError(
                "the decoder reads a floor plan or a scene; this autoencoder has both"
            )
        view = self.view
        size = (self.frame_height, self.frame_width)
        if view and (view.frame_height, view.frame_width) != size:
            raise ConfigError(
                f"{'plan' if self.plan else 'scene'} shows {view.frame_height} x "
                f"{view.frame_width}, frames are {self.frame_height} x {self.frame_width}"
            )
        if self.largest_activation > LARGEST_ACTIVATION:
            raise ConfigError(
                f"frames of {self.frame_height} x {self.frame_width} with widths "
                f"{list(self.widths)} take {self.largest_activation >> 20} MB between two layers, "
                f"at most {LARGEST_ACTIVATION >> 20} MB are allowed"
            )

    @property
    def steps(self) -> tuple[int, ...]:
        """How much smaller each entry of `widths` makes the frame."""
        return self.strides or (2,) * len(self.widths)

    @property
    def view(self) -> FloorPlanConfig | SceneConfig | None:
        """What shows a picture of what is seen from a place: a floor plan, a scene or nothing."""
        return self.plan or self.scene

    @property
    def largest_activation(self) -> int:
        """Bytes between two layers, of one frame in fp32."""
        pixels = self.frame_height * self.frame_width
        down = accumulate(self.steps, operator.mul)
        return max(4 * w * pixels // n**2 for w, n in zip(self.widths, down, strict=True))

    @property
    def downsampling(self) -> int:
        """Pixels per latent position, along each axis."""
        return math.prod(self.steps)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """One frame of latents: c h w."""
        down = self.downsampling
        return self.latent_channels, self.frame_height // down, self.frame_width // down


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerConfig:
    """How a frame (or a chunk of frames) is denoised."""

    sigmas: tuple[float, ...]  # from 1 (noise) to 0 (clean); one step between neighbours
    renoise: bool  # a consistency student; false: follow the velocity
    context_sigma: float = 0.0  # noise with which frames are remembered
    latent_step: float = 0.0  # latents are rounded to multiples of it: small errors do not add up
    first_sigmas: tuple[float, ...] = ()  # of the first frame that is drawn; none: as the others
    guidance: float = 1.0  # on the action; needs a model trained with action_dropout
    cache_from_last_step: bool = False  # remember what the last step left, without a clean pass
    view_pull: float = 0.0  # how far what is remembered moves to the picture of floor plan or scene
    view_pull_every: int = 1  # in every so many-th frame

    def __post_init__(self) -> None:
        for name in ("sigmas", "first_sigmas"):
            sigmas = getattr(self, name)
            falls = all(a > b for a, b in pairwise(sigmas))
            if name == "first_sigmas" and not sigmas:
                continue
            few = 2 <= len(sigmas) <= MOST_STEPS + 1
            if not few or sigmas[0] != 1.0 or sigmas[-1] != 0.0 or not falls:
                raise ConfigError(f"{name} {shown(list(sigmas))} must fall from 1.0 to 0.0")
        rounds = FINEST_STEP <= self.latent_step < 1e6
        if not 0 <= self.context_sigma < 1 or not (rounds or self.latent_step == 0):
            raise ConfigError(
                f"context_sigma ({self.context_sigma}) must be in [0, 1), latent_step "
                f"({self.latent_step}) 0 or at least {FINEST_STEP:g}"
            )
        if not 0 <= self.view_pull < 1:
            raise ConfigError(f"view_pull ({self.view_pull}) must be in [0, 1)")
        require_positive(self, "view_pull_every")
        require_at_most(self, 1 << 16, "view_pull_every")
        for name in ("context_sigma", "view_pull"):
            if self.cache_from_last_step and getattr(self, name) > 0:
                raise ConfigError(
                    f"cache_from_last_step leaves no pass that could use {name} "
                    f"({getattr(self, name)}); set one of them"
                )

    @property
    def steps(self) -> int:
        """Denoising steps of a frame."""
        return len(self.sigmas) - 1

    def pulls(self, time: int) -> bool:
        """Whether the frame at a time is remembered nearer to what floor plan or scene show."""
        return self.view_pull > 0 and time % self.view_pull_every == 0

    @property
    def first(self) -> "SamplerConfig":
        """The sampler of the first frame that is drawn."""
        return replace(self, sigmas=self.first_sigmas or self.sigmas, first_sigmas=())

    def until(self, step: int) -> "SamplerConfig":
        """The sampler that ends in the clean estimate of step number `step`, counted from 0."""
        return replace(self, sigmas=(*self.sigmas[: step + 1], 0.0))


def require_played(frames_per_second: float, *samplers: SamplerConfig) -> None:
    """Refuse a world's file that would keep a machine busy for minutes a frame."""
    if not SLOWEST <= frames_per_second <= FASTEST:
        raise ConfigError(
            f"frames_per_second = {frames_per_second}: must be from {SLOWEST} to {FASTEST:g}"
        )
    for sampler in samplers:
        if max(sampler.steps, sampler.first.steps) > MOST_FOREIGN_STEPS:
            raise ConfigError(
                f"sampler: {max(sampler.steps, sampler.first.steps)} denoising steps, a world is "
                f"played with {MOST_FOREIGN_STEPS} at most"
            )


def _check_palette(colours: Sequence[str]) -> None:
    """A `ConfigError` unless these are colours `rrggbb`, at most `MOST_COLOURS`."""
    if len(colours) > MOST_COLOURS:
        raise ConfigError(f"palette holds {len(colours)} colours; at most {MOST_COLOURS} fit")
    for colour in colours:
        if not re.fullmatch(r"[0-9a-f]{6}", colour):
            raise ConfigError(
                f"palette: {shown(colour)} is no colour; expected six hexadecimal digits, as 2b1708"
            )
