"""Regions: which elements of an array belong to which elements of a values array, split by chunk.

In come a `Region` of an array or of one chunk, a grid, and the bounds up to which elements exist. Out go `ChunkSelections`:
one row for each touched chunk, in C order. They give the `CopyPlan` of any range of chunks, ready for a copy kernel. The part
of a region in one chunk is a region again, so the same `split` cuts an array into chunks, a chunk into subchunks, and so on.
BoundsError where the region leaves the bounds.

Everything is kept in int64 columns. There is Python work for each dimension, and none for each chunk or box. A product of
dimensions is split one dimension at a time, so its memory grows with the sum of its segments; their product is expanded only
for the chunks that are asked for. The boxes of one chunk come in the order of the selection. Copied in that order, the last
of several values for one element counts, as in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from itertools import product
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant.errors import ShapeError
from zarrant.geometry.box import ArraySubset, Shape
from zarrant.geometry.grid import ChunkGrid, IntArray
from zarrant.geometry.segments import Axis, BoolArray, Pieces, cut, ranges, unravel


class CopyPlan(NamedTuple):
    """k boxes to copy: elements `chunk_start + i * step` (0 <= i < shape) of a chunk ↔ elements `value_start + i` of the values.

    `row` says which chunk of those that were asked for, counted from the first.
    """

    row: IntArray
    """(k,)"""
    chunk_start: IntArray
    """(k, d)"""
    value_start: IntArray
    """(k, d)"""
    shape: IntArray
    """(k, d), every entry >= 1"""
    step: IntArray
    """(d,), every entry >= 1"""


class OuterPlan(NamedTuple):
    """Segments of each dimension, of which every combination is a box of a `CopyPlan`; columns of all dimensions in turn."""

    chunk_start: IntArray
    value_start: IntArray
    length: IntArray
    spans: IntArray
    """(rows, d, 2): the segments of each dimension in a chunk, from the first up to the second number"""
    step: IntArray
    """(d,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The values arrays of an overlay, in the order of its regions."""

    arrays: tuple[npt.NDArray[Any], ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return sum(array.size for array in self.arrays)

    def transpose(self, order: Sequence[int]) -> Stack:
        """Every array transposed."""
        return Stack(tuple(array.transpose(order) for array in self.arrays))


Values: TypeAlias = npt.NDArray[Any] | Stack
"""What the elements of a region are copied from: one array, or one for each region of an overlay."""


def slices_of(boxes: CopyPlan) -> Iterator[tuple[tuple[int | slice, ...], tuple[slice, ...]]]:
    """For each box its place in the rows, and in the values."""
    step = boxes.step.tolist()
    columns = (boxes.row.tolist(), boxes.chunk_start.tolist(), boxes.value_start.tolist(), boxes.shape.tolist())
    for row, chunk_start, value, shape in zip(*columns, strict=True):
        inside = (slice(at, at + (n - 1) * by + 1, by) for at, n, by in zip(chunk_start, shape, step, strict=True))
        outside = (slice(at, at + n) for at, n in zip(value, shape, strict=True))
        yield (row, *inside), tuple(outside)


class Region(Protocol):
    """Pairs of elements: one of an array, and one of a values array with as many dimensions."""

    @property
    def ndim(self) -> int:
        """The number of dimensions, of the array and of the values."""
        ...

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> ChunkSelections:
        """The part of the region in each chunk of a grid; `bounds`: up to where elements exist, in the grid's coordinates."""
        ...

    def transpose(self, order: Sequence[int]) -> Region:
        """The region of the transposed array and values: dimension j is dimension `order[j]` of this one."""
        ...


class ChunkSelections(Protocol):
    """The chunks of a grid that a region touches, in C order of their indices, each with its part of the region."""

    @property
    def n(self) -> int:
        """The number of chunks."""
        ...

    @property
    def index(self) -> IntArray:
        """(n, d) indices of the chunks in the grid."""
        ...

    @property
    def full(self) -> BoolArray:
        """(n,) whether every element of the chunk that exists (lies within the bounds) is in the region."""
        ...

    def region(self, i: int) -> Region:
        """The part in chunk i, in coordinates of the chunk; positions in the values stay as they are."""
        ...

    def shape(self, i: int) -> Shape:
        """The shape of chunk i within the bounds: the bounds of a split of `region(i)`."""
        ...

    def shapes(self, lo: int, hi: int) -> IntArray:
        """(hi - lo, d) the shapes of chunks lo..hi within the bounds."""
        ...

    def boxes(self, lo: int, hi: int) -> CopyPlan:
        """The boxes of chunks lo..hi, chunk by chunk."""
        ...

    def boxes_by_source(self, lo: int, hi: int, values: Values) -> list[tuple[CopyPlan, npt.NDArray[Any]]]:
        """The boxes of chunks lo..hi with the array that each plan takes its values from, in the order of copying."""
        ...


def single_source(plan: CopyPlan, values: Values) -> list[tuple[CopyPlan, npt.NDArray[Any]]]:
    """What `boxes_by_source` gives for a region with one values array."""
    assert not isinstance(values, Stack), "only an overlay has several values arrays"
    return [(plan, values)]


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Every combination of a segment of each dimension: a box, a strided box, or an orthogonal selection."""

    axes: tuple[Axis, ...]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.axes)

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> ChunkSelections:
        """See `Region.split`."""
        ndim = len(self.axes)
        check_split(ndim, grid, bounds)
        pieces = tuple([cut(*each) for each in zip(self.axes, grid.dimensions, bounds, strict=True)])
        shape = tuple([len(part.chunks) for part in pieces])
        index = np.empty((*shape, ndim), np.int64)
        full = np.ones(shape, np.bool_)
        for j, part in enumerate(pieces):
            along = (-1,) + (1,) * (ndim - 1 - j)
            index[..., j] = part.chunks.reshape(along)
            full &= part.full.reshape(along)
        n = math.prod(shape)
        return ProductSelections(n, index.reshape(n, ndim), full.reshape(n), pieces)

    def transpose(self, order: Sequence[int]) -> Product:
        """See `Region.transpose`."""
        return Product(tuple([self.axes[j] for j in order]))


class Box(NamedTuple):
    """The elements from `start` on, `shape` of them ↔ the values from `value` on: a `Product` of one segment for each dimension.

    In plain integers: most regions are boxes in few chunks, and making NumPy columns of one row takes longer than reading it.
    """

    start: Shape
    shape: Shape
    value: Shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.start)

    @property
    def product(self) -> Product:
        """The same region in columns."""
        return Product(
            tuple([Axis.segment(*each) for each in zip(self.start, self.shape, (1,) * self.ndim, self.value, strict=True)])
        )

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> ChunkSelections:
        """See `Region.split`."""
        check_split(len(self.start), grid, bounds)
        few = _in_few_chunks(self, grid, bounds) if self.start else None
        return self.product.split(grid, bounds) if few is None else few

    def transpose(self, order: Sequence[int]) -> Box:
        """See `Region.transpose`."""
        return Box(*[tuple([side[j] for j in order]) for side in self])


def box_region(subset: ArraySubset, value_start: Sequence[int] | None = None) -> Box:
    """The elements of a subset ↔ the box of that shape at `value_start` (default: the origin) of the values.

    >>> chunks = box_region(ArraySubset((3,), (6,))).split(ChunkGrid.regular((10,), (4,)), (10,))
    >>> chunks.index.tolist(), chunks.full.tolist(), chunks.boxes(0, 3).shape.tolist()
    ([[0], [1], [2]], [False, True, False], [[1], [4], [1]])
    """
    return Box(subset.start, subset.shape, (0,) * len(subset.start) if value_start is None else tuple(value_start))


def whole_chunk(chunk: Shape, shape: Shape) -> ChunkSelections:
    """One chunk of a shape, every element of which comes from a values array of that shape."""
    origin = (0,) * len(shape)
    return BoxInChunk(chunk, origin, origin, shape, shape)


MANY_BOXES, FEW_ELEMENTS = 8, 64
"""Boxes of a chunk, and elements of a box, with which combinations of segments are copied in less time than boxes are planned."""


@dataclass(frozen=True, slots=True, eq=False)
class ProductSelections:
    """The chunks that a `Product` touches; see `ChunkSelections`."""

    n: int
    index: IntArray
    full: BoolArray
    pieces: tuple[Pieces, ...]

    @property
    def is_scattered(self) -> bool:
        """Whether there are many boxes of few elements, so that a plan of each takes longer than the copy."""
        boxes = math.prod([len(part.axis.start) for part in self.pieces])
        return boxes > MANY_BOXES * self.n and boxes * FEW_ELEMENTS > math.prod(
            [int(part.axis.count.sum()) for part in self.pieces]
        )

    def outer(self, lo: int, hi: int) -> OuterPlan:
        """The boxes of chunks lo..hi as combinations of segments; there is a dimension."""
        places = unravel(np.arange(lo, hi), [len(part.chunks) for part in self.pieces])
        spans = np.empty((hi - lo, len(places), 2), np.int64)
        before = 0
        for j, (part, place) in enumerate(zip(self.pieces, places, strict=True)):
            spans[:, j, 0] = part.first[place] + before
            spans[:, j, 1] = part.first[place + 1] + before
            before += len(part.axis.start)
        axes = [part.axis for part in self.pieces]
        start, value, count = (np.concatenate(side) for side in zip(*[(a.start, a.value, a.count) for a in axes], strict=True))
        return OuterPlan(start, value, count, spans, np.array([axis.step for axis in axes], np.int64))

    def region(self, i: int) -> Region:
        """See `ChunkSelections`."""
        axes = [part.of(c) for part, c in zip(self.pieces, self._places(i), strict=True)]
        if all([axis.step == 1 and len(axis.start) == 1 for axis in axes]):  # noqa: C419 - half the time of a generator
            sides = [[int(column[0]) for column in (axis.start, axis.count, axis.value)] for axis in axes]
            return Box(*zip(*sides, strict=True)) if sides else Box((), (), ())
        return Product(tuple(axes))

    def shape(self, i: int) -> Shape:
        """See `ChunkSelections`."""
        return tuple([int(part.in_bounds[c]) for part, c in zip(self.pieces, self._places(i), strict=True)])

    def shapes(self, lo: int, hi: int) -> IntArray:
        """See `ChunkSelections`."""
        places = unravel(np.arange(lo, hi), [len(part.chunks) for part in self.pieces])
        result = np.empty((hi - lo, len(places)), np.int64)
        for j, (part, place) in enumerate(zip(self.pieces, places, strict=True)):
            result[:, j] = part.in_bounds[place]
        return result

    def boxes(self, lo: int, hi: int) -> CopyPlan:
        """See `ChunkSelections`."""
        row: IntArray = np.arange(hi - lo)
        places = unravel(np.arange(lo, hi), [len(part.chunks) for part in self.pieces])
        chosen = [part.first[place] for part, place in zip(self.pieces, places, strict=True)]
        if any(len(part.chunks) != len(part.axis.start) for part in self.pieces):
            counts = [part.first[place + 1] - part.first[place] for part, place in zip(self.pieces, places, strict=True)]
            total = reduce(np.multiply, counts)
            row = np.repeat(row, total)
            within = unravel(ranges(total), [count[row] for count in counts])
            chosen = [first[row] + offset for first, offset in zip(chosen, within, strict=True)]
        chunk_start, value_start, shape = (np.empty((len(row), len(chosen)), np.int64) for _ in range(3))
        for j, (part, piece) in enumerate(zip(self.pieces, chosen, strict=True)):
            chunk_start[:, j] = part.axis.start[piece]
            value_start[:, j] = part.axis.value[piece]
            shape[:, j] = part.axis.count[piece]
        return CopyPlan(row, chunk_start, value_start, shape, np.array([part.axis.step for part in self.pieces], np.int64))

    def boxes_by_source(self, lo: int, hi: int, values: Values) -> list[tuple[CopyPlan, npt.NDArray[Any]]]:
        """See `ChunkSelections`."""
        return single_source(self.boxes(lo, hi), values)

    def _places(self, i: int) -> list[int]:
        places = []
        for part in reversed(self.pieces):
            i, place = divmod(i, len(part.chunks))
            places.append(place)
        return places[::-1]


@dataclass(eq=False)
class BoxInChunk:
    """A box within one chunk, as plain integers; see `Box`."""

    chunk: Shape
    start: Shape
    """Where the box begins, in coordinates of the chunk."""
    value: Shape
    count: Shape
    """The shape of the box."""
    bounds: Shape
    """The shape of the chunk within the bounds."""
    together: int = 1
    """Chunks of the call that this is a part of."""

    n = 1

    @cached_property
    def index(self) -> IntArray:
        """See `ChunkSelections`."""
        return np.array((self.chunk,), np.int64)

    @cached_property
    def full(self) -> BoolArray:
        """See `ChunkSelections`."""
        return np.array((self.count == self.bounds,))

    def region(self, i: int) -> Box:
        """See `ChunkSelections`."""
        return Box(self.start, self.count, self.value)

    def shape(self, i: int) -> Shape:
        """See `ChunkSelections`."""
        return self.bounds

    def shapes(self, lo: int, hi: int) -> IntArray:
        """See `ChunkSelections`."""
        return np.array((self.bounds,) * (hi - lo), np.int64).reshape(hi - lo, len(self.bounds))

    def boxes(self, lo: int, hi: int) -> CopyPlan:
        """See `ChunkSelections`."""
        here = slice(lo, hi)
        chunk_start, value_start, shape = np.array(((self.start,), (self.value,), (self.count,)), np.int64)
        return CopyPlan(_ZERO[here], chunk_start[here], value_start[here], shape[here], unit_steps(len(self.chunk)))

    def boxes_by_source(self, lo: int, hi: int, values: Values) -> list[tuple[CopyPlan, npt.NDArray[Any]]]:
        """See `ChunkSelections`."""
        return single_source(self.boxes(lo, hi), values)

    def of_chunk(self, chunk: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The box of an array that is the chunk: a view."""
        return chunk[tuple([slice(at, at + n) for at, n in zip(self.start, self.count, strict=True)])]

    def of_values(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The box of the values: a view."""
        if values.shape == self.count:
            return values
        return values[tuple([slice(at, at + n) for at, n in zip(self.value, self.count, strict=True)])]


def chunk_of(selections: ChunkSelections, i: int) -> Shape:
    """Row i of `index`, in plain integers: where there is one chunk, the column need not be made."""
    return selections.chunk if isinstance(selections, BoxInChunk) else tuple(selections.index[i].tolist())


def is_full(selections: ChunkSelections, i: int) -> bool:
    """Row i of `full`; as `chunk_of`."""
    return selections.count == selections.bounds if isinstance(selections, BoxInChunk) else bool(selections.full[i])


_ZERO: IntArray = np.zeros(1, np.int64)


@lru_cache(maxsize=128)
def unit_steps(ndim: int) -> IntArray:
    """(ndim,) ones, in a shared read-only array: making one with `np.ones` takes longer than copying a small box."""
    steps = np.ones(ndim, np.int64)
    steps.flags.writeable = False
    return steps


MAX_ALONG, MAX_FEW = 8, 64
"""Chunks along a dimension, and together, that are planned in plain integers: a chunk of them takes 2 µs, columns 20 to 40."""


_Side: TypeAlias = tuple[int, int, int, int, int]
"""One dimension of a box in one chunk, as `BoxInChunk` has them: chunk, start, value, count, bounds."""


@dataclass(eq=False)
class BoxInChunks:
    """A box in a few chunks, as plain integers: for each dimension the sides of its parts; see `Box`."""

    sides: tuple[tuple[_Side, ...], ...]

    def __post_init__(self) -> None:
        self.n = math.prod(map(len, self.sides))

    @cached_property
    def chunks(self) -> list[tuple[Shape, Shape, Shape, Shape, Shape]]:
        """Of each chunk what `_Side` has of a dimension: its indices, and so on."""
        return [tuple(zip(*each, strict=True)) for each in product(*self.sides)]  # type: ignore[misc]

    @cached_property
    def index(self) -> IntArray:
        """See `ChunkSelections`."""
        return np.array([each[0] for each in self.chunks], np.int64)

    @cached_property
    def full(self) -> BoolArray:
        """See `ChunkSelections`."""
        return np.array([count == bounds for _, _, _, count, bounds in self.chunks])

    def part(self, i: int) -> BoxInChunk:
        """The part in chunk i, alone."""
        return BoxInChunk(*self.chunks[i], self.n)

    def region(self, i: int) -> Box:
        """See `ChunkSelections`."""
        _, start, value, count, _ = self.chunks[i]
        return Box(start, count, value)

    def shape(self, i: int) -> Shape:
        """See `ChunkSelections`."""
        return self.chunks[i][4]

    def shapes(self, lo: int, hi: int) -> IntArray:
        """See `ChunkSelections`."""
        return np.array([each[4] for each in self.chunks[lo:hi]], np.int64).reshape(hi - lo, len(self.sides))

    def boxes(self, lo: int, hi: int) -> CopyPlan:
        """See `ChunkSelections`."""
        here, ndim = self.chunks[lo:hi], len(self.sides)
        columns = [[each[k] for each in here] for k in (1, 2, 3)]
        chunk_start, value_start, shape = np.array(columns, np.int64).reshape(3, hi - lo, ndim)
        return CopyPlan(_ROWS[: hi - lo], chunk_start, value_start, shape, unit_steps(ndim))

    def boxes_by_source(self, lo: int, hi: int, values: Values) -> list[tuple[CopyPlan, npt.NDArray[Any]]]:
        """See `ChunkSelections`."""
        return single_source(self.boxes(lo, hi), values)


_ROWS: IntArray = np.arange(MAX_FEW)
_ROWS.flags.writeable = False


def _in_one_chunk(box: Box, grid: ChunkGrid, bounds: Sequence[int]) -> BoxInChunk | None:
    """The split of a box within one chunk; None for any other, and where the box leaves the bounds."""
    chunk, starts, limits = [], [], []
    for start, count, dimension, bound in zip(box.start, box.shape, grid.dimensions, bounds, strict=True):
        stop = start + count
        if count < 1 or start < 0 or stop > bound:
            return None
        number, origin, length = dimension.find(start)
        end = origin + length
        if stop > end:
            return None
        chunk.append(number)
        starts.append(start - origin)
        limits.append(length if end <= bound else bound - origin)
    return BoxInChunk(tuple(chunk), tuple(starts), box.value, box.shape, tuple(limits))


def _in_few_chunks(box: Box, grid: ChunkGrid, bounds: Sequence[int]) -> BoxInChunk | BoxInChunks | None:
    """The split of a box that touches few chunks; None for any other, and where the box leaves the bounds."""
    if (one := _in_one_chunk(box, grid, bounds)) is not None:
        return one
    sides, n = [], 1
    for start, count, value, dimension, bound in zip(box.start, box.shape, box.value, grid.dimensions, bounds, strict=True):
        stop = start + count
        if count < 1 or start < 0 or stop > bound:
            return None
        along: list[_Side] = []
        at = start
        while at < stop:
            if len(along) == MAX_ALONG:
                return None
            chunk, origin, length = dimension.find(at)
            end = origin + length
            last = end if end < stop else stop
            along.append((chunk, at - origin, value + at - start, last - at, length if end <= bound else bound - origin))
            at = last
        sides.append(tuple(along))
        n *= len(along)
    return BoxInChunks(tuple(sides)) if n <= MAX_FEW else None


def check_split(ndim: int, grid: ChunkGrid, bounds: Sequence[int]) -> None:
    """ShapeError unless region, grid and bounds have as many dimensions."""
    if not ndim == grid.ndim == len(bounds):
        raise ShapeError("region, grid and bounds differ in dimensions", expected=ndim, got=(grid.ndim, len(bounds)))
