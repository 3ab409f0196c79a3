"""A plan: what pixels show follows from geometry, however few columns are asked for."""

import math
from dataclasses import replace

import pytest
import torch

from tests.worlds.make_world import PLAN
from worldmodel.config import ConfigError
from worldmodel.model.floor_plan import GAIN, FloorPlan, seen_rays

VIEWS = torch.tensor([[30.0, 5.0, 8.0, 20.0], [60.0, -12.0, 9.0, 250.0]])
ALL = torch.arange(PLAN.frame_width).expand(len(VIEWS), -1)


@pytest.fixture
def plan() -> FloorPlan:
    torch.manual_seed(0)
    return FloorPlan(PLAN).eval().requires_grad_(requires_grad=False)


def test_a_strip_is_part_of_the_whole_picture(plan: FloorPlan) -> None:
    """Training draws a few columns, play all of them: what is looked up must be the same."""
    whole, strip = plan.look(VIEWS, ALL), plan.look(VIEWS, ALL[:, 5:9])
    assert torch.allclose(strip.pixels, whole.pixels[..., 5:9], atol=1e-6)
    assert torch.allclose(strip.rays, whole.rays[:, 5:9], atol=1e-6)


def test_a_transformer_is_told_some_of_the_rays_of_play(plan: FloorPlan) -> None:
    told = plan.look(VIEWS, ALL).rays[:, seen_rays(PLAN)]
    assert torch.allclose(plan.rays(VIEWS), told, atol=1e-6)
    assert told.shape == (2, PLAN.rays, PLAN.ray_features)


def test_a_pixel_below_the_horizon_reads_the_floor_where_it_meets_it(plan: FloorPlan) -> None:
    """The floor's first feature is its x, its second its y: pixels must read their own points."""
    (x0, y0), (x1, y1) = PLAN.low, PLAN.high
    rows, columns = PLAN.floor_cells
    with torch.no_grad():
        plan.floor[0, 0] = torch.linspace(x0, x1, columns).expand(rows, -1) / GAIN
        plan.floor[0, 1] = torch.linspace(y0, y1, rows)[:, None].expand(-1, columns) / GAIN
    x, y, eye, heading = VIEWS[0].tolist()
    pixels = plan.look(VIEWS[:1], ALL[:1]).pixels
    row, column = 7, 12
    across = (column + 0.5) / 16 * 2 - 1
    down = (row + 0.5 - 4) / 8  # rises for one unit of depth, as pixels are square
    depth, angle = eye / down, math.radians(heading)
    forward, right = (math.cos(angle), math.sin(angle)), (math.sin(angle), -math.cos(angle))
    point = [p + depth * (f + across * r) for p, f, r in zip((x, y), forward, right, strict=True)]
    assert pixels[0, 0, row, column].item() == pytest.approx(point[0], abs=0.05)
    assert pixels[1, 0, row, column].item() == pytest.approx(point[1], abs=0.05)


def test_what_is_opaque_is_seen_and_hides_what_is_behind(plan: FloorPlan) -> None:
    with torch.no_grad():
        for layer in (plan.reader.enter, plan.reader.along, plan.reader.leave):
            for parameter in layer.parameters():
                parameter.zero_()
        bias = plan.reader.leave.bias
        assert bias is not None
        bias[0] = 100.0  # the first depth: opaque wherever it looks
        bias[PLAN.depth_features + 1] = -100.0  # the second: nowhere
    last = PLAN.depth_features  # each depth: its features, then how deep it is
    depths = plan.look(VIEWS, ALL).rays[0, 0, [last, 2 * last + 1]]
    assert depths[0] * 200 == pytest.approx(PLAN.nearest, abs=0.1)
    assert depths[1] * 200 == pytest.approx(PLAN.farthest, abs=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": (200.0, 0.0)}, "must lie below high"),
        ({"ceiling": -1.0}, "must lie below ceiling"),
        ({"rays": 5}, "must divide frame_width"),
        ({"cells": ()}, "must hold 1 to 8"),
        ({"texture_cell": 1e-9}, "at least 0.01"),
        ({"wall_cell": 0.01}, "cells in a row"),
        ({"field_of_view": 180.0}, "from 1 to 170"),
        ({"samples": 10**9}, "at most"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(PLAN, **change)  # type: ignore[arg-type]  # that is what is tested
