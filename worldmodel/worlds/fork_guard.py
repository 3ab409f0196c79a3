"""A world cannot compute in a process that was forked from one in which a world has computed.

The threads of torch and OpenVINO stay behind in a fork, and the first frame waits for them for
ever. Gymnasium's asynchronous environments fork on Linux unless they are told otherwise.
"""

import functools
import os

from worldmodel.config import UserError


class ForkedError(UserError):
    """The process was forked, and must not compute."""


@functools.cache
def computing_process() -> int:
    """The first process in which a world was to compute: a fork remembers it."""
    return os.getpid()


def refuse_fork() -> None:
    """A `ForkedError` where computing would hang."""
    if computing_process() != os.getpid():
        raise ForkedError(
            "this process was forked from one in which a world has computed, and the threads that "
            'compute stayed there; start it anew: context "spawn" or "forkserver" (Gymnasium: '
            'make_vec(..., vectorization_mode="async", vector_kwargs={"context": "spawn"})), or '
            "use the batch that make_vec gives by itself, which is faster"
        )
