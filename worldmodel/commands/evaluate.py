"""Measure a world against the real game, or finished runs against each other."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from worldmodel.commands.argument_types import JSON_HELP, count, positive
from worldmodel.commands.flags_of_modes import check_flags
from worldmodel.commands.studies import find_studies
from worldmodel.config import UserError
from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell

if TYPE_CHECKING:
    from worldmodel.evaluation.whole_evaluation import EvaluationPlan


WALKS = 8
WHOLE = "a whole evaluation"
_MEASURED = {
    "clips",
    "teacher_steps",
    "drift_frames",
    "seed",
    "inverse_dynamics_clips",
    "inverse_dynamics_steps",
    "out",
}
_MEASURED |= {"json"}
_ROWS = {"rows", "teacher_drift_frames", "streams", "speed_frames", "unseen_clips"}
READS = {
    WHOLE: {"world", "data", "write", *_MEASURED},
    "--quick": {"quick", "data", "world", "seed", "out", "json"},
    "--detector": {"detector", "detector_walks", "detector_steps", "world", "seed", "json"},
    "--places": {"places", "world", "walks", "walk_frames", "perceptual", "seed", "write", "json"},
    "--compare": {"compare", *_ROWS, *_MEASURED},
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    parser.add_argument("--world", help="folder or name; none: the default world")
    parser.add_argument(
        "--data",
        type=to_path,
        metavar="FOLDER",
        help="unseen episodes to be held against, of whatever game; none: Doom itself is played",
    )
    parser.add_argument(
        "--clips", type=positive, help="unseen clips to roll out (64; 32 to compare)"
    )
    parser.add_argument("--teacher-steps", type=positive, default=24, help="of the teacher")
    parser.add_argument("--drift-frames", type=count, default=2000, help="of long play")
    parser.add_argument(
        "--seed", type=count, default=2_000_000, help="first seed of the real game, not trained on"
    )
    parser.add_argument(
        "--inverse-dynamics-clips",
        "--judge-clips",
        type=positive,
        help="of real play, to learn to read actions (320; 160 to compare; once --judge-clips)",
    )
    parser.add_argument(
        "--inverse-dynamics-steps",
        "--judge-steps",
        type=positive,
        default=1200,
        help="of that (once --judge-steps)",
    )
    parser.add_argument("--write", action="store_true", help="put the figures into world.toml")
    parser.add_argument(
        "--out", type=to_path, default=Path("outputs/evaluate"), help="pictures and figures"
    )
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    parser.add_argument(
        "--quick", action="store_true", help="a first table of few clips, in about two minutes"
    )
    places = parser.add_argument_group("does the world stay itself: a minute of walks, and returns")
    places.add_argument("--places", action="store_true", help="measure this and nothing else")
    places.add_argument("--walks", type=positive, help="with the game's own keys (8)")
    places.add_argument(
        "--walk-frames",
        type=positive,
        help="of each (1054: a minute; 2104 for returns after a minute, too)",
    )
    places.add_argument(
        "--perceptual",
        type=to_path,
        metavar="FILE",
        help="how alike pictures look, too: alex_shift_tolerant.pth of stlpips-pytorch",
    )
    detector = parser.add_argument_group("can a network tell three seconds of it from the game")
    detector.add_argument("--detector", action="store_true", help="measure this and nothing else")
    detector.add_argument(
        "--detector-walks", type=positive, help="pairs of clips, a quarter unseen (160)"
    )
    detector.add_argument("--detector-steps", type=positive, help="of its training (400)")
    _add_compare(parser.add_argument_group("several finished runs, as one page of tables"))
    parser.set_defaults(run=run)


def _add_compare(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--compare", type=to_path, metavar="FILE", help="rows to measure: configs/doom/compare.toml"
    )
    add("--rows", nargs="+", default=[], metavar="NAME", help="measure these only")
    add("--teacher-drift-frames", type=count, help="of long play, over 8 steps (400)")
    add("--streams", type=positive, help="of each kind of long play (2)")
    add("--speed-frames", type=count, help="timed for each row; 0: none (96)")
    add("--unseen-clips", type=count, help="of never-seen actions; 0: none (32)")


def run(options: argparse.Namespace) -> None:
    """Do what the parsed flags ask for; a `UserError` says what cannot be done."""
    if options.quick and (other := _beside_quick(options)):
        raise UserError(
            f"--quick and {other}: --quick is a look at few clips of one world, as it is"
        )
    check_flags(options, add, _doing(options), READS)
    if options.compare:
        _compare(options)
        return
    if options.places:
        _places(options)
        return
    if options.detector:
        _detector(options)
        return
    from worldmodel.evaluation.report import headline, print_report
    from worldmodel.evaluation.whole_evaluation import EvaluationPlan, evaluate
    from worldmodel.worlds.find import find_world
    from worldmodel.worlds.world_folder import write_measured

    plan = EvaluationPlan.quick(options.seed)
    if not options.quick:
        plan = _whole_plan(options)
    measured = evaluate(options.world, plan, options.out, _say, options.data)
    print_report(measured)
    if options.write:
        write_measured(find_world(options.world), headline(measured))


def _doing(options: argparse.Namespace) -> str:
    """The first of what is asked for; the flags of another are then refused."""
    for name in ("quick", "compare", "places", "detector"):
        if getattr(options, name):
            return f"--{name}"
    return WHOLE


def _beside_quick(options: argparse.Namespace) -> str:
    """A flag that --quick leaves no place for: it chooses the amounts, and nothing is written."""
    usual = argparse.ArgumentParser()
    add(usual)
    names = ("compare", "places", "detector", "write", "clips", "teacher_steps", "drift_frames")
    for name in (*names, "inverse_dynamics_clips", "inverse_dynamics_steps"):
        if getattr(options, name) != usual.get_default(name):
            return f"--{name.replace('_', '-')}"
    return ""


def _whole_plan(options: argparse.Namespace) -> "EvaluationPlan":
    from worldmodel.evaluation.whole_evaluation import INVERSE_DYNAMICS_CLIPS, EvaluationPlan

    return EvaluationPlan(
        clips=options.clips or 64,
        drift_frames=options.drift_frames,
        seed=options.seed,
        teacher_steps=options.teacher_steps,
        inverse_dynamics_clips=options.inverse_dynamics_clips or INVERSE_DYNAMICS_CLIPS,
        inverse_dynamics_steps=options.inverse_dynamics_steps,
    )


def _places(options: argparse.Namespace) -> None:
    from worldmodel.evaluation.places_report import (
        LONGEST,
        evaluate_places,
        print_places,
        write_places,
    )
    from worldmodel.worlds.find import find_world

    folder = find_world(options.world)
    walks, frames = options.walks or WALKS, options.walk_frames or LONGEST
    measured = evaluate_places(options.world, options.seed, walks, frames, options.perceptual)
    print_places(measured, folder.name)
    if options.write:
        write_places(folder, measured)


def _detector(options: argparse.Namespace) -> None:
    from worldmodel.evaluation.detector import evaluate_detected, print_detected
    from worldmodel.worlds.find import find_world

    walks, steps = options.detector_walks or 160, options.detector_steps or 400
    found = evaluate_detected(options.world, options.seed, walks, steps)
    print_detected(found, find_world(options.world).name)


def _say(line: str) -> None:
    tell(line, to=sys.stderr)


def _compare(options: argparse.Namespace) -> None:
    find_studies()
    from studies.distillation.compare import compare_rows
    from studies.distillation.write_page import print_results, write_page
    from studies.distillation.yardstick import YardstickPlan

    names = [field.name for field in fields(YardstickPlan)]
    asked = {name: getattr(options, name) for name in names}
    plan = YardstickPlan(**{name: value for name, value in asked.items() if value is not None})
    results = compare_rows(options.compare, plan, options.rows, options.out)
    print_results(results)
    tell(f"page: {write_page(results)}", to=sys.stderr)
