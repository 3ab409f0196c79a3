"""Measure speed on this machine."""

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from worldmodel.commands.argument_types import JSON_HELP, count, positive, workers
from worldmodel.commands.flags_of_modes import check_flags
from worldmodel.config import UserError, read_toml
from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell, tell_json
from worldmodel.worlds.run_settings import Device, DType, EngineName, RunSettings

if TYPE_CHECKING:
    from worldmodel.game.window import Window


PLAYERS, SECONDS = 8, 10  # of --serve
PLAIN, WAN, IMPORTED = "a bench of one world", "a bench of a Wan model", "a bench of a Wan world"
_RUNS = {"steps", "dtype", "device", "engine", "compile", "threads"}
_ONE = {"world", "frames", "json", *_RUNS}
_WAN = {"random_weights", "layers", "windows", "sinks", "float8", "chunk", "decoder"}
READS = {
    "--serve": {"serve", "players", "seconds", "world", "json", *_RUNS},
    "--sessions": {"sessions", *_ONE},
    "--sizes": {"sizes", *_ONE} - {"world"},
    "--live": {"live", *_ONE},
    "--growth": {"growth", *_ONE} - {"world"},
    "--compare": {"compare", *_ONE},
    WAN: {"world", "steps", "dtype", "device", "json", *_WAN},
    IMPORTED: {"world", "steps", "dtype", "device", "json", "random_weights", "decoder"},
    PLAIN: {"soak", *_ONE},
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    parser.add_argument("--world", help="folder, name or random:38m; none: the default world")
    parser.add_argument(
        "--sizes", nargs="+", metavar="W", help="a row for each: default, random:300m, random:1b, …"
    )
    parser.add_argument(
        "--live", action="store_true", help="the real game loop, with made-up key presses"
    )
    parser.add_argument("--growth", type=to_path, metavar="PNG", help="plot time against size")
    parser.add_argument("--frames", type=positive, default=600, help="frames to time")
    parser.add_argument("--steps", type=count, default=0, help="denoising steps; 0: the world's")
    parser.add_argument("--dtype", default="auto", choices=get_args(DType))
    parser.add_argument("--device", default="auto", choices=get_args(Device))
    parser.add_argument("--engine", default="auto", choices=get_args(EngineName))
    parser.add_argument("--compile", action="store_true", help="torch, fused by its compiler")
    parser.add_argument("--threads", type=workers, default=0, help="0: the fastest number")
    parser.add_argument(
        "--soak", type=positive, nargs="+", default=[], metavar="N", help="look at these frames"
    )
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two settings in turns: engine=torch,…"
    )
    parser.add_argument(
        "--sessions", type=positive, nargs="+", metavar="B", help="play so many as one batch"
    )
    parser.add_argument(
        "--serve", nargs="?", const="", metavar="WORLD", help="the server, with 1, 2, 4, … players"
    )
    parser.add_argument("--players", type=positive, help="of --serve, at most (8)")
    parser.add_argument("--seconds", type=positive, help="of --serve, for each number (10)")
    wan = parser.add_argument_group("the released Wan models (wan-1.3b, wan-14b, …)")
    wan.add_argument("--random-weights", action="store_true", help="the speed needs no others")
    wan.add_argument("--layers", type=count, help="so many only; 0: all (0)")
    seen = "frames seen (6 9 21)"
    wan.add_argument("--windows", type=positive, nargs="+", metavar="N", help=seen)
    wan.add_argument("--sinks", type=count, help="first frames that stay visible (0)")
    wan.add_argument("--float8", action="store_true", help="the transformer's matrices as float8")
    wan.add_argument(
        "--chunk", "--block", type=positive, help="latent frames drawn together (1; once --block)"
    )
    wan.add_argument("--decoder", choices=["both", "taehv", "vae"], help="(both)")
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed flags ask for; a `UserError` says what cannot be done."""
    doing = _doing(options)
    check_flags(options, add, doing, READS)
    from worldmodel.evaluation.bench_report import print_bench, print_comparison, print_throughput
    from worldmodel.evaluation.speed import bench, compare, throughput

    if doing in (WAN, IMPORTED):
        _bench_wan(options)
        return
    settings = RunSettings(**{name: getattr(options, name) for name in _RUNS})
    if doing == "--serve":
        _bench_serve(options, settings)
        return
    if doing == "--sessions":
        print_throughput(throughput(options.world, settings, options.sessions, options.frames))
        return
    os.environ["SDL_VIDEODRIVER"] = "dummy"  # frames are drawn and flipped, no screen is needed
    from worldmodel.game.window import Window

    with Window("bench") as window:
        match doing:
            case "--sizes":
                from worldmodel.evaluation.scaling import measure_sizes, print_sizes

                names = [None if name == "default" else name for name in options.sizes]
                results = measure_sizes(names, settings, options.frames, window)
                print_sizes(results)
                tell_json(results)
            case "--live":
                _bench_live(options, settings, window)
            case "--growth":
                from worldmodel.evaluation.scaling import measure_growth, plot_growth

                growth = measure_growth(settings, options.frames, window)
                plot_growth(growth, options.growth)
                tell_json(growth)
            case "--compare":
                pair = (options.compare[0], options.compare[1])
                print_comparison(compare(options.world, settings, pair, options.frames, window))
            case _:
                print_bench(bench(options.world, settings, options.frames, window, options.soak))


def _doing(options: argparse.Namespace) -> str:
    """The first of what is asked for; the flags of another are then refused."""
    if options.serve is None and (options.random_weights or _is_wan(options.world)):
        return IMPORTED if _is_wan(options.world) else WAN
    asked = {"--serve": options.serve is not None, "--sessions": options.sessions}
    asked |= {f"--{name}": getattr(options, name) for name in ("sizes", "live", "growth")}
    asked["--compare"] = options.compare
    return next((flag for flag, is_on in asked.items() if is_on), PLAIN)


def _bench_live(options: argparse.Namespace, settings: RunSettings, window: "Window") -> None:
    """Five sessions of the real game loop."""
    from worldmodel.evaluation.speed import open_to_measure
    from worldmodel.game.input_benchmark import print_rehearsals, rehearse
    from worldmodel.system.other_programs import Others, disturbance
    from worldmodel.system.progress import Progress

    world = open_to_measure(options.world, settings)
    plans = [(None, True), (0.0, False), (0.0, True), (0.0, False), (0.0, True)]
    others, rows = Others(), []
    with Progress(total=len(plans) * options.frames, unit="frame") as progress:
        for number, (fps, records) in enumerate(plans):
            before = number * options.frames

            def show(frames: int, before: int = before) -> None:
                progress.update(before + frames - progress.n)

            rows.append(
                rehearse(world, window, options.frames, fps=fps, records=records, progress=show)
            )
    print_rehearsals(rows)
    if notice := disturbance(others.cores()):
        tell(notice)
    tell_json(rows)


def _bench_serve(options: argparse.Namespace, settings: RunSettings) -> None:
    """How many people this machine serves."""
    try:
        from worldmodel.serve.bench import bench_served, print_served
    except ImportError as error:
        raise UserError(f"{error}: pip install 'worldmodel[serve]'") from error
    from worldmodel.worlds.find import open_world

    if options.serve and options.world:
        raise UserError("--serve WORLD and --world: each names the world; give one")
    world = open_world(options.serve or options.world, settings)
    print_served(bench_served(world, options.players or PLAYERS, float(options.seconds or SECONDS)))


def _bench_wan(options: argparse.Namespace) -> None:
    """The speed of a released model or an imported world of one, which no weights decide."""
    from worldmodel.evaluation.wan_bench import print_wan_bench, wan_bench
    from worldmodel.evaluation.wan_bench_plan import (
        FRAME_WISE,
        WINDOWS,
        WanPlan,
        choose_steps,
        load_size,
        plan_of,
        played_as_released,
    )
    from worldmodel.worlds.devices import choose_device

    name = options.world or "wan-1.3b"
    is_world = _is_wan(options.world)
    decoder = options.decoder or "both"
    plan = WanPlan(
        config=load_size("wan-1.3b" if is_world else name, options.layers or 0),
        chunk=replace(FRAME_WISE, chunk_frames=options.chunk or 1, sink_frames=options.sinks or 0),
        windows=tuple(options.windows or WINDOWS),
        float8=options.float8,
        steps=choose_steps(options.steps),
        device=choose_device(options.device),
        dtype="bfloat16" if options.dtype == "auto" else options.dtype,
        decoders=("taehv", "vae") if decoder == "both" else (decoder,),
    )
    plan = plan_of(to_path(name), plan) if is_world else played_as_released(name, plan)
    print_wan_bench(wan_bench(name, plan))


def _is_wan(world: str | None) -> bool:
    """Whether this is the folder of an imported Wan world, whose speed no weights decide."""
    from worldmodel.worlds.world_folder import WORLD_FILE

    path = to_path(world or "") / WORLD_FILE
    return bool(world) and path.is_file() and read_toml(path).get("backend") == "wan"
