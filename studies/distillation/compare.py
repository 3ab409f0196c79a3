"""`worldmodel evaluate --compare FILE`: measure what is not measured yet, then write the page.

A row's figures are kept in a JSON file; they are measured again only if its weights, its sampler or
what it is measured with have changed. A killed comparison goes on with the first row missing. Rows
whose run is not here keep the figures that the repository has of them, or are listed as not run.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from studies.distillation.figures import (
    Figures,
    RealFigures,
    load_figures,
    save_figures,
)
from studies.distillation.measure import (
    Measured,
    measure,
    measure_real,
    work_of,
)
from studies.distillation.play_speed import Speeds, are_known, measure_speeds, speed_key
from studies.distillation.rows import (
    Comparison,
    Contender,
    find_contender,
    read_comparison,
    sampler_of,
)
from studies.distillation.training_costs import keep_records
from studies.distillation.unseen import Generalisation, measure_unseen
from studies.distillation.yardstick import (
    PAST,
    Yardstick,
    YardstickPlan,
    digest,
    find_action_reader,
    make_yardstick,
    play_dtype,
    stamp_of,
)
from worldmodel.config import ConfigError
from worldmodel.evaluation.drift import WINDOW
from worldmodel.system.progress import Progress, through
from worldmodel.training.sample_grids import save_grid
from worldmodel.worlds.find import find_world
from worldmodel.worlds.run_settings import usual_threads
from worldmodel.worlds.world_folder import WorldFile, check_weights, read_world_file

BAR = "{desc}: {percentage:3.0f} % |{bar}| {elapsed} gone, {remaining} left"
SHOWN = 4  # clips in a row's picture


@dataclass(slots=True)
class Results:
    """Everything the page is written from."""

    comparison: Comparison
    plan: YardstickPlan
    real: RealFigures | None = None
    rows: dict[str, Figures] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # row -> why it has no figures
    speeds: Speeds | None = None
    unseen: Generalisation | None = None

    @property
    def mark(self) -> str:
        """The measured row that others are compared with clip by clip."""
        claims = self.comparison.claims
        named = claims.frame_wise if claims else ""
        return named if named in self.rows else next(iter(self.rows))


def compare_rows(path: Path, plan: YardstickPlan, only: Sequence[str], pictures: Path) -> Results:
    """Measure the rows of the file `path`, or `only` some by name; the rest as it is kept."""
    torch.set_num_threads(usual_threads())
    comparison = read_comparison(path)
    if unknown := sorted(set(only) - comparison.rows.keys()):
        raise ConfigError(f"{path}: no row {unknown[0]!r}; it has {', '.join(comparison.rows)}")
    folder = find_world(comparison.world)
    world = read_world_file(folder)
    check_weights(folder, world)
    found = {
        name: find_contender(name, row, world, plan.teacher_steps, play_dtype())
        for name, row in through(comparison.rows.items(), desc="runs")
    }
    here = {name: one for name, one in found.items() if isinstance(one, Contender)}
    _measure_missing(comparison, folder, world, plan, here, only or tuple(here), pictures)
    keep_records(comparison)
    return _collect(comparison, world, plan, found)


def _measure_missing(
    comparison: Comparison,
    folder: Path,
    world: WorldFile,
    plan: YardstickPlan,
    here: dict[str, Contender],
    wanted: Sequence[str],
    pictures: Path,
) -> None:
    """Rows without figures, the real game's, speeds, generalisation: whatever has to be done."""
    out = comparison.out
    chosen = [one for name, one in here.items() if name in wanted]
    if not chosen:
        return
    stamp = stamp_of(out, world, plan)
    answering = [here[name] for name in comparison.generalisation if name in here]
    real = load_figures(RealFigures, out / "real.json")
    if (
        not stamp
        or not real
        or real.stamp != stamp
        or any(_kept_stamp(out, one) != row_stamp(stamp, one, plan) for one in chosen)
        or (answering and _unseen_stamp(out) != unseen_stamp(stamp, answering, plan))
    ):
        reader = find_action_reader(out, world, plan)
        stamp = stamp_of(out, world, plan)
        yardstick = make_yardstick(folder, world, reader, plan)
        if not real or real.stamp != stamp:
            save_figures(out / "real.json", measure_real(yardstick, stamp))
        _measure_rows(chosen, yardstick, stamp, out, pictures)
        wanted_stamp = unseen_stamp(stamp, answering, plan)
        if answering and plan.unseen_clips and _unseen_stamp(out) != wanted_stamp:
            unseen = measure_unseen(
                answering, yardstick, comparison.training_data, (stamp, wanted_stamp)
            )
            save_figures(out / "unseen.json", unseen)
    speeds = load_figures(Speeds, out / "speed.json")
    if plan.speed_frames and not are_known(chosen, speeds):
        alike = list({speed_key(one): one for one in here.values()}.values())
        fresh = measure_speeds(alike, folder, world, plan.speed_frames)
        save_figures(out / "speed.json", fresh)


