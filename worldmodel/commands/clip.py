"""Make a new clip of a recording: with its keys, or beside the real game."""

import argparse
import os

from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    parser.add_argument("recording", type=to_path, help="the .jsonl or .mp4 of a recording")
    parser.add_argument(
        "--side-by-side",
        "--beside",
        action="store_true",
        help="the real game at its side, no keys; --beside is the old spelling",
    )
    parser.add_argument(
        "--out",
        type=to_path,
        help="the clip, or its folder (NAME_keys.mp4 or NAME_side_by_side.mp4)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed flags ask for; a `UserError` says what cannot be done."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    recording, out = options.recording, options.out
    # `Path.is_dir` raises for names of 300 letters
    if out is not None and (out.name in ("", "..") or os.path.isdir(out)):  # noqa: PTH112
        out /= f"{recording.stem}_{'side_by_side' if options.side_by_side else 'keys'}.mp4"
    if options.side_by_side:
        from worldmodel.data_sources.doom import open_game
        from worldmodel.game.side_by_side_clip import keep_side_by_side, origin_of_recording

        origin = origin_of_recording(recording)
        tell(str(keep_side_by_side(recording, origin, open_game, out)))
        return
    from worldmodel.game.clip_with_keys import draw_keys

    tell(str(draw_keys(recording, out)))
