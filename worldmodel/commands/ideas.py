"""What ideas give per operation: runs that differ in one thing, and their table."""

import argparse

from worldmodel.commands.argument_types import workers
from worldmodel.commands.studies import find_studies
from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    add = parser.add_argument
    add("file", type=to_path, help="a TOML file, for instance configs/doom/ideas/teacher.toml")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    add("--threads", type=workers, default=0, help="of torch; 0: one per core")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed flags ask for; a `UserError` says what cannot be done."""
    find_studies()
    from studies.ideas.ideas_page import write_page
    from studies.ideas.try_ideas import read_ideas, try_ideas
    from worldmodel.worlds.devices import choose_device

    plan = read_ideas(options.file)
    for outcomes in try_ideas(plan, choose_device(options.device), options.threads):
        write_page(plan, outcomes)
        tell(f"{len(outcomes)} of {len(plan.variants)} runs in {plan.page}")
