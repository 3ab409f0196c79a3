"""Which stages there are for Wan, and how each is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodel.config import ConfigError, build_config
from worldmodel.model.context import Device
from worldmodel.training.processes import Processes, whole
from worldmodel.training.train_state import trained_weights
from worldmodel.training.wan.dmd import WanDmdStage
from worldmodel.training.wan.export import WanExport, export_wan_world
from worldmodel.training.wan.latents import WanLatents, write_latents
from worldmodel.training.wan.ode import WanOdeStage, WanOdeTrajectories, write_wan_trajectories
from worldmodel.training.wan.stage import WanStage
from worldmodel.training.wan.stage_config import (
    WanBidirectionalTraining,
    WanDmdTraining,
    WanOdeTraining,
    WanStudentTraining,
    WanTeacherTraining,
    WanTraining,
)
from worldmodel.training.wan.student import WanStudentStage
from worldmodel.training.wan.teacher import WanBidirectionalStage, WanTeacherStage
from worldmodel.wan.lora import LoraTransformer, save_lora

LORA = "lora.safetensors"
WanJob = WanLatents | WanOdeTrajectories | WanExport  # stages that train nothing
WanConfigs = WanTraining | WanJob
# Stages that only Wan has; of the others, `[model] kind = "wan"` says it.
OWN: dict[str, type[WanConfigs]] = {"latents": WanLatents, "wan_world": WanExport}
STAGES: dict[str, type[WanConfigs]] = {
    "teacher": WanTeacherTraining,
    "bidirectional": WanBidirectionalTraining,
    "student": WanStudentTraining,
    "ode_trajectories": WanOdeTrajectories,
    "ode": WanOdeTraining,
    "dmd": WanDmdTraining,
}

MAKERS: dict[type[WanTraining], Callable[[Any, Path, Device], WanStage]] = {
    WanTeacherTraining: WanTeacherStage,
    WanBidirectionalTraining: WanBidirectionalStage,
    WanStudentTraining: WanStudentStage,
    WanOdeTraining: WanOdeStage,
    WanDmdTraining: WanDmdStage,
}


def read_wan_stage(table: dict[str, Any], where: str) -> WanConfigs | None:
    """The config in a table, if it is one of Wan's."""
    stage, model = str(table.get("stage")), table.get("model")
    if stage in OWN:
        return build_config(OWN[stage], table, where)
    if not isinstance(model, dict) or model.get("kind") != "wan":
        return None
    if stage not in STAGES:
        raise ConfigError(
            f'{where}: stage = {stage!r} with kind = "wan"; choose from {", ".join(STAGES)}, '
            f"{', '.join(OWN)}"
        )
    return build_config(STAGES[stage], table, where)


def run_wan_job(config: WanJob, folder: Path, device: Device) -> dict[str, Any]:
    """A stage that trains nothing; what it took."""
    if isinstance(config, WanLatents):
        return write_latents(config, folder, device)
    if isinstance(config, WanOdeTrajectories):
        return write_wan_trajectories(config, folder, device)
    return export_wan_world(config, folder)


def make_wan_stage(config: WanTraining, folder: Path, device: Device) -> WanStage:
    """Open the latents and build the networks of a stage."""
    return MAKERS[type(config)](config, folder, device)


def write_lora(stage: WanStage, folder: Path, processes: Processes) -> None:
    """The averaged small matrices alone, where nothing else was trained; every process must ask."""
    if isinstance(stage.ema, LoraTransformer):
        tensors = {name: whole(tensor) for name, tensor in trained_weights(stage.ema).items()}
        if processes.leads:
            save_lora(folder / LORA, tensors, stage.ema.lora)
