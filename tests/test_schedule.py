import pytest
import torch

from worldmodel.model.configs import SamplerConfig
from worldmodel.model.context import Context
from worldmodel.rollout import denoise
from worldmodel.schedule import (
    add_noise,
    euler_step,
    ramp_weight,
    residual_weight,
    sample_sigmas,
    sigma_grid,
    to_clean,
    velocity_around,
)

SHAPE = (2, 3, 4, 2, 2)


def test_a_velocity_leads_from_any_noise_level_to_the_clean_latents() -> None:
    clean, noise, sigmas = torch.randn(SHAPE), torch.randn(SHAPE), torch.rand(2, 3)
    noisy = add_noise(clean, noise, sigmas)
    torch.testing.assert_close(to_clean(noisy, noise - clean, sigmas), clean)
    landed = euler_step(noisy, noise - clean, sigmas, torch.zeros(2, 3))
    torch.testing.assert_close(landed, clean)


def test_without_a_network_the_clean_estimate_is_the_best_guess_around_the_last_frame() -> None:
    """Held against the conditional mean found by simulating the Gaussian and fitting a line."""
    change, previous, count = 0.7, 0.4, 400_000
    generator = torch.Generator().manual_seed(0)
    clean = previous + change * torch.randn(count, generator=generator)
    noise = torch.randn(count, generator=generator)
    for sigma in (0.1, 0.5, 0.9):
        noisy = (1 - sigma) * clean + sigma * noise
        slope = float(torch.cov(torch.stack((noisy, clean)))[0, 1] / noisy.var())
        at = torch.tensor([-1.0, 0.3, 2.0]).reshape(3, 1, 1, 1, 1)
        level = torch.full((3, 1), sigma)
        zero, last = torch.zeros_like(at), torch.full_like(at, previous)
        guess = to_clean(at, velocity_around(last, at, level, change, zero), level)
        expected = clean.mean() + slope * (at - noisy.mean())
        torch.testing.assert_close(guess, expected, atol=0.01, rtol=0)


def test_from_pure_noise_a_silent_network_repeats_the_last_frame() -> None:
    previous, noise, ones = torch.randn(SHAPE), torch.randn(SHAPE), torch.ones(2, 3)
    velocity = velocity_around(previous, noise, ones, 0.7, torch.zeros(SHAPE))
    torch.testing.assert_close(to_clean(noise, velocity, ones), previous)


def test_the_weight_makes_an_error_of_the_velocity_one_of_the_residual() -> None:
    previous, noisy, residual = torch.randn(3, *SHAPE)
    for sigmas in (torch.zeros(2, 3), torch.rand(2, 3), torch.ones(2, 3)):
        wrong = velocity_around(previous, noisy, sigmas, 0.7, residual)
        right = velocity_around(previous, noisy, sigmas, 0.7, torch.zeros(SHAPE))
        error = (wrong - right).square().mean(dim=(2, 3, 4))
        torch.testing.assert_close(
            residual_weight(sigmas, 0.7) * error, residual.square().mean(dim=(2, 3, 4))
        )


def test_the_ramp_makes_an_error_of_the_velocity_one_of_x_and_favours_low_noise() -> None:
    noisy, right, wrong = torch.randn(3, *SHAPE)
    sigmas = torch.rand(2, 3)
    off = (to_clean(noisy, wrong, sigmas) - to_clean(noisy, right, sigmas)).square()
    ramp = 0.9 * (1 - sigmas) + 0.1
    torch.testing.assert_close(
        ramp_weight(sigmas) * (wrong - right).square().mean(dim=(2, 3, 4)),
        ramp * off.mean(dim=(2, 3, 4)),
    )


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_the_grid_is_exact_at_both_ends_and_falls(shift: float) -> None:
    grid = sigma_grid(48, shift)
    assert grid.dtype is torch.float32
    assert (float(grid[0]), float(grid[-1])) == (1, 0)
    assert (grid.diff() < 0).all()


def test_the_shifted_grid_is_the_released_one() -> None:
    """Wan 2.1 and Causal Forcing: shift 5, warped list 1000, 937.5, 833.333, 625."""
    expected = torch.tensor([1.0, 0.9375, 0.833333, 0.625, 0.0])
    torch.testing.assert_close(sigma_grid(4, 5.0), expected)


def test_a_higher_shift_draws_more_noise() -> None:
    means = [
        float(sample_sigmas((10_000,), shift, torch.Generator().manual_seed(0)).mean())
        for shift in (1.0, 2.0, 4.0)
    ]
    assert means[0] == pytest.approx(0.5, abs=0.02)
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize("renoise", [False, True])
@pytest.mark.parametrize("sigmas", [(1.0, 0.0), (1.0, 0.5, 0.0), (1.0, 0.9, 0.3, 0.1, 0.0)])
def test_a_velocity_that_points_at_a_target_lands_there_on_any_grid(
    sigmas: tuple[float, ...], renoise: bool
) -> None:
    target = torch.randn(SHAPE)

    def towards_target(
        x: torch.Tensor, levels: torch.Tensor, actions: torch.Tensor, context: Context
    ) -> torch.Tensor:
        del actions, context
        return (x - target) / levels[..., None, None, None]

    sampler = SamplerConfig(sigmas=sigmas, renoise=renoise)
    landed = denoise(
        towards_target, lambda: torch.randn(SHAPE), sampler, torch.zeros(2, 3, 6), NO_CONTEXT
    )
    torch.testing.assert_close(landed, target, atol=1e-5, rtol=1e-5)


class NoContext:
    rope_cos_sin = (torch.zeros(0), torch.zeros(0))

    def previous(self, latents: torch.Tensor) -> torch.Tensor:
        raise AssertionError(latents)

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        raise AssertionError((layer, q, k, v))


NO_CONTEXT = NoContext()
