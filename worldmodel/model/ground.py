"""Where a player's middle can be: a fine map of the level, found by walking it.

A player is a box, so what its middle cannot enter is every wall made thicker by half of the box.
On a grid as fine as the level was drawn, one unit, such a map has the walls where the game has
them. It is not trained: a cell where somebody stood is free; so is a gap between two free cells of
a row or column that is narrower than anything one cannot enter.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.model.state_configs import MotionConfig

NUDGE = 0.002  # of a cell: a place so near to an edge does not say on which side it is
ON_EDGE = 2e-4  # of a cell: whoever stands on a wall's very edge is not in it
LEAST = 1e-6  # of a unit: shorter moves are none


class Ground(nn.Module):
    """The map, and the questions that a step asks of it."""

    free: Tensor  # x y, uint8: 1 where the player's middle can be
    low: Tensor
    _beside: Tensor  # how far apart a place on an edge may lie
    _parts: Tensor  # edges of cells that a move may cross

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.cell = config.cell
        size = [round((b - a) / config.cell) for a, b in zip(config.low, config.high, strict=True)]
        self.register_buffer("free", torch.zeros(size, dtype=torch.uint8))
        self.register_buffer("low", torch.tensor(config.low), persistent=False)
        beside = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        self.register_buffer("_beside", ON_EDGE * beside, persistent=False)
        self.register_buffer("_parts", torch.arange(config.samples).float(), persistent=False)
        self._beyond = round(config.beyond / config.cell)
        self._known: tuple[int, int] | None = None  # the map that walls were looked for in
        self._found: list[tuple[Tensor, Tensor]] = []

    def forward(self, places: Tensor) -> Tensor:
        """Whether the player's middle can be at places ... 2, in map units: bool ..."""
        at = ((places - self.low) / self.cell)[..., None, :] - self._beside
        x, y = at.floor().long().unbind(-1)
        wide, high = self.free.shape
        inside = (x >= 0) & (y >= 0) & (x < wide) & (y < high)
        index = x.clamp(0, wide - 1) * high + y.clamp(0, high - 1)
        return ((self.free.flatten()[index] > 0) & inside).any(dim=-1)

    def meet(self, places: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        """What a move first runs into: the share of it b that is free, and whether x is stopped b.

        A wall along y stops x. The share is 1 where nothing is in the way. Moves b 2 may be as long
        as the samples are many, in cells. A wall counts for `beyond` units past its ends: in Doom
        what is nearer than 16 units is held against a wall's whole line (`PIT_AddLineIntercepts`).
        """
        at, move = (places - self.low) / self.cell, moves / self.cell
        x, y = (self._met(at, move, axis) for axis in (0, 1))
        return torch.minimum(x, y).clamp(max=1.0), x <= y

    def _met(self, at: Tensor, move: Tensor, axis: int) -> Tensor:
        """The share of moves b 2 before the first wall that stops this axis; 2 if there is none."""
        here, there = at[:, axis], move[:, axis]
        up, down = self._walls()[axis]
        first = torch.where(there > 0, here.ceil(), here.floor())
        step = torch.where(there > 0, 1.0, -1.0)
        edges = first[:, None] + step[:, None] * self._parts
        least = torch.where(there.abs() < LEAST, torch.full_like(there, LEAST), there)
        shares = (edges - here[:, None]) / least[:, None]
        reached = (shares >= -ON_EDGE) & (shares <= 1) & (there.abs() >= LEAST)[:, None]
        before = (shares - ON_EDGE).clamp(0, 1)
        across = (at[:, 1 - axis, None] + before * move[:, 1 - axis, None]).floor()
        edge = edges.clamp(0, up.shape[0] - 1).long()
        beside = across.clamp(0, up.shape[1] - 1).long()
        wall = torch.where(there[:, None] > 0, up[edge, beside], down[edge, beside])
        return torch.where(wall & reached, shares.clamp(0, 1), torch.full_like(shares, 2.0)).amin(1)

    def _walls(self) -> list[tuple[Tensor, Tensor]]:
        """For x and y: where a step up, or down, along the axis ends in a wall.

        Bool, the edge before a cell along the axis, then the cell across it.
        """
        known = (self.free.data_ptr(), self.free._version)
        if self._known != known:
            self._known, self._found = known, [_walls(self.free > 0, self._beyond)]
            self._found.append(_walls(self.free.T > 0, self._beyond))
        return self._found


def _walls(free: Tensor, beyond: int) -> tuple[Tensor, Tensor]:
    """Edges along the first axis that stop a step up or down, spread to `beyond` cells aside."""
    edge = torch.zeros(1, free.shape[1], dtype=torch.bool, device=free.device)
    ends = (free[:-1] & ~free[1:], free[1:] & ~free[:-1])
    whole = [torch.cat((edge, end, edge)).float()[None, None] for end in ends]
    up, down = (F.max_pool2d(w, (1, 2 * beyond + 1), 1, (0, beyond))[0, 0] > 0 for w in whole)
    return up, down


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
