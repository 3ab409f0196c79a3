"""SIGTERM and SIGHUP end a program as Ctrl-C does: everything gets to disk, then it says so.

with ended_by_signals():
    ...          # `EndedError`, a `KeyboardInterrupt`, comes out of here
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = ("SIGTERM", "SIGHUP")  # the second is not there on Windows


class EndedError(KeyboardInterrupt):
    """The program was asked to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def describe(error: KeyboardInterrupt) -> tuple[str, int]:
    """What to say, and the exit code as a shell has it."""
    if isinstance(error, EndedError):
        return f"ended by {error}", 128 + error.number
    return "interrupted", 130


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise where the program is, once: what comes while it ends is not heard.

    What ignores a signal (`nohup`) goes on ignoring it; only the main thread can listen.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = False

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # signal's signature
        nonlocal heard
        if not heard and not sys.is_finalizing():
            heard = True
            raise EndedError(number)

    before = {}
    for name in ENDING:
        number = signal.Signals.__members__.get(name)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def on_hangup(do: Callable[[], None]) -> Iterator[None]:
    """Call something when the terminal goes away, in place of being ended by it."""
    number = signal.Signals.__members__.get("SIGHUP")
    is_main = threading.current_thread() is threading.main_thread()
    if number is None or not is_main or signal.getsignal(number) != signal.SIG_DFL:
        yield
        return
    before = signal.signal(number, lambda *_: do())
    try:
        yield
    finally:
        signal.signal(number, before)