def _measure_rows(
    chosen: Sequence[Contender], yardstick: Yardstick, stamp: str, out: Path, pictures: Path
) -> None:
    """Each row that has no figures of this stamp; every one is kept as soon as it is there."""
    todo = [one for one in chosen if _kept_stamp(out, one) != row_stamp(stamp, one, yardstick.plan)]
    total = sum(work_of(one, yardstick) for one in todo)
    with Progress(total=total, bar_format=BAR, leave=True) as bar:
        for number, one in enumerate(todo, start=1):
            bar.describe(f"row {number} of {len(todo)}, {one.name}")
            stamps = stamp, row_stamp(stamp, one, yardstick.plan)
            measured = measure(one, yardstick, stamps, bar.update)
            save_figures(out / f"{one.name}.json", measured.figures)
            _save_pictures(pictures, one.name, measured, yardstick)


def _save_pictures(folder: Path, name: str, measured: Measured, yardstick: Yardstick) -> None:
    """A few rollouts, every fourth frame, and long play, every 200th, below the real game's."""
    frames = measured.frames
    real, rows = yardstick.clips.frames[:, PAST:], []
    for clip in range(min(SHOWN, len(frames))):
        rows += [real[clip, 3 : frames.shape[1] : 4].numpy(), frames[clip, 3::4].numpy()]
    save_grid(folder / f"{name}.png", rows)
    for play, drift in measured.drift.items():
        pairs = zip(drift.real_frames, drift.frames, strict=True)
        rows = [x[WINDOW - 1 :: WINDOW].numpy() for pair in pairs for x in pair]
        save_grid(folder / f"{name}_{play}.png", rows)


def row_stamp(stamp: str, one: Contender, plan: YardstickPlan) -> str:
    """Of a row's figures, given the yardstick's stamp."""
    sampler, long = asdict(one.sampler), plan.long_frames(one.sampler.steps)
    return digest([stamp, one.weights, sampler, one.row.holds_actions, long])


def unseen_stamp(stamp: str, contenders: Sequence[Contender], plan: YardstickPlan) -> str:
    """Of the generalisation table."""
    rows = [[one.name, row_stamp(stamp, one, plan)] for one in contenders]
    return digest([stamp, rows, plan.unseen_clips])


def _kept_stamp(out: Path, one: Contender) -> str:
    figures = load_figures(Figures, out / f"{one.name}.json")
    return figures.stamp if figures else ""


def _unseen_stamp(out: Path) -> str:
    unseen = load_figures(Generalisation, out / "unseen.json")
    return unseen.stamp if unseen else ""


def _collect(
    comparison: Comparison, world: WorldFile, plan: YardstickPlan, found: dict[str, Contender | str]
) -> Results:
    """What is kept by now, as far as it was measured alike."""
    out, stamp = comparison.out, stamp_of(comparison.out, world, plan)
    results = Results(comparison, plan)
    for name, one in found.items():
        figures = load_figures(Figures, out / f"{name}.json")
        wanted = sampler_of(comparison.rows[name], world.sampler, plan.teacher_steps)
        if figures is None:
            results.missing[name] = one if isinstance(one, str) else "not measured yet"
        elif figures.yardstick != stamp or figures.sampler != wanted:
            results.missing[name] = "measured with other settings"
        elif isinstance(one, Contender) and figures.weights != one.weights:
            results.missing[name] = "trained again since it was measured"
        else:
            results.rows[name] = figures
    real = load_figures(RealFigures, out / "real.json")
    results.real = real if real and real.stamp == stamp else None
    results.speeds = load_figures(Speeds, out / "speed.json")
    unseen = load_figures(Generalisation, out / "unseen.json")
    results.unseen = unseen if unseen and unseen.yardstick == stamp else None
    return results
