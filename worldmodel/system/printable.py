"""Text from a file on its way to a person: one line, no control characters, of a length to read.

A terminal obeys what it is sent, so a tensor's name could clear the screen or write over what was
said before. `UserError` goes through here; so does everything else that is printed.

    tell(f"{world.name}: {world.title}")      # in place of print
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TextIO

from worldmodel.system.limits import LONGEST_MESSAGE, LONGEST_SHOWN

_for_programs: ContextVar[bool] = ContextVar("for_programs", default=False)


def printable(text: str, most: int = LONGEST_MESSAGE) -> str:
    """The text with "?" for what has no letter of its own; `most` letters, its middle left out."""
    if len(text) > most:
        text = f"{text[: most - most // 4]}…{text[len(text) - most // 4 :]}"
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "?" for c in text)


def tell(*lines: str, to: TextIO | None = None) -> None:
    """Print lines, whatever files put into them; none: on standard output."""
    stream = (sys.stderr if _for_programs.get() else sys.stdout) if to is None else to
    if stream is not None:  # a program may have been started without one
        stream.write("".join(f"{printable(line, len(line))}\n" for line in lines))
        stream.flush()


@contextlib.contextmanager
def for_programs(*, is_on: bool) -> Iterator[None]:
    """While it is on, `tell` goes to standard error: `tell_json` has the output for itself."""
    before = _for_programs.set(is_on)
    try:
        yield
    finally:
        _for_programs.reset(before)


def tell_json(value: Any) -> None:
    """Print one line of JSON on standard output; what is no finite number is null."""
    tell(json.dumps(_finite(value), allow_nan=False), to=sys.stdout)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def counted(number: int, what: str) -> str:
    """`1 frame`, `2 frames`: a number and a noun."""
    return f"{number} {what if number == 1 else plural(what)}"


def plural(what: str) -> str:
    """Many of a noun: `frames`, `batches`."""
    return f"{what}{'es' if what.endswith(('ch', 'sh', 's', 'x')) else 's'}"


def shown(value: object) -> str:
    """A value for a message: short, on one line, whatever it is."""
    try:
        return printable(repr(value), LONGEST_SHOWN)
    except (ValueError, RecursionError):  # a number of 5000 digits, a nest without end
        return f"a {type(value).__name__}"
