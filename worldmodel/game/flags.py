"""The flags of `play.py` and of `worldmodel play`; nothing heavy is imported here."""

import argparse
import math
from collections.abc import Callable
from typing import get_args

from worldmodel.system.limits import FASTEST, MOST_STEPS, MOST_THREADS, SLOWEST
from worldmodel.system.paths import to_path
from worldmodel.world import Spot
from worldmodel.worlds.run_settings import Device, DType, EngineName

DESCRIPTION = "Play a learned world. In the window, F1 shows the keys."
MOST_FRAMES = 1_000_000_000
LARGEST_SEED = 2**63 - 1  # what torch and a file take


class PlayHelp(argparse.HelpFormatter):
    """Wide enough that the help fits a screen."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=22, width=110)


def make_parser() -> argparse.ArgumentParser:
    """All flags; `--help` fits a screen."""
    parser = argparse.ArgumentParser(
        prog="play.py",
        usage="python play.py [options]",
        description=DESCRIPTION,
        formatter_class=PlayHelp,
        allow_abbrev=False,
    )
    add_flags(parser)
    return parser


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of play to a parser."""
    add = parser.add_argument
    add("--world", metavar="NAME", help="name or folder of a world (default: the one shipped)")
    what = "number of a start, a clip, video or image, or real: a fresh real episode (0)"
    add("--start", metavar="N", default="0", help=what)
    add("--at", metavar="X,Y,HEADING", type=_spot, help="begin at a place of the level's map (M)")
    seed, steps = count(0, LARGEST_SEED), count(0, MOST_STEPS)
    add("--prompt", metavar="TEXT", help="what a world with text is told first")
    add("--prompts", metavar="FILE", type=to_path, help="what it is told when: '12.5 It rains.'")
    add("--seed", metavar="N", type=seed, default=0, help="seed of the noise and player (0)")
    add("--steps", metavar="N", type=steps, default=0, help="denoising steps (0: the world's)")
    add("--device", default="auto", choices=get_args(Device), help="(auto)")
    add("--dtype", default="auto", choices=get_args(DType), help="(auto)")
    add("--engine", default="auto", choices=get_args(EngineName), help="(the fastest)")
    add("--compile", action="store_true", help="torch, fused by its compiler; minutes to begin")
    threads, frames = count(0, MOST_THREADS), count(0, MOST_FRAMES)
    add("--threads", metavar="N", type=threads, default=0, help="threads (0: the fastest)")
    add(
        "--record",
        metavar="PATH",
        nargs="?",
        const="",
        help="record from the first frame (into recordings/); F6 does it later",
    )
    add(
        "--load", metavar="FILE", nargs="?", const="", help="go on from a saved moment (the newest)"
    )
    add("--show-keys", action="store_true", help="make another clip of it, with the pressed keys")
    add(
        "--side-by-side",
        "--beside",
        action="store_true",
        help="begin with the real game at the world's side (F7); --beside is the old spelling",
    )
    add(
        "--replay", metavar="FILE", type=to_path, help="play a recording's .jsonl again and compare"
    )
    who = "human, idle, random, a script or a policy as MODULE:CALLABLE (human)"
    add("--player", metavar="WHO", default="human", help=who)
    add("--allow-code", action="store_true", help="let --player run code of your own")
    add("--frames", metavar="N", type=frames, help="stop after N frames (no window: 300)")
    add("--headless", action="store_true", help="no window; a scripted player, a clip, numbers")
    add("--fps", metavar="N", type=_rate, help="frame rate, 0 for no limit (the world's own)")
    add("--scale", metavar="N", type=count(1, 64), help="window pixels per pixel (960 wide)")
    add("--fullscreen", action="store_true", help="begin in fullscreen")
    add("--controls", metavar="FILE", type=to_path, help="keys and mouse speed, TOML (WASD, mouse)")
    add(
        "--rewind-megabytes",
        metavar="N",
        type=count(1, 1 << 22),
        default=256,
        help="memory for going back with Backspace (256)",
    )
    add("--sync", action="store_true", help="make frames in the window's thread")
    add(
        "--no-hud",
        action="store_true",
        help="no numbers and keys on the screen, whatever the settings say",
    )


def count(low: int, high: int) -> Callable[[str], int]:
    """What reads a whole number from `low` to `high`."""

    def read(text: str) -> int:
        is_number = text.isdecimal() and len(text) <= len(str(high))
        if not is_number or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {low} to {high}")
        return int(text)

    return read


def _spot(text: str) -> Spot:
    try:
        x, y, heading = (float(number) for number in text.split(","))
    except ValueError:
        x = y = heading = math.nan
    if not all(abs(number) < 1e6 for number in (x, y, heading)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no place: expected X,Y,HEADING, three numbers like 460,-90,180"
        )
    return Spot(x, y, heading)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if rate and not SLOWEST <= rate <= FASTEST:  # NaN is neither
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a frame rate from {SLOWEST} to {FASTEST:g}, or 0 for no limit"
        )
    return rate
