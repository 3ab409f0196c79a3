"""The jobs around playing: python -m worldmodel JOB.

record   collect episodes from a real game        train     one stage, from a TOML file
evaluate a world against the real game            bench     speed on this machine
worlds   list and describe                        data      check what was recorded
import   released models, as worlds               selftest what must not break, tried here
make     a world from nothing, from one recipe
clip     draw the pressed keys into a recording, or show it beside the real game
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel.config import UserError
from worldmodel.game.cli import ENGINES

if TYPE_CHECKING:
    from worldmodel.games.gym import GymConfig
    from worldmodel.games.record_gym import RecordPlan


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

    record = jobs.add_parser("record", help="collect episodes from a game", formatter_class=style)
    record.add_argument("--out", type=Path, help="folder of episodes (data/doom, or data/ENV)")
    record.add_argument("--level", default="my_way_home", help="a ViZDoom scenario")
    record.add_argument("--frames", type=_positive, default=20_000, help="frames to collect, about")
    _add_gym(record.add_argument_group("any other game: a Gymnasium environment"))
    record.add_argument("--episode-frames", type=_positive, default=600, help="longest episode")
    record.add_argument("--seed", type=_count, default=0, help="seed of the first episode")
    record.add_argument("--size", default="64x48", help="width x height of the frames")
    record.add_argument("--tics", type=_positive, default=2, help="game tics a frame, 35 a second")
    record.set_defaults(run=_record)

    _add_train(jobs.add_parser("train", help="train one stage", formatter_class=style))
    _add_make(jobs.add_parser("make", help="a world from nothing", formatter_class=style))
    _add_data(jobs.add_parser("data", help="look at what was recorded"), style)

    told = "measure a world against the real game"
    _add_evaluate(jobs.add_parser("evaluate", help=told, formatter_class=style))

    _add_bench(jobs.add_parser("bench", help="measure speed", formatter_class=style))

    _add_selftest(jobs.add_parser("selftest", help="try what must not break, on this machine"))

    clip = jobs.add_parser("clip", help="a new clip of a recording, with its keys or the real game")
    clip.add_argument("recording", type=Path, help="the .jsonl or .mp4 of a recording")
    clip.add_argument("--beside", action="store_true", help="the real game beside it, no keys")
    clip.add_argument("--out", type=Path, help="the clip (NAME_keys.mp4 or NAME_beside.mp4)")
    clip.set_defaults(run=_clip)
    _add_import(jobs.add_parser("import", help="make a world of released files"))

    worlds = jobs.add_parser("worlds", help="list and describe the worlds that are here")
    told = "compare every file of these worlds with the sha256 in world.toml (none: all shipped)"
    worlds.add_argument("--check", nargs="*", metavar="WORLD", help=told)
    worlds.set_defaults(run=_worlds)
    return parser


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("--world", help="folder or name; none: the default world")
    evaluate.add_argument(
        "--clips", type=_positive, help="unseen clips to roll out (64; 32 to compare)"
    )
    evaluate.add_argument("--teacher-steps", type=_positive, default=24, help="of the teacher")
    evaluate.add_argument("--drift-frames", type=_count, default=2000, help="of long play")
    evaluate.add_argument(
        "--seed", type=_count, default=2_000_000, help="first seed of the real game, not trained on"
    )
    evaluate.add_argument("--write", action="store_true", help="put the figures into world.toml")
    evaluate.add_argument("--out", type=Path, default=Path("outputs/evaluate"), help="pictures")
    _add_compare(evaluate.add_argument_group("several finished runs, as one page of tables"))
    evaluate.set_defaults(run=_evaluate)


def _add_compare(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--compare", type=Path, metavar="FILE", help="rows to measure: configs/doom/compare.toml")
    add("--rows", nargs="+", default=[], metavar="NAME", help="measure these only")
    add("--teacher-drift-frames", type=_count, default=400, help="of long play, over 8 steps")
    add("--streams", type=_positive, default=2, help="of each kind of long play")
    add("--judge-clips", type=_positive, default=160, help="of real play that teach the judge")
    add("--judge-steps", type=_positive, default=1200, help="of its training")
    add("--speed-frames", type=_count, default=96, help="timed for each row; 0: none")
    add("--unseen-clips", type=_count, default=32, help="of never-seen actions; 0: none")


def _add_gym(record: argparse._ArgumentGroup) -> None:
    add = record.add_argument
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
    add("--skip", type=_positive, default=1, help="steps of the environment that a frame takes")
    add("--rate", type=float, help="steps a second (the environment's own, or 30)")
    add("--crop", metavar="X,Y,W,H", help="the part of the picture to record, in its pixels")
    add("--fit", default="stretch", choices=["stretch", "crop", "pad"], help="picture into --size")
    add("--through-ends", action="store_true", help="one recording goes on over episodes' ends")


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument("config", type=Path, help="a TOML file, for instance configs/doom/*.toml")
    # Two names: `torchrun` takes `--run` for an option of its own.
    train.add_argument(
        "--run", "--folder", dest="folder", type=Path, help="folder (default: runs/GAME/STAGE)"
    )
    train.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    train.add_argument("--threads", type=_count, default=0, help="of torch; 0: one per core")
    train.add_argument("--estimate", action="store_true", help="memory and time, then end (Wan)")
    train.set_defaults(run=_train)


def _add_make(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("recipe", type=Path, help="a TOML file, for instance configs/siege/recipe.toml")
    add("--minutes", type=float, default=0.0, help="for all of it; 0: what the recipe says")
    add("--out", type=Path, help="folder of the world (default: assets/worlds/NAME)")
    add("--run", dest="root", type=Path, help="folder of all the rest (default: runs/NAME)")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    add("--threads", type=_count, default=0, help="of torch; 0: one per core")
    add("--processes", type=_count, default=0, help="that record; 0: one per core")
    add("--rehearse", action="store_true", help="every step, everything small: some minutes")
    add("--plan", action="store_true", help="say what would be done, and when")
    parser.set_defaults(run=_make)


def _add_data(data: argparse.ArgumentParser, style: type[argparse.HelpFormatter]) -> None:
    kinds = data.add_subparsers(required=True, metavar="WHAT")
    check = kinds.add_parser("check", help="what is wrong with a data set", formatter_class=style)
    check.add_argument("folder", type=Path, help="of episodes and recordings")
    check.add_argument("heldout", type=Path, nargs="?", help="of those to measure on, if any")
    check.add_argument("--clip", type=_positive, default=13, help="frames of a clip in training")
    check.add_argument("--json", action="store_true", help="one line for programs, no table")
    check.set_defaults(run=_check)


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("--world", help="folder, name or random:38m; none: the default world")
    bench.add_argument(
        "--sizes", nargs="+", metavar="W", help="a row for each: default, random:300m, random:1b, …"
    )
    bench.add_argument(
        "--live", action="store_true", help="the real game loop, with made-up key presses"
    )
    bench.add_argument("--growth", type=Path, metavar="PNG", help="plot time against size")
    bench.add_argument("--frames", type=_positive, default=600, help="frames to time")
    bench.add_argument("--steps", type=_count, default=0, help="denoising steps; 0: the world's")
    bench.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    bench.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    bench.add_argument("--engine", default="auto", choices=ENGINES)
    bench.add_argument("--compile", action="store_true", help="torch, fused by its compiler")
    bench.add_argument("--threads", type=_count, default=0, help="0: the fastest number")
    bench.add_argument(
        "--soak", type=_positive, nargs="+", default=[], metavar="N", help="look at these frames"
    )
    bench.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two settings in turns: engine=torch,…"
    )
    bench.add_argument(
        "--sessions", type=_positive, nargs="+", metavar="B", help="play so many as one batch"
    )
    wan = bench.add_argument_group("the released Wan models (wan-1.3b, wan-14b, …)")
    wan.add_argument("--random-weights", action="store_true", help="the speed needs no others")
    wan.add_argument("--layers", type=_count, default=0, help="so many only; 0: all")
    wan.add_argument(
        "--windows", type=_positive, nargs="+", default=[6, 9, 21], metavar="N", help="frames seen"
    )
    wan.add_argument("--block", type=_positive, default=1, help="latent frames drawn together")
    wan.add_argument("--decoder", default="both", choices=["both", "taehv", "vae"])
    bench.set_defaults(run=_bench)


def _add_import(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE", help="weights: .pt, .pth, .safetensors")
    add("--to", type=Path, required=True, metavar="WORLD", help="folder to make or to add to")
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
    add("--text-encoder", default="", metavar="FILE", help="UMT5-XXL's weights, for any words")
    add("--dtype", default="bfloat16", choices=["bfloat16", "float32", "file"], help="of weights")
    parser.set_defaults(run=_import)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2147483647")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def _add_selftest(selftest: argparse.ArgumentParser) -> None:
    selftest.add_argument("--world", help="folder or name; none: the default world")
    selftest.add_argument("--minutes", type=_minutes, default=15.0, help="about how long (15)")
    selftest.set_defaults(run=_selftest)


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


def _record(options: argparse.Namespace) -> int:
    width, _, height = options.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"--size {options.size!r}: expected width x height, for instance 64x48")
    game = options.env.rpartition(":")[2].replace("/", "-") if options.env else "doom"
    options.out = options.out or Path("data") / game
    if options.env:
        return _record_gym(options, (int(height), int(width)))
    if options.player != "sticky":
        raise UserError("--player is for --env; Doom has an explorer of its own")
    from worldmodel.games.doom import DoomConfig
    from worldmodel.games.record import record_doom

    config = DoomConfig(
        level=options.level,
        frame_width=int(width),
        frame_height=int(height),
        tics_per_frame=options.tics,
    )
    done = record_doom(config, options.out, options.frames, options.seed, options.episode_frames)
    print(f"{done} frames in {options.out}")
    return 0


def _record_gym(options: argparse.Namespace, size: tuple[int, int]) -> int:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from worldmodel.games.gym import GymConfig, open_game
    from worldmodel.games.policies import find_policy
    from worldmodel.games.record_gym import RecordPlan, actions_table, record_gym

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
    )
    plan = RecordPlan(
        folder=options.out,
        frames=options.frames,
        episode_frames=options.episode_frames,
        seed=options.seed,
    )
    if options.player == "human":
        return _play_and_record(config, plan)
    policy = find_policy(options.player, allow_code=options.allow_code)
    # An environment that draws with SDL would have it swallow SIGTERM, with no window to close.
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
    with open_game(config) as game:
        done = record_gym(game, policy, plan)
        rate = f"{game.frames_per_second:g} frames/s"
        print(f"{done} frames in {plan.folder}, {size[1]} x {size[0]}, {rate}")
        print(f"for the configs of its teacher and student:\n\n{actions_table(game.actions)}")
    return 0


def _play_and_record(config: "GymConfig", plan: "RecordPlan") -> int:
    """A person plays in the window that worlds are played in; what they play is recorded there."""
    from worldmodel.game.cli import main as play
    from worldmodel.game.launch import has_display
    from worldmodel.games.gym import open_game

    if not has_display():
        raise UserError("--player human needs a screen; choose another player to record without")
    plan.folder.mkdir(parents=True, exist_ok=True)
    with open_game(config) as game:
        # One thread: a real game is quick, and some draw only in the thread that made them.
        arguments = ["--sync", "--record", f"{plan.folder}/", "--seed", str(plan.seed)]
        return play([*arguments, "--frames", str(plan.frames)], lambda _: game)


def _four(text: str) -> tuple[int, int, int, int]:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.isdecimal() for number in numbers):
        raise UserError(
            f"--crop {text!r}: expected left,top,width,height, for instance 0,20,160,160"
        )
    left, top, width, height = map(int, numbers)
    return left, top, width, height


def _argument(text: str) -> tuple[str, Any]:
    name, is_pair, value = text.partition("=")
    if not is_pair:
        raise UserError(f"--env-arg {text!r}: expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a text, without quotes


def _check(options: argparse.Namespace) -> int:
    from worldmodel.datacheck.faults import check_apart, check_folder
    from worldmodel.datacheck.report import describe

    sets = [check_folder(path, options.clip) for path in (options.folder, options.heldout) if path]
    if len(sets) > 1:
        check_apart(*sets)
    is_fit = not any(data.errors for data in sets)
    if options.json:
        print(json.dumps({"fit": is_fit, "sets": [data.facts() for data in sets]}))
    else:
        print("\n".join(line for data in sets for line in describe(data)))
        print("it can be trained on" if is_fit else "it cannot be trained on as it is")
    return 0 if is_fit else 2


def _train(options: argparse.Namespace) -> None:
    from worldmodel.training.run import run_stage
    from worldmodel.worlds.native import choose_device

    config = options.config
    if options.estimate:
        from worldmodel.training.run import read_stage
        from worldmodel.training.wan.estimate import describe

        print("\n".join(describe(read_stage(config))))
        return
    folder = options.folder or Path("runs") / config.parent.name / config.stem
    device = choose_device(options.device)
    print(json.dumps(run_stage(config, folder, options.threads, device)))


def _make(options: argparse.Namespace) -> None:
    from worldmodel.recipe.make import Job, make

    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
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
    )
    make(job, lambda line: print(line, flush=True))


def _evaluate(options: argparse.Namespace) -> None:
    if options.compare:
        _compare(options)
        return
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
        clips=options.clips or 64,
        drift_frames=options.drift_frames,
        seed=options.seed,
        teacher_steps=options.teacher_steps,
    )
    measured = evaluate(options.world, plan)
    print_report(measured)
    if options.write:
        write_measured(find_world(options.world), headline(measured))
    save_pictures(measured, options.out)


def _compare(options: argparse.Namespace) -> None:
    from worldmodel.evaluation.distillation.compare import compare_rows
    from worldmodel.evaluation.distillation.page import print_results, write_page
    from worldmodel.evaluation.distillation.yardstick import Plan

    plan = Plan(
        clips=options.clips or Plan().clips,
        drift_frames=options.drift_frames,
        teacher_drift_frames=options.teacher_drift_frames,
        streams=options.streams,
        seed=options.seed,
        teacher_steps=options.teacher_steps,
        judge_clips=options.judge_clips,
        judge_steps=options.judge_steps,
        speed_frames=options.speed_frames,
        unseen_clips=options.unseen_clips,
    )
    results = compare_rows(options.compare, plan, options.rows, options.out)
    print_results(results)
    print(f"page: {write_page(results)}", file=sys.stderr)


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

    if options.random_weights or _is_wan(options.world):
        _bench_wan(options)
        return
    settings = Settings(
        steps=options.steps,
        device=options.device,
        dtype=options.dtype,
        engine=options.engine,
        compile=options.compile,
        threads=options.threads,
    )
    if options.sessions:
        print_throughput(throughput(options.world, settings, options.sessions, options.frames))
        return
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ["SDL_VIDEODRIVER"] = "dummy"  # frames are drawn and flipped, no screen is needed
    from worldmodel.game.window import Window

    with Window("bench") as window:
        if options.sizes:
            from worldmodel.evaluation.scaling import measure_sizes, print_sizes

            names = [None if name == "default" else name for name in options.sizes]
            results = measure_sizes(names, settings, options.frames, window)
            print_sizes(results)
            print(json.dumps(results))
        elif options.live:
            from worldmodel.evaluation.bench import open_to_measure
            from worldmodel.game.rehearse import print_rehearsals, rehearse

            world = open_to_measure(options.world, settings)
            plans = [(None, True), (0.0, False), (0.0, True), (0.0, False), (0.0, True)]
            rows = [
                rehearse(world, window, options.frames, fps=fps, records=records)
                for fps, records in plans
            ]
            print_rehearsals(rows)
            print(json.dumps(rows))
        elif options.growth:
            from worldmodel.evaluation.scaling import measure_growth, plot_growth

            growth = measure_growth(settings, options.frames, window)
            plot_growth(growth, options.growth)
            print(json.dumps(growth))
        elif options.compare:
            pair = (options.compare[0], options.compare[1])
            print_comparison(compare(options.world, settings, pair, options.frames, window))
        else:
            print_bench(bench(options.world, settings, options.frames, window, options.soak))


def _clip(options: argparse.Namespace) -> None:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if options.beside:
        from worldmodel.game.beside_clip import keep_beside, origin_of_recording
        from worldmodel.games.doom import open_game

        origin = origin_of_recording(options.recording)
        print(keep_beside(options.recording, origin, open_game, options.out))
        return
    from worldmodel.game.clip import draw_keys

    print(draw_keys(options.recording, options.out))


def _bench_wan(options: argparse.Namespace) -> None:
    from worldmodel.evaluation.wan_bench import (
        WanPlan,
        check_windows,
        choose_steps,
        load_size,
        plan_of,
        print_wan_bench,
        wan_bench,
    )
    from worldmodel.worlds.native import choose_device

    name = options.world or "wan-1.3b"
    is_world = _is_wan(options.world)
    plan = WanPlan(
        config=load_size("wan-1.3b" if is_world else name, options.layers),
        windows=check_windows(options.windows, options.block),
        steps=choose_steps(options.steps),
        block_frames=options.block,
        device=choose_device(options.device),
        dtype="bfloat16" if options.dtype == "auto" else options.dtype,
        decoders=("taehv", "vae") if options.decoder == "both" else (options.decoder,),
    )
    print_wan_bench(wan_bench(name, plan_of(Path(name), plan) if is_world else plan))


def _is_wan(world: str | None) -> bool:
    """Whether this is the folder of an imported Wan world, whose speed no weights decide."""
    from worldmodel.config import read_toml
    from worldmodel.worlds.folder import WORLD_FILE

    path = Path(world or "") / WORLD_FILE
    return bool(world) and path.is_file() and read_toml(path).get("backend") == "wan"


def _import(options: argparse.Namespace) -> None:
    import torch

    from worldmodel.worlds.wan_import import ImportPlan, import_files
    from worldmodel.worlds.wan_text import unsaid

    pairs = [text.partition("=") for text in options.key]
    if wrong := [code for code, equals, text in pairs if not (code and equals and text)]:
        raise UserError(f"--key {wrong[0]!r}: expected a key and words, like Digit1='+ It rains.'")
    plan = ImportPlan(
        recipe=options.recipe,
        title=options.title,
        openings=tuple(options.prompt),
        keys={code: text for code, _, text in pairs},
        text_encoder=str(Path(options.text_encoder).resolve()) if options.text_encoder else "",
        dtype=None if options.dtype == "file" else getattr(torch, options.dtype),
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing half made stays
    try:
        world = import_files(options.files, options.to, plan)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: not set from Python
    print(f"{options.to}: {world.title}")
    for kind, told in world.source.items():
        print(f"  {kind}: {told['file']}, {told['tensors']}")
    for text in unsaid(options.to, world):
        print(
            f"  {text!r} cannot be said yet: name --text-encoder, or import a file that has its "
            "embedding"
        )


def _worlds(options: argparse.Namespace) -> int:
    from worldmodel.worlds.find import check_world, find_world, list_all_worlds
    from worldmodel.worlds.wan_file import WanWorldFile

    if options.check is not None:
        folders = [find_world(name) for name in options.check]
        for folder in folders or [folder for folder, _ in list_all_worlds()]:
            print(f"{folder}: {check_world(folder)} files are what {folder.name} says they are")
        return 0
    for folder, world in list_all_worlds():
        if isinstance(world, WanWorldFile):
            (rows, columns), captions = world.frame_size, world.captions
        else:
            rows, columns = world.autoencoder.frame_height, world.autoencoder.frame_width
            captions = [*world.starts.values()]
        size = f"{columns}x{rows}"
        print(f"{world.name:16} {world.title}")
        print(
            f"{'':16} {size}, {world.frames_per_second:g} frames/s, "
            f"{world.sampler.steps} denoising steps, licence {world.licence}; {folder}"
        )
        for number, caption in enumerate(captions):
            print(f"{'':16} start {number}: {caption}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
