"""Check what was recorded."""

import argparse
import json

from worldmodel.jobs.numbers import positive
from worldmodel.paths import to_path


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    style = argparse.ArgumentDefaultsHelpFormatter
    kinds = parser.add_subparsers(required=True, metavar="WHAT")
    check = kinds.add_parser("check", help="what is wrong with a data set", formatter_class=style)
    check.add_argument("folder", type=to_path, help="of episodes and recordings")
    check.add_argument("heldout", type=to_path, nargs="?", help="of those to measure on, if any")
    check.add_argument("--clip", type=positive, default=13, help="frames of a clip in training")
    check.add_argument("--json", action="store_true", help="one line for programs, no table")
    check.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; the answer is the exit code, none for 0."""
    from worldmodel.datacheck.faults import check_apart, check_folder
    from worldmodel.datacheck.report import describe

    sets = [check_folder(path, options.clip) for path in (options.folder, options.heldout) if path]
    if len(sets) > 1:
        check_apart(*sets)
    is_fit = not any(data.errors for data in sets)
    if options.json:
        print(json.dumps({"fit": is_fit, "sets": [data.facts() for data in sets]}))
    else:
        print("\n".join(line for data in sets for line in describe(data)))
        print("it can be trained on" if is_fit else "it cannot be trained on as it is")
    return 0 if is_fit else 2
