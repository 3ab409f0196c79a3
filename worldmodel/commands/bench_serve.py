"""Measure how many people this machine serves."""

import argparse

from worldmodel.config import UserError
from worldmodel.worlds.run_settings import RunSettings

PLAYERS, SECONDS = 8, 10


def bench_serve(options: argparse.Namespace, settings: RunSettings) -> None:
    """What `bench --serve` does."""
    try:
        from worldmodel.serve.bench import bench_served, print_served
    except ImportError as error:
        raise UserError(f"{error}: pip install 'worldmodel[serve]'") from error
    from worldmodel.worlds.find import open_world

    if options.serve and options.world:
        raise UserError("--serve WORLD and --world: each names the world; give one")
    world = open_world(options.serve or options.world, settings)
    print_served(bench_served(world, options.players or PLAYERS, float(options.seconds or SECONDS)))
