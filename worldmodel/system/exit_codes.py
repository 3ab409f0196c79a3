"""How a program ends: what its user can mend is said on a line, and no traceback shown."""

import sys
from collections.abc import Callable

from worldmodel.system.machine_faults import MACHINE_FAULTS, describe_fault
from worldmodel.system.signals import describe


def exit_code_of(name: str, run: Callable[[], int], mended: type[Exception]) -> int:
    """What `run` answers; 2 where its user must change something (`mended`, the machine)."""
    try:
        return run()
    except mended as error:
        message, code = str(error), 2
    except MACHINE_FAULTS as error:
        message, code = describe_fault(error), 2
    except KeyboardInterrupt as error:
        message, code = describe(error)
    sys.stderr.write(f"{name}: {message}\n")
    return code
