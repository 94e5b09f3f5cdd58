"""An overlay: several regions of one array, one on top of the other; where they overlap the later one counts.

In come regions, each with a values array of its own. Out go the chunks that any of them touches, each once, and for a range
of chunks the boxes of every region, the lowest first. A chunk counts as full only if one region covers all of it. Several
regions may cover it together without being noticed: that costs a read, and never a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.geometry.box import Shape
from zarrant.geometry.grid import ChunkGrid, IntArray
from zarrant.geometry.region import ChunkSelections, CopyPlan, Region, Stack, Values
from zarrant.geometry.segments import BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """Regions, the lowest first, each with the number of its values array in the `Stack`."""

    regions: tuple[Region, ...]
    numbers: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.regions[0].ndim

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> OverlaySelections:
        """See `Region.split`."""
        each = [region.split(grid, bounds) for region in self.regions]
        index = np.concatenate([selections.index for selections in each])
        order = np.lexsort(index.T[::-1]) if grid.ndim else np.arange(len(index))
        new = np.ones(len(index), np.bool_)
        new[1:] = (index[order][1:] != index[order][:-1]).any(axis=1)
        place = np.empty(len(index), np.int64)
        place[order] = np.cumsum(new) - 1
        borders = np.cumsum([0, *(selections.n for selections in each)])
        places = tuple(place[low:high] for low, high in pairwise(borders))
        return OverlaySelections(index[order][new], tuple(each), places, self.numbers)

    def transpose(self, order: Sequence[int]) -> Overlay:
        """See `Region.transpose`."""
        return Overlay(tuple(region.transpose(order) for region in self.regions), self.numbers)


@dataclass(frozen=True, eq=False)
class OverlaySelections:
    """The chunks that an overlay touches, in C order. Chunk i of region k has row `places[k][i]` here."""

    index: IntArray
    each: tuple[ChunkSelections, ...]
    places: tuple[IntArray, ...]
    numbers: tuple[int, ...]

    @property
    def n(self) -> int:
        """The number of chunks."""
        return len(self.index)

    @cached_property
    def full(self) -> BoolArray:
        """(n,) whether one region covers the chunk."""
        full = np.zeros(self.n, np.bool_)
        for selections, place in zip(self.each, self.places, strict=True):
            full[place] |= selections.full
        return full

    def region(self, i: int) -> Overlay:
        """The regions in chunk i."""
        found = [(selections.region(row), number) for selections, row, number in self._at(i)]
        return Overlay(tuple(region for region, _ in found), tuple(number for _, number in found))

    def shape(self, i: int) -> Shape:
        """The shape of chunk i within the bounds."""
        selections, row, _ = self._at(i)[0]
        return selections.shape(row)

    def shapes(self, lo: int, hi: int) -> IntArray:
        """(hi - lo, d) the shapes of chunks lo..hi within the bounds."""
        result = np.empty((hi - lo, self.index.shape[1]), np.int64)
        for selections, place in zip(self.each, self.places, strict=True):
            first, last = np.searchsorted(place, (lo, hi)).tolist()
            result[place[first:last] - lo] = selections.shapes(first, last)
        return result

    def boxes(self, lo: int, hi: int) -> CopyPlan:
        """The boxes where one region alone touches these chunks; see `boxes_by_source` for several."""
        ((_, boxes),) = self._plans(lo, hi)
        return boxes

    def boxes_by_source(self, lo: int, hi: int, values: Values) -> list[tuple[CopyPlan, npt.NDArray[Any]]]:
        """See `ChunkSelections.boxes_by_source`; copied in this order, a later region covers an earlier one."""
        assert isinstance(values, Stack), "an overlay has a stack of values"
        return [(boxes, values.arrays[number]) for number, boxes in self._plans(lo, hi)]

    def _plans(self, lo: int, hi: int) -> list[tuple[int, CopyPlan]]:
        """(number of the values array, boxes) of each region in chunks lo..hi, the lowest first."""
        found = []
        for selections, place, number in zip(self.each, self.places, self.numbers, strict=True):
            first, last = np.searchsorted(place, (lo, hi)).tolist()
            if first < last:
                boxes = selections.boxes(first, last)
                found.append((number, boxes._replace(row=place[first + boxes.row] - lo)))
        return found

    def _at(self, i: int) -> list[tuple[ChunkSelections, int, int]]:
        """(chunks, row, number) of each region that touches chunk i."""
        found = []
        for selections, place, number in zip(self.each, self.places, self.numbers, strict=True):
            row = int(np.searchsorted(place, i))
            if row < len(place) and place[row] == i:
                found.append((selections, row, number))
        return found
