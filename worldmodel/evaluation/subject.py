"""What is measured: a world's autoencoder and one or two transformers with their samplers.

Everything rolls out in batches through the same `Rollout` that play uses.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from worldmodel.engine.torch_engine import DTYPES
from worldmodel.model.autoencoder import Autoencoder, channels_last
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.events import Events
from worldmodel.model.motion import Motion
from worldmodel.model.transformer import WorldTransformer
from worldmodel.schedule import sigma_grid
from worldmodel.storage.checkpoint import load_weights
from worldmodel.worlds.run_settings import RunSettings
from worldmodel.worlds.world_folder import (
    AUTOENCODER,
    EVENTS,
    MOTION,
    TEACHER,
    TRANSFORMER,
    WorldFile,
    check_weights,
    read_world_file,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A transformer and how it is sampled."""

    name: str
    model: WorldTransformer
    sampler: SamplerConfig


@dataclass(frozen=True, slots=True)
class Subjects:
    """A world taken apart for measuring."""

    file: WorldFile
    autoencoder: Autoencoder
    student: Subject  # as it is played
    others: tuple[Subject, ...]  # the student at other step counts, the teacher at many steps
    motion: Motion | None = None  # of a world that knows its place
    events: Events | None = None  # of a world whose numbers are predicted


def load_subjects(folder: Path, settings: RunSettings, teacher_steps: int) -> Subjects:
    """Read a world; its teacher is measured too where the folder holds one."""
    from worldmodel.worlds.devices import choose_device, choose_dtype

    file = read_world_file(folder)
    check_weights(folder, file, *(name for name in (TEACHER,) if name in file.sha256))
    dtype = DTYPES[choose_dtype(settings.dtype, choose_device("cpu"))]
    autoencoder = Autoencoder(file.autoencoder)
    load_weights(autoencoder, folder / AUTOENCODER)
    autoencoder.requires_grad_(requires_grad=False).eval().cast(dtype)
    channels_last(autoencoder)
    played = _transformer(folder / TRANSFORMER, file, dtype)
    sampler = file.sampler

    def student(sampler: SamplerConfig) -> Subject:
        return Subject(f"student, {sampler.steps} step{'s'[: sampler.steps - 1]}", played, sampler)

    others = [
        student(replace(sampler, sigmas=tuple(sigma_grid(steps).tolist()), first_sigmas=()))
        for steps in (1, 2, 4)
        if steps != sampler.steps
    ]
    if TEACHER in file.sha256:
        model = _transformer(folder / TEACHER, file, dtype)
        grid = tuple(sigma_grid(teacher_steps).tolist())
        clean = replace(sampler, first_sigmas=(), cache_from_last_step=False)
        many = replace(clean, sigmas=grid, renoise=False)
        others.append(Subject(f"teacher, {teacher_steps} steps", model, many))
    motion = None
    if file.motion and file.state:
        motion = Motion(file.motion, file.state)
        load_weights(motion, folder / MOTION)
        motion.requires_grad_(requires_grad=False).eval()
    events = None
    if file.events and file.state:
        events = Events(file.events, file.state)
        load_weights(events, folder / EVENTS)
        events.requires_grad_(requires_grad=False).eval()
    return Subjects(file, autoencoder, student(sampler), tuple(others), motion, events)


def _transformer(path: Path, file: WorldFile, dtype: torch.dtype) -> WorldTransformer:
    model = WorldTransformer(file.transformer)
    load_weights(model, path)
    return model.requires_grad_(requires_grad=False).eval().to(dtype=dtype)
