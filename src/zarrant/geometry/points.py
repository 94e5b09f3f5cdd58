"""Regions of single elements, in any order, split by grid cell.

In come columns of coordinates; out go `Cells` as `region` describes them, with one box for each point. BoundsError for a point
outside of the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarrant.errors import BoundsError
from zarrant.geometry.axis import BoolArray, covered
from zarrant.geometry.box import Shape
from zarrant.geometry.grid import MAX_COORDINATE, ChunkGrid, IntArray
from zarrant.geometry.region import Boxes, Cells, check_ndim, check_split


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Single elements: `coords[i]` (k, d) ↔ the values element at position `value[i]` (k,) of dimension `axis`, 0 elsewhere.

    With `axis` 0 the values array has shape (n, 1, 1, ...). Without dimensions, each row is the one element of both.
    """

    coords: IntArray
    value: IntArray
    axis: int = 0

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return int(self.coords.shape[1])

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> Cells:
        """See `Region.split`."""
        check_split(self.ndim, grid, bounds)
        if len(self.coords) and not ((self.coords >= 0) & (self.coords < np.array(bounds, np.int64))).all():
            got = [f"{low}..{high}" for low, high in zip(self.coords.min(0), self.coords.max(0), strict=True)]
            raise BoundsError("points outside of their bounds", expected=f"within {tuple(bounds)}", got=got)
        return _split_points(self, grid, bounds)

    def transpose(self, order: Sequence[int]) -> Points:
        """See `Region.transpose`."""
        axis = list(order).index(self.axis) if self.ndim else 0
        return Points(np.ascontiguousarray(self.coords[:, list(order)]), self.value, axis)

    def whole(self, shape: Sequence[int]) -> bool:
        """See `Region.whole`."""
        check_ndim(self.ndim, shape)
        if len(self.coords) != math.prod(shape) or any(length != 1 for j, length in enumerate(shape) if j != self.axis):
            return False
        in_order = self.ndim == 0 or (self.coords[:, self.axis] == np.arange(len(self.coords))).all()
        return bool(in_order) and bool((np.diff(self.value) == 1).all())


def points_region(coords: IntArray) -> Points:
    """Element `coords[i]` (k, d) ↔ element (i, 0, 0, ...) of the values."""
    return Points(np.ascontiguousarray(coords, np.int64), np.arange(len(coords), dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class _PointCells:
    n: int
    index: IntArray
    full: BoolArray
    shapes: IntArray
    first: IntArray
    points: Points

    def region(self, i: int) -> Points:
        part = slice(int(self.first[i]), int(self.first[i + 1]))
        return Points(self.points.coords[part], self.points.value[part], self.points.axis)

    def extent(self, i: int) -> Shape:
        return tuple(self.shapes[i].tolist())

    def extents(self, lo: int, hi: int) -> IntArray:
        return self.shapes[lo:hi]

    def boxes(self, lo: int, hi: int) -> Boxes:
        part = slice(int(self.first[lo]), int(self.first[hi]))
        coords = self.points.coords[part]
        row = np.repeat(np.arange(hi - lo), np.diff(self.first[lo : hi + 1]))
        value_start = np.zeros_like(coords)
        if coords.shape[1]:
            value_start[:, self.points.axis] = self.points.value[part]
        return Boxes(row, coords, value_start, np.ones_like(coords), np.ones(coords.shape[1], np.int64))


def _split_points(points: Points, grid: ChunkGrid, bounds: Sequence[int]) -> _PointCells:
    cell, local, extent = (np.empty_like(points.coords) for _ in range(3))
    for j, (dimension, bound) in enumerate(zip(grid.dimensions, bounds, strict=True)):
        cell[:, j] = dimension.locate(points.coords[:, j])
        origin = dimension.start(cell[:, j])
        local[:, j] = points.coords[:, j] - origin
        extent[:, j] = np.minimum(dimension.length(cell[:, j]), bound - origin)
    order = _cell_order(cell, grid)
    cell, local, extent = cell[order], local[order], extent[order]
    new = np.ones(len(cell), np.bool_)
    new[1:] = (cell[1:] != cell[:-1]).any(axis=1)
    first = np.flatnonzero(new)
    extents, counts = extent[first], np.diff(first, append=len(cell))
    # As floats, because a cell's volume may be beyond 64 bits; where the counts can reach it, it is exact.
    full = counts >= extents.prod(axis=1, dtype=np.float64)
    full[full] = _points_cover(local[np.repeat(full, counts)], counts[full], extents[full])
    sorted_points = Points(local, points.value[order], points.axis)
    return _PointCells(len(first), cell[first], full, extents, np.append(first, len(cell)), sorted_points)


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


def _points_cover(local: IntArray, counts: IntArray, extents: IntArray) -> BoolArray:
    """Of each cell, whether its points name every element at least once."""
    row = np.repeat(np.arange(len(counts)), counts)
    offset = np.zeros(len(local), np.int64)
    for j in range(local.shape[1]):
        offset = offset * extents[row, j] + local[:, j]
    return covered(row, offset, extents.prod(axis=1))
