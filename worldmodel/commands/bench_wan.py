"""Measure the speed of the released Wan models, which no weights decide."""

import argparse

from worldmodel.system.paths import to_path

WINDOWS = (6, 9, 21)


def bench_wan(options: argparse.Namespace) -> None:
    """What `bench` does for a released model or an imported world of one."""
    from worldmodel.evaluation.wan_bench import print_wan_bench, wan_bench
    from worldmodel.evaluation.wan_bench_plan import (
        WanPlan,
        check_windows,
        choose_steps,
        load_size,
        plan_of,
        played_as_released,
    )
    from worldmodel.worlds.devices import choose_device

    name = options.world or "wan-1.3b"
    is_world = is_wan(options.world)
    block, sinks, decoder = options.block or 1, options.sinks or 0, options.decoder or "both"
    plan = WanPlan(
        config=load_size("wan-1.3b" if is_world else name, options.layers or 0),
        windows=check_windows(options.windows or WINDOWS, block, sinks),
        sink_frames=sinks,
        float8=options.float8,
        steps=choose_steps(options.steps),
        block_frames=block,
        device=choose_device(options.device),
        dtype="bfloat16" if options.dtype == "auto" else options.dtype,
        decoders=("taehv", "vae") if decoder == "both" else (decoder,),
    )
    plan = plan_of(to_path(name), plan) if is_world else played_as_released(name, plan)
    print_wan_bench(wan_bench(name, plan))


def is_wan(world: str | None) -> bool:
    """Whether this is the folder of an imported Wan world, whose speed no weights decide."""
    from worldmodel.config import read_toml
    from worldmodel.worlds.world_folder import WORLD_FILE

    path = to_path(world or "") / WORLD_FILE
    return bool(world) and path.is_file() and read_toml(path).get("backend") == "wan"
