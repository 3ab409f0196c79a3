"""Trajectories of the causal teacher, computed once and kept on disk, for stage 2a.

Of every clip of true play, noise is followed along the teacher's probability-flow ODE to where it
ends, all frames at once, each given its true history (Causal Forcing, arXiv 2602.02214, §4.1):

    x_σ' = x_σ + (σ' − σ) v_φ(x_σ, σ | true past, actions)

What is kept are the states at the levels that the student will start its steps from, the end, and
the true clip. The levels are put into the teacher's grid, so that its steps meet them exactly.

Shards are written one after the other, each a function of the seed and its number: memory holds one
of them, and a run that was killed goes on with the first that is missing.

Letter of its own: s kept levels and the end.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from worldmodel.action import ActionSpec
from worldmodel.config import ConfigError, require_positive
from worldmodel.model.configs import ModelConfig, SamplerConfig
from worldmodel.model.context import Device, TeacherForcing
from worldmodel.model.transformer import WorldTransformer
from worldmodel.rollout import denoise
from worldmodel.schedule import guided, sigma_grid
from worldmodel.storage.tensor_files import OpenFiles, rows_of
from worldmodel.system.limits import LARGEST_WEIGHTS
from worldmodel.training.clips import LatentEpisodes
from worldmodel.training.row_files import ReadSpeed
from worldmodel.training.runs import load_autoencoder, load_transformer
from worldmodel.training.shards import (
    add_to_summary,
    find_shards,
    reading_clip,
    shard_path,
    stamp_of,
    write_shards,
)
from worldmodel.training.teacher_forcing import PackedClip, packed_velocity
from worldmodel.training.torch_streams import host_stream, torch_stream
from worldmodel.worlds.devices import fast_autocast

OPEN = 64  # shards that are kept open


@dataclass(frozen=True, kw_only=True, slots=True)
class Trajectories:
    """What is said of trajectories of any teacher: how many, through which levels, in which files.

    In `frames` of a clip sinks are included.
    """

    stage: Literal["ode_trajectories"]
    data: Path
    teacher: Path  # the run of the stage `teacher`
    clips: int  # how many trajectories
    frames: int
    sigmas: tuple[float, ...]  # the levels that the student starts its steps from, 1.0 first
    steps: int = 48  # of the teacher, besides those levels
    level_shift: float = 5.0
    shard: int  # clips in a file
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "clips", "frames", "steps", "shard")
        check_levels(self.sigmas)

    @property
    def grid(self) -> list[float]:
        """All levels of the teacher's steps, 1 to 0, the kept ones among them exactly."""
        return levels_through(self.sigmas, self.steps, self.level_shift)

    @property
    def shards(self) -> int:
        """How many files the trajectories are kept in."""
        return -(-self.clips // self.shard)


@dataclass(frozen=True, kw_only=True, slots=True)
class OdeTrajectories(Trajectories):
    """Everything that the stage `ode_trajectories` reads from its TOML file."""

    autoencoder: Path  # the run of the stage `autoencoder`
    actions: ActionSpec
    model: ModelConfig
    guidance: float = 1.0  # of the teacher on the action
    shard: int = 256
    batch: int = 32

    def __post_init__(self) -> None:
        super(OdeTrajectories, self).__post_init__()  # slots make a new class
        require_positive(self, "batch")
        chunk = self.model.chunk_frames
        if self.frames % chunk or self.frames < self.model.sink_frames + 2 * chunk:
            raise ConfigError(
                f"frames ({self.frames}) must be a multiple of chunk_frames ({chunk}) and hold the "
                "sinks and two chunks more"
            )


def check_levels(sigmas: Sequence[float]) -> None:
    """Refuse levels that no trajectory passes on its way from noise to the end."""
    falls = all(a > b for a, b in pairwise(sigmas))
    if not sigmas or sigmas[0] != 1.0 or sigmas[-1] <= 0 or not falls:
        raise ConfigError(f"sigmas {list(sigmas)} must fall from 1.0 and stay above 0")


def levels_through(kept: Sequence[float], steps: int, shift: float) -> list[float]:
    """The teacher's own levels, 1 to 0, with the kept ones put exactly among them."""
    levels = sigma_grid(steps, shift).tolist()
    # A level of its own that is all but a kept one would make a step of no length.
    apart = [x for x in levels if all(abs(x - level) > 1e-3 for level in kept)]
    return sorted({*apart, *kept, 0.0}, reverse=True)


@torch.no_grad()
def follow(
    teacher: WorldTransformer, clip: PackedClip, noise: Tensor, config: OdeTrajectories
) -> Tensor:
    """States b s f c h w at the kept levels, then the end, from noise b f c h w."""
    context = TeacherForcing(teacher.config, noise.shape[1], device=noise.device)

    def velocity_at(x: Tensor, now: Tensor) -> Tensor:
        return guided(
            lambda given: packed_velocity(teacher, given, x[:, None], now[:, None], context)[:, 0],
            clip,
            clip.unconditional,
            config.guidance,
        )

    return follow_path(velocity_at, noise, config.grid, config.sigmas)


def follow_path(
    velocity_at: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    grid: Sequence[float],
    kept: Sequence[float],
) -> Tensor:
    """From noise b f c h w through the levels of a grid: the states at `kept`, then the end."""
    levels, states = iter(grid), list[Tensor]()

    def velocity(x: Tensor, now: Tensor, actions: Tensor, context: None) -> Tensor:
        del actions, context  # `velocity_at` knows them
        if next(levels) in kept:
            states.append(x)
        return velocity_at(x, now)

    sampler = SamplerConfig(sigmas=tuple(grid), renoise=False)
    end = denoise(velocity, lambda: noise, sampler, noise, None)
    return torch.stack((*states, end), dim=1)


def write_trajectories(
    config: OdeTrajectories, folder: Path, device: Device = "cpu"
) -> dict[str, Any]:
    """Write the shards that are not there yet; returns what they took. SIGTERM ends between two."""
    autoencoder = load_autoencoder(config.autoencoder).to(device)
    cache = folder.parent / "latents.safetensors"
    data = LatentEpisodes.encode(config.data, autoencoder, config.actions, cache, config.model)
    teacher = load_transformer(config.teacher, config.model).to(device)
    flops = 0

    def make(number: int) -> dict[str, Tensor]:
        nonlocal flops
        with FlopCounterMode(display=False) as counter:
            tensors = _make_shard(config, teacher, data, number, torch.device(device))
        flops += counter.get_total_flops()
        return tensors

    seconds, made = write_shards(config, folder, stamp_of(config, teacher), make)
    return _summary(config, folder, seconds, flops, made)


def _make_shard(
    config: OdeTrajectories,
    teacher: WorldTransformer,
    data: LatentEpisodes,
    number: int,
    device: torch.device,
) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {"states": [], "clean": [], "actions": []}
    left = min(config.shard, config.clips - number * config.shard)
    for first in range(0, left, config.batch):
        generator = torch_stream(device, config.seed, config.stage, number, first)
        batch, sinks = min(config.batch, left - first), config.model.sink_frames
        clean, actions = data.clips(batch, config.frames, sinks, generator)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        exact = PackedClip(clean, clean, clean.new_zeros(clean.shape[:2]), actions, actions)
        with fast_autocast(device):
            states = follow(teacher, exact, noise, config)
        parts["states"].append(states.half().cpu())
        parts["clean"].append(clean.half().cpu())
        parts["actions"].append(actions.cpu())
    return {name: torch.cat(tensors) for name, tensors in parts.items()}


def _summary(
    config: OdeTrajectories, folder: Path, seconds: float, flops: int, made: int
) -> dict[str, Any]:
    size = sum(shard_path(folder, n).stat().st_size for n in range(config.shards))
    facts = {"stage": config.stage, "clips": config.clips}
    work = {"minutes": seconds / 60, "petaflops": flops / 1e15}
    return add_to_summary(folder, facts, work, {"megabytes": round(size / 1e6, 1)}, made=made)


class TrajectoryShards:
    """Finished trajectories, read row by row from their files, which stay on disk."""

    def __init__(self, folder: Path, config: OdeTrajectories) -> None:
        self.paths, self.config, self.reading = find_shards(folder, config), config, ReadSpeed()
        self._files = OpenFiles(OPEN, LARGEST_WEIGHTS)

    def draw(
        self, batch: int, levels: list[int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random clips: states at kept level number `levels` b, ends, true clips, actions."""
        host = host_stream(generator, "trajectories")
        index = torch.randint(self.config.clips, (batch,), generator=host).tolist()
        rows, began = [], time.perf_counter()
        for clip, level in zip(index, levels, strict=True):
            rows.append(self._row(clip, level))
        # fp32 before they are stacked: autocast on CPUs stacks no float16.
        columns = [torch.stack([x.float() for x in column]) for column in zip(*rows, strict=True)]
        self.reading.frames += batch * self.config.frames
        self.reading.seconds += time.perf_counter() - began
        state, end, clean, actions = (column.to(generator.device) for column in columns)
        return state, end, clean, actions

    def _row(self, clip: int, level: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A clip's state at a kept level, its end, the true clip and the actions."""
        config = self.config
        number, row = divmod(clip, config.shard)
        path, shape = self.paths[number], (config.frames, *config.model.latent_shape)
        with reading_clip(path, clip, "ode_trajectories"):
            file = self._files.get(path)
            states = rows_of(file, "states", (len(config.sigmas) + 1, *shape))
            clean = rows_of(file, "clean", shape)[row]
            actions = rows_of(file, "actions", (config.frames, config.model.condition_width))[row]
            return states[row, level], states[row, len(config.sigmas)], clean, actions
