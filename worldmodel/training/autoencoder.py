"""Stage 0: the frame autoencoder.

    L = |x̂ − x| + λ |∇x̂ − ∇x| + μ (x̂ − x)²

The gradient term (differences along rows and columns, at two scales) keeps edges that an L1 loss
alone would blur. The square, where it is asked for, finds what is small and seldom the same: of a
monster that may stand here or there, the median shows nothing, the mean a little of it everywhere.
The decoder sees latents with noise of up to `latent_noise` added: what the
denoiser will hand it is never exact.

With a `plan` (a run of that stage, whose weights stay as they are) the decoder begins with what the
plan shows of the place that the frame was seen from, and the latents carry what differs.
"""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from worldmodel.config import ConfigError
from worldmodel.metrics import psnr
from worldmodel.model.autoencoder import (
    Autoencoder,
    channels_last,
    decode_latents,
    encode_frames,
    to_tensor,
)
from worldmodel.model.configs import AutoencoderConfig
from worldmodel.model.context import Device
from worldmodel.training.clips import load_frames, load_views
from worldmodel.training.row_files import ReadSpeed, nearby
from worldmodel.training.runs import load_floor_plan
from worldmodel.training.sample_grids import save_grid
from worldmodel.training.stage import LoopConfig
from worldmodel.training.torch_streams import host_stream, seed_default

HELD_OUT_STRIDE = 31
SCENE_BETA = 0.2  # below it an error of a scene counts as its square
HELD_OUT, HELD_OUT_SEEN = 256, 48  # frames looked at while it trains; with a floor plan


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderTraining:
    """Everything that the stage `autoencoder` reads from its TOML file."""

    stage: Literal["autoencoder"]
    data: Path
    heldout: Path
    model: AutoencoderConfig
    loop: LoopConfig
    batch: int
    frame_stride: int = 6  # neighbouring frames teach almost the same
    latent_noise: float = 0.15
    gradient_weight: float = 1.0  # λ
    square_weight: float = 0.0  # μ
    status_rows: int = 0  # at the bottom of the picture, with small letters and digits
    status_weight: float = 1.0  # how much their errors count
    plan: Path | None = None  # a run of the stage `plan`
    scene_weight: float = 1.0  # how much what a scene shows by itself counts, where there is one
    scene_share: float = 0.25  # of a batch that teaches the scene: it needs fewer frames

    def __post_init__(self) -> None:
        if self.scene_weight < 0 or not 0 <= self.scene_share <= 1:
            raise ConfigError(
                f"scene_weight ({self.scene_weight}) must be at least 0, scene_share "
                f"({self.scene_share}) from 0 to 1"
            )
        if not 0 <= self.status_rows <= self.model.frame_height or not self.status_weight > 0:
            raise ConfigError(
                f"status_rows ({self.status_rows}) must be from 0 to the frame's "
                f"{self.model.frame_height}, status_weight ({self.status_weight}) above 0"
            )


