"""List and describe the worlds that are here."""

import argparse

from worldmodel.commands.argument_types import JSON_HELP
from worldmodel.system.printable import counted, tell, tell_json


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    about = "compare every file of these worlds with the sha256 in world.toml (none: all shipped)"
    parser.add_argument("--check", nargs="*", metavar="WORLD", help=about)
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed flags ask for; a `UserError` says what cannot be done."""
    from worldmodel.worlds.find import check_world, find_world, list_all_worlds

    if options.check is not None:
        folders = [find_world(name) for name in options.check]
        checked = {}
        for folder in folders or [folder for folder, _ in list_all_worlds()]:
            checked[str(folder)] = check_world(folder)
            tell(f"{folder}: {checked[str(folder)]} files are what {folder.name} says they are")
        if options.json:
            tell_json({"checked": checked})
        return
    facts = []
    for folder, world in list_all_worlds():
        (rows, columns), captions = world.frame_size, world.captions
        tell(f"{world.name:16} {world.title}")
        tell(
            f"{'':16} {columns}x{rows}, {world.frames_per_second:g} frames/s, "
            f"{counted(world.sampler.steps, 'denoising step')}, licence {world.licence}; {folder}"
        )
        for number, caption in enumerate(captions):
            tell(f"{'':16} start {number}: {caption}")
        facts.append(
            {
                "name": world.name,
                "title": world.title,
                "folder": str(folder),
                "columns": columns,
                "rows": rows,
                "frames_per_second": world.frames_per_second,
                "steps": world.sampler.steps,
                "licence": world.licence,
                "starts": list(captions),
            }
        )
    if options.json:
        tell_json({"worlds": facts})
