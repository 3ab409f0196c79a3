"""The stage `plan`: what is seen from everywhere in a level, learned from frames and places.

    L = mean |x̂ − x| + λ |∇x̂ − ∇x|,   x̂ = plan(x, y, eye, heading)

A batch is upright strips of frames: all rows of a few neighbouring columns, from many places at
once. Neighbouring columns of one frame teach almost the same, other places do not.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.config import ConfigError, require_positive
from worldmodel.metrics import psnr, sharpness
from worldmodel.model.autoencoder import to_frames, to_tensor
from worldmodel.model.context import Device
from worldmodel.model.floor_plan import FloorPlan
from worldmodel.model.state_configs import FloorPlanConfig
from worldmodel.training.autoencoder import gradient_loss
from worldmodel.training.clips import load_frames, load_views
from worldmodel.training.row_files import ReadSpeed
from worldmodel.training.runs import begin_floor_plan
from worldmodel.training.sample_grids import save_grid
from worldmodel.training.stage import LoopConfig
from worldmodel.training.torch_streams import host_stream, seed_default

HELD_OUT_STRIDE = 97
SHOWN = 8
AT_ONCE = 4  # views drawn whole


@dataclass(frozen=True, kw_only=True, slots=True)
class FloorPlanTraining:
    """Everything that the stage `plan` reads from its TOML file."""

    stage: Literal["plan"]
    data: Path
    heldout: Path
    model: FloorPlanConfig
    loop: LoopConfig
    batch: int  # strips
    columns: int = 20  # of a strip
    frame_stride: int = 3  # neighbouring frames teach almost the same
    gradient_weight: float = 0.5
    begin: Path | None = None  # a run of this stage, or a world: its plan is where this one begins

    def __post_init__(self) -> None:
        require_positive(self, "batch", "columns", "frame_stride")
        if self.columns > self.model.frame_width:
            raise ConfigError(
                f"columns ({self.columns}) are more than frame_width ({self.model.frame_width})"
            )


class FloorPlanStage:
    """Holds frames, their views and the plan; gives the loop its loss."""

    def __init__(self, config: FloorPlanTraining, folder: Path, device: Device = "cpu") -> None:
        self.config, self.reading, self.device = config, ReadSpeed(), device
        size = (config.model.frame_height, config.model.frame_width)
        self.views = load_views(config.data, config.frame_stride)
        self.frames = load_frames(config.data, config.frame_stride, *size, folder.parent)
        seen = load_views(config.heldout, HELD_OUT_STRIDE)
        frames = load_frames(config.heldout, HELD_OUT_STRIDE, *size, folder.parent)
        known = torch.nonzero(torch.isfinite(seen).all(dim=1))[:, 0][:96]
        self.heldout, self.heldout_views = frames[known], seen[known].to(device)
        self.known = torch.nonzero(torch.isfinite(self.views).all(dim=1))[:, 0]
        _check_reach(self.views[self.known], config.model)
        seed_default(config.loop.seed, config.stage, "weights")
        student = FloorPlan(config.model)
        if config.begin:
            begin_floor_plan(student, config.begin)
        self.student = student.to(device)
        self.ema = copy.deepcopy(self.student).requires_grad_(requires_grad=False)

    def compile(self) -> None:
        """Nothing: most of the time goes into reading grids."""

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """How far drawn strips are from those of real frames."""
        del step
        config, host = self.config, host_stream(generator, "strips")
        chosen = torch.randint(len(self.known), (config.batch,), generator=host)
        chosen = self.known[chosen]
        most = config.model.frame_width - config.columns
        first = torch.randint(most + 1, (config.batch,), generator=host)
        columns = first[:, None] + torch.arange(config.columns)
        pixels = to_tensor(self._strips(chosen, columns)).to(self.device)
        views = self.views[chosen].to(self.device)
        rendered = self.student(views, columns.to(self.device)).float()
        absolute = F.l1_loss(rendered, pixels)
        edges = gradient_loss(rendered, pixels)
        return absolute + config.gradient_weight * edges, {"l1": absolute, "gradient": edges}

    @torch.no_grad()
    def sample(self, folder: Path, step: int) -> dict[str, float]:
        """Unseen frames above what the plan shows from where they were seen."""
        rendered = draw_views(self.ema, self.heldout_views)
        save_grid(folder / f"{step:06d}.png", [self.heldout[:SHOWN], rendered[:SHOWN]])
        return {
            "heldout_psnr": float(psnr(rendered, self.heldout).mean()),
            "sharpness": float(sharpness(rendered).mean() / sharpness(self.heldout).mean()),
        }

    def judge(self, figures: Mapping[str, float | None]) -> tuple[str, dict[str, float], bool]:
        """What it shows of unseen places, beside one colour: the mean of all frames."""
        flat = self.heldout.float().mean(dim=(0, 1, 2)).round().to(torch.uint8)
        blank = float(psnr(flat.expand_as(self.heldout), self.heldout).mean())
        score = figures.get("heldout_psnr") or math.nan
        numbers = {"heldout_psnr": score, "one_colour": blank}
        sentence = f"unseen places at {score:.1f} dB, one colour for all at {blank:.1f} dB"
        if not score > blank:
            return f"FAILED: {sentence}", numbers, True
        return f"good: {sentence}", numbers, False

    def _strips(self, chosen: Tensor, columns: Tensor) -> Tensor:
        """Columns b w of the chosen frames: uint8 b h w 3."""
        height = self.config.model.frame_height
        rows = torch.arange(height)[None, :, None]
        index = chosen[:, None, None], rows, columns[:, None]
        return self.frames[index]


@torch.no_grad()
def draw_views(plan: FloorPlan, views: Tensor) -> Tensor:
    """What a floor plan shows of views b 4, whole: uint8 b h w 3, on the CPU."""
    columns = torch.arange(plan.config.frame_width, device=views.device)
    parts = [plan(part, columns.expand(len(part), -1)) for part in views.split(AT_ONCE)]
    return to_frames(torch.cat(parts)).cpu()


def _check_reach(views: Tensor, config: FloorPlanConfig) -> None:
    """Refuse a floor plan that does not reach where the player was."""
    low, high = views[:, :2].amin(dim=0), views[:, :2].amax(dim=0)
    inside = all(
        a <= float(x) and float(y) <= b
        for a, b, x, y in zip(config.low, config.high, low, high, strict=True)
    )
    if not len(views) or not inside:
        raise ConfigError(
            f"[model] low {list(config.low)} and high {list(config.high)}: the player was between "
            f"{[round(float(v), 1) for v in low]} and {[round(float(v), 1) for v in high]}"
        )
