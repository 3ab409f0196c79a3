"""Where a player's middle can be: a fine map of the level, found by walking it.

A player is a box, so what its middle cannot enter is every wall made thicker by half of the box.
On a grid as fine as the level was drawn, one unit, such a map has the walls where the game has
them. It is not trained: a cell where somebody stood is free; so is a gap between two free cells of
a row or column that is narrower than anything one cannot enter.

Letters: b batch, s points along a way.
"""

import torch
from torch import Tensor, nn

from worldmodel.config import MotionConfig

NUDGE = 0.002  # of a cell: a place so near to an edge does not say on which side it is
ON_EDGE = 2e-4  # of a cell: whoever stands on a wall's very edge is not in it
LEAST = 1e-6  # of a unit: shorter ways are none


class Ground(nn.Module):
    """The map, and the questions that a step asks of it."""

    free: Tensor  # x y, uint8: 1 where the player's middle can be
    low: Tensor
    _beside: Tensor  # how far apart a place on an edge may lie
    _parts: Tensor  # of a way, at which it is looked at

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.cell, self.samples = config.cell, config.samples
        size = [round((b - a) / config.cell) for a, b in zip(config.low, config.high, strict=True)]
        self.register_buffer("free", torch.zeros(size, dtype=torch.uint8))
        self.register_buffer("low", torch.tensor(config.low), persistent=False)
        beside = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        self.register_buffer("_beside", ON_EDGE * beside, persistent=False)
        parts = torch.arange(1, config.samples + 1) / config.samples
        self.register_buffer("_parts", parts, persistent=False)

    def forward(self, places: Tensor) -> Tensor:
        """Whether the player's middle can be at places ... 2, in map units: bool ..."""
        at = ((places - self.low) / self.cell)[..., None, :] - self._beside
        x, y = at.floor().long().unbind(-1)
        wide, high = self.free.shape
        inside = (x >= 0) & (y >= 0) & (x < wide) & (y < high)
        index = x.clamp(0, wide - 1) * high + y.clamp(0, high - 1)
        return ((self.free.view(-1)[index] > 0) & inside).any(dim=-1)

    def meet(self, places: Tensor, ways: Tensor) -> tuple[Tensor, Tensor]:
        """What a way first runs into: the share of it b that is free, and whether x is stopped b.

        A wall along x stops y. The share is exact for walls along the axes, and 1 where nothing is
        in the way. Ways b 2 are sampled, so none may be longer than the samples times a cell.
        """
        path = places[:, None] + self._parts[:, None] * ways[:, None]
        solid = ~self(path)
        first = solid.to(torch.uint8).argmax(dim=1)
        row = torch.arange(len(places), device=places.device)
        inside = path[row, first]
        before = torch.where((first > 0)[:, None], path[row, (first - 1).clamp(min=0)], places)
        stops_x = ~self(torch.stack((inside[:, 0], before[:, 1]), dim=-1))
        stops_y = ~self(torch.stack((before[:, 0], inside[:, 1]), dim=-1))
        at = (inside - self.low) / self.cell
        edge = self.low + self.cell * torch.where(ways > 0, at.floor(), at.floor() + 1)
        least = torch.where(ways.abs() < LEAST, torch.full_like(ways, LEAST), ways)
        shares = ((edge - places) / least).clamp(0, 1)
        x, y = shares.unbind(-1)
        # Of two walls the first; at a corner that only the way itself meets, the later.
        along_x = (stops_x & ~(stops_y & (y < x))) | (~stops_x & ~stops_y & (x >= y))
        share = torch.where(along_x, x, y)
        return torch.where(solid.any(dim=1), share, torch.ones_like(share)), along_x


def walked_ground(places: Tensor, config: MotionConfig) -> Tensor:
    """The map x y, uint8, from places b 2 in map units where somebody stood.

    A gap of up to `config.body` between free cells is free: nothing that a box of that half width
    cannot enter is narrower than twice as much, unless it is seen across its corner.
    """
    wide, high = (
        round((b - a) / config.cell) for a, b in zip(config.low, config.high, strict=True)
    )
    at = (places.double() - torch.tensor(config.low, dtype=torch.float64)) / config.cell
    part = at - at.floor()
    cells = at[((part > NUDGE) & (part < 1 - NUDGE)).all(dim=1)].floor().long()
    inside = (cells >= 0).all(dim=1) & (cells < torch.tensor([wide, high])).all(dim=1)
    free = torch.zeros(wide, high, dtype=torch.bool)
    free[tuple(cells[inside].unbind(-1))] = True
    gap = round(config.body / config.cell)
    for _ in range(2):  # a gap may become one only when its neighbours are known
        free = _closed(free, gap) | _closed(free.T, gap).T
    return free.to(torch.uint8)


def _closed(free: Tensor, gap: int) -> Tensor:
    """With every gap of up to so many cells along the first axis filled."""
    length = len(free)
    index = torch.arange(length)[:, None]
    before = torch.where(free, index, -2 * length).cummax(dim=0).values
    after = torch.where(free, index, 3 * length).flip(0).cummin(dim=0).values.flip(0)
    return after - before - 1 <= gap
