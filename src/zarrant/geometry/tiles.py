"""Many boxes at once, as columns: each lies in one cell of every grid that will split them, and none meets another.

In come the boxes and where the elements of each are in the values array; out go cells, like those of every region. It is
meant for boxes that are parts of the smallest cells of nested grids: whatever grid they are split by, no box is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarrant.errors import ShapeError
from zarrant.geometry.grid import ChunkGrid, IntArray
from zarrant.geometry.region import Boxes
from zarrant.geometry.rows import RowCells, by_cell


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
        rows = by_cell(self.start, grid, bounds)
        tiles = Tiles(rows.local, self.shape[rows.order], self.value[rows.order])
        counts, first = np.diff(rows.first), rows.first[:-1]
        if (tiles.start + tiles.shape > np.repeat(rows.shapes, counts, axis=0)).any():
            raise ShapeError("a tile lies in one cell", expected=grid.uniform_shape, got=self.shape.max(axis=0).tolist())
        # As floats, because a volume may be beyond 64 bits; where it is not beyond 53 of them, it is exact.
        volume, whole = (shape.prod(axis=1, dtype=np.float64) for shape in (tiles.shape, rows.shapes))
        return TileCells(rows, (np.add.reduceat(volume, first) if len(first) else whole) >= whole, tiles)

    def transpose(self, order: Sequence[int]) -> Tiles:
        """See `Region.transpose`."""
        axes = list(order)
        return Tiles(self.start[:, axes], self.shape[:, axes], self.value[:, axes])


@dataclass(frozen=True, slots=True, eq=False)
class TileCells(RowCells):
    """Cells that tiles touch."""

    tiles: Tiles

    def region(self, i: int) -> Tiles:
        """The tiles in cell i."""
        part, _ = self.rows(i, i + 1)
        return Tiles(self.tiles.start[part], self.tiles.shape[part], self.tiles.value[part])

    def boxes(self, lo: int, hi: int) -> Boxes:
        """The tiles of cells lo..hi."""
        part, row = self.rows(lo, hi)
        tiles = self.tiles
        return Boxes(row, tiles.start[part], tiles.value[part], tiles.shape[part], np.ones(tiles.ndim, np.int64))
