"""The jobs around playing: python -m worldmodel JOB.

record   collect episodes from a real game        train     one stage, from a TOML file
evaluate a world against the real game            bench     speed on this machine
worlds   list and describe                        selftest what must not break, tried here
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from worldmodel.config import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; 0 done, 2 the user must change something, 1 a defect."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except UserError as error:
        print(f"worldmodel: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("worldmodel: interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """All jobs and their flags; nothing heavy is imported before a job runs."""
    style = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(
        prog="worldmodel",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    jobs = parser.add_subparsers(required=True, metavar="JOB")

    record = jobs.add_parser("record", help="collect episodes from Doom", formatter_class=style)
    record.add_argument("--out", type=Path, default=Path("data/doom"), help="folder of episodes")
    record.add_argument("--level", default="my_way_home", help="a ViZDoom scenario")
    record.add_argument("--frames", type=_positive, default=20_000, help="frames to collect, about")
    record.add_argument("--episode-frames", type=_positive, default=600, help="longest episode")
    record.add_argument("--seed", type=_count, default=0, help="seed of the first episode")
    record.add_argument("--size", default="64x48", help="width x height of the frames")
    record.add_argument("--tics", type=_positive, default=2, help="game tics a frame, 35 a second")
    record.set_defaults(run=_record)

    train = jobs.add_parser("train", help="train one stage", formatter_class=style)
    train.add_argument("config", type=Path, help="a TOML file, for instance configs/doom/*.toml")
    train.add_argument("--run", dest="folder", type=Path, help="folder (default: runs/GAME/STAGE)")
    train.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    train.add_argument("--threads", type=_count, default=0, help="of torch; 0: one per core")
    train.set_defaults(run=_train)

    evaluate = jobs.add_parser(
        "evaluate", help="measure a world against the real game", formatter_class=style
    )
    evaluate.add_argument("--world", help="folder or name; none: the default world")
    evaluate.add_argument("--clips", type=_positive, default=64, help="unseen clips to roll out")
    evaluate.add_argument("--teacher-steps", type=_positive, default=24, help="of the teacher")
    evaluate.add_argument("--drift-frames", type=_count, default=2000, help="of long play")
    evaluate.add_argument(
        "--seed", type=_count, default=2_000_000, help="first seed of the real game, not trained on"
    )
    evaluate.add_argument("--write", action="store_true", help="put the figures into world.toml")
    evaluate.add_argument("--out", type=Path, default=Path("outputs/evaluate"), help="pictures")
    evaluate.set_defaults(run=_evaluate)

    _add_bench(jobs.add_parser("bench", help="measure speed", formatter_class=style))

    selftest = jobs.add_parser(
        "selftest", help="try what must not break, on this machine", formatter_class=style
    )
    selftest.add_argument("--world", help="folder or name; none: the default world")
    selftest.add_argument("--minutes", type=_minutes, default=15.0, help="how long, about")
    selftest.set_defaults(run=_selftest)

    worlds = jobs.add_parser("worlds", help="list and describe the worlds that are here")
    worlds.set_defaults(run=_worlds)
    return parser


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("--world", help="folder or name; none: the default world")
    bench.add_argument("--frames", type=_positive, default=600, help="frames to time")
    bench.add_argument("--steps", type=_count, default=0, help="denoising steps; 0: the world's")
    bench.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    bench.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    bench.add_argument("--engine", default="auto", choices=["auto", "torch", "openvino"])
    bench.add_argument("--threads", type=_count, default=0, help="of torch; 0: one per core")
    bench.add_argument(
        "--soak", type=_positive, nargs="+", default=[], metavar="N", help="look at these frames"
    )
    bench.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two settings in turns: engine=torch,…"
    )
    bench.add_argument(
        "--sessions", type=_positive, nargs="+", metavar="B", help="play so many as one batch"
    )
    bench.set_defaults(run=_bench)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2147483647")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0.01 <= minutes <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes, 0.01 to 10000")
    return minutes


def _selftest(options: argparse.Namespace) -> int:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from worldmodel.selftest.run import print_report, selftest

    report = selftest(options.world, options.minutes)
    print_report(report)
    return 0 if report.is_fine else 1


def _record(options: argparse.Namespace) -> None:
    from worldmodel.games.doom import DoomConfig
    from worldmodel.games.record import record_doom

    width, _, height = options.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"--size {options.size!r}: expected width x height, for instance 64x48")
    config = DoomConfig(
        level=options.level,
        frame_width=int(width),
        frame_height=int(height),
        tics_per_frame=options.tics,
    )
    done = record_doom(config, options.out, options.frames, options.seed, options.episode_frames)
    print(f"{done} frames in {options.out}")


def _train(options: argparse.Namespace) -> None:
    from worldmodel.training.run import run_stage
    from worldmodel.worlds.native import choose_device

    config = options.config
    folder = options.folder or Path("runs") / config.parent.name / config.stem
    device = choose_device(options.device)
    print(json.dumps(run_stage(config, folder, options.threads, device)))


def _evaluate(options: argparse.Namespace) -> None:
    from worldmodel.evaluation.report import (
        EvaluationPlan,
        evaluate,
        headline,
        print_report,
        save_pictures,
    )
    from worldmodel.worlds.find import find_world
    from worldmodel.worlds.folder import write_measured

    plan = EvaluationPlan(
        clips=options.clips,
        drift_frames=options.drift_frames,
        seed=options.seed,
        teacher_steps=options.teacher_steps,
    )
    measured = evaluate(options.world, plan)
    print_report(measured)
    if options.write:
        write_measured(find_world(options.world), headline(measured))
    save_pictures(measured, options.out)


def _bench(options: argparse.Namespace) -> None:
    from worldmodel.evaluation.bench import (
        bench,
        compare,
        print_bench,
        print_comparison,
        print_throughput,
        throughput,
    )
    from worldmodel.worlds.settings import Settings

    settings = Settings(
        steps=options.steps,
        device=options.device,
        dtype=options.dtype,
        engine=options.engine,
        threads=options.threads,
    )
    if options.sessions:
        print_throughput(throughput(options.world, settings, options.sessions, options.frames))
        return
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ["SDL_VIDEODRIVER"] = "dummy"  # frames are drawn and flipped, no screen is needed
    from worldmodel.game.window import Window

    with Window("bench") as window:
        if options.compare:
            pair = (options.compare[0], options.compare[1])
            print_comparison(compare(options.world, settings, pair, options.frames, window))
        else:
            print_bench(bench(options.world, settings, options.frames, window, options.soak))


def _worlds(options: argparse.Namespace) -> None:
    del options
    from worldmodel.worlds.find import list_worlds

    for folder, world in list_worlds():
        size = f"{world.autoencoder.frame_width}x{world.autoencoder.frame_height}"
        print(f"{world.name:16} {world.title}")
        print(
            f"{'':16} {size}, {world.frames_per_second:g} frames/s, "
            f"{world.sampler.steps} denoising steps, licence {world.licence}; {folder}"
        )
        for number, caption in enumerate(world.starts.values()):
            print(f"{'':16} start {number}: {caption}")


if __name__ == "__main__":
    sys.exit(main())
