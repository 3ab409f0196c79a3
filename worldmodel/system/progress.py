"""How far a job has come: a bar at a terminal, and in a log a line now and then.

    for path in through(paths, desc="frames", unit="episode"):
        ...
    with Progress(total=400, desc="siege", unit="frame") as progress:
        progress.update(100)

A bar draws itself anew ten times a second over what it drew before. In a file or a pipe that would
be hundreds of kilobytes on one line, so there it is a plain line every ten seconds at most, of all
that is going on; a job that is shorter says nothing.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

from tqdm import tqdm

from worldmodel.system.printable import plural, printable, tell

T = TypeVar("T")
LINE_SECONDS = 10.0  # between two lines, whoever writes them


class _Log:
    """When the last line was written, or else when the outermost job began."""

    since = 0.0
    running = 0


def _is_watched() -> bool:
    """Whether a terminal shows what is written beside the results."""
    return sys.stderr is not None and sys.stderr.isatty()


def note(text: str) -> None:
    """A line beside the bars, without control characters."""
    if _is_watched():
        tqdm.write(printable(text), file=sys.stderr)
    else:
        tell(text, to=sys.stderr)


class Progress:
    """Counts what is done, of `total`, and shows it where somebody looks."""

    def __init__(
        self,
        *,
        total: float | None = None,
        desc: str | None = None,
        unit: str = "",
        initial: int = 0,
        leave: bool = False,
        disable: bool = False,
        **look: Any,
    ) -> None:
        """`unit`: what is counted, in the singular; `look`: how tqdm draws its bar."""
        self.desc, self.unit, self.postfix = printable(desc or ""), unit, ""
        self.n: float = initial
        self._total, self._initial = total, initial
        self._bar: Any = None
        self._is_quiet = disable
        self._began = time.monotonic()
        if _is_watched() and not disable:
            names = {"desc": self.desc or None, "unit": unit or "it", "initial": initial}
            self._bar = tqdm(total=total, leave=leave, file=sys.stderr, **names, **look)
        if not _Log.running:
            _Log.since = max(_Log.since, self._began)
        _Log.running += 1
        self._is_open = True

    @property
    def total(self) -> float | None:
        """How much there is to do; None: nobody knows."""
        return self._total

    @total.setter
    def total(self, total: float | None) -> None:
        self._total = total
        if self._bar is not None:
            self._bar.total = total
            self._bar.refresh()

    def update(self, count: float = 1) -> None:
        """Count so much more as done."""
        self.n += count
        if self._bar is not None:
            self._bar.update(count)
        elif not self._is_quiet and (now := time.monotonic()) - _Log.since >= LINE_SECONDS:
            _Log.since = now
            tell(self._line(now), to=sys.stderr)

    def describe(self, desc: str) -> None:
        """What is being done from now on."""
        self.desc = printable(desc)
        if self._bar is not None:
            self._bar.set_description(self.desc)

    def add(self, **figures: str) -> None:
        """Figures that are shown beside."""
        self.postfix = ", ".join(f"{name} {value}" for name, value in figures.items())
        if self._bar is not None:
            self._bar.set_postfix(figures)

    def close(self) -> None:
        """Finish the line: nothing more will be counted."""
        if not self._is_open:
            return
        self._is_open = False
        _Log.running -= 1
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, now: float) -> str:
        """How much of it, the figures, the time gone and left."""
        of = f" of {self._total:.0f}" if self._total else ""
        unit = f" {plural(self.unit)}" if self.unit else ""
        parts = [f"{self.n:.0f}{of}{unit}", self.postfix]
        gone, done = now - self._began, self.n - self._initial
        parts.append(f"{tqdm.format_interval(gone)} gone")
        if self._total and done > 0:
            left = gone / done * max(0.0, self._total - self.n)
            parts.append(f"{tqdm.format_interval(left)} left")
        return f"{self.desc}: " * bool(self.desc) + ", ".join(filter(None, parts))


def through(over: Iterable[T], **look: Any) -> Iterator[T]:
    """What is in `over`, one after the other, counted by a `Progress`; `look`: what that takes."""
    total = len(over) if isinstance(over, Sized) else None
    with Progress(total=total, **look) as progress:
        for one in over:
            yield one
            progress.update()
