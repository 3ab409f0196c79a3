"""`worldmodel make RECIPE`: record, check, train, pack and measure, within a budget of minutes.

Whatever happens in between, the same command goes on: a step that is done and whose settings have
not changed is skipped, a run that was killed is resumed. A gradient that is no number is tried
again from the last good state with half the learning rate, a batch that does not fit a GPU in two
halves, a full disk after what can be made again is removed.
"""

import gc
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from worldmodel.config import UserError
from worldmodel.data_sources.parallel_record import record_together
from worldmodel.datacheck.data_report import describe as describe_data
from worldmodel.datacheck.faults import check_apart, check_folder
from worldmodel.recipe import schedule_of_steps
from worldmodel.recipe.choose_starts import choose_starts
from worldmodel.recipe.derive import (
    HELDOUT,
    HELDOUT_SEED,
    TRAIN,
    SharedSettings,
    as_toml,
    budgeted,
    measure_change,
    share_settings,
    source_of,
)
from worldmodel.recipe.ledger import Entry, Ledger, key_of
from worldmodel.recipe.outcome import read_verdict, tell
from worldmodel.recipe.recipe_file import INTERPOLATION, StagePart, read_recipe
from worldmodel.storage.files import FileWriteError, check_writable, write_atomically
from worldmodel.system.printable import counted
from worldmodel.training.clips import LatentEpisodes
from worldmodel.training.kept_states import before
from worldmodel.training.run_stage import has_compiler, run_stage
from worldmodel.training.runs import load_autoencoder
from worldmodel.training.shards import load_header
from worldmodel.training.train_loop import STATE, DivergedError
from worldmodel.worlds.devices import choose_device
from worldmodel.worlds.run_settings import available_cores, usual_threads
from worldmodel.worlds.world_folder import check_own

