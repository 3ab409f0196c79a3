import pytest
import torch

from worldmodel.wan.noise_levels import draw_levels, training_levels


def test_levels_and_weights_are_those_wan_was_trained_with() -> None:
    """The table of the 1 000-step schedule with shift 5, as the released trainers have it."""
    sigmas, weights = training_levels()
    assert (len(sigmas), float(sigmas[0])) == (1000, 1.0)
    assert float(sigmas[-1]) == pytest.approx(0.00498, abs=1e-5)
    assert float(weights.mean()) == pytest.approx(1.0)
    for index, level, weight in (
        (0, 1.0, 0.0),
        (250, 0.9375, 0.398),
        (500, 0.83333, 1.025),
        (750, 0.625, 1.914),
        (900, 0.35714, 1.865),
        (999, 0.00498, 0.032),
    ):
        assert float(sigmas[index]) == pytest.approx(level, abs=1e-4)
        assert float(weights[index]) == pytest.approx(weight, abs=2e-3)
    assert float(weights.max()) == pytest.approx(2.076, abs=2e-3)


def test_levels_are_drawn_evenly_from_the_table() -> None:
    sigmas, weights = draw_levels((20_000,), torch.Generator().manual_seed(0))
    assert float((sigmas > 0.8333).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(weights.mean()) == pytest.approx(1.0, abs=0.02)
    table = dict(zip(*(x.tolist() for x in training_levels()), strict=True))
    assert all(table[s] == w for s, w in zip(sigmas.tolist(), weights.tolist(), strict=True))
