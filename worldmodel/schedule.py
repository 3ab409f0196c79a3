"""Flow matching on straight paths: noise levels, and what follows from a velocity.

    x_σ = (1 − σ) x₀ + σ ε,   v = ε − x₀   (rectified flow, arXiv 2209.03003, Eq. 1)

σ runs from 1 (pure noise) to 0 (clean). All functions broadcast σ over the trailing axes of the
latents and compute the grid, σ and its differences in fp32, never in the model's dtype.

Shapes: b batch, f frames, c h w latent channels, rows, columns.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

C = TypeVar("C")  # what a network is given


def broadcast(sigmas: Tensor, like: Tensor) -> Tensor:
    """σ b f -> b f 1 1 1, in fp32, for latents b f c h w."""
    return sigmas.float()[(...,) + (None,) * (like.ndim - sigmas.ndim)]


def add_noise(clean: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    """x_σ from clean latents and noise b f c h w and σ b f."""
    sigma = broadcast(sigmas, clean)
    return (1 - sigma) * clean + sigma * noise


def velocity_target(clean: Tensor, noise: Tensor) -> Tensor:
    """v = ε − x₀, what the network is trained to predict: b f c h w."""
    return noise - clean


def to_clean(noisy: Tensor, velocity: Tensor, sigmas: Tensor) -> Tensor:
    """x₀ = x_σ − σ v: where the straight path from here ends; σ b f, the others b f c h w."""
    return noisy - broadcast(sigmas, noisy) * velocity


def velocity_around(
    previous: Tensor, noisy: Tensor, sigmas: Tensor, change: float, residual: Tensor
) -> Tensor:
    """Velocity from what a network adds to the best guess without one.

    Before any network, a frame is the last frame, give or take: x₀ ~ N(previous, s²), s = `change`.
    Given x_σ, that Gaussian has the mean m = previous + (1 − σ) s² / τ² (x_σ − (1 − σ) previous)
    and the deviation σ s / τ, with τ² = (1 − σ)² s² + σ². The network's `residual` counts in such
    deviations: x̂₀ = m + (σ s / τ) residual, v = (x_σ − x̂₀) / σ, written so that nothing is divided
    by σ. It is the preconditioning of EDM (arXiv 2206.00364, §5) around the last frame: from pure
    noise, a network that answers zero repeats that frame.
    """
    sigma = broadcast(sigmas, noisy)
    keep = 1 - sigma
    variance = (keep * change).square() + sigma.square()
    pull = (sigma - keep * change**2) / variance
    return pull * (noisy - keep * previous) - previous - change * variance.rsqrt() * residual


def residual_weight(sigmas: Tensor, change: float) -> Tensor:
    """What turns a squared error of the velocity into one of the residual: σ b f -> b f."""
    sigma = sigmas.float()
    return (1 - sigma).square() + (sigma / change).square()


def ramp_weight(sigmas: Tensor) -> Tensor:
    """What turns a squared error of the velocity into one of x₀, low noise weighed more: b f.

    σ² (0.9 (1 − σ) + 0.1): the loss in x and the ramp of Dreamer 4 (arXiv 2509.24527).
    """
    sigma = sigmas.float()
    return sigma.square() * (0.9 * (1 - sigma) + 0.1)


def euler_step(noisy: Tensor, velocity: Tensor, sigmas: Tensor, next_sigmas: Tensor) -> Tensor:
    """x_σ' = x_σ + (σ' − σ) v, the probability-flow ODE one step on; σ b f, x and v b f c h w."""
    return noisy + broadcast(next_sigmas - sigmas, noisy) * velocity


def guided(
    velocity: Callable[[C], Tensor], conditional: C, unconditional: C, guidance: float
) -> Tensor:
    """v_u + g (v_c − v_u): classifier-free guidance (arXiv 2207.12598, Eq. 6).

    At g = 1 that is v_c alone. The conditional pass comes last: it is what a cache keeps.
    """
    if guidance == 1.0:
        return velocity(conditional)
    without = velocity(unconditional)
    return without + guidance * (velocity(conditional) - without)


def sigma_grid(steps: int, shift: float = 1.0) -> Tensor:
    """Noise levels from 1 to 0, both exact, in fp32: a vector of `steps` + 1.

    shift > 1 spends more of them at high noise: σ = shift·s / (1 + (shift − 1)·s) for uniform s
    (Stable Diffusion 3, arXiv 2403.03206, Eq. 23; Wan 2.1 uses shift 5).
    """
    s = torch.linspace(1.0, 0.0, steps + 1)
    return shift * s / (1 + (shift - 1) * s)


def sample_sigmas(shape: tuple[int, ...], shift: float, generator: torch.Generator) -> Tensor:
    """Independent training noise levels of a shape, in [0, 1): uniform, then as `sigma_grid`."""
    s = torch.rand(shape, generator=generator, device=generator.device)
    return shift * s / (1 + (shift - 1) * s)
