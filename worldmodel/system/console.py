"""Standard output and error that cannot end a game or a training: missing, closed, full, gone.

    with console.kept() as output:
        options = output.parse(parser, arguments)
        ...                          # print as ever
    return output.exit_code(code)    # what was to be read and was not written is no success

A terminal that has gone answers with EIO, a pipe that nobody reads with EPIPE, a full disk with
ENOSPC; a program that was started without standard output has none at all. None of that is worth a
night of training. What an encoding cannot say is written as a question mark.
"""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

NOBODY_READS = 141  # what a shell says of a program whose reader has left


class Stream:
    """A text stream whose failures are remembered, not raised."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.failure: OSError | None = None
        self.lost = False  # whether anything was to be written that was not

    def write(self, text: str) -> int:
        """Write what can be written."""
        if self.stream is None or self.failure:
            self.lost = self.lost or bool(text)
            return len(text)
        try:
            self.stream.write(self._sayable(text))
        except (OSError, ValueError) as error:  # ValueError: closed
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Write out what is buffered."""
        if self.stream is None or self.failure:
            return
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._fail(error)

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        if self.stream is None or self.failure:
            return False
        with contextlib.suppress(OSError, ValueError):
            return self.stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self.stream, name)

    def _sayable(self, text: str) -> str:
        encoding = self.stream.encoding if self.stream else None
        try:
            text.encode(encoding or "utf-8")
        except UnicodeError:
            return text.encode(encoding or "utf-8", "replace").decode(encoding or "utf-8")
        except LookupError:
            return text.encode("ascii", "replace").decode()
        return text

    def _fail(self, error: OSError | ValueError) -> None:
        """From here on nothing is written; what lies in buffers must not fail at the end again."""
        self.failure = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
        self.lost = True
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # type: ignore[union-attr]  # suppressed
            os.close(nowhere)


class Output:
    """Both streams of a program."""

    def __init__(self) -> None:
        self.out, self.err = Stream(sys.stdout), Stream(sys.stderr)

    def parse(
        self, parser: argparse.ArgumentParser, arguments: Sequence[str] | None
    ) -> argparse.Namespace:
        """The flags; a help or a version that nobody got ends as any list does."""
        try:
            return parser.parse_args(arguments)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
            raise SystemExit(self.exit_code(code)) from None

    def exit_code(self, code: int) -> int:
        """The program's own, unless it was to print something that nobody got."""
        self.out.flush()
        if code or not self.out.lost:
            return code
        failure = self.out.failure
        if failure and failure.errno == errno.EPIPE:
            return NOBODY_READS
        why = (failure.strerror or str(failure)) if failure else "there is none"
        self.err.write(f"worldmodel: standard output could not be written: {why}\n")
        return 2


@contextlib.contextmanager
def kept() -> Iterator[Output]:
    """Put both streams in place of the system's, and those back at the end."""
    before, output = (sys.stdout, sys.stderr), Output()
    sys.stdout, sys.stderr = output.out, output.err
    try:
        yield output
    finally:
        output.out.flush()
        output.err.flush()
        sys.stdout, sys.stderr = before
