"""What a cache of fixed tensors takes from tables, and how it sees that numbers are none."""

from dataclasses import replace

import pytest
import torch

from tests.conftest import TINY
from worldmodel.engine.static_cache import BLOCK, _cos_sin, is_finite
from worldmodel.model.rotary import space_angles, time_angles

MODEL = replace(TINY, layers=1, latent_channels=4, latent_width=3, buttons=2, context_frames=4)


@pytest.mark.parametrize("time", [0, 1, BLOCK - 1, BLOCK, 5 * BLOCK + 7])
def test_angles_from_a_block_are_those_of_the_frame_itself(time: int) -> None:
    angles = time_angles(MODEL, torch.tensor([time])) + space_angles(MODEL)
    cos, sin, _ = _cos_sin(MODEL, time // BLOCK)
    assert torch.equal(cos[time % BLOCK], angles.cos())
    assert torch.equal(sin[time % BLOCK], angles.sin())


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_one_value_that_is_no_number_is_found(broken: float) -> None:
    x = torch.ones(3, 4)
    assert is_finite(x)
    x[1, 2] = broken
    assert not is_finite(x)


def test_numbers_whose_sum_is_too_large_are_numbers() -> None:
    assert is_finite(torch.full((8,), torch.finfo(torch.float32).max))
