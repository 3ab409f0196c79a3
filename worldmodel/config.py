"""Configs are frozen dataclasses; TOML files fill them and cannot say anything else.

What defines a model has no default, how to run it has one. Nested tables are nested dataclasses,
an unknown key is an error, and a message always names the file, the key and the choices.
"""

import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from worldmodel.paths import to_path
from worldmodel.strangers import HEAD, what_instead
from worldmodel.text import decode_text

T = TypeVar("T")

LARGEST_TOML = 1 << 20  # bytes
LARGEST_CACHE = 16 << 30  # bytes of keys and values, in fp32


class UserError(ValueError):
    """Something that the user can change; entry points print it without a traceback, exit 2."""


class ConfigError(UserError):
    """A config file asks for something the program does not offer."""


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

        slots = self.context_frames + self.sink_frames
        cache = 8 * self.layers * slots * self.tokens_per_frame * self.width
        if cache > LARGEST_CACHE:
            raise ConfigError(
                f"context_frames ({self.context_frames}) of {self.tokens_per_frame} tokens need a "
                f"cache of {cache >> 30} GB, at most {LARGEST_CACHE >> 30} GB are allowed"
            )

    @property
    def tokens_per_frame(self) -> int:
        """Action tokens, then one token per latent position."""
        return self.action_tokens + self.latent_height * self.latent_width

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
class AutoencoderConfig:
    """The shape of a frame autoencoder. Every entry of `widths` halves the frame once."""

    widths: tuple[int, ...]  # channels after each halving, finest first
    blocks: int  # residual blocks at each resolution
    latent_channels: int
    frame_height: int
    frame_width: int

    def __post_init__(self) -> None:
        require_positive(self, "blocks", "latent_channels", "frame_height", "frame_width")
        require_at_most(self, 64, "blocks")
        require_at_most(self, 1 << 16, "latent_channels")
        require_at_most(self, 8192, "frame_height", "frame_width")
        if not 1 <= len(self.widths) <= 12 or not 1 <= min(self.widths) <= max(self.widths) <= 8192:
            raise ConfigError(
                f"widths {_shown(list(self.widths))} must hold 1 to 12 numbers from 1 to 8192"
            )
        down = self.downsampling
        if self.frame_height % down or self.frame_width % down:
            raise ConfigError(
                f"frames of {self.frame_height} x {self.frame_width} do not divide by "
                f"{down}, which {len(self.widths)} halvings need"
            )

    @property
    def downsampling(self) -> int:
        """Pixels per latent position, along each axis."""
        return int(2 ** len(self.widths))

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
            few = 2 <= len(sigmas) <= 1001
            if not few or sigmas[0] != 1.0 or sigmas[-1] != 0.0 or not falls:
                raise ConfigError(f"{name} {_shown(list(sigmas))} must fall from 1.0 to 0.0")
        if not 0 <= self.context_sigma < 1 or not 0 <= self.latent_step < 1e6:
            raise ConfigError(
                f"context_sigma ({self.context_sigma}) must be in [0, 1), latent_step "
                f"({self.latent_step}) at least 0"
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


def require_positive(config: Any, *names: str) -> None:
    """Refuse a config whose counts or sizes `names` are below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} = {getattr(config, name)}: must be at least 1")


def require_at_most(config: Any, most: int, *names: str) -> None:
    """Refuse a config that asks for more than any machine gives."""
    for name in names:
        if getattr(config, name) > most:
            raise ConfigError(f"{name} = {_shown(getattr(config, name))}: at most {most}")


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
        return tomllib.loads(decode_text(content))
    except ConfigError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # ValueError: a number of 5000 digits
        told = f"{path}: cannot be read as TOML: {_brief(error)}"
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
        raise ConfigError(f"{where} = {_shown(table)}: expected a table")
    hints = get_type_hints(kind)
    if unknown := sorted(table.keys() - hints.keys()):
        raise ConfigError(
            f"{where}: unknown key {_shown(unknown[0])}; choose from {', '.join(hints)}"
        )
    missing = [
        field.name
        for field in fields(kind)  # type: ignore[arg-type]  # every config is a dataclass
        if field.name not in table and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: the key {missing[0]!r} is missing")
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return build_config(hint, value, where)  # type: ignore[arg-type]  # narrowed too far
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):  # only `X | None` is used
        return None if value is None else _convert(arguments[0], value, where)
    if origin is tuple and isinstance(value, list | tuple):
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inner) != len(value):
            raise ConfigError(f"{where} = {_shown(value)}: expected {len(inner)} entries")
        return tuple(_convert(i, v, where) for i, v in zip(inner, value, strict=True))
    if origin is dict and isinstance(value, Mapping):
        return {key: _convert(arguments[1], v, f"{where}.{key}") for key, v in value.items()}
    if origin is Literal:
        if value in arguments:
            return value
        choices = ", ".join(map(repr, arguments))
        raise ConfigError(f"{where} = {_shown(value)}: choose from {choices}")
    if hint is Path and isinstance(value, str | os.PathLike):
        return to_path(value)
    if hint is float and type(value) in (int, float):
        if not abs(value) <= sys.float_info.max:  # nor a whole number beyond it
            raise ConfigError(f"{where} = {_shown(value)}: expected a finite number")
        return float(value)
    if hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    expected = hint.__name__ if isinstance(hint, type) else str(hint)
    raise ConfigError(f"{where} = {_shown(value)}: expected {expected}")


def _shown(value: Any) -> str:
    """A value for a message: short, on one line, whatever it is."""
    try:
        return _shortened(repr(value))
    except (ValueError, RecursionError):  # a number of 5000 digits, a nest without end
        return f"a {type(value).__name__}"


def _brief(error: BaseException) -> str:
    return _shortened(str(error) or type(error).__name__)


def _shortened(text: str) -> str:
    flat = "".join(c if c.isprintable() else " " for c in text[:200])
    return flat if len(text) <= 200 else f"{flat}…"


def to_toml(config: Any) -> str:
    """Write a config (a dataclass or a nested mapping) as TOML that `load_config` reads back."""
    table = asdict(config) if is_dataclass(config) and not isinstance(config, type) else config
    return "\n".join(_toml_lines(table, prefix="")) + "\n"


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
