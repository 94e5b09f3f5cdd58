"""Several regions at once: layers that are laid over each other, a later one on top.

In come regions of one array, each with a values array of its own; out go cells that a split of all of them touches, each
once, and for a range of cells the boxes of every layer, bottom first. A cell counts as full when one layer alone covers it:
layers that cover it together only cost a read, never a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant.geometry.axis import BoolArray
from zarrant.geometry.box import Shape
from zarrant.geometry.grid import ChunkGrid, IntArray
from zarrant.geometry.region import Boxes, Cells, Region


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The values arrays of layers, in their order."""

    arrays: tuple[npt.NDArray[Any], ...]

    def transpose(self, order: Sequence[int]) -> Stack:
        """Every array transposed."""
        return Stack(tuple(array.transpose(order) for array in self.arrays))


Values: TypeAlias = npt.NDArray[Any] | Stack


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """Regions, each with the number of its values array."""

    regions: tuple[Region, ...]
    numbers: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.regions[0].ndim

    def split(self, grid: ChunkGrid, bounds: Sequence[int]) -> LayerCells:
        """See `Region.split`."""
        each = [region.split(grid, bounds) for region in self.regions]
        index = np.concatenate([cells.index for cells in each])
        order = np.lexsort(index.T[::-1]) if grid.ndim else np.arange(len(index))
        new = np.ones(len(index), np.bool_)
        new[1:] = (index[order][1:] != index[order][:-1]).any(axis=1)
        place = np.empty(len(index), np.int64)
        place[order] = np.cumsum(new) - 1
        borders = np.cumsum([0, *(cells.n for cells in each)])
        places = tuple(place[low:high] for low, high in pairwise(borders))
        return LayerCells(index[order][new], tuple(each), places, self.numbers)

    def transpose(self, order: Sequence[int]) -> Layers:
        """See `Region.transpose`."""
        return Layers(tuple(region.transpose(order) for region in self.regions), self.numbers)


@dataclass(frozen=True, eq=False)
class LayerCells:
    """Cells that layers touch. `places[k]` are the rows here of the cells of layer k; both are in C order."""

    index: IntArray
    each: tuple[Cells, ...]
    places: tuple[IntArray, ...]
    numbers: tuple[int, ...]

    @property
    def n(self) -> int:
        """The number of cells."""
        return len(self.index)

    @cached_property
    def full(self) -> BoolArray:
        """(n,) whether one layer covers the cell."""
        full = np.zeros(self.n, np.bool_)
        for cells, place in zip(self.each, self.places, strict=True):
            full[place] |= cells.full
        return full

    def region(self, i: int) -> Layers:
        """The layers in cell i."""
        found = [(cells.region(row), number) for cells, row, number in self._at(i)]
        return Layers(tuple(region for region, _ in found), tuple(number for _, number in found))

    def extent(self, i: int) -> Shape:
        """The shape of cell i within the bounds."""
        cells, row, _ = self._at(i)[0]
        return cells.extent(row)

    def extents(self, lo: int, hi: int) -> IntArray:
        """(hi - lo, d) the shapes of cells lo..hi within the bounds."""
        result = np.empty((hi - lo, self.index.shape[1]), np.int64)
        for cells, place in zip(self.each, self.places, strict=True):
            first, last = np.searchsorted(place, (lo, hi)).tolist()
            result[place[first:last] - lo] = cells.extents(first, last)
        return result

    def boxes(self, lo: int, hi: int) -> Boxes:
        """The boxes of a single layer; those of several speak of different values arrays, see `layers`."""
        ((_, boxes),) = self.layers(lo, hi)
        return boxes

    def layers(self, lo: int, hi: int) -> list[tuple[int, Boxes]]:
        """(number of the values array, boxes) of each layer in cells lo..hi, bottom first."""
        found = []
        for cells, place, number in zip(self.each, self.places, self.numbers, strict=True):
            first, last = np.searchsorted(place, (lo, hi)).tolist()
            if first < last:
                boxes = cells.boxes(first, last)
                found.append((number, boxes._replace(row=place[first + boxes.row] - lo)))
        return found

    def _at(self, i: int) -> list[tuple[Cells, int, int]]:
        """(cells, row, number) of each layer that touches cell i."""
        found = []
        for cells, place, number in zip(self.each, self.places, self.numbers, strict=True):
            row = int(np.searchsorted(place, i))
            if row < len(place) and place[row] == i:
                found.append((cells, row, number))
        return found


def drawn(cells: Cells, lo: int, hi: int, values: Values) -> list[tuple[Boxes, npt.NDArray[Any]]]:
    """The boxes of cells lo..hi and the array each set speaks of, in the order in which they are to be copied."""
    if isinstance(cells, LayerCells) and isinstance(values, Stack):
        return [(boxes, values.arrays[number]) for number, boxes in cells.layers(lo, hi)]
    assert not isinstance(values, Stack), "layers have a stack of values"
    return [(cells.boxes(lo, hi), values)]
