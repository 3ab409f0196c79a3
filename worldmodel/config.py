"""Configs are frozen dataclasses; TOML files fill them and cannot say anything else.

A dataclass whose class attribute `TABLE` names one of its fields is written as that field's table.
Where its `FORMERLY` says which keys had another name, files with those are read, with a word on it.
What defines a model has no default, how to run it has one. Nested tables are nested dataclasses,
an unknown key is an error, and a message always names the file, the key and the choices.
"""

import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from worldmodel.system.encoding import decode_text
from worldmodel.system.limits import (
    LARGEST_INTEGER,
    LARGEST_TOML,
    LONGEST_SHOWN,
    MOST_KEY_PARTS,
)
from worldmodel.system.not_downloaded import HEAD, what_instead
from worldmodel.system.paths import to_path
from worldmodel.system.printable import printable, shown, tell

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

_FORMERLY = "FORMERLY"
DEEPEST_LIKE = 8  # files that stand on one another

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
        message = f"{path}: cannot be read as TOML: {reason}"
        if isinstance(error, tomllib.TOMLDecodeError):
            message += _of_comma(decode_text(content))
        raise ConfigError(message) from error


def _of_comma(text: str) -> str:
    """What to do where somebody wrote a number as much of the world does."""
    found = re.search(r"=[ \t]*(-?\d{1,9}),(\d{1,9})[ \t\r]*(?:#|$)", text, re.MULTILINE)
    return f"; write {found[1]},{found[2]} as {found[1]}.{found[2]}" if found else ""


def read_derived_toml(path: Path, above: int = 0) -> dict[str, Any]:
    """The table in a TOML file, on top of the file beside it that its key `like` names."""
    table = read_toml(path)
    like = table.pop("like", None)
    if like is None:
        return table
    if not isinstance(like, str) or above >= DEEPEST_LIKE:
        raise ConfigError(
            f"{path}: like = {shown(like)}: expected the name of a file, of at most "
            f"{DEEPEST_LIKE} that stand on one another"
        )
    return merged(read_derived_toml(path.parent / to_path(like), above + 1), table)


def merged(table: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the change's entries, tables inside it merged alike."""
    whole = dict(table)
    for key, value in change.items():
        old = whole.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        whole[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return whole


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
    table = _with_todays_keys(kind, table, where)
    hints.pop(_FORMERLY, None)
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


def _with_todays_keys(kind: type[Any], table: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The table with today's names of keys; each file is told once of an old one."""
    formerly: Mapping[str, str] = vars(kind).get(_FORMERLY, {})
    old = [key for key in formerly if key in table]
    for key in old:
        if formerly[key] in table:
            raise ConfigError(f"{where}: {key} and {formerly[key]} are the same key; keep one")
        _tell_of_name(where, key, formerly[key])
    return {formerly.get(key, key): value for key, value in table.items()} if old else table


@lru_cache(maxsize=256)
def _tell_of_name(where: str, old: str, new: str) -> None:
    tell(f"{where}: the key {old} is now called {new}", to=sys.stderr)


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
