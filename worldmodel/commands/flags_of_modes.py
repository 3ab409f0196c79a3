"""A command that does one of several things: a flag that only another of them reads is refused.

    check_flags(options, add, "--places", {"--places": {"world", "walks"}, "--compare": {…}})

Flags that a single thing reads have None as their default, so that any value of them is seen.
"""

import argparse
from collections.abc import Callable, Collection, Mapping

from worldmodel.config import UserError


def check_flags(
    options: argparse.Namespace,
    add: Callable[[argparse.ArgumentParser], None],
    doing: str,
    reads: Mapping[str, Collection[str]],
) -> None:
    """A `UserError` names a flag that was given and that `doing` does not read.

    `reads`: everything the command can do, by the flag that asks for it or in words -> its flags.
    """
    usual = argparse.ArgumentParser()
    add(usual)
    for name in vars(options):
        if name in reads[doing] or getattr(options, name) == usual.get_default(name):
            continue
        readers = [other for other, flags in reads.items() if name in flags]
        if readers:
            flag = f"--{name.replace('_', '-')}"
            with_what = "" if flag in readers else f" ({flag} is for {' or '.join(readers)})"
            raise UserError(f"{flag} means nothing to {doing}: leave one of them out{with_what}")
