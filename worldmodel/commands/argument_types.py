"""What the flags of several commands have in common: numbers, and how help shows defaults."""

import argparse

from worldmodel.system.limits import MOST_THREADS

JSON_HELP = "one JSON document on standard output; tables and progress go to standard error"


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where it says something: not None, False, or empty."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default is False or action.default in (None, [], "")
        return action.help if says_nothing else super()._get_help_string(action)


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2147483647")
    return int(text)


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    if not count(text):
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def workers(text: str) -> int:
    """How many threads or processes; 0 where the program chooses."""
    if count(text) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {MOST_THREADS} at once")
    return int(text)


def minutes(text: str) -> float:
    """A number of minutes, 0.01 to 10000."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.01 <= number <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes, 0.01 to 10000")
    return number
