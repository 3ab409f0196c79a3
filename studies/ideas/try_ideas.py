"""What an idea gives per operation: runs of one stage that differ in one thing, compared.

A file (configs/doom/ideas) has a `[base]`, which is a whole config of `worldmodel train`, and
`[ideas]`, each a change of it. Every run may use the same number of floating-point operations, so
an idea that makes a step dearer takes fewer of them. The base is trained from several seeds: what
differs by less than those do is chance.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from studies.ideas.last_frame import LastFrameStage, LastFrameTraining
from studies.ideas.shortcut import ShortcutStage, ShortcutTraining
from worldmodel.config import ConfigError, build_config, merged, read_toml, to_toml
from worldmodel.model.context import Device
from worldmodel.storage.files import plain, read_record, read_text, write_atomically
from worldmodel.training.metrics_log import last_figures
from worldmodel.training.run_stage import STAGES, Training, add_stage, make_stage, run_stage
from worldmodel.training.stage import NEVER
from worldmodel.training.train_loop import count_flops

LEAST_STEPS = 20
BASE = "base-"  # and a seed: how the base's runs are called
FIRST = ".first"  # ends the name of an idea's first part, where there are two
PLAN = "plan.toml"  # a run's config, as `worldmodel train` takes it


@dataclass(frozen=True, kw_only=True, slots=True)
class Idea:
    """One change of the base."""

    title: str
    change: dict[str, Any] = field(default_factory=dict)  # tables of the config, merged into it
    first: dict[str, Any] = field(default_factory=dict)  # a change for the first part of it alone
    first_share: float = 0.5  # of the operations, where there is a first part
    begun_as: str = "start"  # what the second part calls the run of the first

    def __post_init__(self) -> None:
        if not self.change and not self.first:
            raise ConfigError(f"the idea {self.title!r} changes nothing")
        if not 0 < self.first_share < 1:
            raise ConfigError(f"first_share ({self.first_share}) must be between 0 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ideas:
    """Everything that the command `ideas` reads from its file."""

    title: str
    petaflops: float  # of every run
    seeds: tuple[int, ...]  # of the base; an idea has the first one
    runs: Path
    out: Path  # a JSON file of all that was measured
    page: Path  # gets the table
    figures: dict[str, str]  # what the stage measures, and what the table calls it
    base: dict[str, Any]
    ideas: dict[str, Idea]

    def __post_init__(self) -> None:
        if not self.petaflops > 0:
            raise ConfigError(f"petaflops ({self.petaflops}) must be above 0")
        if len(set(self.seeds)) < 2:
            raise ConfigError(f"seeds {list(self.seeds)}: two at least, to know what is chance")
        if not self.figures:
            raise ConfigError("[figures] names nothing to compare")
        for name in self.ideas:
            if name != plain(name) or "." in name or name.startswith(BASE):
                raise ConfigError(
                    f"the idea {name!r} names a folder: letters, digits, _ and -, not {BASE}…"
                )
        for variant in self.variants:
            for part in variant.parts:
                config_of(part.table, 1, f"the idea {variant.name}{part.suffix}")

    @property
    def name(self) -> str:
        """What its part of the page is called."""
        return self.out.stem

    @property
    def variants(self) -> "list[Variant]":
        """All runs, the base's seeds first."""
        found = [
            Variant(f"{BASE}{seed}", "base", (Part("", 1.0, with_seed(self.base, seed)),))
            for seed in self.seeds
        ]
        for name, idea in self.ideas.items():
            table = merged(with_seed(self.base, self.seeds[0]), idea.change)
            parts: tuple[Part, ...] = (Part("", 1.0, table),)
            if idea.first:
                begun = str(self.runs / f"{name}{FIRST}")
                parts = (
                    Part(FIRST, idea.first_share, merged(table, idea.first)),
                    Part("", 1 - idea.first_share, merged(table, {idea.begun_as: begun})),
                )
            found.append(Variant(name, idea.title, parts))
        return found


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a run: the second of two goes on from the first one's weights."""

    suffix: str  # of its folder's name; all runs lie side by side, so that they share their latents
    share: float  # of the operations
    table: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table."""

    name: str
    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of a variant."""

    steps: int
    petaflops: float
    minutes: float
    figures: dict[str, float]


