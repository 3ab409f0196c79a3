"""The jobs around playing: python -m worldmodel JOB."""

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


JOBS = {
    "play": (play, "play a world, as play.py does"),
    "record": (record, "collect episodes from a game"),
    "train": (train, "train one stage, from a TOML file"),
    "make": (make, "make a world from nothing, from one recipe"),
    "ideas": (ideas, "train what differs in one thing, and compare"),
    "data": (data, "check what was recorded"),
    "evaluate": (evaluate, "measure a world against the real game"),
    "bench": (bench, "measure speed on this machine"),
    "selftest": (selftest, "try what must not break, on this machine"),
    "clip": (clip, "a new clip of a recording, with its keys or beside the real game"),
    "web": (web, "a page that plays a world in the browser, without a server"),
    "serve": (serve, "play a world here, for browsers"),
    "import": (import_, "make a world of released files"),
    "worlds": (worlds, "list and describe the worlds that are here"),
}


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
    parser = argparse.ArgumentParser(prog="worldmodel", description=__doc__)
    parser.set_defaults(is_watched=False, handles_signals=False, json=False)
    parser.add_argument("--version", action="version", version=f"worldmodel {__version__}")
    jobs = parser.add_subparsers(required=True, metavar="JOB")
    for job, (command, about) in JOBS.items():
        plays = command is play  # its flags are those of play.py
        style = PlayHelp if plays else HelpFormatter
        command.add(jobs.add_parser(job, help=about, formatter_class=style, allow_abbrev=not plays))
    return parser


def run() -> NoReturn:
    """The program, from its first flag to its exit code."""
    leave(main())


if __name__ == "__main__":
    run()