LATENTS = "latents.safetensors"  # beside the runs, where every stage looks for them
ATTEMPTS = 4  # at one stage
CHECKED_FILES = 40  # of a folder: all were written by the same recorder

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What the command line of `make` asks for."""

    recipe: Path
    minutes: float = 0.0  # 0: the recipe's
    out: Path | None = None  # of the world; none: assets/worlds/NAME
    root: Path | None = None  # of everything else; none: runs/NAME
    device: str = "auto"
    threads: int = 0  # of torch; 0: one per core
    processes: int = 0  # that record; 0: one per core
    rehearse: bool = False
    plans_only: bool = False
    allow_code: bool = False  # whether the recipe may name code that plays while it is recorded


def make(job: Job, say: Say) -> Path | None:
    """Make the world of a recipe, or go on with it; its folder, if it was more than a plan."""
    recipe = read_recipe(job.recipe, rehearse=job.rehearse)
    minutes = job.minutes or recipe.minutes
    shared = share_settings(recipe, schedule_of_steps.folder_of(recipe, job.root))
    device = choose_device(job.device)
    processes = job.processes or available_cores()
    for line in schedule_of_steps.describe(shared, minutes, device, processes):
        say(line)
    if job.plans_only:
        return None
    schedule_of_steps.check_disk(shared)
    if job.rehearse and not job.threads:  # threads that wait for each other cost more than they do
        job = replace(job, threads=1)
    inside = shared.root / "world" if job.rehearse else Path("assets/worlds") / recipe.name
    out = job.out or inside
    check_own(out)
    check_writable(out)
    maker = Maker(shared, minutes, device, job, out, processes, say)
    maker.run()
    return maker.out


def budget_line(spent: float, minutes: float) -> str:
    """How far a budget of minutes has been used, or by how much it has been overrun."""
    left = minutes - spent
    rest = f"{left:.1f} left" if left >= 0 else f"{-left:.1f} over"
    return f"[{spent:.1f} of {minutes:g} min, {rest}]"


def _has_steps(run: Path) -> bool:
    """Whether a run has found out how many steps fit into its minutes."""
    return int(load_header(run / STATE).get("steps", 0)) > 0


class Maker:
    """Takes a recipe through its steps, from data to a measured world."""

    def __init__(
        self,
        shared: SharedSettings,
        minutes: float,
        device: torch.device,
        job: Job,
        out: Path,
        processes: int,
        say: Say,
    ) -> None:
        self.shared, self.recipe, self.root = shared, shared.recipe, shared.root
        self.minutes, self.device, self.job, self.out = minutes, device, job, out
        self.processes, self.say = processes, say
        self.ledger = Ledger.open(self.root)
        self.keys: dict[str, str] = {}  # of the steps so far

    def run(self) -> None:
        """All steps, one after the other."""
        self._record()
        self._check()
        for part in self.recipe.parts:
            self._train(part)
            if part.stage == "autoencoder":
                self._encode()
        self._pack()
        if self.recipe.evaluate.clips:
            self._measure()
        for line in tell(self.recipe, self.root, self.out, rehearses=self.job.rehearse):
            self.say(line)

    def _clock(self) -> str:
        return budget_line(self.ledger.spent / 60, self.minutes)

    def _step(self, name: str, key: str, summary: str, do: Callable[[Entry], None]) -> None:
        """Do a step unless it was done and nothing has changed."""
        self.keys[name] = key
        if self.ledger.is_done(name, key):
            self.say(f"{self._clock()} {name}: done before, unchanged")
            return
        entry = self.ledger.begin(name, key)
        if summary:  # stages say it themselves
            self.say(f"{self._clock()} {name}: {summary}")
        try:
            do(entry)
        except BaseException:
            self.ledger.pause(name)
            raise
        self.ledger.finish(name)

    def _record(self) -> None:
        record, source = self.recipe.record, source_of(self.recipe)
        facts = {k: v for k, v in asdict(source).items() if k != "allow_code"}
        key = key_of({"source": facts, "record": {**asdict(record), "minutes": 0}})
        source = replace(source, allow_code=self.job.allow_code)
        if source.gym is not None:  # an error comes before an empty folder
            from worldmodel.data_sources.gym_players import find_player

            find_player(source.player, allow_code=source.allow_code)

        def do(entry: Entry) -> None:
            del entry
            plans = ((HELDOUT, record.heldout, HELDOUT_SEED), (TRAIN, record.frames, 0))
            for which, frames, first in plans:
                folder = self.shared.data(which)
                record_together(
                    source, folder, frames, first, record.episode_frames, self.processes
                )

        summary = f"{record.frames:,} frames to train on, {record.heldout:,} to measure on"
        self._step("data", key, summary, do)

    def _check(self) -> None:
        clips = [part.settings.get("clips", {}).get("frames", 2) for part in self.recipe.parts]

        def do(entry: Entry) -> None:
            del entry
            sets = [
                check_folder(self.shared.data(which), max(clips), CHECKED_FILES)
                for which in (TRAIN, HELDOUT)
            ]
            check_apart(*sets)
            for line in (line for data in sets for line in describe_data(data)):
                self.say(line)
            if errors := [error for data in sets for error in data.errors]:
                raise UserError(f"{self.root}: the data cannot be trained on: {errors[0]}")

        key = key_of({"clips": clips}, [self.keys["data"]])
        self._step("check", key, f"{CHECKED_FILES} episodes of each kind", do)

    def _train(self, part: StagePart) -> None:
        stage = part.stage
        table = self.shared.config(part, self._change(stage))
        before = [key for name, key in self.keys.items() if str(self.root / name) in repr(table)]
        done = {name for name, entry in self.ledger.entries.items() if entry.done}

        def do(entry: Entry) -> None:
            if part.share and not (entry.minutes and _has_steps(self.root / stage)):
                spent = self.ledger.spent
                entry.minutes = schedule_of_steps.share_of_rest(
                    self.shared, stage, self.minutes, spent, done
                )
                self.ledger.save()
            limit = f"{entry.minutes:.1f} minutes" if part.share else "as many steps as it names"
            self.say(f"{self._clock()} {stage}: {limit}")
            for _ in range(ATTEMPTS):
                if (problem := self._attempt(table, stage, entry)) is None:
                    self.say(f"{self._clock()} {stage}: {read_verdict(self.root / stage).sentence}")
                    return
                self.ledger.save()
                self.say(f"{self._clock()} {stage}: {problem}")
            raise UserError(f"{self.root / stage}: given up after {ATTEMPTS} attempts")

        done.discard(stage)
        self._step(stage, key_of(table, before), "", do)

    def _encode(self) -> None:
        """Latents of all frames, once: no stage's minutes go by with it."""

        def do(entry: Entry) -> None:
            del entry
            torch.set_num_threads(self.job.threads or usual_threads())
            autoencoder = load_autoencoder(self.shared.run("autoencoder")).to(self.device)
            cache = self.root / LATENTS
            LatentEpisodes.encode(self.shared.data(TRAIN), autoencoder, self.shared.actions, cache)
            self._let_go()

        key = key_of({}, [self.keys["autoencoder"]])
        self._step("latents", key, f"{self.recipe.record.frames:,} frames are encoded", do)

    def _attempt(self, table: dict[str, Any], stage: str, entry: Entry) -> str | None:
        """Train; what went wrong and is done about it, None if nothing did."""
        wanted = budgeted(table, entry.minutes, entry.rate, entry.split)
        if wanted["loop"].get("compile") and not has_compiler():
            wanted["loop"]["compile"] = False
        path = self.root / f"{stage}.toml"
        write_atomically(path, as_toml(wanted, str(path)).encode())
        try:
            folder, rehearses = self.root / stage, self.job.rehearse
            run_stage(path, folder, self.job.threads, self.device, rehearses=rehearses)
        except DivergedError as error:
            entry.rate /= 2
            return f"{error}; again with {entry.rate:g} times the learning rates"
        except torch.OutOfMemoryError:
            entry.split *= 2
            return f"the batch does not fit the memory; again in {entry.split} parts"
        except FileWriteError as error:
            freed = self._make_room(stage)
            if not freed:
                raise
            return f"{error}; {freed / 1e6:.0f} MB that can be made again were removed"
        finally:
            self._let_go()
        return None

    def _make_room(self, stage: str) -> int:
        """Remove what nobody needs or what can be made again; how many bytes."""
        found = list(self.root.glob("*.before"))
        own = before(self.root / stage / STATE)
        found += [path for path in self.root.glob(f"*/{own.name}") if path != own]
        if stage not in ("autoencoder", "decoder"):
            found += self.root.glob("*.frames")
        files = [file for path in found for file in (path.rglob("*") if path.is_dir() else [path])]
        size = sum(file.stat().st_size for file in files if file.is_file())
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return size

    def _run(self, table: Mapping[str, Any], folder: Path) -> None:
        """A stage without steps."""
        path = self.root / f"{table['stage']}.toml"
        write_atomically(path, as_toml(table, str(path)).encode())
        run_stage(path, folder, self.job.threads, self.device)

    def _let_go(self) -> None:
        """Give memory back before the next stage asks for it."""
        torch.compiler.reset()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _change(self, stage: str) -> float:
        """How much latents change, measured once on the finished autoencoder."""
        if stage in ("autoencoder", "decoder"):
            return 1.0  # they have no use for it
        entry = self.ledger.entries["autoencoder"]
        if not entry.change:
            folder = self.shared.data(HELDOUT)
            entry.change = measure_change(self.shared.run("autoencoder"), folder)
            self.ledger.save()
        return entry.change

    def _pack(self) -> None:
        folder, play = self.shared.data(HELDOUT), self.recipe.play
        starts = choose_starts(folder, play.starts, play.start_frames)
        game = ", ".join(c.level for c in source_of(self.recipe).doom) or self._environment()
        made_by = (
            f"{self.recipe.record.frames:,} frames of {game}; {self.job.recipe.as_posix()}; "
            f"{self.minutes:g} minutes on {self.device.type}"
        )
        between = self.recipe.played_stage == INTERPOLATION
        before = [str(self.out), *self.keys.values(), *([str(play.dmd_share)] if between else [])]
        key = key_of(self.shared.world(starts, ""), before)

        def do(entry: Entry) -> None:
            del entry
            if between:
                self._run(self.shared.interpolation(), self.root / INTERPOLATION)
            self._run(self.shared.world(starts, made_by), self.out)

        self._step("world", key, f"{counted(len(starts), 'place')} to begin", do)

    def _environment(self) -> str:
        return str((self.recipe.gym or {}).get("env"))

    def _measure(self) -> None:
        from worldmodel.evaluation import report, whole_evaluation
        from worldmodel.evaluation.real_play import TooLittleError
        from worldmodel.worlds.world_folder import write_measured

        measuring = self.recipe.evaluate
        key = key_of({**asdict(measuring), "minutes": 0}, [self.keys["world"]])

        def do(entry: Entry) -> None:
            del entry
            wanted = whole_evaluation.EvaluationPlan(
                clips=measuring.clips,
                drift_frames=measuring.drift_frames,
                seed=2_000_000,
                teacher_steps=measuring.teacher_steps,
                next_clips=measuring.next_clips,
                inverse_dynamics_clips=measuring.inverse_dynamics_clips,
                inverse_dynamics_steps=measuring.inverse_dynamics_steps,
            )
            data = None if self.recipe.doom else self.shared.data(HELDOUT)
            try:
                measured = whole_evaluation.evaluate(
                    str(self.out), wanted, self.root / "evaluation", self.say, data
                )
            except TooLittleError as error:  # the world is whole; more `heldout` would measure it
                self.say(f"NOT MEASURED: {error}")
                return
            report.print_report(measured)
            write_measured(self.out, report.headline(measured))

        self._step(
            "evaluation", key, f"a short one, against {schedule_of_steps.against(self.recipe)}", do
        )