def read_ideas(path: Path) -> Ideas:
    """Read the file; every run's config is checked before the first one begins."""
    add_stage(ShortcutTraining, ShortcutStage)
    add_stage(LastFrameTraining, LastFrameStage)
    return build_config(Ideas, read_toml(path), str(path))


def with_seed(table: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The table with another seed of its loop."""
    return merged(table, {"loop": {"seed": seed}})


def config_of(table: Mapping[str, Any], steps: int, where: str) -> Training:
    """The config of a run of so many steps."""
    stage = str(table.get("stage"))
    if stage not in STAGES or "loop" not in table:
        raise ConfigError(f"{where}: expected a stage that is trained, with a [loop]; not {stage}")
    given = [key for key in ("steps", "minutes") if key in table["loop"]]
    if given:
        raise ConfigError(f"{where}: loop.{given[0]} follows from petaflops; leave it out")
    config = build_config(STAGES[stage], merged(table, {"loop": {"steps": steps}}), where)
    if not isinstance(config, Training):
        raise ConfigError(f"{where}: the stage {stage} has no steps")
    return config


def try_ideas(
    plan: Ideas, device: Device = "cpu", threads: int = 0
) -> Iterator[dict[str, Outcome]]:
    """Train what is not trained yet; after each run, everything that is known so far."""
    outcomes: dict[str, Outcome] = {}
    for variant in plan.variants:
        outcomes[variant.name] = _try(plan, variant, device, threads)
        _write(plan, outcomes)
        yield dict(outcomes)


def _try(plan: Ideas, variant: Variant, device: Device, threads: int) -> Outcome:
    """Train the parts of a variant one after the other; what is finished is not trained again."""
    steps, petaflops, minutes = 0, 0.0, 0.0
    folder = plan.runs
    for part in variant.parts:
        folder = plan.runs / f"{variant.name}{part.suffix}"
        summary = _train(plan, variant, folder, part, device, threads)
        steps += summary["steps"]
        petaflops += summary["petaflops"]
        minutes += summary["minutes"]
    return Outcome(steps, round(petaflops, 4), round(minutes, 1), _last(folder, plan.figures))


def _train(
    plan: Ideas,
    variant: Variant,
    folder: Path,
    part: Part,
    device: Device,
    threads: int,
) -> dict[str, Any]:
    """One run of as many steps as its operations allow; returns its summary."""
    where, table = f"the idea {variant.name}", part.table
    path = folder / PLAN
    if not _planned(path, table):
        if path.exists():
            raise ConfigError(f"{folder} holds a run of another config; move it away")
        config = config_of(table, 1, where)
        flops = count_flops(make_stage(config, folder, torch.device(device)))
        steps = int(1e15 * part.share * plan.petaflops / (flops * config.loop.micro_batches))
        if steps < LEAST_STEPS:
            raise ConfigError(
                f"{where}: {plan.petaflops} petaflops allow {steps} steps, expected at least "
                f"{LEAST_STEPS}; give more, or make its batches smaller"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_toml(_full(table, steps)).encode())
    summary = folder / "summary.json"
    if not summary.is_file():
        run_stage(path, folder, threads, device)
    return read_record(summary)


def _full(table: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The table of a run: it measures at its end alone."""
    return merged(table, {"loop": {"steps": steps, "sample_every": NEVER}})


def _planned(path: Path, table: Mapping[str, Any]) -> bool:
    """Whether the run in this folder is one of this very table."""
    if not path.is_file():
        return False
    steps = int(read_toml(path).get("loop", {}).get("steps", 0))
    return read_text(path) == to_toml(_full(table, steps))


def _last(folder: Path, figures: Mapping[str, str]) -> dict[str, float]:
    """The figures that a run measured last."""
    measured = {name: value for name, value in last_figures(folder).items() if value is not None}
    if missing := [name for name in figures if name not in measured]:
        raise ConfigError(f"{folder}: its stage measures no {', '.join(missing)}")
    return {name: measured[name] for name in figures}


def _write(plan: Ideas, outcomes: Mapping[str, Outcome]) -> None:
    found = {name: asdict(outcome) for name, outcome in outcomes.items()}
    write_atomically(plan.out, (json.dumps(found, indent=1) + "\n").encode())
