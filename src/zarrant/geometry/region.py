"""Regions: which elements of an array go with which elements of a values array, split by grid cell.

In comes a `Region` over an array (or over one cell: regions are closed under splitting), a grid and the bounds up to which
elements exist; out go `Cells`, one row for each touched cell in C order, and from these the `Boxes` of any range of rows,
ready for a copy kernel. Everything is int64 columns: no Python object and no Python step for a cell or a box, only for a
dimension. The same `split` cuts an array into chunks, a chunk into subchunks, and those again. BoundsError if the region
reaches outside of the bounds.

A product of dimensions is split dimension by dimension, so it costs memory in the sum of its segments; the product itself is
expanded only for the rows asked for. Boxes of one cell come in the order of the selection: copied in that order, the last
of duplicate elements wins, as in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, Protocol

import numpy as np

from zarrant.errors import BoundsError, ShapeError
from zarrant.geometry.axis import Axis, BoolArray, Pieces, covered, cut, ranges, unravel
from zarrant.geometry.box import ArraySubset, Shape
from zarrant.geometry.grid import MAX_COORDINATE, ChunkGrid, IntArray


class Boxes(NamedTuple):
    """k boxes to copy: elements `cell_start + i * step` (0 <= i < shape) of row `row` ↔ `value_start + i` of the values.

    `row` counts from the first cell asked for.
    """

    row: IntArray
    """(k,)"""
    cell_start: IntArray
    """(k, d)"""
    value_start: IntArray
    """(k, d)"""
    shape: IntArray
    """(k, d), every entry >= 1"""
    step: IntArray
    """(d,), every entry >= 1"""


class Region(Protocol):
    """Pairs of an element of an array and an element of a values array of as many dimensions."""

    @property
    def ndim(self) -> int:
        """The number of dimensions, of the array and of the values."""
        ...

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> Cells:
        """The part of the region in each cell of a grid; `bounds`: up to where elements exist, in the grid's coordinates."""
        ...

    def transpose(self, order: Sequence[int]) -> Region:
        """The region of the transposed array and values: dimension j is dimension `order[j]` of this one."""
        ...

    def whole(self, shape: Sequence[int]) -> bool:
        """Whether this is every element of an array of `shape` once, in order: one box of the values is the whole array.

        True is a promise; False may be said of segments that happen to join.
        """
        ...


class Cells(Protocol):
    """The touched cells of a grid, in C order of their index, each with its part of a region."""

    @property
    def n(self) -> int:
        """The number of cells."""
        ...

    @property
    def index(self) -> IntArray:
        """(n, d) indices of the cells in the grid."""
        ...

    @property
    def full(self) -> BoolArray:
        """(n,) whether every element of the cell that exists (lies within the bounds) is in the region."""
        ...

    def region(self, i: int) -> Region:
        """The part in cell i, in coordinates of the cell; positions in the values stay as they are."""
        ...

    def extent(self, i: int) -> Shape:
        """The shape of cell i within the bounds: the bounds of a split of `region(i)`."""
        ...

    def extents(self, lo: int, hi: int) -> IntArray:
        """(hi - lo, d) the shapes of cells lo..hi within the bounds."""
        ...

    def boxes(self, lo: int, hi: int) -> Boxes:
        """The boxes of cells lo..hi, cell by cell."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Every combination of a segment of each dimension: a box, a strided box, or an orthogonal selection."""

    axes: tuple[Axis, ...]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.axes)

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> Cells:
        """See `Region.split`."""
        _check_split(self.ndim, grid, bounds)
        pieces = tuple([cut(*each) for each in zip(self.axes, grid.dimensions, bounds, strict=True)])
        shape = tuple([len(part.cells) for part in pieces])
        index = np.empty((*shape, self.ndim), np.int64)
        full = np.ones(shape, np.bool_)
        for j, part in enumerate(pieces):
            along = (-1,) + (1,) * (self.ndim - 1 - j)
            index[..., j] = part.cells.reshape(along)
            full &= part.full.reshape(along)
        n = math.prod(shape)
        return _ProductCells(n, index.reshape(n, self.ndim), full.reshape(n), pieces)

    def transpose(self, order: Sequence[int]) -> Product:
        """See `Region.transpose`."""
        return Product(tuple([self.axes[j] for j in order]))

    def whole(self, shape: Sequence[int]) -> bool:
        """See `Region.whole`."""
        _check_ndim(self.ndim, shape)
        return all(axis.whole(length) for axis, length in zip(self.axes, shape, strict=True))


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
        _check_split(self.ndim, grid, bounds)
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
        _check_ndim(self.ndim, shape)
        if len(self.coords) != math.prod(shape) or any(length != 1 for j, length in enumerate(shape) if j != self.axis):
            return False
        in_order = self.ndim == 0 or (self.coords[:, self.axis] == np.arange(len(self.coords))).all()
        return bool(in_order) and bool((np.diff(self.value) == 1).all())


