"""A thread keeps its own stack for signals while a library compiles in it.

OpenVINO gives the thread that compiles a stack of its own for signals, and puts back what it found
when the compiled model goes. Two models that go in the order in which they came leave the thread
with the stack of the first, which is gone: the next Ctrl-C ends the program with a segmentation
fault, since Python's handlers run on that stack (`SA_ONSTACK`, since Python 3.10).

with kept_signal_stack():
    model = openvino.Core().compile_model(...)
"""

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Afterwards this thread has the signal stack that it had before; Linux only."""
    if not sys.platform.startswith("linux"):
        yield
        return
    change = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    change(None, ctypes.byref(before))
    try:
        yield
    finally:
        change(ctypes.byref(before), None)
