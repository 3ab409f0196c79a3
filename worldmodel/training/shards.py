"""Files that a stage writes one after the other: what is finished stays when it is killed."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from torch import Tensor, nn

from worldmodel.config import ConfigError, to_toml
from worldmodel.random_streams import SCHEME
from worldmodel.storage.checkpoint import CheckpointError, parse_header
from worldmodel.storage.files import read_record, write_atomically
from worldmodel.storage.save_tensors import save_tensors
from worldmodel.storage.tensor_files import open_tensors
from worldmodel.system.limits import LARGEST_WEIGHTS, LONGEST_SHOWN
from worldmodel.system.printable import printable
from worldmodel.system.progress import through
from worldmodel.training.train_loop import CONFIG, UnfinishedError, stop_on_sigterm


class Sharded(Protocol):
    """The config of a stage whose clips lie in files of so many."""

    @property
    def shards(self) -> int:
        """How many files the samples are written to."""


def shard_path(folder: Path, number: int) -> Path:
    """The file that the shard of this number is in."""
    return folder / f"{number:05d}.safetensors"


def write_shards(
    config: Sharded, folder: Path, stamp: str, make: Callable[[int], dict[str, Tensor]]
) -> tuple[float, int]:
    """Write the shards that are not there yet; SIGTERM ends between two. Seconds, and how many."""
    write_atomically(folder / CONFIG, to_toml(config).encode())
    began, made = time.perf_counter(), 0
    with stop_on_sigterm() as stopping:
        for number in through(range(config.shards), desc="trajectories", unit="shard", leave=True):
            path = shard_path(folder, number)
            if load_header(path).get("stamp") == stamp:
                continue
            if stopping():
                raise UnfinishedError(
                    f"{folder}: stopped at shard {number} of {config.shards}; what is written "
                    "stays, the same command goes on from here"
                )
            save_tensors(path, make(number), {"stamp": stamp})
            made += 1
    return time.perf_counter() - began, made


def stamp_of(config: Sharded, teacher: nn.Module, *more: object) -> str:
    """Changes with whatever a trajectory depends on, but not with how many there are."""
    weights = float(sum(p.double().abs().sum() for p in teacher.parameters()))
    lines = to_toml(config).splitlines()
    facts = sorted({line for line in lines if not line.startswith(("clips =", "stage ="))})
    return " ".join(map(str, (f"{weights:.9e}", facts, *more, SCHEME)))


def check_alike(folder: Path, made: Sharded, config: object, *names: str) -> None:
    """Refuse what was made with something else than `config` says under these names."""
    for name in names:
        if getattr(made, name) != getattr(config, name):
            raise ConfigError(
                f"{folder} was made with another {name} than this config names: "
                f"{getattr(made, name)}"
            )


def find_shards(folder: Path, made: Sharded) -> list[Path]:
    """All files of a finished stage."""
    paths = [shard_path(folder, number) for number in range(made.shards)]
    if missing := [path for path in paths if not path.is_file()]:
        raise UnfinishedError(
            f"{missing[0]}: missing; finish the stage `ode_trajectories` with `worldmodel train`"
        )
    return paths


def add_to_summary(
    folder: Path,
    facts: Mapping[str, Any],
    work: Mapping[str, float],
    more: Mapping[str, Any],
    *,
    made: int,
) -> dict[str, Any]:
    """Write `summary.json`; the work of earlier sessions, which wrote the other shards, counts.

    A run that found every shard there, `made` none, leaves what was measured as it was.
    """
    path = folder / "summary.json"
    before = read_record(path) if path.exists() else {}
    work = {name: round(x + (_number(before, name) if made else 0), 4) for name, x in work.items()}
    summary = before if before and not made else {**facts, **work, **more}
    write_atomically(path, (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def _number(table: Mapping[str, Any], name: str) -> float:
    value = table.get(name)
    return value if isinstance(value, int | float) else 0


def load_header(path: Path) -> dict[str, Any]:
    """The header of a shard; an unreadable one has none."""
    try:
        with open_tensors(path, LARGEST_WEIGHTS, "pt") as file:
            found = file.metadata() or {}
    except Exception:  # noqa: BLE001  # whatever is wrong with it, the shard is made again
        return {}
    return {key: parse_header(value) for key, value in found.items()}


@contextlib.contextmanager
def reading_clip(path: Path, clip: int, stage: str) -> Iterator[None]:
    """A `CheckpointError` says what is wrong with a file that a stage has written; what to do."""
    try:
        yield
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        reason = printable(str(error).removeprefix(f"{path}: "), LONGEST_SHOWN)
        raise CheckpointError(
            f"{path}: clip {clip} cannot be read ({reason}); remove the file and run the stage "
            f"`{stage}` again"
        ) from error
