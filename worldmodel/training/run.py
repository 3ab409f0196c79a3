"""`worldmodel train CONFIG`: one stage, from its TOML file to a finished run."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from worldmodel.config import ConfigError, build_config, read_toml, to_toml
from worldmodel.files import write_atomically
from worldmodel.model.context import Device
from worldmodel.training.autoencoder import AutoencoderStage, AutoencoderTraining
from worldmodel.training.bidirectional import BidirectionalStage, BidirectionalTraining
from worldmodel.training.consistency import StudentStage, StudentTraining
from worldmodel.training.decoder import DecoderStage, DecoderTraining
from worldmodel.training.dmd import DmdStage, DmdTraining
from worldmodel.training.export import WorldExport, export_world
from worldmodel.training.loop import CONFIG, Stage, UnfinishedError, count_flops, resume, train
from worldmodel.training.ode import OdeStage, OdeTraining
from worldmodel.training.teacher_forcing import TeacherStage, TeacherTraining
from worldmodel.training.trajectories import OdeTrajectories, write_trajectories
from worldmodel.worlds.settings import available_cores

Training = (
    AutoencoderTraining
    | DecoderTraining
    | BidirectionalTraining
    | TeacherTraining
    | StudentTraining
    | OdeTraining
    | DmdTraining
)
Config = Training | OdeTrajectories | WorldExport
STAGES: dict[str, type[Config]] = {
    "autoencoder": AutoencoderTraining,
    "decoder": DecoderTraining,
    "bidirectional": BidirectionalTraining,
    "teacher": TeacherTraining,
    "student": StudentTraining,
    "ode_trajectories": OdeTrajectories,
    "ode": OdeTraining,
    "dmd": DmdTraining,
    "world": WorldExport,
}


def read_stage(path: Path) -> Config:
    """The config of whichever stage a TOML file describes."""
    table = read_toml(path)
    if str(table.get("stage")) not in STAGES:
        raise ConfigError(
            f"{path}: stage = {table.get('stage')!r}; choose from {', '.join(STAGES)}"
        )
    return build_config(STAGES[table["stage"]], table, str(path))


def run_stage(path: Path, folder: Path, threads: int = 0, device: Device = "cpu") -> dict[str, Any]:
    """Train (or resume) the stage that `path` describes in `folder`; returns its summary."""
    config = read_stage(path)
    torch.set_num_threads(threads or available_cores())
    if isinstance(config, WorldExport):
        return export_world(config, folder)
    if isinstance(config, OdeTrajectories):
        return write_trajectories(config, folder, device)
    stage = make_stage(config, folder, device)
    resume(stage, config.loop, folder)  # before anything in the folder changes
    write_atomically(folder / CONFIG, to_toml(config).encode())
    flops = count_flops(stage)
    if config.loop.compile:
        if not any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise ConfigError(f"{path}: compile = true needs a C++ compiler; set it to false")
        stage.compile()
    state = train(stage, config.loop, folder)
    if state.step < config.loop.steps:
        raise UnfinishedError(
            f"{folder}: stopped at step {state.step} of {config.loop.steps}; the state is saved, "
            "the same command goes on from here"
        )
    summary = {
        "stage": config.stage,
        "steps": state.step,
        "minutes": round(state.seconds / 60, 1),
        "teraflops_per_step": round(flops / 1e12, 4),
        "petaflops": round(flops * state.step / 1e15, 3),
        "parameters": sum(p.numel() for p in stage.student.parameters()),
    }
    write_atomically(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def make_stage(config: Training, folder: Path, device: Device = "cpu") -> Stage:
    """Read the data and build the models of a stage on a device."""
    if isinstance(config, AutoencoderTraining):
        return AutoencoderStage(config, folder, device)
    if isinstance(config, DecoderTraining):
        return DecoderStage(config, folder, device)
    if isinstance(config, BidirectionalTraining):
        return BidirectionalStage(config, folder, device)
    if isinstance(config, TeacherTraining):
        return TeacherStage(config, folder, device)
    if isinstance(config, OdeTraining):
        return OdeStage(config, folder, device)
    if isinstance(config, DmdTraining):
        return DmdStage(config, folder, device)
    return StudentStage(config, folder, device)
