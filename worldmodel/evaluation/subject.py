"""What is measured: a world's autoencoder and one or two transformers with their samplers.

Everything rolls out in batches through the same `Rollout` that play uses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.data_sources.doom import Doom, config_of
from worldmodel.engine.torch_engine import DTYPES
from worldmodel.model.autoencoder import Autoencoder, channels_last
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.events import Events
from worldmodel.model.motion import Motion
from worldmodel.model.scene import scene_views
from worldmodel.model.transformer import WorldTransformer
from worldmodel.schedule import sigma_grid
from worldmodel.storage.checkpoint import load_weights
from worldmodel.worlds.find import find_world
from worldmodel.worlds.networks import load_networks
from worldmodel.worlds.run_settings import RunSettings, usual_threads
from worldmodel.worlds.world_folder import (
    TEACHER,
    WorldFile,
    check_weights,
    read_world_file,
    source_of,
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

    @property
    def past(self) -> int:
        """How many frames before play are seen."""
        return self.file.transformer.context_frames + self.file.transformer.sink_frames

    def views(self, states: Tensor | None) -> Tensor | None:
        """Where frames with states ... v are seen from, ... n; None where nobody needs to know."""
        scene = self.file.autoencoder.scene
        if states is not None and self.file.state is not None and scene is not None:
            return scene_views(scene, self.file.state.names, states)
        return None if states is None or self.motion is None else self.motion.views(states)


def load_subjects(folder: Path, settings: RunSettings, teacher_steps: int) -> Subjects:
    """Read a world; its teacher is measured too where the folder holds one."""
    from worldmodel.worlds.devices import choose_device, choose_dtype

    file = read_world_file(folder)
    check_weights(folder, file, *(name for name in (TEACHER,) if name in file.sha256))
    dtype = DTYPES[choose_dtype(settings.dtype, choose_device("cpu"))]
    networks = load_networks(folder, file)
    networks.autoencoder.cast(dtype)
    channels_last(networks.autoencoder)
    played = networks.transformer.to(dtype=dtype)
    sampler = file.sampler

    def student(sampler: SamplerConfig) -> Subject:
        return Subject(f"student, {sampler.steps} step{'s'[: sampler.steps - 1]}", played, sampler)

    others = [
        student(replace(sampler, sigmas=tuple(sigma_grid(steps).tolist()), first_sigmas=()))
        for steps in (1, 2, 4)
        if steps != sampler.steps
    ]
    if TEACHER in file.sha256:
        model = WorldTransformer(file.transformer)
        load_weights(model, folder / TEACHER)
        model.requires_grad_(requires_grad=False).eval().to(dtype=dtype)
        grid = tuple(sigma_grid(teacher_steps).tolist())
        clean = replace(sampler, first_sigmas=(), cache_from_last_step=False)
        many = replace(clean, sigmas=grid, renoise=False)
        others.append(Subject(f"teacher, {teacher_steps} steps", model, many))
    return Subjects(
        file,
        networks.autoencoder,
        student(sampler),
        tuple(others),
        networks.motion,
        networks.events,
    )


@contextmanager
def opened(name: str | None) -> Iterator[tuple[Subjects, Doom]]:
    """A world's parts as it is played, and its game; a `UserError` if it names no real game."""
    torch.set_num_threads(usual_threads())
    subjects = load_subjects(find_world(name), RunSettings(), teacher_steps=1)
    if not subjects.file.game:
        raise UserError(f"{subjects.file.name} names no real game to be held against")
    with Doom(config_of(source_of(subjects.file))) as game:
        yield subjects, game
