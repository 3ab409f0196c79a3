"""Ctrl-C while a program starts and while it leaves: nothing is lost then, so it ends at once.

with Starting("worldmodel"):
    from worldmodel.commands import play  # what takes a while
...
leave(code)  # in place of sys.exit

An exception would come out of the middle of an import: as a traceback, or not at all where a
library takes it for its own. Nothing is imported here that takes a moment to load.
"""

import contextlib
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import NoReturn

INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended


class Starting:
    """Until the end of the block Ctrl-C ends the program, with one line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_heard = False

    def __enter__(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._end)
            self.is_heard = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _end(self, number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG002  # signal's
        try:
            os.write(2, f"{self.name}: interrupted\n".encode())
        finally:
            os._exit(INTERRUPTED)


def leave(code: int) -> NoReturn:
    """End the program; Ctrl-C while Python and its libraries clean up ends it at once.

    One of several processes (`torchrun`) leaves without that cleaning up: a thread of gloo that
    meanwhile lets go of the last collective's tensors would abort the process (torch 2.13).
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
                stream.flush()
        os._exit(code)
    sys.exit(code)
