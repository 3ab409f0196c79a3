"""Configs are frozen dataclasses; TOML files fill them and cannot say anything else.

A dataclass whose class attribute `TABLE` names one of its fields is written as that field's table.
What defines a model has no default, how to run it has one. Nested tables are nested dataclasses,
an unknown key is an error, and a message always names the file, the key and the choices.
"""

import json
import math
import operator
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from worldmodel.system.encoding import decode_text
from worldmodel.system.limits import (
    FASTEST,
    FINEST_STEP,
    LARGEST_ACTIVATION,
    LARGEST_CACHE,
    LARGEST_INTEGER,
    LARGEST_TOML,
    LONGEST_SHOWN,
    LONGEST_SIDE,
    MOST_FOREIGN_STEPS,
    MOST_KEY_PARTS,
    MOST_STEPS,
    SLOWEST,
)
from worldmodel.system.not_downloaded import HEAD, what_instead
from worldmodel.system.paths import to_path
from worldmodel.system.printable import printable, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

# What is no key in TOML, each to its end or to the file's: strings and comments.
_TEXTS = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)|' + r"'''.*?(?:'''|\Z)|"
    r'"(?:\\.|[^"\\\n])*"?|' + r"'[^'\n]*'?|#[^\n]*",
    re.DOTALL,
)
_LONG_KEY = re.compile(r'(?<![\w-])(?:(?:[\w-]+|"")[ \t]*\.[ \t]*)' + f"{{{MOST_KEY_PARTS}}}")


class UserError(ValueError):
    """Something that the user can change; entry points print it without a traceback, exit 2."""

    def __str__(self) -> str:
        """One line without control characters, whatever the file held that it tells of."""
        return printable(super().__str__())


class ConfigError(UserError):
    """A config file asks for something the program does not offer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionNumber:
    """A number of the state that a transformer is told of every frame (`model.state_numbers`)."""

    name: str
    kind: Literal["position", "heading", "velocity", "number", "count", "flag", "phase"]
    low: float = 0.0  # the range seen
    high: float = 0.0

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ConfigError(f"{self.name}: low ({self.low}) must be at most high ({self.high})")

    @property
    def digits(self) -> int:
        """Of a count, as many as the largest one has, at most 4; of anything else none."""
        return min(4, len(str(int(max(0.0, self.high))))) if self.kind == "count" else 0

    @property
    def features(self) -> int:
        """Numbers that stand for it in a condition."""
        if self.kind == "count":
            return 1 + 10 * self.digits
        return {"flag": 1, "heading": 8, "phase": 8}.get(self.kind, 5)


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
    action_tokens: int = 1  # tokens per frame that carry its action
    feed_forward_ratio: int = 4
    chunk_frames: int = 1  # frames that are drawn together and see each other, future included
    rays: int = 0  # over the level's plan, that a frame's condition holds (`PlanConfig.rays`)
    ray_features: int = 0  # numbers of each
    state_numbers: tuple[
        ConditionNumber, ...
    ] = ()  # numbers of the state that a frame's condition holds

    def __post_init__(self) -> None:
        require_positive(self, "width", "heads", "layers", "feed_forward_ratio", "chunk_frames")
        require_positive(self, "latent_channels", "latent_height", "latent_width")
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

        require_at_most(self, 4096, "rays", "ray_features")
        if self.rays < 0 or bool(self.rays) != bool(self.ray_features):
            raise ConfigError(
                f"rays ({self.rays}) and ray_features ({self.ray_features}): expected both or none"
            )
        if self.rays % self.latent_width:
            raise ConfigError(
                f"rays ({self.rays}) must be as many for each of the {self.latent_width} columns "
                "of latents"
            )

        if (
            len({number.name for number in self.state_numbers}) < len(self.state_numbers)
            or len(self.state_numbers) > 64
        ):
            raise ConfigError("state_numbers: expected at most 64 numbers of the state, each once")

        if self.cache_bytes > LARGEST_CACHE:
            raise ConfigError(
                f"context_frames ({self.context_frames}) of {self.tokens_per_frame} tokens need "
                f"{self.cache_bytes >> 30} GB of cache, at most {LARGEST_CACHE >> 30} are allowed"
            )

    @property
    def cache_bytes(self) -> int:
        """Of keys and values in fp32."""
        slots = self.context_frames + self.sink_frames
        return 8 * self.layers * slots * self.tokens_per_frame * self.width

    @property
    def tokens_per_frame(self) -> int:
        """Action tokens, then one token per latent position."""
        return self.action_tokens + self.latent_height * self.latent_width

    @property
    def condition_width(self) -> int:
        """Numbers of a frame's condition: rays, numbers of the state, then its action vector."""
        return self.seen_features + self.buttons + 2

    @property
    def state_features(self) -> int:
        """Of a frame's condition, those that stand for numbers of the state."""
        return sum(number.features for number in self.state_numbers)

    @property
    def seen_features(self) -> int:
        """Of a frame's condition, all before its action vector."""
        return self.rays * self.ray_features + self.state_features

    @property
    def tokens_per_chunk(self) -> int:
        """Of the frames that are drawn together."""
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
class PlanConfig:
    """The shape of a level's learned plan (`model.plan`), in the units of its map."""

    low: tuple[float, float]  # x, y: the plan reaches from here
    high: tuple[float, float]  # to here
    floor: float  # heights, as a first guess
    ceiling: float
    frame_height: int
    frame_width: int
    field_of_view: float = 90.0  # degrees, from the left edge of the picture to the right
    pixel_aspect: float = 1.0  # how much taller the game draws a unit of height than one of width
    cells: tuple[int, ...] = (24, 64, 192)  # rows of each grid
    features: int = 12  # of a grid's cell
    samples: int = 40  # points along a ray
    nearest: float = 6.0  # the first of them
    farthest: float = 1150.0  # and the last
    depths: int = 2  # surfaces that a ray can meet
    depth_features: int = 16
    ray_width: int = 48  # of the convolutions along a ray
    rays: int = 16  # that a transformer is told of
    texture_cell: float = 3.8  # units, of floor and ceiling
    wall_cell: float = 2.0  # of walls, which are seen from nearer
    texture_features: int = 16  # of floor and ceiling
    wall_features: int = 16
    column_features: int = 16
    width: int = 48  # of the convolutions over the picture
    hidden: int = 32

    def __post_init__(self) -> None:
        names = [field.name for field in fields(self) if field.type is int or field.type == "int"]
        require_positive(self, *names)
        require_at_most(self, 8192, *names)
        if not all(a < b and b - a < 1e6 for a, b in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"low {list(self.low)} must lie below high {list(self.high)}")
        if not 0 < self.ceiling - self.floor < 1e6 or not 0 < self.nearest < self.farthest < 1e6:
            raise ConfigError(
                f"floor ({self.floor}) must lie below ceiling ({self.ceiling}), nearest "
                f"({self.nearest}) be above 0 and below farthest ({self.farthest})"
            )
        if not 1 <= self.field_of_view <= 170 or not 0.1 <= self.pixel_aspect <= 10:
            raise ConfigError(
                f"field_of_view ({self.field_of_view}) must be from 1 to 170 degrees, "
                f"pixel_aspect ({self.pixel_aspect}) from 0.1 to 10"
            )
        if not 1 <= len(self.cells) <= 8 or not 2 <= min(self.cells) <= max(self.cells) <= 2048:
            raise ConfigError(f"cells {shown(list(self.cells))} must hold 1 to 8 from 2 to 2048")
        if self.frame_width % self.rays:
            raise ConfigError(f"rays ({self.rays}) must divide frame_width ({self.frame_width})")
        if min(self.texture_cell, self.wall_cell) < 0.01:
            raise ConfigError(
                f"texture_cell ({self.texture_cell}) and wall_cell ({self.wall_cell}) must be at "
                "least 0.01"
            )
        most = max(*self.floor_cells, *self.wall_cells)
        if most > 8192:
            raise ConfigError(f"a texture of {most} cells in a row, at most 8192: make them larger")

    @property
    def proportion(self) -> float:
        """How much wider than high the plan is."""
        return (self.high[0] - self.low[0]) / (self.high[1] - self.low[1])

    @property
    def floor_cells(self) -> tuple[int, int]:
        """Cells of the textures of floor and ceiling: along y, along x."""
        return self._cells(1, self.texture_cell), self._cells(0, self.texture_cell)

    @property
    def wall_cells(self) -> tuple[int, int]:
        """Cells of the textures of walls: along y, along x."""
        return self._cells(1, self.wall_cell), self._cells(0, self.wall_cell)

    def _cells(self, axis: int, cell: float) -> int:
        return max(2, round((self.high[axis] - self.low[axis]) / cell))

    @property
    def ray_features(self) -> int:
        """Numbers that a transformer is told of a ray: features, depths, the eye's height."""
        return self.depths * (self.depth_features + 1) + 1

    @property
    def pixel_features(self) -> int:
        """What is known of a pixel before it is drawn."""
        return (
            self.texture_features
            + self.depths * (self.wall_features + 2)
            + self.column_features
            + 1
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionConfig:
    """The shape of the network that says where the player is next (`model.motion`)."""

    low: tuple[float, float]  # x, y: the level lies between here
    high: tuple[float, float]  # and here
    buttons: int
    mouse_degrees: float  # of the heading, for 1.0 in the action vector
    phase_step: float = 0.0  # by which the state's phase goes on in a frame
    tics: int = 1  # steps of the game's own physics in a frame
    turn_step: float = 0.0  # degrees, of which the game turns whole numbers in a tic; 0: any turn
    sines: int = 0  # entries of the game's table of sines for a full turn; 0: exact ones
    cell: float = 1.0  # units of the map of where one can walk: what walls are drawn in
    body: float = 16.0  # how far the player's box reaches to each side
    stop: float = 0.0  # velocity along an axis below which who pushes nothing stands still
    short: float = 1 / 32  # of a tic's way, left before a wall
    graze: float = 0.0105  # units into a wall that do not slow the player down
    beyond: float = 0.0  # units past a wall's ends for which it counts once another is met
    samples: int = 24  # edges of cells that a tic's way may cross

    def __post_init__(self) -> None:
        require_positive(self, "tics", "samples")
        for name in ("cell", "body"):
            if not 0 < getattr(self, name) < 1e6:
                raise ConfigError(f"{name} must be above 0, found {getattr(self, name)}")
        require_no_less(self, 0, "turn_step", "stop", "short", "graze", "beyond")
        require_at_most(self, 4096, "buttons", "samples")
        if self.beyond > 512 * self.cell or 0 < self.turn_step < 1e-6:
            raise ConfigError(
                f"beyond ({self.beyond}) may be 512 cells of {self.cell}, turn_step "
                f"({self.turn_step}) 0 or at least 1e-6 degrees"
            )
        if self.sines % 4 or not 0 <= self.sines <= 1 << 20:
            raise ConfigError(f"sines = {self.sines}: expected 0, or a number divisible by 4")
        require_at_most(self, 64, "tics")
        if not all(a < b and b - a < 1e6 for a, b in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"low {list(self.low)} must lie below high {list(self.high)}")
        if not all(
            2 <= (b - a) / self.cell <= 8192 for a, b in zip(self.low, self.high, strict=True)
        ):
            raise ConfigError(
                f"cell {self.cell}: the map between low {list(self.low)} and high "
                f"{list(self.high)} must have 2 to 8192 cells each way"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsConfig:
    """The shape of the network that says what happens to a state's numbers (`model.events`)."""

    buttons: int
    mouse_degrees: float  # of the heading, for 1.0 in the action vector
    latent_channels: int
    latent_height: int
    latent_width: int
    moved: tuple[str, ...] = ()  # numbers that `model.motion` moves, not this
    frames: int = 8  # of the past, whose numbers and actions it reads
    seen: int = 2  # of those, whose latents it reads
    width: int = 160
    bins: int = 32  # changes that it tells apart, of each number
    phase_step: float = 0.0  # by which the state's phases go on in a frame
    turn_step: float = 0.0  # degrees, of which the game turns whole numbers in a frame; 0: any turn

    def __post_init__(self) -> None:
        require_positive(self, "frames", "seen", "width", "bins")
        require_positive(self, "latent_channels", "latent_height", "latent_width")
        require_at_most(self, 64, "frames")
        require_at_most(self, 1024, "bins", "buttons")
        require_at_most(self, 8192, "width", "latent_channels", "latent_height", "latent_width")
        require_no_less(self, 0, "buttons", "turn_step")
        if self.seen > self.frames or self.bins < 2:
            raise ConfigError(
                f"seen ({self.seen}) must be at most frames ({self.frames}), bins ({self.bins}) at "
                "least 2"
            )

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
    plan: PlanConfig | None = None  # of the level, which the decoder reads (`model.plan`)

    def __post_init__(self) -> None:
        require_positive(self, "blocks", "latent_channels", "frame_height", "frame_width")
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
        if self.plan and (self.plan.frame_height, self.plan.frame_width) != (
            self.frame_height,
            self.frame_width,
        ):
            raise ConfigError(
                f"plan shows {self.plan.frame_height} x {self.plan.frame_width}, frames are "
                f"{self.frame_height} x {self.frame_width}"
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
        if self.cache_from_last_step and self.context_sigma > 0:
            raise ConfigError(
                f"cache_from_last_step leaves no pass that could add context_sigma "
                f"({self.context_sigma}); set one of them"
            )

    @property
    def steps(self) -> int:
        """Denoising steps of a frame."""
        return len(self.sigmas) - 1

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


def require_positive(config: Any, *names: str) -> None:
    """Refuse a config whose counts or sizes `names` are below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} = {getattr(config, name)}: must be at least 1")


def require_no_less(config: Any, least: float, *names: str) -> None:
    """Refuse a config whose numbers `names` are below `least`."""
    for name in names:
        if getattr(config, name) < least:
            raise ConfigError(f"{name} = {getattr(config, name)}: must be at least {least:g}")


def require_at_most(config: Any, most: int, *names: str) -> None:
    """Refuse a config that asks for more than any machine gives."""
    for name in names:
        if getattr(config, name) > most:
            raise ConfigError(f"{name} = {shown(getattr(config, name))}: at most {most}")


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file; a missing or malformed file is a `ConfigError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path}: cannot be read as TOML: not a file")
        with path.open("rb") as file:
            content = file.read(LARGEST_TOML + 1)
        if len(content) > LARGEST_TOML:
            raise ConfigError(f"{path}: cannot be read as TOML: over {LARGEST_TOML >> 20} MB")
        if stranger := what_instead(content[:HEAD]):
            raise ConfigError(f"{path}: {stranger}")
        text = decode_text(content)
        if _LONG_KEY.search(_TEXTS.sub('""', text)):
            raise ConfigError(
                f"{path}: cannot be read as TOML: a key of more than {MOST_KEY_PARTS} parts"
            )
        return tomllib.loads(text)
    except ConfigError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # ValueError: a number of 5000 digits
        reason = printable(str(error) or type(error).__name__, LONGEST_SHOWN)
        told = f"{path}: cannot be read as TOML: {reason}"
        if isinstance(error, tomllib.TOMLDecodeError):
            told += _of_comma(decode_text(content))
        raise ConfigError(told) from error


def _of_comma(text: str) -> str:
    """What to do where somebody wrote a number as much of the world does."""
    found = re.search(r"=[ \t]*(-?\d{1,9}),(\d{1,9})[ \t\r]*(?:#|$)", text, re.MULTILINE)
    return f"; write {found[1]},{found[2]} as {found[1]}.{found[2]}" if found else ""


def load_config(kind: type[T], path: Path) -> T:
    """Read `path` into a `kind`; an unknown key is an error, never a silent default."""
    return build_config(kind, read_toml(path), str(path))


def build_config(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Fill the dataclass `kind` from `table`; `where` names the file and table in messages."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} = {shown(table)}: expected a table")
    hints = get_type_hints(kind)
    if inner := _inner(kind):
        return _make(kind, {inner: _convert(hints[inner], table, where)}, where)
    if unknown := sorted(table.keys() - hints.keys()):
        raise ConfigError(
            f"{where}: unknown key {shown(unknown[0])}; choose from {', '.join(hints)}"
        )
    missing = [
        field.name
        for field in fields(kind)  # type: ignore[arg-type]  # every config is a dataclass
        if field.name not in table and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: the key {missing[0]!r} is missing")
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    return _make(kind, values, where)


def _make(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _inner(kind: type[Any]) -> str | None:
    """The field whose table stands for the whole dataclass."""
    return vars(kind).get("TABLE")


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return build_config(hint, value, where)  # type: ignore[arg-type]  # narrowed too far
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):  # only `X | None` is used
        return None if value is None else _convert(arguments[0], value, where)
    if origin is tuple and isinstance(value, list | tuple):
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inner) != len(value):
            raise ConfigError(f"{where} = {shown(value)}: expected {len(inner)} entries")
        return tuple(_convert(i, v, where) for i, v in zip(inner, value, strict=True))
    if origin is dict and isinstance(value, Mapping):
        inner_hint = arguments[1]
        return {
            k: _convert(inner_hint, v, f"{where}.{printable(k, LONGEST_SHOWN)}")
            for k, v in value.items()
        }
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        choices = ", ".join(map(repr, arguments))
        raise ConfigError(f"{where} = {shown(value)}: choose from {choices}")
    if hint is Path and isinstance(value, str | os.PathLike):
        return to_path(value)
    if hint is float and type(value) in (int, float):
        if not abs(value) <= sys.float_info.max:  # nor a whole number beyond it
            raise ConfigError(f"{where} = {shown(value)}: expected a finite number")
        return float(value)
    if hint is int and type(value) is int and not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
        raise ConfigError(f"{where} = {shown(value)}: expected a whole number of 64 bits")
    if hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    expected = hint.__name__ if isinstance(hint, type) else str(hint)
    raise ConfigError(f"{where} = {shown(value)}: expected {expected}")


def to_table(config: Any) -> Any:
    """A config as plain tables and lists: what `build_config` reads back."""
    if is_dataclass(config) and not isinstance(config, type):
        if inner := _inner(type(config)):
            return to_table(getattr(config, inner))
        return {field.name: to_table(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, Mapping):
        return {key: to_table(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_table(value) for value in config]
    return config


def to_toml(config: Any) -> str:
    """Write a config (a dataclass or a nested mapping) as TOML that `load_config` reads back."""
    return "\n".join(_toml_lines(to_table(config), prefix="")) + "\n"


def _toml_lines(table: Mapping[str, Any], prefix: str) -> list[str]:
    plain = {key: v for key, v in table.items() if not isinstance(v, Mapping) and v is not None}
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            name = f"{prefix}{_toml_key(key)}"
            lines += ["", f"[{name}]", *_toml_lines(value, prefix=f"{name}.")]
    return lines


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_toml_key(key)} = {_toml_value(v)}" for key, v in value.items())
        return "{" + inside + "}"
    if isinstance(value, float):
        return repr(value)  # "nan" and "inf" are TOML, JSON's "NaN" is not
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value, ensure_ascii=False)  # TOML's strings, numbers, booleans are JSON's
