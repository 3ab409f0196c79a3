"""How a page looks at a plan: `model.floor_plan` for one view, arranged for ONNX Runtime.

    seen = RayGraph(plan)(view)                 # what each column's ray meets
    pixels = PixelGraph(plan)(view, *seen)      # what each pixel shows
    from_plan, picture = DrawGraph(autoencoder)(view, *seen)     # and what the drawing makes of it
    frame = MergeGraph(autoencoder)(coarse, from_plan, picture)  # which latents change

The same function of the same weights as `Autoencoder.look` and `decode`, up to the rounding of
fp32. In WebAssembly moving numbers costs as much as computing them, so here

- all grids are one table of rows, and a point's four cells are found by one index;
- what is linear comes before what makes it larger: features of rays are summed along the ray before
  the last convolution instead of after it, walls are mixed as columns of a texture instead of
  pixels, and what is one number for a column of pixels is added after the first layer.

Letters as in `model.floor_plan`; l grids, i and j features, t textures of walls.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldmodel.model.autoencoder import Autoencoder
from worldmodel.model.floor_plan import EDGE, FAR, GAIN, MARGIN, FloorPlan, seen_rays


class RayGraph(nn.Module):
    """What the rays of one view meet: `RayReader` and what is around it, in all columns."""

    table: Tensor  # cells of all grids, with a margin of zeros around each: n a
    cells: Tensor  # of each grid along x and y: 2 l 1 1
    first: Tensor  # row of the table at which each grid begins: l 1 1
    across: Tensor  # w
    enter: Tensor
    along: Tensor
    opaque: Tensor  # the part of the last convolution that says how opaque a sample is
    opaque_bias: Tensor
    leave: Tensor  # and the part that says what is seen there: (d k o) (p a), zero unless o = p
    leave_bias: Tensor
    before: Tensor  # sums what lies before a sample: s s

    def __init__(self, plan: FloorPlan) -> None:
        super().__init__()
        config, reader = plan.config, plan.reader
        self.config, self.low, self.span = config, plan.low, plan.span
        self.distances = reader.distances
        self.register_buffer("across", _across(plan))
        padded = [F.pad(grid[0] * GAIN, (1, 1, 1, 1)) for grid in reader.grids]
        self.register_buffer("table", torch.cat([x.flatten(1).T for x in padded]))
        shapes = torch.tensor([x.shape[1:] for x in padded])  # rows, columns
        self.register_buffer("cells", shapes.T.flip(0)[:, :, None, None].float())
        sizes = shapes.prod(dim=1)
        self.register_buffer("first", (sizes.cumsum(0) - sizes)[:, None, None].float())
        self.register_buffer("enter", reader.enter.weight[:, :, None, None])
        self.register_buffer("along", reader.along.weight[:, :, None].contiguous())
        self.enter_bias, self.along_bias = reader.enter.bias, reader.along.bias
        assert reader.leave.bias is not None
        depths, features = config.depths, config.depth_features
        weight = rearrange(reader.leave.weight, "(o a) d k -> o a d k", o=depths)
        bias = rearrange(reader.leave.bias, "(o a) -> o a", o=depths)
        self.register_buffer("opaque", rearrange(weight[:, 0], "o d k -> (k o) d 1 1"))
        self.register_buffer("opaque_bias", bias[:, :1, None] - 1)  # o 1 1
        apart = torch.zeros(config.ray_width, 3, depths, depths, features)
        biases = torch.zeros(depths, depths, features)
        for depth in range(depths):
            apart[:, :, depth, depth] = rearrange(weight[depth, 1:], "a d k -> d k a")
            biases[depth, depth] = bias[depth, 1:]
        self.register_buffer("leave", rearrange(apart, "d k o p a -> (d k o) (p a)"))
        self.register_buffer("leave_bias", rearrange(biases, "o p a -> o (p a)"))
        before = torch.ones(config.samples, config.samples).triu(1)
        self.register_buffer("before", before)

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """View 1 4 -> numbers of rays w (o r), as a transformer is given them; depths o w."""
        config = self.config
        ray, place = _rays(view, self.across), view[0, :2]
        where = []
        for axis in range(2):
            cells = self.cells[axis]  # with their margin
            scale = (cells - 3) / self.span[axis]
            begin = (place[axis] - self.low[axis]) * scale + 1
            along = begin + self.distances * (ray[axis][:, None] * scale)  # l w s
            where.append(along.minimum(cells - 1).clamp(min=0))
        read = _sample(self.table, where[0], where[1], self.cells, self.first)
        x = rearrange(read, "l w s a -> 1 (l a) w s")
        x = F.silu(F.conv2d(x, self.enter, self.enter_bias))
        x = F.silu(F.conv2d(x, self.along, self.along_bias, padding=(0, 1)))  # 1 d w s
        parts = rearrange(F.conv2d(x, self.opaque), "1 (k o) w s -> k o w s", k=3)
        near, here, far = F.pad(parts, (1, 1)).unbind(0)
        seen = near[..., :-2] + here[..., 1:-1] + far[..., 2:]
        opacity = F.softplus(seen + self.opaque_bias)
        weight = torch.exp(-(opacity @ self.before)) * (1 - torch.exp(-opacity))  # o w s
        total = weight.sum(dim=-1)
        depth = (weight * self.distances).sum(dim=-1) + (1 - total) * self.distances[-1]
        wide = F.pad(weight, (1, 1))
        shifted = torch.stack((wide[..., 2:], wide[..., 1:-1], wide[..., :-2]))
        samples = rearrange(x, "1 d w s -> w d s")
        kept = samples @ rearrange(shifted, "k o w s -> w s (k o)")  # w d (k o)
        features = kept.flatten(1) @ self.leave + total.T @ self.leave_bias
        features = features.unflatten(1, (config.depths, -1))
        numbers = torch.cat((features, depth.T[..., None] / 200), dim=-1)
        return numbers.flatten(1), depth


class PixelGraph(nn.Module):
    """What the pixels of one view show, after the first layer of the drawing."""

    across: Tensor  # w
    slopes: Tensor  # h
    flats: Tensor  # height of ceiling or floor: h
    table: Tensor  # ceiling and floor: n a
    cells: Tensor  # of each along x and y: 2
    first: Tensor  # row of the table at which they begin: h 1
    walls: Tensor  # both textures, a column a row: (t x) (a y)
    mix: Tensor  # (t a) i
    enter: Tensor
    bias: Tensor
    column: Tensor  # i (o r)
    slope: Tensor  # 1 h w
    standing: Tensor  # row of the walls' columns, as they are mixed, at which one begins: o 1 w

    def __init__(self, plan: FloorPlan) -> None:
        super().__init__()
        config = plan.config
        self.config, self.low, self.span = config, plan.low, plan.span
        rows, columns = config.frame_height, config.frame_width
        walls, half = config.wall_features, rows // 2
        self.register_buffer("across", _across(plan))
        slopes = plan._slopes(plan.low.device)
        self.register_buffer("slopes", slopes)
        self.pixel = float(slopes[0] - slopes[1])
        self.heights = plan.heights
        top, bottom = plan.heights[1].repeat(half), plan.heights[0].repeat(rows - half)
        self.register_buffer("flats", torch.cat((top, bottom)))
        tables = [grid[0].flatten(1).T * GAIN for grid in (plan.ceiling, plan.floor)]
        self.register_buffer("table", torch.cat(tables))
        self.register_buffer("cells", torch.tensor(plan.floor.shape[:1:-1]).float())
        first = torch.zeros(rows, 1)
        first[half:] = len(tables[0])
        self.register_buffer("first", first)
        textures = [rearrange(grid[0], "a y x -> x a y") for grid in (plan.along_x, plan.along_y)]
        self.register_buffer("walls", GAIN * torch.cat(textures).flatten(1))  # (t x) (a y)
        self.wall_cells = [len(texture) for texture in textures]
        self.tall = textures[0].shape[-1]
        self.gate = plan.gate
        self.register_buffer("mix", plan.mix.weight.T)  # (t a) i
        enter = plan.drawing.enter
        flat = config.texture_features
        sizes = [flat, *([walls, 2] * config.depths), config.column_features, 1]
        flat_part, *rest, column, slope = enter.weight.split(sizes, dim=1)
        wall, edges = rest[::2], rest[1::2]
        enters = torch.cat((flat_part, *wall, *edges, slope), dim=1)
        self.register_buffer("enter", enters[..., None, None])
        bias = enter.bias + sum(part @ plan.mix.bias for part in wall) + column @ plan.column.bias
        self.register_buffer("bias", bias)
        self.register_buffer("column", column @ plan.column.weight)  # i (o r)
        self.register_buffer("slope", slopes[:, None].expand(rows, columns)[None].contiguous())
        place = torch.arange(config.depths * columns) * self.tall
        self.register_buffer("standing", place.unflatten(0, (config.depths, 1, columns)).float())

    def forward(self, view: Tensor, numbers: Tensor, depth: Tensor) -> Tensor:
        """View 1 4 and `RayGraph`'s numbers w (o r), depths o w -> 1 i h w."""
        ray, eye = _rays(view, self.across), view[0, 2]
        found = torch.cat(
            (
                self._flat(view[0, :2], eye, ray),
                self._wall(view[0, :2], eye, ray, numbers, depth),
                self._edges(eye, depth),
                self.slope,
            )
        )
        entered = F.conv2d(found[None], self.enter, self.bias)
        return entered + (self.column @ numbers.T)[:, None]

    def _flat(self, place: Tensor, eye: Tensor, ray: Tensor) -> Tensor:
        depth = ((self.flats - eye) / self.slopes).clamp(0, FAR)[:, None]  # h 1
        where = []
        for axis, cells in enumerate(self.cells):
            scale = (cells - 1) / self.span[axis]
            along = (place[axis] - self.low[axis]) * scale + depth * (ray[axis] * scale)
            where.append(along.minimum(cells - 1).clamp(min=0))
        read = _sample(self.table, where[0], where[1], self.cells, self.first)
        return rearrange(read, "h w a -> a h w")

    def _wall(
        self, place: Tensor, eye: Tensor, ray: Tensor, numbers: Tensor, depth: Tensor
    ) -> Tensor:
        config = self.config
        rows, parts, first = [], [], 0
        for axis, cells in enumerate(self.wall_cells):
            scale = (cells - 1) / self.span[axis]
            along = (place[axis] - self.low[axis]) * scale + depth * (ray[axis] * scale)
            along = along.clamp(0, cells - 1)
            left = along.floor().clamp(max=cells - 2)
            rows += [left + first, left + (first + 1)]
            parts += [1 - (along - left), along - left]
            first += cells
        row = torch.stack(rows, dim=-1).flatten().int()  # (o w t 2)
        part = rearrange(torch.stack(parts, dim=-1), "o w (t two) -> (o w t) 1 two", two=2)
        read = part @ self.walls.index_select(0, row).unflatten(0, (-1, 2))  # (o w t) 1 (a y)
        gate = F.linear(numbers, self.gate.weight, self.gate.bias)
        gate = rearrange(gate, "w (o a) -> o w a 1", o=config.depths)
        share = (gate * self.mix).flatten(0, 1)  # (o w) (t a) i
        columns = rearrange(read, "(ow t) 1 (a y) -> ow (t a) y", ow=len(share), y=self.tall)
        table = (rearrange(columns, "ow a y -> ow y a") @ share).flatten(0, 1)  # (o w y) i
        low, high = config.floor - MARGIN, config.ceiling + MARGIN
        stretch = (self.tall - 1) / (high - low)
        along = (eye - low) * stretch + self.slopes[:, None] * (depth[:, None] * stretch)  # o h w
        along = along.clamp(0, self.tall - 1)
        under = along.floor().clamp(max=self.tall - 2)
        at = (under + self.standing).int().flatten()
        mixed = _between(
            table.index_select(0, at), table.index_select(0, at + 1), (along - under).flatten()
        )
        height, width = config.frame_height, config.frame_width
        return rearrange(mixed, "(o h w) i -> (o i) h w", h=height, w=width)

    def _edges(self, eye: Tensor, depth: Tensor) -> Tensor:
        edge = (self.heights - eye)[:, None] / (2 * self.pixel * depth[:, None])  # o 2 w
        apart = (self.slopes / (2 * self.pixel))[:, None] - edge.flatten(0, 1)[:, None]
        return apart.clamp(-EDGE / 2, EDGE / 2)


