"""Train one stage, from a TOML file."""

import argparse
from pathlib import Path

from worldmodel.commands.argument_types import workers
from worldmodel.commands.flags_of_modes import check_flags
from worldmodel.system.paths import to_path
from worldmodel.system.printable import tell, tell_json

_RUNS = {"config", "folder", "device", "threads"}
READS = {"--estimate": {"config", "estimate"}, "a run": _RUNS}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command to its parser."""
    parser.add_argument(
        "config", type=to_path, help="a TOML file, for instance configs/doom/*.toml"
    )
    # Two names: `torchrun` takes `--run` for an option of its own.
    parser.add_argument(
        "--run", "--folder", dest="folder", type=to_path, help="folder (default: runs/GAME/STAGE)"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--threads", type=workers, default=0, help="of torch; 0: one per core")
    parser.add_argument("--estimate", action="store_true", help="memory and time, then end (Wan)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Do what the parsed flags ask for; a `UserError` says what cannot be done."""
    from worldmodel.training.run_stage import run_stage
    from worldmodel.worlds.devices import choose_device

    config = options.config
    if options.estimate:
        check_flags(options, add, "--estimate", READS)
        from worldmodel.training.run_stage import read_stage
        from worldmodel.training.wan.estimate import describe

        tell(*describe(read_stage(config)))
        return
    folder = options.folder or Path("runs") / config.parent.name / config.stem
    device = choose_device(options.device)
    tell_json(run_stage(config, folder, options.threads, device))
