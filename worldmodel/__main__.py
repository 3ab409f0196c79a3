"""The jobs around playing: python -m worldmodel JOB.

play     a world, as play.py does
record   collect episodes from a real game        train     one stage, from a TOML file
evaluate a world against the real game            bench     speed on this machine
worlds   list and describe                        data      check what was recorded
import   released models, as worlds               selftest what must not break, tried here
make     a world from nothing, from one recipe    ideas    what each gives per operation
clip     draw the pressed keys into a recording, or show it beside the real game
web      a page that plays a world in the browser, without a server
serve    a world that is played here and shown in browsers
"""

import sys

try:
    from worldmodel.system.starting import Starting, leave
except KeyboardInterrupt:
    sys.exit(130)

with Starting("worldmodel"):
    import argparse
    import os
    from collections.abc import Sequence
    from typing import NoReturn

    from worldmodel import __version__
    from worldmodel.commands import (
        bench,
        clip,
        data,
        evaluate,
        ideas,
        import_,
        make,
        play,
        record,
        selftest,
        serve,
        train,
        web,
        worlds,
    )
    from worldmodel.commands.argument_types import HelpFormatter
    from worldmodel.commands.play import PlayHelp
    from worldmodel.config import UserError
    from worldmodel.system import console
    from worldmodel.system.exit_codes import exit_code_of
    from worldmodel.system.printable import for_programs
    from worldmodel.system.signals import ended_by_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; 0 done, 2 the user must change something, 1 a defect."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # on standard output, beside JSON
    with console.kept() as output:
        with Starting("worldmodel"):
            options = output.parse(make_parser(), arguments)
        code = exit_code_of("worldmodel", lambda: _run(options), UserError)
        if options.is_watched:  # what a game says is not what it is for
            return code
        return output.exit_code(code)


def _run(options: argparse.Namespace) -> int:
    if options.handles_signals:
        return int(options.run(options))
    with ended_by_signals(), for_programs(is_on=options.json):
        return int(options.run(options) or 0)


def make_parser() -> argparse.ArgumentParser:
    """All jobs and their flags; nothing heavy is imported before a job runs."""
    style = HelpFormatter
    parser = argparse.ArgumentParser(
        prog="worldmodel",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(is_watched=False, handles_signals=False, json=False)
    parser.add_argument("--version", action="version", version=f"worldmodel {__version__}")
    jobs = parser.add_subparsers(required=True, metavar="JOB")
    play.add(
        jobs.add_parser(
            "play",
            help="play a world, as play.py does",
            formatter_class=PlayHelp,
            allow_abbrev=False,
        )
    )
    record.add(
        jobs.add_parser("record", help="collect episodes from a game", formatter_class=style)
    )
    train.add(jobs.add_parser("train", help="train one stage", formatter_class=style))
    make.add(jobs.add_parser("make", help="a world from nothing", formatter_class=style))
    about = "train what differs in one thing, and compare"
    ideas.add(jobs.add_parser("ideas", help=about, formatter_class=style))
    data.add(jobs.add_parser("data", help="look at what was recorded"))
    about = "measure a world against the real game"
    evaluate.add(jobs.add_parser("evaluate", help=about, formatter_class=style))
    bench.add(jobs.add_parser("bench", help="measure speed", formatter_class=style))
    selftest.add(jobs.add_parser("selftest", help="try what must not break, on this machine"))
    about = "a new clip of a recording, with its keys or the real game"
    clip.add(jobs.add_parser("clip", help=about))
    about = "a page that plays a world in the browser"
    web.add(jobs.add_parser("web", help=about))
    about = "play a world here, for browsers"
    serve.add(jobs.add_parser("serve", help=about, formatter_class=style))
    import_.add(jobs.add_parser("import", help="make a world of released files"))
    worlds.add(jobs.add_parser("worlds", help="list and describe the worlds that are here"))
    return parser


def run() -> NoReturn:
    """The program, from its first flag to its exit code."""
    leave(main())


if __name__ == "__main__":
    run()
