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
from functools import cached_property, lru_cache, reduce
from typing import NamedTuple, Protocol

import numpy as np

from zarrant.errors import ShapeError
from zarrant.geometry.axis import Axis, BoolArray, Pieces, cut, ranges, unravel
from zarrant.geometry.box import ArraySubset, Shape
from zarrant.geometry.grid import ChunkGrid, IntArray


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
        ndim = len(self.axes)
        check_split(ndim, grid, bounds)
        if ndim and (alone := _in_one_cell(self.axes, grid, bounds)) is not None:
            return alone
        pieces = tuple([cut(*each) for each in zip(self.axes, grid.dimensions, bounds, strict=True)])
        shape = tuple([len(part.cells) for part in pieces])
        index = np.empty((*shape, ndim), np.int64)
        full = np.ones(shape, np.bool_)
        for j, part in enumerate(pieces):
            along = (-1,) + (1,) * (ndim - 1 - j)
            index[..., j] = part.cells.reshape(along)
            full &= part.full.reshape(along)
        n = math.prod(shape)
        return _ProductCells(n, index.reshape(n, ndim), full.reshape(n), pieces)

    def transpose(self, order: Sequence[int]) -> Product:
        """See `Region.transpose`."""
        return Product(tuple([self.axes[j] for j in order]))


def box_region(subset: ArraySubset, value_start: Sequence[int] | None = None) -> Product:
    """The elements of a subset ↔ the box of that shape at `value_start` (default: the origin) of the values.

    >>> cells = box_region(ArraySubset((3,), (6,))).split(ChunkGrid.regular((10,), (4,)), (10,))
    >>> cells.index.tolist(), cells.full.tolist(), cells.boxes(0, 3).shape.tolist()
    ([[0], [1], [2]], [False, True, False], [[1], [4], [1]])
    """
    values = (0,) * subset.ndim if value_start is None else value_start
    paired = zip(subset.start, subset.shape, values, strict=True)
    return Product(tuple([Axis.segment(start, count, value=value) for start, count, value in paired]))


def whole_chunk(chunk: Shape, shape: Shape) -> Cells:
    """One chunk of a shape, every element of which comes from a values array of that shape."""
    origin = (0,) * len(shape)
    return _OneCell(chunk, origin, origin, shape, shape)


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


@dataclass(frozen=True, eq=False)
class _OneCell:
    """A box that lies in one cell, in plain integers: most updates are one, and columns of one row cost more than the row."""

    cell: Shape
    start: Shape
    """Where the box begins, in coordinates of the cell."""
    value: Shape
    count: Shape
    bounds: Shape

    n = 1

    @cached_property
    def index(self) -> IntArray:
        return np.array((self.cell,), np.int64)

    @cached_property
    def full(self) -> BoolArray:
        return np.array((self.count == self.bounds,))

    def region(self, i: int) -> Product:
        sides = zip(self.start, self.count, self.value, strict=True)
        return Product(tuple([Axis.segment(start, count, value=value) for start, count, value in sides]))

    def extent(self, i: int) -> Shape:
        return self.bounds

    def extents(self, lo: int, hi: int) -> IntArray:
        return np.array((self.bounds,) * (hi - lo), np.int64).reshape(hi - lo, len(self.bounds))

    def boxes(self, lo: int, hi: int) -> Boxes:
        here = slice(lo, hi)
        cell_start, value_start, shape = np.array(((self.start,), (self.value,), (self.count,)), np.int64)
        return Boxes(_ZERO[here], cell_start[here], value_start[here], shape[here], unit_steps(len(self.cell)))


_ZERO: IntArray = np.zeros(1, np.int64)


@lru_cache(maxsize=128)
def unit_steps(ndim: int) -> IntArray:
    """(ndim,) ones: the same array for everybody, who may only read it. `np.ones` takes longer than copying a small box."""
    steps = np.ones(ndim, np.int64)
    steps.flags.writeable = False
    return steps


def _in_one_cell(axes: Sequence[Axis], grid: ChunkGrid, bounds: Sequence[int]) -> _OneCell | None:
    """The split of a box that touches one cell; None for anything else, and for what is out of bounds."""
    cells, starts, values, counts, extents = [], [], [], [], []
    for axis, dimension, bound in zip(axes, grid.dimensions, bounds, strict=True):
        if len(axis.start) != 1 or axis.step != 1:
            return None
        start, count = int(axis.start[0]), int(axis.count[0])
        if count < 1 or start < 0 or start + count > bound:
            return None
        cell, origin, length = dimension.find(start)
        if start + count > origin + length:
            return None
        cells.append(cell)
        starts.append(start - origin)
        values.append(int(axis.value[0]))
        counts.append(count)
        extents.append(min(length, bound - origin))
    return _OneCell(tuple(cells), tuple(starts), tuple(values), tuple(counts), tuple(extents))


def check_ndim(ndim: int, shape: Sequence[int]) -> None:
    """ShapeError unless a shape has as many dimensions as a region."""
    if len(shape) != ndim:
        raise ShapeError("region and shape differ in their number of dimensions", expected=ndim, got=len(shape))


def check_split(ndim: int, grid: ChunkGrid, bounds: Sequence[int]) -> None:
    """ShapeError unless region, grid and bounds have as many dimensions."""
    if not ndim == grid.ndim == len(bounds):
        raise ShapeError("region, grid and bounds differ in dimensions", expected=ndim, got=(grid.ndim, len(bounds)))
