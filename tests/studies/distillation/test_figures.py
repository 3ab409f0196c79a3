import math
from pathlib import Path

import pytest
import torch

from studies.distillation.claims import verdict
from studies.distillation.figures import (
    Estimate,
    Figures,
    difference,
    load_figures,
    mean_of,
    ratio_of,
    resampled,
    save_figures,
)
from studies.distillation.optical_flow import mean_flow
from worldmodel.config import ConfigError, UserError
from worldmodel.model.configs import SamplerConfig
from worldmodel.schedule import sigma_grid

GRID = tuple(sigma_grid(24).tolist())
FIGURES = Figures(
    yardstick="y",
    stamp="s",
    weights="w",
    trained_steps=5,
    steps=24,
    chunk_frames=1,
    sampler=SamplerConfig(sigmas=GRID, renoise=False),
    next_psnr=(20.0, 30.0),
    next_ssim=(0.5, 0.7),
    psnr={str(h): (20.123456789, 30.0) for h in (1, 8, 16, 32, 64)},
    ssim={str(h): (0.5, 0.7) for h in (1, 8, 16, 32, 64)},
    curve=(25.0,),
    flow=(1.0, 2.0),
    sharpness=(3.0, 4.0),
    turn_correlation=Estimate(0.5, 0.1),
    button_accuracy=Estimate(0.5, 0.1),
    frechet=Estimate(9.0, 1.0),
    drift={},
    minutes=1.0,
)


def test_figures_read_back_as_they_were_written_and_levels_to_the_last_bit(tmp_path: Path) -> None:
    save_figures(tmp_path / "row.json", FIGURES)
    kept = load_figures(Figures, tmp_path / "row.json")
    assert kept is not None
    assert kept.sampler == FIGURES.sampler
    assert kept.psnr["8"] == (20.123, 30.0)
    assert kept.frechet == FIGURES.frechet
    assert load_figures(Figures, tmp_path / "other.json") is None


def test_a_file_of_figures_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"row\.json.*delete it"):
        load_figures(Figures, tmp_path / "row.json")
    (tmp_path / "row.json").write_text('{"stamp": "s", "colour": 1}', encoding="utf-8")
    with pytest.raises(ConfigError, match="colour"):
        load_figures(Figures, tmp_path / "row.json")


def test_the_interval_holds_the_truth_in_about_19_of_20_experiments() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(200):
        found = mean_of((5 + 2 * torch.randn(32, generator=generator)).tolist())
        hits += found.low <= 5 <= found.high
    assert 180 <= hits <= 198


def test_resampling_gives_the_spread_of_a_mean_that_the_formula_gives() -> None:
    values = torch.randn(64, generator=torch.Generator().manual_seed(0))
    direct = mean_of(values.tolist())
    bootstrap = resampled(64, lambda clips: float(values[clips].mean()))
    assert bootstrap.value == pytest.approx(direct.value)
    assert bootstrap.error == pytest.approx(direct.error, rel=0.2)


def test_what_all_clips_have_in_common_drops_out_of_a_difference() -> None:
    clips = torch.linspace(10, 40, 32)
    one, other = (clips + 0.5).tolist(), clips.tolist()
    assert difference(one, other).value == pytest.approx(0.5)
    assert difference(one, other).error < 1e-5 < mean_of(one).error
    with pytest.raises(UserError, match="32 and 31 clips"):
        difference(one, other[1:])


def test_a_ratio_is_one_of_means() -> None:
    assert ratio_of([1.0, 3.0], [2.0, 6.0]).value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Estimate(1.0, 0.5), "holds: better"),
        (Estimate(0.1, 0.5), "no difference that these clips show"),
        (Estimate(-0.1, 0.5), "no difference that these clips show"),
        (Estimate(-1.0, 0.5), "does not hold here"),
    ],
)
def test_a_verdict_needs_the_whole_interval(gain: Estimate, said: str) -> None:
    assert verdict(gain) == said


def test_the_flow_of_a_picture_that_moves_by_two_pixels_is_two() -> None:
    torch.manual_seed(0)
    noise = torch.rand(1, 1, 12, 40)
    wide = torch.nn.functional.interpolate(noise, (48, 160), mode="bicubic").clamp(0, 1)
    scene = (255 * wide[0, 0]).to(torch.uint8)[..., None].expand(48, 160, 3)
    moved = torch.stack([scene[:, 2 * f : 2 * f + 64] for f in range(6)])
    assert mean_flow(moved) == pytest.approx(2.0, rel=0.2)
    assert mean_flow(moved[:1].expand(6, -1, -1, -1)) < 0.05
    assert not math.isnan(mean_flow(torch.zeros(3, 48, 64, 3, dtype=torch.uint8)))
