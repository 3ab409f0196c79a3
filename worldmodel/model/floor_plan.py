"""The learned plan of a level: what can be seen from a place, without any past frame.

A view is a place and where one looks: x, y, the height of the eye, heading. Every column of the
picture is a ray over the plan. What lies along it is read from grids that are learned, and what is
opaque is composed front to back, as in radiance fields (NeRF, arXiv 2003.08934, Eq. 3), once for
each of a few *depths*: the first wall, what stands behind a gap. Floor, ceiling and the walls at
those depths then have fine textures of their own, read at the very point that a pixel shows:

    ray of column u      p(d) = p₀ + d (forward + u right),  u from −1 to 1 for 90 degrees
    pixel of slope v     height of the point = eye + d v

    plan = FloorPlan(config)
    sight = plan.look(views)               # what each ray meets, and what each pixel shows
    picture, hidden = plan.drawing(sight.pixels)

`look` must run in fp32: half a unit of the map is a pixel. `drawing` may run in any dtype.

Letters of its own: s points along a ray, o depths, r numbers of a ray, a features.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.model.state_configs import FloorPlanConfig

MARGIN = 16.0  # map units that wall textures reach below the floor and above the ceiling
FAR = 2000.0  # map units: the farthest that a floor or ceiling is looked up
GAIN = 8.0  # of what is read from grids and textures: an optimizer's step moves it so much faster
EDGE = 3.0  # pixels around the lower and upper edge of a wall that tell a pixel where it is


class Sight(NamedTuple):
    """What rays and pixels see of a level from some views."""

    rays: Tensor  # b w r: features of each depth, how deep it is; how high the eye is
    pixels: Tensor  # a b h w: what floor, ceiling and walls look like where the pixel shows them


def seen_rays(config: FloorPlanConfig) -> Tensor:
    """The columns of the frame whose rays a transformer is given: w."""
    step = config.frame_width // config.rays
    return torch.arange(config.rays) * step + step // 2


class RayReader(nn.Module):
    """What the rays of views meet, composed front to back for every depth."""

    distances: Tensor  # s, of the points along a ray

    def __init__(self, config: FloorPlanConfig) -> None:
        super().__init__()
        self.config = config
        width = config.ray_width
        self.grids = nn.ParameterList(
            _grid(config.features, cells, round(cells * config.proportion))
            for cells in config.cells
        )
        self.enter = nn.Linear(config.features * len(config.cells), width)
        self.along = nn.Conv1d(width, width, 3, padding=1)
        self.leave = nn.Conv1d(width, config.depths * (config.depth_features + 1), 3, padding=1)
        near, far = config.nearest, config.farthest
        part = torch.linspace(0, 1, config.samples)
        distances = near + (far - near) * (0.12 * part + 0.88 * part**2.2)
        self.register_buffer("distances", distances, persistent=False)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Points along rays b w s 2, from −1 to 1 over the plan -> features b w o a, depths b w o.

        A depth is counted along the view, not along the ray, in map units.
        """
        batch, columns = points.shape[:2]
        place = points.flatten(0, 1)[None]  # the batch lies in the points: the grids stay one
        read = torch.cat([_sample(grid, place, "zeros") for grid in self.grids])  # a (b w) s
        x = F.silu(self.enter(rearrange(read, "a n s -> n s a")))
        x = rearrange(x, "n s d -> n d s")
        x = self.leave(F.silu(self.along(x))).float()
        x = rearrange(x, "n (o a) s -> n o a s", o=self.config.depths)
        opacity = F.softplus(x[:, :, 0] - 1)
        passed = torch.exp(opacity - opacity.cumsum(dim=-1))
        weight = passed * (1 - torch.exp(-opacity))
        rest = 1 - weight.sum(dim=-1)
        depth = (weight * self.distances).sum(dim=-1) + rest * self.distances[-1]
        features = (x[:, :, 1:] * weight[:, :, None]).sum(dim=-1)
        return features.unflatten(0, (batch, columns)), depth.unflatten(0, (batch, columns))


