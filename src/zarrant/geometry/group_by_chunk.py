"""Group points or boxes by the chunk in which they lie; `points` and `disjoint_boxes` share this.

In come the coordinates at which each row (a point, a box) begins, a grid, and the bounds up to which elements exist. Out go the
rows sorted by chunk, the place of each in its chunk, and the touched chunks in C order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from zarrant.geometry.box import Shape
from zarrant.geometry.grid import MAX_COORDINATE, ChunkGrid, IntArray
from zarrant.geometry.segments import BoolArray


class RowsByChunk(NamedTuple):
    """k rows in n chunks. The sort is stable: rows of one chunk keep their order."""

    order: IntArray
    """(k,)"""
    local: IntArray
    """(k, d) where each row begins in its chunk, in the sorted order"""
    chunks: IntArray
    """(n, d) indices of the chunks"""
    shapes: IntArray
    """(n, d) shapes of the chunks within the bounds"""
    first: IntArray
    """(n + 1,) the rows of chunk i are first[i]:first[i + 1]"""


def group_by_chunk(start: IntArray, grid: ChunkGrid, bounds: Sequence[int]) -> RowsByChunk:
    """Sort rows that begin at `start` (k, d).

    >>> group_by_chunk(np.array([[5], [0], [4]]), ChunkGrid.regular((6,), (4,)), (6,)).local.tolist()
    [[0], [1], [0]]
    """
    chunk, local, shapes = (np.empty_like(start) for _ in range(3))
    for j, (dimension, bound) in enumerate(zip(grid.dimensions, bounds, strict=True)):
        chunk[:, j] = dimension.locate(start[:, j])
        origin = dimension.start(chunk[:, j])
        local[:, j] = start[:, j] - origin
        shapes[:, j] = np.minimum(dimension.length(chunk[:, j]), bound - origin)
    order = _chunk_order(chunk, grid)
    chunk = chunk[order]
    new = np.ones(len(chunk), np.bool_)
    new[1:] = (chunk[1:] != chunk[:-1]).any(axis=1)
    first = np.flatnonzero(new)
    return RowsByChunk(order, local[order], chunk[first], shapes[order[first]], np.append(first, len(chunk)))


def _chunk_order(chunk: IntArray, grid: ChunkGrid) -> IntArray:
    """The stable order that sorts rows by chunk, in C order of the chunks."""
    if grid.ndim == 0:
        return np.arange(len(chunk))
    if grid.n_chunks > MAX_COORDINATE:
        return np.lexsort(chunk.T[::-1])
    flat = chunk[:, 0]
    for j, chunks in enumerate(grid.grid_shape[1:], 1):
        flat = flat * chunks + chunk[:, j]
    return np.argsort(flat, kind="stable")


@dataclass(frozen=True, slots=True, eq=False)
class GroupedSelections:
    """What the selections of points and of boxes share: the touched chunks, and the rows of each."""

    grouped: RowsByChunk
    full: BoolArray

    @property
    def n(self) -> int:
        """The number of chunks."""
        return len(self.grouped.chunks)

    @property
    def index(self) -> IntArray:
        """(n, d) indices of the chunks in the grid."""
        return self.grouped.chunks

    def shape(self, i: int) -> Shape:
        """The shape of chunk i within the bounds."""
        return tuple(self.grouped.shapes[i].tolist())

    def shapes(self, lo: int, hi: int) -> IntArray:
        """(hi - lo, d) the shapes of chunks lo..hi within the bounds."""
        return self.grouped.shapes[lo:hi]

    def rows(self, lo: int, hi: int) -> tuple[slice, IntArray]:
        """The rows of chunks lo..hi, and the chunk of each, counted from lo."""
        first = self.grouped.first[lo : hi + 1]
        return slice(int(first[0]), int(first[-1])), np.repeat(np.arange(hi - lo), np.diff(first))
