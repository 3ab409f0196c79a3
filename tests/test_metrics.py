import pytest
import torch

from worldmodel.metrics import Gaussian, frechet_distance, psnr, sharpness, ssim


def random_frames(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, 24, 32, 3), generator=generator).to(torch.uint8)


def test_psnr_of_a_known_error() -> None:
    frames = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    assert psnr(frames + 10, frames).tolist() == pytest.approx([28.13, 28.13], abs=0.01)


def test_frames_smaller_than_its_window_have_no_ssim() -> None:
    small = torch.zeros(2, 8, 16, 3, dtype=torch.uint8)
    assert ssim(small, small).isnan().tolist() == [True, True]
    whole = torch.zeros(2, 11, 11, 3, dtype=torch.uint8)
    assert ssim(whole, whole).tolist() == [1, 1]


def test_ssim_is_one_for_equal_frames_and_near_zero_for_unrelated_ones() -> None:
    frames = random_frames(0)
    assert ssim(frames, frames).tolist() == pytest.approx([1, 1, 1], abs=1e-4)
    assert ssim(frames, random_frames(1)).abs().max() < 0.2


def test_blur_costs_sharpness() -> None:
    frames = random_frames(0)
    kernel = torch.nn.functional.avg_pool2d(frames.float().movedim(-1, 1), 3, 1, 1)
    blurred = kernel.movedim(1, -1).to(torch.uint8)
    assert (sharpness(blurred) < 0.6 * sharpness(frames)).all()


def test_the_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    """Means 3 apart along one axis, variances 1 and 4: 9 + (1 - 2)² a dimension."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(200_000, 2, generator=generator)
    b = 2 * torch.randn(200_000, 2, generator=generator)
    b[:, 0] += 3
    assert frechet_distance(a, Gaussian.of(b)) == pytest.approx(9 + 2, rel=0.02)
    assert frechet_distance(a, Gaussian.of(a)) == pytest.approx(0, abs=1e-6)