class Drawing(nn.Module):
    """What is known of pixels becomes a picture: the one part that needs no fp32."""

    def __init__(self, config: FloorPlanConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(config.pixel_features, config.width)
        self.spread = spreading(config.width, config.hidden, depthwise=config.depthwise)
        self.leave = nn.Conv2d(config.hidden, 3, 3, padding=1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels a b h w -> picture b 3 h w in about [-1, 1], hidden features b a h w."""
        entered = rearrange(F.silu(_mixed(self.enter, pixels)), "a b h w -> b a h w")
        hidden = F.silu(self.spread(entered))
        return self.leave(hidden), hidden


def spreading(incoming: int, outgoing: int, *, depthwise: bool) -> nn.Module:
    """A 3x3 convolution b i h w -> b o h w, or what costs an eighth (MobileNets, 1704.04861)."""
    if not depthwise:
        return nn.Conv2d(incoming, outgoing, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(incoming, incoming, 3, padding=1, groups=incoming),
        nn.Conv2d(incoming, outgoing, 1),
    )


class FloorPlan(nn.Module):
    """A level as tensors, and how a view of it becomes a picture."""

    low: Tensor  # x, y where the plan begins
    span: Tensor  # and how far it reaches

    def __init__(self, config: FloorPlanConfig) -> None:
        super().__init__()
        self.config = config
        self.reader = RayReader(config)
        walls = config.wall_features
        tall = round((config.ceiling - config.floor + 2 * MARGIN) / config.wall_cell)
        self.floor = _grid(config.texture_features, *config.floor_cells)
        self.ceiling = _grid(config.texture_features, *config.floor_cells)
        self.along_y, self.along_x = (_grid(walls, tall, cells) for cells in config.wall_cells)
        self.heights = nn.Parameter(torch.tensor([config.floor, config.ceiling]))
        self.aspect = nn.Parameter(torch.tensor(config.pixel_aspect))
        numbers = config.depths * (config.depth_features + 1)
        self.gate = nn.Linear(numbers, config.depths * 2 * walls)
        self.mix = nn.Linear(2 * walls, walls)
        self.column = nn.Linear(numbers, config.column_features)
        self.drawing = Drawing(config)
        low, high = torch.tensor(config.low), torch.tensor(config.high)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("span", high - low, persistent=False)

    def forward(self, views: Tensor, columns: Tensor) -> Tensor:
        """Views b 4, columns b w of the frame -> pixels b 3 h w in about [-1, 1]."""
        return self.drawing(self.look(views, columns).pixels)[0]

    def rays(self, views: Tensor) -> Tensor:
        """What a transformer is given of views b 4: b w r, the rays of `seen_rays`."""
        columns = seen_rays(self.config).to(views.device).expand(len(views), -1)
        return self._columns(views, columns)[0]

    def look(self, views: Tensor, columns: Tensor) -> Sight:
        """Views b 4 (x, y, eye's height, heading in degrees), columns b w of the frame."""
        rays, ray, depths = self._columns(views, columns)
        place, eye = views[:, :2], views[:, 2]
        slopes = self._slopes(views.device)
        numbers = rays[..., :-1]
        found = [self._flat(place, eye, ray, slopes)]
        gates = rearrange(self.gate(numbers), "b w (o a) -> o a b 1 w", o=self.config.depths)
        for depth, gate in zip(depths.unbind(-1), gates, strict=True):
            found.append(_mixed(self.mix, self._wall(place, eye, ray, slopes, depth) * gate))
            found.extend(self._edges(eye, slopes, depth))
        rows = len(slopes)
        column = rearrange(self.column(numbers), "b w a -> a b 1 w").expand(-1, -1, rows, -1)
        slope = slopes[:, None].expand(1, len(views), -1, columns.shape[1])
        return Sight(rays, torch.cat((*found, column, slope)))

    def _columns(self, views: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rays b w r as a transformer reads them, their directions b w 2, depths b w o."""
        heading = views[:, 3] * (math.pi / 180)
        forward = torch.stack((heading.cos(), heading.sin()), dim=-1)
        right = torch.stack((heading.sin(), -heading.cos()), dim=-1)
        wide = math.tan(math.radians(self.config.field_of_view) / 2)
        across = wide * ((columns + 0.5) / self.config.frame_width * 2 - 1)
        ray = forward[:, None] + across[..., None] * right[:, None]
        points = views[:, None, None, :2] + self.reader.distances[:, None] * ray[:, :, None]
        features, depths = self.reader(self._place(points))
        numbers = torch.cat((features, depths[..., None] / 200), dim=-1).flatten(2)
        height = (views[:, 2] - self.config.floor) / 64 - 0.5
        heights = height[:, None, None].expand(-1, columns.shape[1], -1)
        return torch.cat((numbers, heights), dim=-1), ray, depths

    def _place(self, points: Tensor) -> Tensor:
        """Map units ... 2 as −1 to 1 over the plan."""
        return (points - self.low) / self.span * 2 - 1

    def _slopes(self, device: torch.device) -> Tensor:
        """How many units a pixel's ray rises for one unit of depth: h, the top row first."""
        rows, wide = self.config.frame_height, self.config.frame_width
        half = math.tan(math.radians(self.config.field_of_view) / 2) * 2 / wide
        return (rows / 2 - 0.5 - torch.arange(rows, device=device)) * half / self.aspect

    def _flat(self, place: Tensor, eye: Tensor, ray: Tensor, slopes: Tensor) -> Tensor:
        """Ceiling in the upper half of the rows, floor in the lower: a b h w."""
        half = len(slopes) // 2
        parts = []
        for texture, height, rows in (
            (self.ceiling, self.heights[1], slopes[:half]),
            (self.floor, self.heights[0], slopes[half:]),
        ):
            depth = ((height - eye)[:, None] / rows).clamp(0, FAR)  # b h
            points = place[:, None, None] + depth[:, :, None, None] * ray[:, None]
            read = _sample(texture, self._place(points).flatten(0, 1)[None], "border")
            parts.append(read.unflatten(1, (len(place), -1)))
        return torch.cat(parts, dim=2)

    def _wall(
        self, place: Tensor, eye: Tensor, ray: Tensor, slopes: Tensor, depth: Tensor
    ) -> Tensor:
        """Textures of the walls at `depth` b w, by x and height and by y and height: a b h w."""
        at = self._place(place[:, None] + depth[..., None] * ray)  # b w 2
        low, high = self.config.floor - MARGIN, self.config.ceiling + MARGIN
        height = eye[:, None, None] + slopes[:, None] * depth[:, None]  # b h w
        height = (height - low) / (high - low) * 2 - 1
        parts, up = [], height[..., None] * height.new_tensor([0.0, 1.0])
        for texture, along in ((self.along_x, at[..., 0]), (self.along_y, at[..., 1])):
            points = up + along[:, None, :, None] * along.new_tensor([1.0, 0.0])
            read = _sample(texture, points.flatten(0, 1)[None], "border")
            parts.append(read.unflatten(1, (len(place), -1)))
        return torch.cat(parts)

    def _edges(self, eye: Tensor, slopes: Tensor, depth: Tensor) -> list[Tensor]:
        """How far each pixel is from the wall's lower and upper edge, in pixels: 1 b h w each."""
        pixel = slopes[0] - slopes[1]
        edges = []
        for height in self.heights:
            edge = (height - eye)[:, None] / depth
            apart = (slopes[:, None] - edge[:, None]) / pixel
            edges.append(apart.clamp(-EDGE, EDGE)[None] / 2)
        return edges


def _grid(features: int, rows: int, columns: int) -> nn.Parameter:
    """Small random numbers to begin with: 1 a y x."""
    return nn.Parameter(0.1 / GAIN * torch.randn(1, features, rows, columns))


def _mixed(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer over the first axis: a b h w -> a b h w, without moving it."""
    y = layer.weight @ x.to(layer.weight.dtype).flatten(1) + layer.bias[:, None]
    return y.unflatten(1, x.shape[1:])


def _sample(grid: Tensor, points: Tensor, outside: str) -> Tensor:
    """A grid 1 a y x at points 1 n m 2 (x, y from −1 to 1), bilinear: a n m."""
    return GAIN * F.grid_sample(grid, points, padding_mode=outside, align_corners=True)[0]
