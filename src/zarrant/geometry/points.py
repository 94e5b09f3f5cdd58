"""Regions of single elements, in any order.

In come columns of coordinates. Out go `ChunkSelections` as `region` describes them, with one box for each point. BoundsError
for a point outside of the bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.errors import BoundsError
from zarrant.geometry.grid import ChunkGrid, IntArray
from zarrant.geometry.group_by_chunk import GroupedSelections, group_by_chunk
from zarrant.geometry.region import ChunkSelections, CopyPlan, Values, check_split, single_source
from zarrant.geometry.segments import BoolArray, covered


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

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> ChunkSelections:
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


def points_region(coords: IntArray) -> Points:
    """Element `coords[i]` (k, d) ↔ element (i, 0, 0, ...) of the values."""
    return Points(np.ascontiguousarray(coords, np.int64), np.arange(len(coords), dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class _PointSelections(GroupedSelections):
    points: Points

    def region(self, i: int) -> Points:
        part, _ = self.rows(i, i + 1)
        return Points(self.points.coords[part], self.points.value[part], self.points.axis)

    def boxes(self, lo: int, hi: int) -> CopyPlan:
        part, row = self.rows(lo, hi)
        coords = self.points.coords[part]
        value_start = np.zeros_like(coords)
        if coords.shape[1]:
            value_start[:, self.points.axis] = self.points.value[part]
        return CopyPlan(row, coords, value_start, np.ones_like(coords), np.ones(coords.shape[1], np.int64))

    def boxes_by_source(self, lo: int, hi: int, values: Values) -> list[tuple[CopyPlan, npt.NDArray[Any]]]:
        return single_source(self.boxes(lo, hi), values)


def _split_points(points: Points, grid: ChunkGrid, bounds: Sequence[int]) -> _PointSelections:
    rows = group_by_chunk(points.coords, grid, bounds)
    counts = np.diff(rows.first)
    # The volume of a chunk may not fit in 64 bits, so it is a float; where counts can reach it the float is exact.
    full = counts >= rows.shapes.prod(axis=1, dtype=np.float64)
    full[full] = _points_cover(rows.local[np.repeat(full, counts)], counts[full], rows.shapes[full])
    return _PointSelections(rows, full, Points(rows.local, points.value[rows.order], points.axis))


def _points_cover(local: IntArray, counts: IntArray, shapes: IntArray) -> BoolArray:
    """Of each chunk, whether every element is named by a point."""
    row = np.repeat(np.arange(len(counts)), counts)
    offset = np.zeros(len(local), np.int64)
    for j in range(local.shape[1]):
        offset = offset * shapes[row, j] + local[:, j]
    return covered(row, offset, shapes.prod(axis=1))
