"""Which stages there are for Wan, and how each is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodel.config import ConfigError, build_config
from worldmodel.model.context import Device
from worldmodel.training.processes import Processes, whole
from worldmodel.training.stage import by_name
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
MAKERS: dict[type[WanTraining], Callable[[Any, Device], WanStage[Any]]] = {
    WanTeacherTraining: WanTeacherStage,
    WanBidirectionalTraining: WanBidirectionalStage,
    WanStudentTraining: WanStudentStage,
    WanOdeTraining: WanOdeStage,
    WanDmdTraining: WanDmdStage,
}
WAN_JOBS: dict[type[WanJob], Callable[[Any, Path, Device], dict[str, Any]]] = {
    WanLatents: write_latents,
    WanOdeTrajectories: write_wan_trajectories,
    WanExport: lambda config, folder, _: export_wan_world(config, folder),
}
OWN = ("latents", "wan_world")  # only Wan has them; of the others, `[model] kind = "wan"` says it
STAGES: dict[str, type[WanConfigs]] = by_name((*MAKERS, *WAN_JOBS))


def read_wan_stage(table: dict[str, Any], where: str) -> WanConfigs | None:
    """The config in a table, if it is one of Wan's."""
    stage, model = str(table.get("stage")), table.get("model")
    if stage not in OWN and (not isinstance(model, dict) or model.get("kind") != "wan"):
        return None
    if stage not in STAGES:
        raise ConfigError(
            f'{where}: stage = {stage!r} with kind = "wan"; choose from {", ".join(STAGES)}'
        )
    return build_config(STAGES[stage], table, where)


def make_wan_stage(config: WanTraining, device: Device) -> WanStage[Any]:
    """Open the latents and build the networks of a stage."""
    return MAKERS[type(config)](config, device)


def write_lora(stage: WanStage[Any], folder: Path, processes: Processes) -> None:
    """The averaged small matrices alone, where nothing else was trained; every process must ask."""
    if isinstance(stage.ema, LoraTransformer):
        tensors = {name: whole(tensor) for name, tensor in trained_weights(stage.ema).items()}
        if processes.leads:
            save_lora(folder / LORA, tensors, stage.ema.lora)