def box_region(subset: ArraySubset, value_start: Sequence[int] | None = None) -> Product:
    """The elements of a subset ↔ the box of that shape at `value_start` (default: the origin) of the values.

    >>> cells = box_region(ArraySubset((3,), (6,))).split(ChunkGrid.regular((10,), (4,)), (10,))
    >>> cells.index.tolist(), cells.full.tolist(), cells.boxes(0, 3).shape.tolist()
    ([[0], [1], [2]], [False, True, False], [[1], [4], [1]])
    """
    values = (0,) * subset.ndim if value_start is None else value_start
    paired = zip(subset.start, subset.shape, values, strict=True)
    return Product(tuple([Axis.segment(start, count, value=value) for start, count, value in paired]))


def points_region(coords: IntArray) -> Points:
    """Element `coords[i]` (k, d) ↔ element (i, 0, 0, ...) of the values."""
    return Points(np.ascontiguousarray(coords, np.int64), np.arange(len(coords), dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class _ProductCells:
    n: int
    index: IntArray
    full: BoolArray
    pieces: tuple[Pieces, ...]

    def region(self, i: int) -> Product:
        return Product(tuple([part.of(c) for part, c in zip(self.pieces, self._places(i), strict=True)]))

    def extent(self, i: int) -> Shape:
        return tuple([int(part.extent[c]) for part, c in zip(self.pieces, self._places(i), strict=True)])

    def extents(self, lo: int, hi: int) -> IntArray:
        places = unravel(np.arange(lo, hi), [len(part.cells) for part in self.pieces])
        result = np.empty((hi - lo, len(places)), np.int64)
        for j, (part, place) in enumerate(zip(self.pieces, places, strict=True)):
            result[:, j] = part.extent[place]
        return result

    def boxes(self, lo: int, hi: int) -> Boxes:
        row: IntArray = np.arange(hi - lo)
        places = unravel(np.arange(lo, hi), [len(part.cells) for part in self.pieces])
        chosen = [part.first[place] for part, place in zip(self.pieces, places, strict=True)]
        if any(len(part.cells) != len(part.axis.start) for part in self.pieces):
            counts = [part.first[place + 1] - part.first[place] for part, place in zip(self.pieces, places, strict=True)]
            total = reduce(np.multiply, counts)
            row = np.repeat(row, total)
            within = unravel(ranges(total), [count[row] for count in counts])
            chosen = [first[row] + offset for first, offset in zip(chosen, within, strict=True)]
        cell_start, value_start, shape = (np.empty((len(row), len(chosen)), np.int64) for _ in range(3))
        for j, (part, piece) in enumerate(zip(self.pieces, chosen, strict=True)):
            cell_start[:, j] = part.axis.start[piece]
            value_start[:, j] = part.axis.value[piece]
            shape[:, j] = part.axis.count[piece]
        return Boxes(row, cell_start, value_start, shape, np.array([part.axis.step for part in self.pieces], np.int64))

    def _places(self, i: int) -> list[int]:
        places = []
        for part in reversed(self.pieces):
            i, place = divmod(i, len(part.cells))
            places.append(place)
        return places[::-1]


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


def _check_ndim(ndim: int, shape: Sequence[int]) -> None:
    if len(shape) != ndim:
        raise ShapeError("region and shape differ in their number of dimensions", expected=ndim, got=len(shape))


def _check_split(ndim: int, grid: ChunkGrid, bounds: Sequence[int]) -> None:
    if not ndim == grid.ndim == len(bounds):
        raise ShapeError("region, grid and bounds differ in dimensions", expected=ndim, got=(grid.ndim, len(bounds)))


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
