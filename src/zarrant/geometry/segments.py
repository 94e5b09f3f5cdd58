"""One dimension of a region: its segments, cut at the borders of chunks.

In come an `Axis` (segments in the order of a selection), one dimension of a grid, and the bound up to which elements exist.
Out go `Pieces`: the segments, cut and grouped by chunk. The memory needed grows with the number of elements or of touched
chunks, whichever is smaller; chunks that a long step jumps over cost nothing. BoundsError where a segment leaves the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant.errors import BoundsError
from zarrant.geometry.grid import Dimension, IntArray

BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Segments of one dimension: element `start + i * step` ↔ value `value + i`, for 0 <= i < count."""

    start: IntArray
    value: IntArray
    count: IntArray
    step: int = 1

    @classmethod
    def segment(cls, start: int, count: int, step: int = 1, value: int = 0) -> Axis:
        """One segment."""
        each = np.array((start, value, count))
        return cls(each[:1], each[1:2], each[2:], step if count > 1 else 1)

    def part(self, rows: slice | IntArray | BoolArray) -> Axis:
        """Some of the segments."""
        return Axis(self.start[rows], self.value[rows], self.count[rows], self.step)


class Pieces(NamedTuple):
    """Segments of one dimension cut at chunk borders and grouped by chunk; their starts count from the start of their chunk."""

    chunks: IntArray
    """(c,) touched chunks, ascending"""
    in_bounds: IntArray
    """(c,) length of each within the bound"""
    full: BoolArray
    """(c,) whether the pieces cover that length"""
    first: IntArray
    """(c + 1,) the pieces of chunk c are first[c]:first[c + 1], in the order of the selection"""
    axis: Axis
    """the pieces"""

    def of(self, c: int) -> Axis:
        """The pieces of chunk c."""
        return self.axis.part(slice(int(self.first[c]), int(self.first[c + 1])))


