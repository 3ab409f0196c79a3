"""What all Wan stages have in common: latents, networks of one size, pictures to look at."""

import copy
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn

from worldmodel.config import ConfigError
from worldmodel.model.configs import SamplerConfig
from worldmodel.model.context import Device
from worldmodel.random_streams import seed_of
from worldmodel.rollout import denoise
from worldmodel.training.sample_grids import save_clip, save_grid
from worldmodel.training.torch_streams import torch_stream
from worldmodel.training.wan.clips import LatentClips, check_clips
from worldmodel.training.wan.costs import batch_cost
from worldmodel.training.wan.forward import Conditions, whole_velocity
from worldmodel.training.wan.load_weights import (
    BEGINNINGS,
    load_autoencoder,
    load_network,
    make_student,
)
from worldmodel.training.wan.self_play import full_play
from worldmodel.training.wan.stage_config import Preview, WanTraining
from worldmodel.wan.kv_cache import WholeClipContext
from worldmodel.wan.streaming_decoder import as_bytes
from worldmodel.wan.transformer import WanTransformer

FRAMES_PER_SECOND = 16.0
C = TypeVar("C", bound=WanTraining)


class WanStage(Generic[C]):
    """Reads latents, holds the student and its average, draws previews."""

    whole = False  # whether clips are sampled whole, later frames seen too

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch of a step, and figures worth logging."""
        raise NotImplementedError

    def __init__(self, config: C, device: Device = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self.size, self.window = config.model.load_size(), config.model.window
        self.data = self._open(config.data)
        self.unseen = self._open(config.heldout) if config.heldout else self.data
        self.reading = self.data.reading
        base = load_network(getattr(config, BEGINNINGS[config.stage]), self.size, device)
        self.student = make_student(
            base, config.lora, seed_of(config.loop.seed, config.stage, "student")
        )
        self.ema = average_of(self.student)

    @cached_property
    def flops(self) -> int:
        """Operations of a batch, counted without its numbers, which would take a step's memory."""
        return batch_cost(self.config).flops

    def compile(self) -> None:
        """Not offered yet; the config says so before any work is done."""
        raise ConfigError("compile = true is not offered for Wan yet; set it to false")

    def frozen(self, start: Path) -> WanTransformer:
        """A network of the student's size that is not trained, in what passes compute in."""
        model = load_network(start, self.size, self.device)
        return model.to(frozen_dtype(self.config)).eval()

    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Play from the words of unseen clips, with the averaged weights."""
        preview = self.config.preview
        if preview is None:
            return {}
        frames = preview.frames or self.config.clips.frames
        true = self.unseen.read(range(min(preview.clips, len(self.unseen))), frames)
        generator = torch_stream(self.device, "preview")
        kind, compute = self.device.type, self.config.loop.dtype != "float32"
        with torch.autocast(kind, torch.bfloat16, enabled=compute):
            sampled = self._draw(preview.sampler, true.conditions, generator)
        if preview.vae is not None:
            save_preview(folder, step, preview, sampled, true.clean)
        # A rollout that dies goes grey or still: less spread, less change than in true clips.
        figures = {"spread": sampled.std() / true.clean.std()}
        if frames > 1:
            figures["motion"] = sampled.diff(dim=1).std() / true.clean.diff(dim=1).std()
        return {name: float(value) for name, value in figures.items()}

    @torch.no_grad()
    def _draw(
        self, sampler: SamplerConfig, conditions: Conditions, generator: torch.Generator
    ) -> Tensor:
        if not self.whole:
            return full_play(self.ema, self.window, sampler, conditions, generator)
        window, (batch, frames) = self.window, conditions.cameras.shape[:2]
        channels = self.size.latent_channels
        shape = (batch, frames, channels, window.rows, window.columns)

        def velocity(x: Tensor, sigmas: Tensor, _: Tensor, context: WholeClipContext) -> Tensor:
            del context
            return whole_velocity(self.ema, x, sigmas, conditions, window)

        context = WholeClipContext(self.size, window, 1, (), causal=False)
        return denoise(
            velocity,
            lambda: torch.randn(shape, generator=generator, device=generator.device),
            sampler,
            conditions.cameras,
            context,
        )

    def _open(self, folder: Path) -> LatentClips:
        data = LatentClips(folder, self.size, self.device)
        check_clips(data, self.window.rows, self.window.columns, self.config.clips.frames)
        return data


def average_of(student: WanTransformer) -> WanTransformer:
    """A copy for the moving average; weights that are not trained are shared, not copied."""
    shared: dict[int, nn.Parameter] = {
        id(p): p for p in student.parameters() if not p.requires_grad
    }
    return copy.deepcopy(student, shared).requires_grad_(requires_grad=False)


def frozen_dtype(config: WanTraining) -> torch.dtype:
    """What networks that only answer compute in, so that they take half the memory."""
    return torch.bfloat16 if config.loop.dtype != "float32" else torch.float32


def save_preview(folder: Path, step: int, preview: Preview, sampled: Tensor, true: Tensor) -> None:
    """True clips above sampled ones, b f c h w: every fourth frame as a picture, and a clip."""
    assert preview.vae is not None
    vae = load_autoencoder(preview.vae).to(sampled.device)
    rows = []
    for latents in (true, sampled):
        frames = vae.decode(rearrange(latents, "b f c h w -> b c f h w").to(vae.conv2.weight.dtype))
        rows.append(rearrange(as_bytes(frames), "b c t h w -> b t h w c").cpu())
    grid = [clip[::4].numpy() for pair in zip(*rows, strict=True) for clip in pair]
    save_grid(folder / f"{step:06d}.png", grid, scale=1)
    beside = torch.cat([torch.cat(tuple(row), dim=2) for row in rows], dim=1)  # t h w 3
    save_clip(folder / f"{step:06d}.mp4", beside.numpy(), FRAMES_PER_SECOND)