class AutoencoderStage:
    """Holds the frames and the model; gives the loop its loss."""

    def __init__(self, config: AutoencoderTraining, folder: Path, device: Device = "cpu") -> None:
        self.config, self.reading = config, ReadSpeed()
        size = (config.model.frame_height, config.model.frame_width)
        frames = load_frames(config.data, config.frame_stride, *size, folder.parent)
        self.frames = nearby(frames, device)
        heldout = load_frames(config.heldout, HELD_OUT_STRIDE, *size, folder.parent)
        sees = config.plan or config.model.scene
        most = HELD_OUT_SEEN if sees else HELD_OUT
        self.heldout = heldout[:: max(1, len(heldout) // most)][:most].to(device)
        self.counts = torch.ones(size[0], 1, device=device)  # of each row's errors
        self.counts[size[0] - config.status_rows :] = config.status_weight
        self.views = self.heldout_views = None
        seed_default(config.loop.seed, config.stage, "weights")
        model = config.model
        if config.plan:
            plan = load_floor_plan(config.plan)
            model = replace(model, plan=plan.config)
        if sees:
            views = load_views(config.data, config.frame_stride, model.scene)
            self.frames, self.views = known_frames(self.frames, views)
            views = load_views(config.heldout, HELD_OUT_STRIDE, model.scene)
            seen = known_frames(heldout, views)
            spread = slice(None, None, max(1, len(seen[0]) // most))
            self.heldout, self.heldout_views = (x[spread][:most].to(device) for x in seen)
        self.student = channels_last(Autoencoder(model))
        if config.plan:
            self.student.plan = plan
        self.student = self.student.to(device)
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False).eval()

    @property
    def shown(self) -> Autoencoder:
        """What a verdict is on: the averaged weights."""
        return self.ema

    @property
    def unseen(self) -> Path:
        """The folder of held-out episodes."""
        return self.config.heldout

    def compile(self) -> None:
        """On a GPU, fuse what lies between the convolutions; a CPU gains nothing from it."""
        compile_convolutions(self.student)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction loss of one batch."""
        del step
        index = draw_index(self.frames, self.config.batch, generator)
        pixels = take_frames(self.frames, index, generator, self.reading)
        latents = disturb(self.student.encode(pixels), self.config.latent_noise, generator)
        taught = round(self.config.scene_share * len(pixels)) if self.student.scene else 0
        seen = None
        if self.views is not None:
            views = self.views[index].to(generator.device)
            seen = self._look(views[taught:], learns=False)
            if taught:
                seen = torch.cat((self._look(views[:taught], learns=True), seen), dim=1)
        decoded = self.student.decode(latents, seen).float() * self.counts
        pixels = pixels * self.counts
        absolute = F.l1_loss(decoded, pixels)
        edges = gradient_loss(decoded, pixels)
        whole = absolute + self.config.gradient_weight * edges
        if self.config.square_weight:
            whole = whole + self.config.square_weight * F.mse_loss(decoded, pixels)
        figures = {"l1": absolute, "gradient": edges}
        if not taught or seen is None:
            return whole, figures
        picture = rearrange(seen[:3, :taught], "three b h w -> b three h w") * self.counts
        figures["scene"] = F.smooth_l1_loss(picture, pixels[:taught], beta=SCENE_BETA)
        return whole + self.config.scene_weight * figures["scene"], figures

    def _look(self, views: Tensor, *, learns: bool) -> Tensor:
        """What floor plan or scene show of views b n, fp32: a b h w."""
        grad = torch.set_grad_enabled(learns)
        with grad, torch.autocast(views.device.type, enabled=False):
            return self.student.look(views).pixels

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Unseen frames above their reconstructions; PSNR of each and their mean."""
        latents = encode_frames(self.ema, self.heldout[None])
        views = None if self.heldout_views is None else self.heldout_views[None]
        decoded = decode_latents(self.ema, latents, views)[0]
        save_grid(folder / f"{step:06d}.png", [self.heldout[:12], decoded[:12]])
        return {"heldout_psnr": float(psnr(decoded, self.heldout).mean())}


def compile_convolutions(model: Autoencoder) -> None:
    """Compile both halves in place, on a GPU: normalisation and activations wait for memory."""
    if next(model.parameters()).is_cuda:
        for half in (model.encoder, model.decoder):
            half.compile()


def known_frames(frames: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
    """The frames that say where they are seen from, and where; all of them, without a copy."""
    known = torch.isfinite(views).all(dim=1)
    if not known.any():
        raise ConfigError(
            "no frame of the data says where it is seen from, which a floor plan needs"
        )
    return (frames, views) if known.all() else (frames[known], views[known])


def draw_index(frames: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The numbers of `count` frames, drawn with repetition: b."""
    return torch.randint(len(frames), (count,), generator=host_stream(generator, "frames"))


def take_frames(
    frames: Tensor, index: Tensor, generator: torch.Generator, reading: ReadSpeed
) -> Tensor:
    """The chosen frames of uint8 b h w 3, where the generator is, as `to_tensor` shows them."""
    pixels = to_tensor(reading.gather(frames, index, generator.device))
    return pixels.to(memory_format=torch.channels_last)


def disturb(latents: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Latents b c h w with noise, of up to `strength` times their own spread."""
    device = generator.device
    level = strength * torch.rand(len(latents), 1, 1, 1, generator=generator, device=device)
    return latents + level * torch.randn(latents.shape, generator=generator, device=device)


def gradient_loss(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Mean |∇x̂ − ∇x| over two scales: b c h w each."""
    total = decoded.new_zeros(())
    for scale in (1, 2):
        error = decoded - pixels
        if scale > 1:
            error = F.avg_pool2d(error, scale)
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return total
