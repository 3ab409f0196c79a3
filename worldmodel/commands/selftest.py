"""Try on this machine what must not break."""

import argparse
import os

from worldmodel.commands.argument_types import minutes


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    parser.add_argument("--world", help="folder or name; none: the default world")
    parser.add_argument("--minutes", type=minutes, default=15.0, help="about how long")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; the answer is the exit code, none for 0."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from worldmodel.selftest.report_all import print_report, selftest

    report = selftest(options.world, options.minutes)
    print_report(report)
    return 0 if report.is_fine else 1
