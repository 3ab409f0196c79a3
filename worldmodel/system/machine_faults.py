"""What the machine refuses, in one sentence: no place, no permission, a name that is too long.

Readers and writers say such things better, with what to do. What none of them has met ends here,
at the entry points, and not in a traceback.
"""

from worldmodel.system.printable import printable

MACHINE_FAULTS = (OSError, MemoryError)


def describe_fault(error: OSError | MemoryError) -> str:
    """One sentence: the file, if one is known, and what the system says of it."""
    if isinstance(error, MemoryError):
        return printable(f"not enough memory: {error}" if str(error) else "not enough memory")
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = error.strerror or str(error) or type(error).__name__
    return printable(": ".join((*names, reason)))
