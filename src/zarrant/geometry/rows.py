"""Rows of columns, sorted by the cell of a grid that each lies in: what points and tiles share.

In: where each row begins, a grid and the bounds up to which elements exist. Out: the rows in the order of their cells, where
each begins in its cell, and the touched cells, one after the other in C order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from zarrant.geometry.axis import BoolArray
from zarrant.geometry.box import Shape
from zarrant.geometry.grid import MAX_COORDINATE, ChunkGrid, IntArray


class ByCell(NamedTuple):
    """k rows in n cells; a stable order: the rows of one cell stay in theirs."""

    order: IntArray
    """(k,)"""
    local: IntArray
    """(k, d) where each row begins in its cell, in that order"""
    cells: IntArray
    """(n, d) indices of the cells"""
    shapes: IntArray
    """(n, d) shapes of the cells within the bounds"""
    first: IntArray
    """(n + 1,) the rows of cell i are first[i]:first[i + 1]"""


def by_cell(start: IntArray, grid: ChunkGrid, bounds: Sequence[int]) -> ByCell:
    """Sort rows that begin at `start` (k, d).

    >>> by_cell(np.array([[5], [0], [4]]), ChunkGrid.regular((6,), (4,)), (6,)).local.tolist()
    [[0], [1], [0]]
    """
    cell, local, shapes = (np.empty_like(start) for _ in range(3))
    for j, (dimension, bound) in enumerate(zip(grid.dimensions, bounds, strict=True)):
        cell[:, j] = dimension.locate(start[:, j])
        origin = dimension.start(cell[:, j])
        local[:, j] = start[:, j] - origin
        shapes[:, j] = np.minimum(dimension.length(cell[:, j]), bound - origin)
    order = _cell_order(cell, grid)
    cell = cell[order]
    new = np.ones(len(cell), np.bool_)
    new[1:] = (cell[1:] != cell[:-1]).any(axis=1)
    first = np.flatnonzero(new)
    return ByCell(order, local[order], cell[first], shapes[order[first]], np.append(first, len(cell)))


def _cell_order(cell: IntArray, grid: ChunkGrid) -> IntArray:
    """The stable order of rows that sorts them by cell."""
    if grid.ndim == 0:
        return np.arange(len(cell))
    if grid.n_chunks > MAX_COORDINATE:
        return np.lexsort(cell.T[::-1])
    flat = cell[:, 0]
    for j, cells in enumerate(grid.grid_shape[1:], 1):
        flat = flat * cells + cell[:, j]
    return np.argsort(flat, kind="stable")


@dataclass(frozen=True, slots=True, eq=False)
class RowCells:
    """The touched cells of rows that are sorted by cell."""

    by_cell: ByCell
    full: BoolArray

    @property
    def n(self) -> int:
        """The number of cells."""
        return len(self.by_cell.cells)

    @property
    def index(self) -> IntArray:
        """(n, d) indices of the cells in the grid."""
        return self.by_cell.cells

    def extent(self, i: int) -> Shape:
        """The shape of cell i within the bounds."""
        return tuple(self.by_cell.shapes[i].tolist())

    def extents(self, lo: int, hi: int) -> IntArray:
        """(hi - lo, d) the shapes of cells lo..hi within the bounds."""
        return self.by_cell.shapes[lo:hi]

    def rows(self, lo: int, hi: int) -> tuple[slice, IntArray]:
        """The rows of cells lo..hi, and the cell of each, counted from lo."""
        first = self.by_cell.first[lo : hi + 1]
        return slice(int(first[0]), int(first[-1])), np.repeat(np.arange(hi - lo), np.diff(first))
