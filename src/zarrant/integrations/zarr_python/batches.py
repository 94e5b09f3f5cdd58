"""From what zarr-python hands to a codec pipeline back to one region of the array.

In: for each chunk its index, the selection in it and the place of that in the values (`Item`). Out: one `Plan` of the whole call:
a region in coordinates of the array, and how the caller's values are seen as the values of that region. None for what is no
region that these modules know: then zarr-python does it.

zarr-python splits a selection by chunk before the pipeline sees it. To plan in columns, as all operations of Zarrant do, the parts
are put together again. Nothing about them is taken on trust: a region is made only of parts that are shown to be all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zarrant.geometry.box import Shape
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.points import Points
from zarrant.geometry.region import Box, Product, Region
from zarrant.geometry.segments import Axis

Values = npt.NDArray[Any]
_ALL = slice(None)


class Item(NamedTuple):
    """The part of a selection in one chunk."""

    chunk: Shape
    inside: tuple[Any, ...]
    """What of the chunk is selected, in coordinates of the chunk: for each dimension a slice, an integer or an array."""
    outside: tuple[Any, ...]
    """Where that is in the values, which lack the dimensions of integers."""


class Plan(NamedTuple):
    """One region for a whole call."""

    region: Region
    shape: Shape
    """Of the values of the region: one dimension for each of the array."""
    stop: Shape
    """The bounds that the region needs."""
    view: tuple[slice | None, ...]
    """An index of the caller's values that gives those of the region: None for a dimension that they lack."""

    def target(self, out: Values) -> Values | None:
        """The caller's result as values of the region, a view; None where it does not have their shape."""
        seen = out if len(self.view) == out.ndim and None not in self.view else self._viewed(out)
        return seen if seen is not None and seen.shape == self.shape else None

    def source(self, values: Values) -> Values:
        """The caller's values, broadcast by NumPy's rules, as those of the region; ValueError where they do not fit."""
        if values.shape == self.shape and None not in self.view:
            return values
        kept = tuple([n for n, item in zip(self.shape, self.view, strict=True) if item is not None])
        return np.broadcast_to(values, kept)[self.view] if self.view else values.reshape(())

    def _viewed(self, out: Values) -> Values | None:
        return out[self.view] if out.ndim == len(self.view) - self.view.count(None) else None


def plan(items: Sequence[Item], grid: ChunkGrid, drop_axes: tuple[int, ...]) -> Plan | None:
    """The region that items are the parts of; `drop_axes`: dimensions of length 1 in the chunks that the values lack."""
    found = _box(items, grid) if not drop_axes else None
    if found is not None:
        return found
    first = items[0].inside
    if len(first) != grid.ndim:
        return None
    if len(first) > 1 and all(isinstance(each, np.ndarray) and each.ndim == 1 for each in first):
        return _points(items, grid)
    return _product(items, grid, drop_axes)


def _box(items: Sequence[Item], grid: ChunkGrid) -> Plan | None:
    """The plan of contiguous slices and integers. It is a box if the chunks are a block, and the elements as many as in the box."""
    start, stop = _corner(grid, items[0], False), _corner(grid, items[-1], True)
    if start is None or stop is None:
        return None
    shape = tuple([b - a for a, b in zip(start, stop, strict=True)])
    if len(items) > 1 and not _is_block(items, math.prod(shape)):
        return None
    view = tuple([_ALL if type(each) is slice else None for each in items[0].inside])
    return Plan(Box(start, shape, (0,) * len(shape)), shape, stop, view)


def _corner(grid: ChunkGrid, item: Item, last: bool) -> Shape | None:
    """The first element of a part, or the one after its last, in coordinates of the array; None where it is not contiguous."""
    if len(item.inside) != grid.ndim:
        return None
    sizes = grid.uniform_shape
    origin = grid.origin(item.chunk) if sizes is None else [i * n for i, n in zip(item.chunk, sizes, strict=True)]
    corner = []
    for low, each in zip(origin, item.inside, strict=True):
        if type(each) is slice:
            if each.step not in (None, 1) or each.start is None or each.stop is None:
                return None
            corner.append(low + int(each.stop if last else each.start))
        elif type(each) is int or isinstance(each, np.integer):
            corner.append(low + int(each) + last)
        else:
            return None
    return tuple(corner)


def _is_block(items: Sequence[Item], size: int) -> bool:
    """Whether the items are one for each chunk of a block, and have `size` elements together."""
    first, last, found = items[0].chunk, items[-1].chunk, 0
    if len(items) != math.prod([b - a + 1 for a, b in zip(first, last, strict=True)]):
        return False
    for item in items:
        count = 1
        for low, high, at, each in zip(first, last, item.chunk, item.inside, strict=True):
            if not low <= at <= high:
                return False
            if type(each) is slice:
                if each.step not in (None, 1):
                    return False
                count *= each.stop - each.start
            elif isinstance(each, np.ndarray):
                return False
        found += count
    return found == size and len({item.chunk for item in items}) == len(items)


