"""Make a world from nothing, from one recipe."""

import argparse

from worldmodel.commands.argument_types import workers
from worldmodel.config import UserError
from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell
from worldmodel.system.unseen_sdl import let_sdl_draw_unseen


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    add = parser.add_argument
    add("recipe", type=to_path, help="a TOML file, for instance configs/siege/recipe.toml")
    add("--minutes", type=float, default=0.0, help="for all of it; 0: what the recipe says")
    add("--out", type=to_path, help="folder of the world (default: assets/worlds/NAME)")
    add("--run", dest="root", type=to_path, help="folder of all the rest (default: runs/NAME)")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    add("--threads", type=workers, default=0, help="of torch; 0: one per core")
    add("--processes", type=workers, default=0, help="that record; 0: one per core")
    add("--rehearse", action="store_true", help="every step, everything small: some minutes")
    add("--plan", action="store_true", help="say what would be done, and when")
    add("--allow-code", action="store_true", help="let the recipe's player be code of your own")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed flags ask for; a `UserError` says what cannot be done."""
    from worldmodel.recipe.maker import Job, make

    let_sdl_draw_unseen()
    if not 0 <= options.minutes < 1e6:
        raise UserError(f"--minutes {options.minutes}: expected a number above 0")
    job = Job(
        recipe=options.recipe,
        minutes=options.minutes,
        out=options.out,
        root=options.root,
        device=options.device,
        threads=options.threads,
        processes=options.processes,
        rehearse=options.rehearse,
        plans_only=options.plan,
        allow_code=options.allow_code,
    )
    make(job, tell)
