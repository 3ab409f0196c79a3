"""Stage 0: the frame autoencoder.

    L = |x̂ − x| + λ |∇x̂ − ∇x|

The gradient term (differences along rows and columns, at two scales) keeps edges that an L1 loss
alone would blur. The decoder sees latents with noise of up to `latent_noise` added: what the
denoiser will hand it is never exact.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.config import AutoencoderConfig
from worldmodel.metrics import psnr
from worldmodel.model.autoencoder import Autoencoder, channels_last, to_frames, to_tensor
from worldmodel.model.context import Device
from worldmodel.training.data import load_frames
from worldmodel.training.loop import LoopConfig
from worldmodel.training.samples import save_grid
from worldmodel.training.store import Reading, nearby
from worldmodel.training.streams import host_stream, seed_default


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
    gradient_weight: float = 1.0


class AutoencoderStage:
    """Holds the frames and the model; gives the loop its loss."""

    def __init__(self, config: AutoencoderTraining, folder: Path, device: Device = "cpu") -> None:
        self.config, self.reading = config, Reading()
        size = (config.model.frame_height, config.model.frame_width)
        frames = load_frames(config.data, config.frame_stride, *size, folder.parent)
        self.frames = nearby(frames, device)
        self.heldout = load_frames(config.heldout, 31, *size, folder.parent)[:256].to(device)
        seed_default(config.loop.seed, config.stage, "weights")
        self.student = channels_last(Autoencoder(config.model).to(device))
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
        pixels = draw_frames(self.frames, self.config.batch, generator, self.reading)
        latents = disturb(self.student.encode(pixels), self.config.latent_noise, generator)
        decoded = self.student.decode(latents).float()
        absolute = F.l1_loss(decoded, pixels)
        edges = gradient_loss(decoded, pixels)
        return absolute + self.config.gradient_weight * edges, {"l1": absolute, "gradient": edges}

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Unseen frames above their reconstructions; PSNR of each and their mean."""
        pixels = to_tensor(self.heldout).to(memory_format=torch.channels_last)
        decoded = to_frames(self.ema.decode(self.ema.encode(pixels)))
        save_grid(folder / f"{step:06d}.png", [self.heldout[:12], decoded[:12]])
        return {"heldout_psnr": float(psnr(decoded, self.heldout).mean())}


def compile_convolutions(model: Autoencoder) -> None:
    """Compile both halves in place, on a GPU: normalisation and activations wait for memory."""
    if next(model.parameters()).is_cuda:
        for half in (model.encoder, model.decoder):
            half.compile()


def draw_frames(frames: Tensor, count: int, generator: torch.Generator, reading: Reading) -> Tensor:
    """Some of the frames uint8 b h w 3, as `to_tensor` shows them: count 3 h w."""
    index = torch.randint(len(frames), (count,), generator=host_stream(generator, "frames"))
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
