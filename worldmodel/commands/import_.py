"""Make a world of released files."""

import argparse

from worldmodel.config import UserError
from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    add = parser.add_argument
    add("files", type=to_path, nargs="+", metavar="FILE", help="weights: .pt, .pth, .safetensors")
    add("--to", type=to_path, required=True, metavar="WORLD", help="folder to make or to add to")
    add("--recipe", help="how a student is sampled, where its tensors do not say")
    add("--title", default="", help="one line about the world")
    add("--prompt", action="append", default=[], metavar="TEXT", help="opening words, one a start")
    add(
        "--key",
        action="append",
        default=[],
        metavar="CODE=TEXT",
        help="words on a key, Digit1='+ It rains.'; + adds them to the opening words",
    )
    add(
        "--picture",
        action="append",
        default=[],
        type=to_path,
        metavar="FILE",
        help="a start of a world that begins with a picture, encoded now",
    )
    add("--text-encoder", type=to_path, metavar="FILE", help="UMT5-XXL's weights, for any words")
    kinds = ["bfloat16", "float32", "float8", "file"]
    add("--dtype", default="bfloat16", choices=kinds, help="of weights; float8: its large matrices")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed flags ask for; a `UserError` says what cannot be done."""
    import torch

    from worldmodel.worlds.wan.description import alike, sources_of
    from worldmodel.worlds.wan.found_parts import ImportPlan
    from worldmodel.worlds.wan.importer import import_files
    from worldmodel.worlds.wan.prompt_encoder import unsaid

    pairs = [text.partition("=") for text in options.key]
    if wrong := [code for code, equals, text in pairs if not (code and equals and text)]:
        raise UserError(f"--key {wrong[0]!r}: expected a key and words, like Digit1='+ It rains.'")
    kinds = {
        "bfloat16": torch.bfloat16,
        "float32": torch.float32,
        "float8": torch.float8_e4m3fn,
        "file": None,
    }
    plan = ImportPlan(
        recipe=options.recipe,
        title=options.title,
        openings=tuple(options.prompt),
        pictures=tuple(options.picture),
        keys={code: text for code, _, text in pairs},
        text_encoder=str(options.text_encoder.resolve()) if options.text_encoder else "",
        dtype=kinds[options.dtype],
    )
    world = import_files(options.files, options.to, plan)
    tell(f"{options.to}: {world.title}")
    for line in sources_of(world):
        tell(f"  {line}")
    if also := alike(world):
        tell(f"  {also}")
    if world.controls and not world.start_pictures:
        tell("  it has no picture to begin with yet: name --picture, or play it with --start")
    for text in [] if world.controls else unsaid(options.to, world):
        tell(
            f"  {text!r} cannot be said yet: name --text-encoder, or import a file that has its "
            "embedding"
        )