class DrawGraph(nn.Module):
    """What a plan draws of one view, and what it tells the decoder of each pixel."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        plan, merge = autoencoder.plan, autoencoder.decoder.merge
        assert plan is not None, "only a floor plan is looked at"
        self.pixels = PixelGraph(plan)
        self.spread, self.leave = plan.drawing.spread, _Few(plan.drawing.leave)
        self.hidden, _ = _apart(merge, plan.config.hidden)
        self.hidden_bias = merge.bias

    def forward(self, view: Tensor, numbers: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """View 1 4, numbers w (o r), depths o w -> from_plan 1 d h w, picture 1 3 h w."""
        hidden = F.silu(self.spread(F.silu(self.pixels(view, numbers, depth))))
        from_plan = F.conv2d(
            hidden, self.hidden, self.hidden_bias, padding=self.hidden.shape[2] // 2
        )
        return from_plan, self.leave(hidden)


class MergeGraph(nn.Module):
    """The last layers of a decoder with a floor plan: where latents and drawing meet."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        decoder, plan = autoencoder.decoder, autoencoder.plan
        assert plan is not None, "without a floor plan there is nothing to merge"
        _, self.coarse = _apart(decoder.merge, plan.config.hidden)
        self.change = _Few(decoder.change)

    def forward(self, coarse: Tensor, from_plan: Tensor, picture: Tensor) -> Tensor:
        """What the decoder's layers give 1 c h w, and of `DrawGraph` -> 1 3 h w in [-1, 1]."""
        known = F.conv2d(coarse, self.coarse, padding=self.coarse.shape[2] // 2)
        return picture + self.change(F.silu(known + from_plan))


class _Few(nn.Module):
    """A convolution b i h w -> b o h w of few o, as a transposed one: a larger matrix product."""

    weight: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", rearrange(layer.weight, "o i y x -> i o y x").flip(2, 3))
        self.bias, self.padding = layer.bias, layer.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, padding=self.padding)


