"""A detector finds out what differs, guesses where nothing does, and asks about unseen clips."""

import pytest
import torch
from torch import Tensor

from worldmodel.config import UserError
from worldmodel.evaluation.detector import HELD_OUT, Detector, detect, evaluate_detected


def soft_clips(count: int, seed: int) -> Tensor:
    """Spots that drift: uint8 b f h w 3."""
    generator = torch.Generator().manual_seed(seed)
    still = torch.rand(count, 1, 3, 6, 8, generator=generator).repeat(1, 10, 1, 1, 1)
    frames = torch.nn.functional.interpolate(still.flatten(0, 1), size=(24, 32), mode="bilinear")
    moved = torch.stack([frames[i].roll(i % 10, dims=2) for i in range(len(frames))])
    return (moved * 255).to(torch.uint8).movedim(1, -1).unflatten(0, (count, 10))


def test_what_is_too_soft_is_found_out() -> None:
    real = soft_clips(16, 0)
    noise = torch.randint(-40, 41, real.shape, generator=torch.Generator().manual_seed(1))
    grainy = (real.int() + noise).clamp(0, 255).to(torch.uint8)
    found = detect(grainy, real, steps=50)
    assert found.accuracy > 0.9
    assert found.clips == 2 * (16 // HELD_OUT)
    assert found.trained_on == 2 * 16 - found.clips


def test_where_nothing_differs_it_is_as_good_as_a_coin() -> None:
    """Pairs of one clip: whatever it answers, it is right about one of the two."""
    real = soft_clips(16, 0)
    found = detect(real, real.clone(), steps=10)
    assert found.accuracy == 0.5
    assert found.game + found.world == 1.0


def test_motion_counts() -> None:
    torch.manual_seed(0)
    model, clips = Detector().eval(), soft_clips(2, 3)
    with torch.no_grad():
        assert not torch.allclose(model(clips), model(clips[:, :1].expand_as(clips)))


def test_so_few_walks_that_none_is_unseen_are_refused() -> None:
    with pytest.raises(UserError, match="--detector-walks 3: every 4th walk"):
        evaluate_detected(None, 0, 3, 10)
