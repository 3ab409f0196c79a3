"""How a program ends: what its user can mend is said on a line, and no traceback shown.

So is what the machine refuses: no place, no permission, a name that is too long. Readers and
writers say such things better, with what to do; what none of them has met ends here.
"""

import sys
from collections.abc import Callable

from worldmodel.system.printable import printable
from worldmodel.system.signals import describe


def exit_code_of(name: str, run: Callable[[], int], mended: type[Exception]) -> int:
    """What `run` answers; 2 where its user must change something (`mended`, the machine)."""
    try:
        return run()
    except mended as error:
        message, code = str(error), 2
    except (OSError, MemoryError) as error:
        message, code = describe_fault(error), 2
    except KeyboardInterrupt as error:
        message, code = describe(error)
    sys.stderr.write(f"{name}: {message}\n")
    return code


def describe_fault(error: OSError | MemoryError) -> str:
    """One sentence: the file, if one is known, and what the system says of it."""
    if isinstance(error, MemoryError):
        return printable(f"not enough memory: {error}" if str(error) else "not enough memory")
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = error.strerror or str(error) or type(error).__name__
    return printable(": ".join((*names, reason)))
