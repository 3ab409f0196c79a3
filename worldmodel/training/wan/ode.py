"""A Wan teacher's trajectories, stored, and the regression on them (Causal Forcing, §4.1).

Of every clip of true latents, noise is followed along the teacher's probability-flow ODE to where
it ends, all chunks at once, each given its true past. Kept are the states at the student's levels
and the end; the clips themselves are read from the latents again, by their numbers. Shards are
written one after the other, and a run that was killed goes on with the first that is missing.

Letter of its own: s kept levels and the end.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from worldmodel.config import ConfigError, load_config
from worldmodel.model.context import Device
from worldmodel.schedule import guided, to_clean
from worldmodel.storage.tensor_files import open_tensors, rows_of
from worldmodel.system.limits import LARGEST_WEIGHTS
from worldmodel.training.shards import (
    add_to_summary,
    check_alike,
    find_shards,
    load_header,
    reading_clip,
    stamp_of,
    write_shards,
)
from worldmodel.training.torch_streams import host_choices, torch_stream
from worldmodel.training.train_loop import CONFIG
from worldmodel.training.trajectories import Trajectories, follow_path
from worldmodel.training.wan.clips import LatentClips, check_clips
from worldmodel.training.wan.forward import WanClip, packed_velocity
from worldmodel.training.wan.load_weights import load_network
from worldmodel.training.wan.stage import WanStage
from worldmodel.training.wan.stage_config import WanModel, WanOdeTraining
from worldmodel.wan.transformer import WanTransformer


@dataclass(frozen=True, kw_only=True, slots=True)
class WanOdeTrajectories(Trajectories):
    """Everything that the stage `ode_trajectories` reads; `data` is the run of `latents`."""

    model: WanModel
    guidance: float = 6.0  # of the teacher on the prompt
    shard: int = 16
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def __post_init__(self) -> None:
        super(WanOdeTrajectories, self).__post_init__()  # slots make a new class
        if self.frames % self.model.chunk_frames:
            raise ConfigError(
                f"frames ({self.frames}) must be a multiple of chunk_frames "
                f"({self.model.chunk_frames})"
            )


def write_wan_trajectories(
    config: WanOdeTrajectories, folder: Path, device: Device = "cpu"
) -> dict[str, Any]:
    """Write the shards that are not there yet; returns what they took. SIGTERM ends between two."""
    size = config.model.load_size()
    data = LatentClips(config.data, size, device)
    check_clips(data, config.model.rows, config.model.columns, config.frames)
    if config.clips > len(data):
        raise ConfigError(f"clips = {config.clips}, but {config.data} has {len(data)}")
    teacher = load_network(config.teacher, size, device)
    stamps = [load_header(data.folder / name).get("stamp") for name in data.index.files]
    stamp, make = stamp_of(config, teacher, stamps), partial(_make_shard, config, teacher, data)
    seconds, made = write_shards(config, folder, stamp, make)
    facts = {"stage": config.stage, "clips": config.clips}
    return add_to_summary(folder, facts, {"minutes": seconds / 60}, {}, made=made)


def _make_shard(
    config: WanOdeTrajectories, teacher: WanTransformer, data: LatentClips, number: int
) -> dict[str, Tensor]:
    first = number * config.shard
    states = [_trajectory(config, teacher, data, n) for n in range(first, first + config.shard)
              if n < config.clips]  # fmt: skip
    return {"states": torch.stack(states)}


@torch.no_grad()
def _trajectory(
    config: WanOdeTrajectories, teacher: WanTransformer, data: LatentClips, number: int
) -> Tensor:
    """States s f c h w of one clip, float16."""
    clip, device = data.read([number], config.frames), data.device
    generator = torch_stream(device, config.seed, config.stage, number)
    noise = torch.randn(clip.clean.shape, generator=generator, device=device)
    window = config.model.window

    def velocity_at(x: Tensor, now: Tensor) -> Tensor:
        def of(given: WanClip) -> Tensor:
            return packed_velocity(teacher, given, x[:, None], now[:, None], window)[:, 0]

        return guided(of, clip, clip.unconditional, config.guidance)

    with torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
        return follow_path(velocity_at, noise, config.grid, config.sigmas)[0].half().cpu()


class WanOdeStage(WanStage[WanOdeTraining]):
    """The student and its average, and the trajectories on disk."""

    def __init__(self, config: WanOdeTraining, device: Device = "cpu") -> None:
        super().__init__(config, device)
        self.made = load_config(WanOdeTrajectories, config.trajectories / CONFIG)
        check_alike(config.trajectories, self.made, config, "model", "teacher", "data")
        if config.clips.frames != self.made.frames:
            raise ConfigError(
                f"[clips] frames = {config.clips.frames}, but the trajectories in "
                f"{config.trajectories} have {self.made.frames}"
            )
        self.paths = find_shards(config.trajectories, self.made)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared distance from the trajectories' ends."""
        del step
        host, levels = host_choices(generator, "trajectories"), self.made.sigmas
        batch = range(self.config.clips.batch)
        chosen = [(host.randrange(self.made.clips), host.randrange(len(levels))) for _ in batch]
        rows = [self._states(clip, level) for clip, level in chosen]
        state, end = (torch.stack(x).to(self.device) for x in zip(*rows, strict=True))
        clip = self.data.read([number for number, _ in chosen], self.made.frames)
        level = torch.tensor([levels[i] for _, i in chosen]).to(self.device)
        sigmas = level[:, None].expand(-1, self.made.frames)
        velocity = packed_velocity(self.student, clip, state[:, None], sigmas[:, None], self.window)
        return (to_clean(state, velocity[:, 0], sigmas) - end).square().mean(), {}

    def _states(self, clip: int, level: int) -> tuple[Tensor, Tensor]:
        """The state at a kept level, and the end: f c h w each."""
        number, row = divmod(clip, self.made.shard)
        path, shape = self.paths[number], (self.made.frames, *self.data.index.shape[1:])
        with (
            reading_clip(path, clip, self.made.stage),
            open_tensors(path, LARGEST_WEIGHTS, "pt") as file,
        ):
            states = rows_of(file, "states", (len(self.made.sigmas) + 1, *shape))
            return states[row, level].float(), states[row, len(self.made.sigmas)].float()
