"""Check what was recorded."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from worldmodel.commands.argument_types import JSON_HELP, HelpFormatter, positive
from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell, tell_json

if TYPE_CHECKING:
    from worldmodel.datacheck.dataset import DataSet


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    style = HelpFormatter
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    check = kinds.add_parser("check", help="what is wrong with a data set", formatter_class=style)
    check.add_argument("folder", type=to_path, help="of episodes and recordings")
    check.add_argument("heldout", type=to_path, nargs="?", help="of those to measure on, if any")
    check.add_argument("--clip", type=positive, default=13, help="frames of a clip in training")
    check.add_argument("--json", action="store_true", help=JSON_HELP)
    check.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; the answer is the exit code, none for 0."""
    from worldmodel.datacheck.data_report import describe
    from worldmodel.datacheck.faults import check_apart, check_folder

    sets = [check_folder(path, options.clip) for path in (options.folder, options.heldout) if path]
    if len(sets) > 1:
        check_apart(*sets)
    is_broken = any(data.errors for data in sets)
    is_fit = False if is_broken else _is_known_to_fit(sets)
    if options.json:
        tell_json({"fit": is_fit, "sets": [data.facts() for data in sets]})
    else:
        tell(*(line for data in sets for line in describe(data)))
        tell(conclude(sets))
    return 2 if is_broken else 0


def _is_known_to_fit(sets: "Sequence[DataSet]") -> bool | None:
    """None where what matters most could not be told."""
    return None if any(data.timing.lag is None for data in sets) else True


def conclude(sets: "Sequence[DataSet]") -> str:
    """The last line: no more than what is known."""
    if any(data.errors for data in sets):
        return "it cannot be trained on as it is"
    if unknown := [data for data in sets if data.timing.lag is None]:
        return (
            "whether it can be trained on cannot be told: nobody knows whether the actions of "
            f"{unknown[0].folder} stand beside the frames that they caused "
            f"({unknown[0].timing.why}); look at a clip of it"
        )
    if any(data.warnings for data in sets):
        return "it can be trained on, but read the warnings"
    return "it can be trained on"
