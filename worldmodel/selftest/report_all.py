"""`worldmodel selftest`: all of it for some minutes, and a table of what was tried.

    report = selftest(None, minutes=15.0)
    print_report(report)

Nothing is written but into temporary folders, and no window is opened.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from worldmodel.selftest import cuts, trials
from worldmodel.selftest.fuzz import check, fuzz
from worldmodel.selftest.soak import soak
from worldmodel.selftest.targets import targets
from worldmodel.system.progress import through
from worldmodel.system.versions import installed_versions
from worldmodel.world import World
from worldmodel.worlds.find import find_world, open_world
from worldmodel.worlds.run_settings import RunSettings

# Which share of the time each part gets.
SHARES = {
    "long play": 0.35,
    "moments saved and loaded": 0.12,
    "branches": 0.12,
    "faults": 0.12,
    "replays": 0.09,
    "recordings killed and cut": 0.1,
    "hostile files": 0.1,
}


@dataclass(frozen=True, slots=True)
class Result:
    """What one part of the self-test found."""

    name: str
    seconds: float
    is_fine: bool
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """All parts, and where they ran."""

    world: str
    running_on: str
    minutes: float
    results: list[Result]

    @property
    def is_fine(self) -> bool:
        """Whether no part found anything broken."""
        return all(result.is_fine for result in self.results)


def selftest(name: str | None, minutes: float) -> Report:
    """Every part for its share of the time; a part that breaks does not stop the others."""
    folder = find_world(name)
    world = open_world(name, RunSettings())
    parts = {
        "long play": lambda seconds: str(soak(world, seconds)),
        "moments saved and loaded": lambda seconds: _moments(world, seconds),
        "branches": lambda seconds: _branches(world, seconds),
        "faults": lambda seconds: _faults(world, seconds),
        "replays": lambda seconds: _replays(world, seconds),
        "recordings killed and cut": _cuts,
        "hostile files": lambda seconds: _fuzz(folder, seconds),
    }
    results = [
        _try(part, parts[part], 60 * minutes * SHARES[part])
        for part in through(parts, unit="part", file=sys.stderr)
    ]
    return Report(world.name, world.running_on, minutes, results)


def print_report(report: Report) -> None:
    """A table, and everything on one line for programs."""
    write = sys.stdout.write
    write(f"{report.world} on {report.running_on}\n\n")
    for result in report.results:
        verdict = "held" if result.is_fine else "BROKE"
        write(f"{result.name:26} {verdict:6} {result.seconds:6.0f} s  {result.message}\n")
    write(f"\n{json.dumps({**asdict(report), 'versions': installed_versions()})}\n")


def _try(name: str, part: Callable[[float], str], seconds: float) -> Result:
    began = time.monotonic()
    try:
        message, is_fine = part(seconds), True
    except Exception as error:  # noqa: BLE001  # the report says it, the other parts go on
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        is_fine = False
    return Result(name, time.monotonic() - began, is_fine, message)


def _until(seconds: float) -> Iterator[int]:
    """Trials, at least one, until the time is up."""
    ends, trial = time.monotonic() + seconds, 0
    while not trial or time.monotonic() < ends:
        yield trial
        trial += 1


def _moments(world: World, seconds: float) -> str:
    for trial in _until(seconds):
        trials.save_and_load(world, trial)
    return f"{trial + 1} moments went on bit for bit, 20 frames each"


def _branches(world: World, seconds: float) -> str:
    for trial in _until(seconds):
        trials.branch(world, trial)
    return f"{trial + 1} times back and on, bit for bit"


def _faults(world: World, seconds: float) -> str:
    count = sum(trials.faults(world, trial) for trial in _until(seconds))
    return f"{count} faults injected, every frame as without them"


def _replays(world: World, seconds: float) -> str:
    same = [trials.replay(world, trial) for trial in _until(seconds)]
    return f"{len(same)} recordings with branches, {sum(same)} frames identical"


def _cuts(seconds: float) -> str:
    left = [cuts.kill(trial) for trial in _until(seconds)]
    rows, shown = (sum(one) for one in zip(*left, strict=True))
    return (
        f"{len(left)} processes killed, {shown} of {rows} frames play, every row is there; "
        f"{10 * len(left)} times cut anywhere and read"
    )


def _fuzz(folder: Path, seconds: float) -> str:
    done = fuzz(targets(folder), seconds)
    check(done)
    return (
        f"{done.inputs} damaged files, {done.accepted} still right, the rest one sentence each; "
        f"slowest {1000 * done.slowest:.0f} ms"
    )
