"""`worldmodel train CONFIG`: one stage, from its TOML file to a finished run."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from worldmodel.config import ConfigError, build_config, read_derived_toml, to_toml
from worldmodel.model.context import Device
from worldmodel.storage.files import write_atomically
from worldmodel.system.progress import note
from worldmodel.training.autoencoder import AutoencoderStage, AutoencoderTraining
from worldmodel.training.bidirectional import BidirectionalStage, BidirectionalTraining
from worldmodel.training.consistency import StudentStage, StudentTraining
from worldmodel.training.decoder import DecoderStage, DecoderTraining
from worldmodel.training.dmd import DmdStage, DmdTraining
from worldmodel.training.events import EventsStage, EventsTraining
from worldmodel.training.export import WorldExport, export_world
from worldmodel.training.floor_plan import FloorPlanStage, FloorPlanTraining
from worldmodel.training.interpolation import WeightInterpolation, interpolate
from worldmodel.training.metrics_log import last_figures
from worldmodel.training.motion import MotionStage, MotionTraining
from worldmodel.training.ode import OdeStage, OdeTraining
from worldmodel.training.processes import (
    Processes,
    Transformer,
    checkpoint_blocks,
    shard_models,
)
from worldmodel.training.stage import (
    CostedStage,
    CriticisedStage,
    LoopConfig,
    Stage,
    by_name,
    check_counts,
)
from worldmodel.training.teacher_forcing import TeacherStage, TeacherTraining
from worldmodel.training.train_loop import CONFIG, UnfinishedError, count_flops, resume, train
from worldmodel.training.trajectories import OdeTrajectories, write_trajectories
from worldmodel.training.verdict import (
    FailedError,
    Verdict,
    check_latents_show,
    judge,
    last_picture,
    where_to_look,
)
from worldmodel.training.wan.run_stage import (
    WAN_JOBS,
    WanJob,
    make_wan_stage,
    read_wan_stage,
    write_lora,
)
from worldmodel.training.wan.stage import WanStage
from worldmodel.training.wan.stage_config import WanTraining
from worldmodel.worlds.devices import choose_dtype
from worldmodel.worlds.run_settings import usual_threads

Training = (
    MotionTraining
    | EventsTraining
    | FloorPlanTraining
    | AutoencoderTraining
    | DecoderTraining
    | BidirectionalTraining
    | TeacherTraining
    | StudentTraining
    | OdeTraining
    | DmdTraining
    | WanTraining
)
# What each config makes; the config that a stage reads is the one it is made of.
MAKERS: dict[type[Training], Callable[[Any, Path, Device], Stage]] = {
    MotionTraining: MotionStage,
    EventsTraining: EventsStage,
    FloorPlanTraining: FloorPlanStage,
    AutoencoderTraining: AutoencoderStage,
    DecoderTraining: DecoderStage,
    BidirectionalTraining: BidirectionalStage,
    TeacherTraining: TeacherStage,
    StudentTraining: StudentStage,
    OdeTraining: OdeStage,
    DmdTraining: DmdStage,
}
EXACT = (MotionTraining, EventsTraining)  # whose numbers need float32: `auto` means that
SUMMARY = "summary.json"  # what a finished run took, and what it is worth
Job = OdeTrajectories | WeightInterpolation | WorldExport  # stages that train nothing
Config = Training | Job | WanJob
JOBS: dict[type[Job], Callable[[Any, Path, Device], dict[str, Any]]] = {
    OdeTrajectories: write_trajectories,
    WeightInterpolation: lambda config, folder, _: interpolate(config, folder),
    WorldExport: lambda config, folder, _: export_world(config, folder),
}
STAGES: dict[str, type[Config]] = by_name((*MAKERS, *JOBS))


def add_stage(config: type[Training], make: Callable[[Any, Path, Device], Stage]) -> None:
    """Make a stage known that a study brings; once more is no change."""
    MAKERS[config] = make
    STAGES.update(by_name((config,)))


def read_stage(path: Path) -> Config:
    """The config of whichever stage a TOML file describes."""
    table = read_derived_toml(path)
    if (wan := read_wan_stage(table, str(path))) is not None:
        return wan
    if str(table.get("stage")) not in STAGES:
        raise ConfigError(
            f"{path}: stage = {table.get('stage')!r}; choose from {', '.join(STAGES)}"
        )
    return build_stage(table, str(path))


def build_stage(table: Mapping[str, Any], where: str) -> Config:
    """The config of the stage that a table names; `where` names the file in messages."""
    config = build_config(STAGES[table["stage"]], table, where)
    check_counts(config, where)
    return config


def run_stage(
    path: Path, folder: Path, threads: int = 0, device: Device = "cpu", *, rehearses: bool = False
) -> dict[str, Any]:
    """Train (or resume) the stage that `path` describes in `folder`; returns its summary.

    What cannot be used is a `FailedError`, except to who only rehearses.
    """
    began = time.perf_counter()
    config = read_stage(path)
    processes = Processes.join(torch.device(device))
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine
    torch.set_num_threads(threads or max(1, usual_threads() // beside))
    if processes.device.type == "cuda":  # what autocast leaves in fp32 may be rounded in products
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    config = with_dtype(config, processes.device)
    if isinstance(config, Job | WanJob):
        if processes.count > 1:
            raise ConfigError(f"{path}: the stage {config.stage!r} is for one process")
        return (JOBS | WAN_JOBS)[type(config)](config, folder, device)
    do = partial(_train, config, path, folder, processes, began, rehearses=rehearses)
    try:
        summary, verdict = _compiled(do, path, folder) if config.loop.compile else do()
    finally:
        processes.leave()
    if verdict.failed and not rehearses:
        raise FailedError(f"{folder}: {verdict.sentence}. {where_to_look(folder)}")
    return summary


def _compiled(
    do: Callable[[], tuple[dict[str, Any], Verdict]], path: Path, folder: Path
) -> tuple[dict[str, Any], Verdict]:
    """Train; where the compiler fails, go on once more from the last state.

    Two programs that compile at the same moment share a cache of files and can trip over each
    other; what has gone wrong twice is not that.
    """
    for attempt in range(2):
        try:
            return do()
        except RuntimeError as error:
            reason = _compilers_failure(error)
            if not reason:
                raise
            if attempt:
                raise ConfigError(
                    f"{path}: torch cannot compile this stage ({reason}); set compile = false"
                ) from error
            note(f"{folder}: torch failed to compile ({reason}); once more")
        torch.compiler.reset()
    raise AssertionError("the second attempt returns or raises")


def _compilers_failure(error: RuntimeError) -> str:
    """What went wrong while torch compiled, in a line; nothing for any other error."""
    from torch._dynamo.exc import BackendCompilerFailed  # takes a second to import

    if not isinstance(error, BackendCompilerFailed):
        return ""
    inner = error.inner_exception
    return f"{type(inner).__name__}: {inner}".partition("\n")[0]


def _train(
    config: Training,
    path: Path,
    folder: Path,
    processes: Processes,
    began: float,
    *,
    rehearses: bool,
) -> tuple[dict[str, Any], Verdict]:
    """Build the stage, train it, write what it took and what it is worth."""
    processes.share(config.loop.micro_batches)  # a wrong number is told before data is read
    with processes.leader_first():
        stage = make_stage(config, folder, processes.device)
    if not rehearses:
        check_latents_show(stage, folder)
    if processes.count == 1:
        resume(stage, config.loop, folder)  # before anything in the folder changes
    flops = stage.flops if isinstance(stage, CostedStage) else count_flops(stage, config.loop.dtype)
    flops *= config.loop.micro_batches
    prepare(stage, config.loop, processes, path)
    if processes.leads:
        write_atomically(folder / CONFIG, to_toml(config).encode())
    state = train(stage, config.loop, folder, processes, began, config.stage)
    if not state.steps or state.step < state.steps:
        raise UnfinishedError(
            f"{folder}: stopped at step {state.step} of {state.steps or 'a number not known yet'}; "
            "the state is saved, the same command goes on from here"
        )
    verdict = judge(stage, last_figures(folder))
    summary = {
        "stage": config.stage,
        "steps": state.step,
        "minutes": round(state.seconds / 60, 1),
        "teraflops_per_step": round(flops / 1e12, 4),
        "petaflops": round(flops * state.step / 1e15, 3),
        "parameters": sum(p.numel() for p in stage.student.parameters()),
        **verdict.facts(last_picture(folder)),
    }
    if isinstance(stage, WanStage):
        write_lora(stage, folder, processes)
    if processes.leads:
        write_atomically(folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    return summary, verdict


def with_dtype(config: Config, device: torch.device) -> Config:
    """The config with what `auto` means on a device: bfloat16 where it is multiplied natively."""
    if not isinstance(config, Training) or config.loop.dtype != "auto":
        return config
    chosen = choose_dtype("float32" if isinstance(config, EXACT) else "auto", device)
    return replace(config, loop=config.loop.in_dtype(chosen))


def prepare(stage: Stage, loop: LoopConfig, processes: Processes, path: Path) -> None:
    """What the loop's config asks of the models: less memory, several processes, more speed."""
    if loop.checkpointing:
        trained = [stage.student]
        if isinstance(stage, CriticisedStage):
            trained.append(stage.critic.model)
        for model in trained:
            if isinstance(model, Transformer):
                checkpoint_blocks(model)
    if processes.count > 1:
        shard_models(stage, bfloat16=loop.dtype == "bfloat16")
    if loop.compile:
        if processes.count > 1:
            raise ConfigError(f"{path}: compile = true is for one process; set it to false")
        if not has_compiler():
            raise ConfigError(f"{path}: compile = true needs a C++ compiler; set it to false")
        if processes.device.type == "cuda":  # what cannot be compiled there is computed as it is
            torch._dynamo.config.suppress_errors = True
        stage.compile()


def has_compiler() -> bool:
    """Whether torch can compile here."""
    return any(map(shutil.which, ("c++", "g++", "clang++")))


def make_stage(config: Training, folder: Path, device: Device = "cpu") -> Stage:
    """Read the data and build the models of a stage on a device."""
    if isinstance(config, WanTraining):
        return make_wan_stage(config, device)
    return MAKERS[type(config)](config, folder, device)