def ranges(counts: IntArray) -> IntArray:
    """0, 1, ..., counts[0] - 1, 0, 1, ..., counts[1] - 1, and so on.

    >>> ranges(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def unravel(flat: IntArray, radices: Sequence[int | IntArray]) -> list[IntArray]:
    """Mixed-radix digits, the last one fastest; unlike `np.unravel_index`, the radices may differ from number to number.

    >>> [digit.tolist() for digit in unravel(np.array([0, 4, 5]), [2, 3])]
    [[0, 1, 1], [0, 1, 2]]
    """
    digits = []
    for radix in reversed(radices):
        flat, digit = divmod(flat, radix)
        digits.append(digit)
    return digits[::-1]


def covered(row: IntArray, offset: IntArray, length: IntArray) -> BoolArray:
    """Of each row, whether every offset 0..length is named; takes one byte for each offset. Every length is at least 1."""
    base = np.cumsum(length) - length
    seen = np.zeros(int(length.sum()), np.bool_)
    seen[base[row] + offset] = True
    return np.logical_and.reduceat(seen, base) if len(base) else seen


def cut(axis: Axis, dimension: Dimension, bound: int) -> Pieces:
    """Cut segments where they cross chunk borders, and group the pieces by chunk."""
    if len(axis.start) == 1 and axis.step == 1 and axis.count[0]:
        return _cut_run(axis, dimension, bound)
    if not axis.count.all():
        axis = axis.part(axis.count > 0)
    last = axis.start + (axis.count - 1) * axis.step
    if len(last):
        _check_bound(int(axis.start.min()), int(last.max()), bound)
    low = dimension.locate(axis.start)
    crossed = dimension.locate(last) - low + 1
    if crossed.sum() <= axis.count.sum():
        segment, chunk, begin, end = _cut_at_borders(axis, dimension, low, crossed)
    else:
        segment, chunk, begin, end = _cut_by_element(axis, dimension)
    start = axis.start[segment] + begin * axis.step - dimension.start(chunk)
    return _group(chunk, Axis(start, axis.value[segment] + begin, end - begin, axis.step), dimension, bound)


def _check_bound(first: int, last: int, bound: int) -> None:
    if first < 0 or last >= bound:
        raise BoundsError("region outside of its bounds", expected=f"within 0:{bound}", got=f"{first}:{last + 1}")


def _cut_run(axis: Axis, dimension: Dimension, bound: int) -> Pieces:
    """Cut one segment without steps (one side of a box): every chunk between its ends gets one piece, in order."""
    start, stop = int(axis.start[0]), int(axis.start[0] + axis.count[0])
    _check_bound(start, stop - 1, bound)
    chunks = np.arange(dimension.locate(start), dimension.locate(stop - 1) + 1)
    origin = dimension.start(chunks)
    length = dimension.length(chunks)
    begin = np.maximum(origin, start)
    count = np.minimum(origin + length, stop) - begin
    in_bounds = np.minimum(length, bound - origin)
    pieces = Axis(begin - origin, begin + (axis.value[0] - start), count)
    return Pieces(chunks, in_bounds, count == in_bounds, np.arange(len(chunks) + 1), pieces)


_Cut: TypeAlias = tuple[IntArray, IntArray, IntArray, IntArray]
"""Of each piece: its segment, its chunk, and the first and one past the last element i of the segment in it."""


def _cut_at_borders(axis: Axis, dimension: Dimension, low: IntArray, crossed: IntArray) -> _Cut:
    segment = np.repeat(np.arange(len(low)), crossed)
    chunk = low[segment] + ranges(crossed)
    before = axis.start[segment] - dimension.start(chunk)
    # The first element in the chunk is the least i with before + i * step >= 0; likewise for the first one past the chunk.
    begin = np.maximum(-(before // axis.step), 0)
    end = np.minimum(-((before - dimension.length(chunk)) // axis.step), axis.count[segment])
    if axis.step == 1:
        return segment, chunk, begin, end
    kept = begin < end  # a step may jump over a chunk
    return segment[kept], chunk[kept], begin[kept], end[kept]


def _cut_by_element(axis: Axis, dimension: Dimension) -> _Cut:
    segment = np.repeat(np.arange(len(axis.start)), axis.count)
    element = ranges(axis.count)
    chunk = dimension.locate(axis.start[segment] + element * axis.step)
    new = np.flatnonzero((np.diff(chunk, prepend=-1) != 0) | (element == 0))
    counts = np.diff(new, append=len(chunk))
    return segment[new], chunk[new], element[new], element[new] + counts


def _group(chunk: IntArray, axis: Axis, dimension: Dimension, bound: int) -> Pieces:
    """Sort pieces by chunk (pieces of one chunk keep their order), and find the chunks that they cover."""
    moved = np.diff(chunk, prepend=-1)
    if len(chunk) and moved.min() < 0:
        order = np.argsort(chunk, kind="stable")
        chunk, axis = chunk[order], axis.part(order)
        moved = np.diff(chunk, prepend=-1)
    first = np.flatnonzero(moved)
    chunks = chunk[first]
    origin = dimension.start(chunks)
    in_bounds = np.minimum(dimension.length(chunks), bound - origin)
    if len(chunks) == len(chunk):
        return Pieces(chunks, in_bounds, axis.count == in_bounds, np.arange(len(chunks) + 1), axis)
    full = np.add.reduceat(axis.count, first) >= in_bounds
    first = np.append(first, len(chunk))
    full[full] = _covers(axis, np.diff(first), in_bounds, full)
    return Pieces(chunks, in_bounds, full, first, axis)


def _covers(axis: Axis, pieces: IntArray, in_bounds: IntArray, chosen: BoolArray) -> BoolArray:
    """Of each chosen chunk, whether its pieces cover it; pieces may overlap."""
    axis = axis.part(np.repeat(chosen, pieces))
    row = np.repeat(np.arange(int(chosen.sum())), pieces[chosen])
    offset = np.repeat(axis.start, axis.count) + ranges(axis.count) * axis.step
    return covered(np.repeat(row, axis.count), offset, in_bounds[chosen])