def _points(items: Sequence[Item], grid: ChunkGrid) -> Plan | None:
    """The plan of single elements: an integer array for each dimension."""
    coords, places = [], []
    for item in items:
        if any(each.dtype.kind not in "iu" or len(each) != len(item.inside[0]) for each in item.inside):
            return None
        coords.append(np.stack(item.inside, axis=1).astype(np.int64) + np.array(grid.origin(item.chunk), np.int64))
        place = _indices(item.outside[0] if len(item.outside) == 1 else None)
        if place is None or len(place) != len(item.inside[0]):
            return None
        places.append(place)
    all_coords, all_places = np.concatenate(coords), np.concatenate(places)
    if not len(all_places) or not _is_permutation(all_places):
        return None
    order = np.argsort(all_places, kind="stable")  # of one element named twice the later value stays
    coords_in_order = np.ascontiguousarray(all_coords[order])
    stop = tuple(int(n) + 1 for n in coords_in_order.max(axis=0))
    shape = (len(order),) + (1,) * (grid.ndim - 1)
    return Plan(Points(coords_in_order, all_places[order]), shape, stop, (_ALL,) + (None,) * (grid.ndim - 1))


def _product(items: Sequence[Item], grid: ChunkGrid, drop_axes: tuple[int, ...]) -> Plan | None:
    """The plan of any combination of one selection for each dimension: steps, orthogonal arrays, masks."""
    parts: list[dict[int, tuple[Any, Any]]] = [{} for _ in range(grid.ndim)]
    kept = [
        type(each) is not int and not isinstance(each, np.integer) and j not in drop_axes for j, each in enumerate(items[0].inside)
    ]
    for item in items:
        if len(item.outside) != sum(kept) or len(item.inside) != grid.ndim:
            return None
        outside = iter(item.outside)
        for j, (chunk, inside) in enumerate(zip(item.chunk, item.inside, strict=True)):
            pair = inside, next(outside) if kept[j] else None
            if not _same(parts[j].setdefault(chunk, pair), pair):
                return None
    if len({item.chunk for item in items}) != len(items) or len(items) != math.prod([len(part) for part in parts]):
        return None
    axes = [_axis(parts[j], grid, j, kept[j]) for j in range(grid.ndim)]
    if any(axis is None for axis in axes):
        return None
    found = [axis for axis in axes if axis is not None]
    shape = tuple([int(axis.count.sum()) for axis in found])
    stop = tuple([int((axis.start + (axis.count - 1) * axis.step).max()) + 1 for axis in found])
    return Plan(Product(tuple(found)), shape, stop, tuple([_ALL if keep else None for keep in kept]))


def _same(a: tuple[Any, Any], b: tuple[Any, Any]) -> bool:
    """Whether two parts of a dimension are the same: in each row of chunks it is cut alike."""
    return a is b or all(
        x is y or (type(x) is type(y) and np.array_equal(np.ravel(_flat(x)), np.ravel(_flat(y)))) for x, y in zip(a, b, strict=True)
    )


def _flat(part: Any) -> Any:
    return (
        [-1 if n is None else n for n in (part.start, part.stop, part.step)]
        if type(part) is slice
        else []
        if part is None
        else part
    )


def _axis(parts: dict[int, tuple[Any, Any]], grid: ChunkGrid, j: int, kept: bool) -> Axis | None:
    """One dimension of a product: every chunk's part of it, in the order of the values."""
    coords, places = [], []
    for chunk, (inside, outside) in parts.items():
        here = _indices(inside)
        place = _indices(outside) if kept else np.zeros(1, np.int64)
        if here is None or place is None or len(here) != len(place):
            return None
        coords.append(here + int(grid.dimensions[j].start(chunk)))
        places.append(place)
    where, to = np.concatenate(coords), np.concatenate(places)
    if not len(to) or not _is_permutation(to):
        return None
    where = where[np.argsort(to)]
    step = int(where[1] - where[0]) if len(where) > 1 else 1
    if step > 1 and (np.diff(where) == step).all():
        return Axis.segment(int(where[0]), len(where), step)
    first = np.flatnonzero(np.diff(where, prepend=-2) != 1)
    return Axis(where[first], first, np.diff(first, append=len(where)))


def _is_permutation(places: npt.NDArray[np.int64]) -> bool:
    """Whether every place from 0 on is named once."""
    n = len(places)
    return bool(places.min() >= 0 and places.max() < n and (np.bincount(places, minlength=n) == 1).all())


def _indices(part: Any) -> npt.NDArray[np.int64] | None:
    """The integers that one dimension of a selection stands for; None for what is none."""
    if type(part) is slice:
        if part.start is None or part.stop is None or part.start < 0 or part.stop < 0 or (part.step or 1) < 1:
            return None
        return np.arange(part.start, part.stop, part.step or 1, dtype=np.int64)
    if isinstance(part, int | np.integer) and not isinstance(part, bool):
        return np.array([int(part)], np.int64)
    if not isinstance(part, np.ndarray) or part.size != max(part.shape, default=1):
        return None
    if part.dtype == np.bool_:
        return np.flatnonzero(part)
    return part.ravel().astype(np.int64, copy=False) if part.dtype.kind in "iu" and (part.size == 0 or part.min() >= 0) else None