def _apart(merge: nn.Conv2d, hidden: int) -> tuple[Tensor, Tensor]:
    """The weights of the layer that merges: for what the plan knows, for what latents say."""
    coarse = merge.weight.shape[1] - hidden
    return merge.weight[:, coarse:].contiguous(), merge.weight[:, :coarse].contiguous()


def rays_for_transformer(plan: FloorPlan, view: Tensor, numbers: Tensor) -> Tensor:
    """`FloorPlan.rays` of numbers w (o r) of all columns: 1 w r of the columns that it is given."""
    columns = seen_rays(plan.config)
    chosen = numbers.index_select(0, columns)
    height = (view[:, 2] - plan.config.floor) / 64 - 0.5
    return torch.cat((chosen, height[:, None].expand(len(columns), -1)), dim=-1)[None]


def _across(plan: FloorPlan) -> Tensor:
    """How far to the right a column's ray goes for one unit forward: w."""
    config = plan.config
    wide = math.tan(math.radians(config.field_of_view) / 2)
    columns = torch.arange(config.frame_width)
    return wide * ((columns + 0.5) / config.frame_width * 2 - 1)


def _rays(view: Tensor, across: Tensor) -> Tensor:
    """Directions of a view's columns, along x and along y: 2 w."""
    heading = view[0, 3] * (math.pi / 180)
    cos, sin = heading.cos(), heading.sin()
    return torch.stack((cos + across * sin, sin - across * cos))


def _sample(table: Tensor, x: Tensor, y: Tensor, cells: Tensor, first: Tensor) -> Tensor:
    """Rows n a of grids of `cells` (along x, along y), bilinear at places ...: ... a.

    A place is inside its grid, which begins at the row `first`.
    """
    left, top = x.floor().minimum(cells[0] - 2), y.floor().minimum(cells[1] - 2)
    at = (top * cells[0] + left + first).int().flatten()
    wide = (cells[0].expand_as(x) if cells[0].dim() else cells[0]).int().flatten()
    right, low = (x - left).flatten(), (y - top).flatten()
    upper = _between(table.index_select(0, at), table.index_select(0, at + 1), right)
    lower = _between(table.index_select(0, at + wide), table.index_select(0, at + wide + 1), right)
    return _between(upper, lower, low).unflatten(0, x.shape)


def _between(one: Tensor, other: Tensor, part: Tensor) -> Tensor:
    """Rows n a of the way from one to the other, at a part n of it."""
    wide = part[:, None] @ part.new_ones(1, one.shape[1])  # faster there than to broadcast
    return one + wide * (other - one)
