"""Stage 0b: a crisper decoder for a finished autoencoder, its encoder and latents untouched.

A reconstruction loss alone answers "some grain, I cannot tell which" with none at all. Here every
patch of the picture must also have as much detail as the real one, wherever it is, and a patch
critic sees whether it looks real (hinge loss, Geometric GAN, arXiv 1705.02894; on patches as in
VQGAN, arXiv 2012.09841):

    L_decoder = |x̂ − x| + λ |∇x̂ − ∇x| + κ |mean_patch |∇x̂| − mean_patch |∇x|| − μ D(x̂)
    L_critic  = max(0, 1 − D(x)) + max(0, 1 + D(x̂))

Since the latents stay what they are, transformers trained on them keep working; so this can run
beside their training or after it.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from worldmodel.metrics import psnr, sharpness
from worldmodel.model.autoencoder import Autoencoder, channels_last, to_frames, to_tensor
from worldmodel.training.autoencoder import gradient_loss
from worldmodel.training.data import load_frames
from worldmodel.training.loop import LoopConfig
from worldmodel.training.runs import load_autoencoder
from worldmodel.training.samples import save_grid


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderTraining:
    """Everything that the stage `decoder` reads from its TOML file."""

    stage: Literal["decoder"]
    data: Path
    heldout: Path
    autoencoder: Path  # the run of stage 0
    loop: LoopConfig
    batch: int
    frame_stride: int = 6
    latent_noise: float = 0.25
    gradient_weight: float = 0.5  # λ
    detail_weight: float = 1.0  # κ
    critic_weight: float = 0.1  # μ
    critic_width: int = 48


class PatchCritic(nn.Module):
    """Says of every patch of 26 pixels whether it looks real: b 3 h w -> b 1 h/4 w/4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.GroupNorm(1, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 3 * width, 3, padding=1),
            nn.GroupNorm(1, 3 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(3 * width, 1, 3, padding=1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Frames b 3 h w -> b 1 h/4 w/4, above 0 for real."""
        return self.layers(frames)


class CriticisedAutoencoder(nn.Module):
    """The autoencoder and its critic, trained, saved and resumed as one."""

    def __init__(self, autoencoder: Autoencoder, critic: PatchCritic) -> None:
        super().__init__()
        self.autoencoder, self.critic = autoencoder, critic


class DecoderStage:
    """Holds the frames and the models; gives the loop its loss."""

    def __init__(self, config: DecoderTraining) -> None:
        self.config = config
        autoencoder = load_autoencoder(config.autoencoder)
        autoencoder.decoder.requires_grad_(requires_grad=True)
        size = (autoencoder.config.frame_height, autoencoder.config.frame_width)
        self.frames = load_frames(config.data, config.frame_stride, *size)
        self.heldout = load_frames(config.heldout, 31, *size)[:256]
        torch.manual_seed(config.loop.seed)
        self.student = channels_last(
            CriticisedAutoencoder(autoencoder, PatchCritic(config.critic_width))
        )
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False)

    def compile(self) -> None:
        """Convolutions gain nothing from it."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Both players' losses in one sum: neither's gradient reaches the other's weights."""
        del step
        autoencoder, critic = self.student.autoencoder, self.student.critic
        index = torch.randint(len(self.frames), (self.config.batch,), generator=generator)
        pixels = to_tensor(self.frames[index]).to(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = autoencoder.encode(pixels)
        strength = self.config.latent_noise * torch.rand(len(index), 1, 1, 1, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        decoded = autoencoder.decode(latents + strength * noise).float()
        frozen = {name: weight.detach() for name, weight in critic.named_parameters()}
        fooled = functional_call(critic, frozen, (decoded,)).float().mean()
        absolute = F.l1_loss(decoded, pixels)
        edges = gradient_loss(decoded, pixels)
        real, made = critic(pixels).float(), critic(decoded.detach()).float()
        judged = F.relu(1 - real).mean() + F.relu(1 + made).mean()
        detail = detail_loss(decoded, pixels)
        whole = absolute + self.config.gradient_weight * edges + judged
        whole = whole + self.config.detail_weight * detail - self.config.critic_weight * fooled
        return whole, {"l1": absolute, "detail": detail, "critic": judged}

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Unseen frames above their reconstructions; PSNR and sharpness."""
        pixels = to_tensor(self.heldout).to(memory_format=torch.channels_last)
        model = self.ema.autoencoder
        decoded = to_frames(model.decode(model.encode(pixels)))
        save_grid(folder / f"{step:06d}.png", [self.heldout[:12].numpy(), decoded[:12].numpy()])
        sharp = sharpness(decoded).mean() / sharpness(self.heldout).mean()
        return {
            "heldout_psnr": float(psnr(decoded, self.heldout).mean()),
            "heldout_sharpness": float(sharp),
        }


def detail_loss(decoded: Tensor, pixels: Tensor) -> Tensor:
    """Mean difference of the detail in patches of 4 pixels: b c h w each."""
    total = decoded.new_zeros(())
    for dim in (-1, -2):
        made, real = (F.avg_pool2d(x.diff(dim=dim).abs(), 4) for x in (decoded, pixels))
        total = total + (made - real).abs().mean()
    return total
