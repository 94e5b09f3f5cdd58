"""A region of many boxes, given as columns. No two boxes overlap, and no box crosses the border of a chunk.

In come the boxes and the place of each in the values array. Out go `ChunkSelections`, as from every region. The partial
encoder uses it: its boxes lie within the smallest subchunks of a shard, so that no level of nested grids ever cuts one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.errors import ShapeError
from zarrant.geometry.box import Shape
from zarrant.geometry.grid import ChunkGrid, IntArray
from zarrant.geometry.group_by_chunk import GroupedSelections, group_by_chunk
from zarrant.geometry.region import CopyPlan, Values, single_source
from zarrant.geometry.segments import ranges, unravel


@dataclass(frozen=True, slots=True, eq=False)
class DisjointBoxes:
    """Box k: the elements from `start[k]` ↔ those from `value[k]` of the values, `shape[k]` of them; each (k, d).

    >>> boxes = DisjointBoxes(*(np.array([[2], [4]]), np.array([[2], [1]]), np.array([[2], [0]])))
    >>> selections = boxes.split(ChunkGrid.regular((6,), (2,)), (6,))
    >>> selections.index.tolist(), selections.full.tolist(), selections.boxes(0, 2).value_start.tolist()
    ([[1], [2]], [True, False], [[2], [0]])
    """

    start: IntArray
    shape: IntArray
    value: IntArray

    @classmethod
    def cut(cls, start: IntArray, shape: Shape, grid: ChunkGrid) -> DisjointBoxes:
        """Boxes of one shape that begin at `start` (n, d), cut at the borders of chunks.

        In the values they come one after the other along the first dimension. For reading they may overlap.

        >>> boxes = DisjointBoxes.cut(np.array([[1], [5]]), (2,), ChunkGrid.regular((8,), (2,)))
        >>> boxes.start.ravel().tolist(), boxes.shape.ravel().tolist(), boxes.value.ravel().tolist()
        ([1, 2, 5, 6], [1, 1, 1, 1], [0, 1, 2, 3])
        """
        stop = start + np.array(shape, np.int64)
        first = [dimension.locate(start[:, j]) for j, dimension in enumerate(grid.dimensions)]
        counts = [dimension.locate(stop[:, j] - 1) - first[j] + 1 for j, dimension in enumerate(grid.dimensions)]
        total = reduce(np.multiply, counts)
        row = np.repeat(np.arange(len(start)), total)
        within = unravel(ranges(total), [count[row] for count in counts])
        begin, end = start[row], stop[row]
        for j, dimension in enumerate(grid.dimensions):
            chunk = first[j][row] + within[j]
            origin = dimension.start(chunk)
            begin[:, j] = np.maximum(begin[:, j], origin)
            end[:, j] = np.minimum(end[:, j], origin + dimension.length(chunk))
        value = begin - start[row]
        value[:, 0] += row * shape[0]
        return cls(begin, end - begin, value)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return int(self.start.shape[1])

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> DisjointBoxSelections:
        """See `Region.split`; ShapeError where a box lies in more than one chunk."""
        rows = group_by_chunk(self.start, grid, bounds)
        boxes = DisjointBoxes(rows.local, self.shape[rows.order], self.value[rows.order])
        counts, first = np.diff(rows.first), rows.first[:-1]
        if (boxes.start + boxes.shape > np.repeat(rows.shapes, counts, axis=0)).any():
            raise ShapeError("a box lies in one chunk", expected=grid.uniform_shape, got=self.shape.max(axis=0).tolist())
        # A volume may not fit in 64 bits, so it is a float; up to 53 bits a float is exact.
        volume, whole = (shape.prod(axis=1, dtype=np.float64) for shape in (boxes.shape, rows.shapes))
        return DisjointBoxSelections(rows, (np.add.reduceat(volume, first) if len(first) else whole) >= whole, boxes)

    def transpose(self, order: Sequence[int]) -> DisjointBoxes:
        """See `Region.transpose`."""
        axes = list(order)
        return DisjointBoxes(self.start[:, axes], self.shape[:, axes], self.value[:, axes])


@dataclass(frozen=True, slots=True, eq=False)
class DisjointBoxSelections(GroupedSelections):
    """The chunks that the boxes touch."""

    parts: DisjointBoxes

    def region(self, i: int) -> DisjointBoxes:
        """The boxes of chunk i."""
        part, _ = self.rows(i, i + 1)
        return DisjointBoxes(self.parts.start[part], self.parts.shape[part], self.parts.value[part])

    def boxes(self, lo: int, hi: int) -> CopyPlan:
        """The boxes of chunks lo..hi."""
        part, row = self.rows(lo, hi)
        parts = self.parts
        return CopyPlan(row, parts.start[part], parts.value[part], parts.shape[part], np.ones(parts.ndim, np.int64))

    def boxes_by_source(self, lo: int, hi: int, values: Values) -> list[tuple[CopyPlan, npt.NDArray[Any]]]:
        """See `ChunkSelections.boxes_by_source`."""
        return single_source(self.boxes(lo, hi), values)
