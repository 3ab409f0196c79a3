"""Collect episodes from a real game."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel.commands.argument_types import count, positive
from worldmodel.commands.flags_of_modes import check_flags
from worldmodel.config import UserError
from worldmodel.system.paths import to_path
from worldmodel.system.printable import counted, tell
from worldmodel.system.unseen_sdl import let_sdl_draw_unseen

if TYPE_CHECKING:
    from worldmodel.data_sources.gym import GymConfig
    from worldmodel.data_sources.record import RecordPlan

_ALL = {"out", "frames", "seed", "size"}
_ENV = {"env", "env_arg", "player", "allow_code", "keys", "noop", "skip", "rate", "crop", "fit"}
_ENV |= {"state", "through_ends", *_ALL}
READS = {
    "a recording of Doom": {"level", "tics", "episode_frames", *_ALL},
    "--env": {"episode_frames", *_ENV},
    "--player human": _ENV,
}
NEEDS_SCREEN = "--player human needs a screen"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    parser.add_argument("--out", type=to_path, help="folder of episodes (data/doom, or data/ENV)")
    parser.add_argument("--level", default="my_way_home", help="a ViZDoom scenario")
    parser.add_argument("--frames", type=positive, default=20_000, help="frames to collect, about")
    _add_gym(parser.add_argument_group("any other game: a Gymnasium environment"))
    parser.add_argument("--episode-frames", type=positive, default=600, help="longest episode")
    parser.add_argument("--seed", type=count, default=0, help="seed of the first episode")
    parser.add_argument("--size", default="64x48", help="width x height of the frames")
    parser.add_argument("--tics", type=positive, default=2, help="game tics a frame, 35 a second")
    parser.set_defaults(run=run)


def _add_gym(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--env",
        metavar="ID",
        help="its name; MODULE:NAME imports a module first, NAME may be a class",
    )
    add("--env-arg", metavar="NAME=VALUE", action="append", default=[], help="for gymnasium.make")
    add("--player", default="sticky", help="human, sticky, random or code as MODULE:CALLABLE")
    add("--allow-code", action="store_true", help="let --player run code of your own")
    add("--keys", metavar="KEY=ACTION,…", help="what each key does: ArrowLeft=0,ArrowRight=2")
    add("--noop", metavar="ACTION", help="what no key does (the environment's own, or 0)")
    add("--skip", type=positive, default=1, help="steps of the environment that a frame takes")
    add("--rate", type=float, help="steps a second (the environment's own, or 30)")
    add("--crop", metavar="X,Y,W,H", help="the part of the picture to record, in its pixels")
    add("--fit", default="stretch", choices=["stretch", "crop", "pad"], help="picture into --size")
    add(
        "--state",
        metavar="NAME=PATH[:KIND]",
        action="append",
        default=[],
        help="a number to record beside the frames: x=info.position.0:position, speed=obs.3",
    )
    add("--through-ends", action="store_true", help="one recording goes on over episodes' ends")


def run(options: argparse.Namespace) -> int:
    """Do it; the answer is the exit code, none for 0."""
    from worldmodel.data_sources.record import read_size

    size = read_size(options.size)
    if options.env:
        is_human = options.player == "human"
        check_flags(options, add, "--player human" if is_human else "--env", READS)
        return _record_gym(options, size)
    if options.player != "sticky":
        raise UserError("--player is for --env; Doom has an explorer of its own")
    if options.state:
        raise UserError("--state is for --env; what Doom knows of itself is always recorded")
    check_flags(options, add, "a recording of Doom", READS)
    from worldmodel.data_sources.doom import Doom, DoomConfig
    from worldmodel.data_sources.doom_players import make_doom_player
    from worldmodel.data_sources.record import record_episodes

    config = DoomConfig(
        level=options.level,
        frame_width=size[1],
        frame_height=size[0],
        tics_per_frame=options.tics,
    )
    plan = _plan(options, "doom")
    with Doom(config) as game:
        done = record_episodes(game, make_doom_player, plan)
    tell(f"{counted(done, 'frame')} in {plan.folder}")
    return 0


def _plan(options: argparse.Namespace, game: str) -> "RecordPlan":
    from worldmodel.data_sources.record import RecordPlan

    return RecordPlan(
        folder=options.out or Path("data") / game,
        frames=options.frames,
        episode_frames=options.episode_frames,
        seed=options.seed,
    )


def _record_gym(options: argparse.Namespace, size: tuple[int, int]) -> int:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from worldmodel.data_sources.gym import GymConfig, open_game
    from worldmodel.data_sources.gym_players import find_player
    from worldmodel.data_sources.record import actions_table, check_free, record_episodes

    config = GymConfig(
        env=options.env,
        arguments=dict(map(_argument, options.env_arg)),
        size=size,
        crop=_four(options.crop) if options.crop else None,
        fit=options.fit,
        skip=options.skip,
        rate=options.rate,
        keys=options.keys,
        noop=options.noop,
        through_ends=options.through_ends,
        state=_paths(options.state),
    )
    plan = _plan(options, config.name)
    if options.player == "human":
        return _play_and_record(config, plan)
    player = find_player(options.player, allow_code=options.allow_code)
    let_sdl_draw_unseen()
    with open_game(config) as game:
        check_free(plan, game.name)
        done = record_episodes(game, player, plan)
        rate = f"{game.frames_per_second:g} frames/s"
        tell(f"{counted(done, 'frame')} in {plan.folder}, {size[1]} x {size[0]}, {rate}")
        tell("for the configs of its teacher and student:", "")
        tell(*actions_table(game.actions).splitlines())
    return 0


def _play_and_record(config: "GymConfig", plan: "RecordPlan") -> int:
    """A person plays in the window that worlds are played in; what they play is recorded there."""
    from worldmodel.data_sources.gym import open_game
    from worldmodel.data_sources.playable import PlayableGame
    from worldmodel.game.cli import main as play
    from worldmodel.game.launch import has_display
    from worldmodel.game.window import start_display

    if not has_display():
        raise UserError(f"{NEEDS_SCREEN}; choose another player to record without")
    try:
        start_display()
    except UserError as error:
        raise UserError(f"{NEEDS_SCREEN}; {error}; choose another player") from error
    plan.folder.mkdir(parents=True, exist_ok=True)
    with open_game(config) as game:
        # One thread: a real game is quick, and some draw only in the thread that made them.
        arguments = ["--sync", "--record", f"{plan.folder}/", "--seed", str(plan.seed)]
        return play([*arguments, "--frames", str(plan.frames)], lambda _: PlayableGame(game))


def _four(text: str) -> tuple[int, int, int, int]:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.isdecimal() for number in numbers):
        raise UserError(
            f"--crop {text!r}: expected left,top,width,height, for instance 0,20,160,160"
        )
    left, top, width, height = map(int, numbers)
    return left, top, width, height


def _paths(texts: Sequence[str]) -> dict[str, str]:
    """Each NAME=PATH[:KIND] by its name."""
    found: dict[str, str] = {}
    for text in texts:
        name, is_pair, path = text.partition("=")
        if not is_pair or not name or name in found:
            what = "that name is there twice" if name in found else "expected NAME=PATH[:KIND]"
            raise UserError(f"--state {text!r}: {what}")
        found[name] = path
    return found


def _argument(text: str) -> tuple[str, Any]:
    name, is_pair, value = text.partition("=")
    if not is_pair:
        raise UserError(f"--env-arg {text!r}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a text, without quotes
