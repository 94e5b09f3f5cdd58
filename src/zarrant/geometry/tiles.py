"""Many boxes at once, as columns: each lies in one cell of every grid that will split them, and none meets another.

In come the boxes and where the elements of each are in the values array; out go cells, like those of every region. It is
meant for boxes that are parts of the smallest cells of nested grids: whatever grid they are split by, no box is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarrant.errors import ShapeError
from zarrant.geometry.axis import BoolArray
from zarrant.geometry.box import Shape
from zarrant.geometry.grid import ChunkGrid, IntArray
from zarrant.geometry.region import Boxes


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Box k: the elements from `start[k]` ↔ those from `value[k]` of the values, `shape[k]` of them; each (k, d).

    >>> tiles = Tiles(*(np.array([[2], [4]]), np.array([[2], [1]]), np.array([[2], [0]])))
    >>> cells = tiles.split(ChunkGrid.regular((6,), (2,)), (6,))
    >>> cells.index.tolist(), cells.full.tolist(), cells.boxes(0, 2).value_start.tolist()
    ([[1], [2]], [True, False], [[2], [0]])
    """

    start: IntArray
    shape: IntArray
    value: IntArray

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return int(self.start.shape[1])

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> TileCells:
        """See `Region.split`; ShapeError where a box lies in more than one cell."""
        cell, local, extent = (np.empty_like(self.start) for _ in range(3))
        for j, (dimension, bound) in enumerate(zip(grid.dimensions, bounds, strict=True)):
            cell[:, j] = dimension.locate(self.start[:, j])
            origin = dimension.start(cell[:, j])
            local[:, j] = self.start[:, j] - origin
            extent[:, j] = np.minimum(dimension.length(cell[:, j]), bound - origin)
        if (local + self.shape > extent).any():
            raise ShapeError("a tile lies in one cell", expected=grid.uniform_shape, got=self.shape.max(axis=0).tolist())
        order = np.lexsort(cell.T[::-1]) if grid.ndim else np.arange(len(cell))
        cell, extent = cell[order], extent[order]
        new = np.ones(len(cell), np.bool_)
        new[1:] = (cell[1:] != cell[:-1]).any(axis=1)
        first = np.flatnonzero(new)
        tiles = Tiles(local[order], self.shape[order], self.value[order])
        # As floats, because a volume may be beyond 64 bits; where it is not beyond 53 of them, it is exact.
        volume = tiles.shape.prod(axis=1, dtype=np.float64)
        full = np.add.reduceat(volume, first) >= extent[first].prod(axis=1, dtype=np.float64) if len(first) else new
        return TileCells(cell[first], full, extent[first], np.append(first, len(cell)), tiles)

    def transpose(self, order: Sequence[int]) -> Tiles:
        """See `Region.transpose`."""
        axes = list(order)
        return Tiles(self.start[:, axes], self.shape[:, axes], self.value[:, axes])

    def whole(self, shape: Sequence[int]) -> bool:
        """See `Region.whole`."""
        return len(self.start) == 1 and not (self.start.any() or self.value.any()) and tuple(self.shape[0]) == tuple(shape)


@dataclass(frozen=True, slots=True, eq=False)
class TileCells:
    """Cells that tiles touch; `first[i]` is the first tile of cell i."""

    index: IntArray
    full: BoolArray
    shapes: IntArray
    first: IntArray
    tiles: Tiles

    @property
    def n(self) -> int:
        """The number of cells."""
        return len(self.index)

    def region(self, i: int) -> Tiles:
        """The tiles in cell i."""
        part = slice(int(self.first[i]), int(self.first[i + 1]))
        return Tiles(self.tiles.start[part], self.tiles.shape[part], self.tiles.value[part])

    def extent(self, i: int) -> Shape:
        """The shape of cell i within the bounds."""
        return tuple(self.shapes[i].tolist())

    def extents(self, lo: int, hi: int) -> IntArray:
        """(hi - lo, d) the shapes of cells lo..hi within the bounds."""
        return self.shapes[lo:hi]

    def boxes(self, lo: int, hi: int) -> Boxes:
        """The tiles of cells lo..hi."""
        part = slice(int(self.first[lo]), int(self.first[hi]))
        row = np.repeat(np.arange(hi - lo), np.diff(self.first[lo : hi + 1]))
        tiles = self.tiles
        return Boxes(row, tiles.start[part], tiles.value[part], tiles.shape[part], np.ones(tiles.ndim, np.int64))
