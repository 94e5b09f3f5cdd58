"""Operations that write regions: whole chunks without a read, parts of chunks by a guarded update.

A write names elements, and changes only those. A chunk or subchunk of which every element is written needs no read. At the
end of the array it needs none either if every element within the bounds is written: but the bounds are those that this handle
knows, and others may have appended. So the shape must be seen to stand, while the chunk is locked: no appender has begun, or
else it waits for the chunk. Where it does not stand, the bounds are those of the chunk: what was appended is read and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zarrant.codecs.sources import Single, Stored
from zarrant.errors import ChunkError
from zarrant.geometry.box import ArraySubset, Shape, as_subset, check_chunk_indices
from zarrant.geometry.grid import ChunkGrid, chunk_alone
from zarrant.geometry.layers import Layers, Stack, Values
from zarrant.geometry.region import Cells, Region, box_region
from zarrant.geometry.selection import Selection
from zarrant.ops.batching import batch_size, equal_shapes, run_batches, write_batch, write_known
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.casting import as_values, broadcast
from zarrant.ops.current import Current, shape_stands
from zarrant.ops.exclusive import Change, exclusively
from zarrant.requests import Op, Outcome, group_commit
from zarrant.storage import Part


def store_array_subset(state: BoundArray, subset: Any, data: Any) -> Op[None]:
    """Store any region; whole chunks are written without a read, the others updated, side by side.

    `data` has the region's shape or broadcasts to it. An empty region is a no-op.
    """
    region = as_subset(subset, state.shape)
    values = broadcast(as_values(state, data), region.shape)
    if values.size:
        yield from store_region(state, box_region(region), values, state.shape)


def store_new_array(state: BoundArray, data: Array) -> Op[None]:
    """Store all of an array whose document this operation holds: nobody appends to it."""
    if data.size:
        yield from store_region(state, box_region(ArraySubset.full(state.shape)), data, state.shape, metadata_locked=True)


def store_array_subsets(state: BoundArray, pairs: Iterable[tuple[Any, Any]]) -> Op[None]:
    """Store many regions as one call: each stored object is read at most once and written once.

    `pairs` are (subset, data) as for `store_array_subset`; where they overlap the later one stays. Every pair is checked
    before anything is written.
    """
    regions: list[Region] = []
    arrays: list[Array] = []
    for subset, data in pairs:
        region = as_subset(subset, state.shape)
        values = broadcast(as_values(state, data), region.shape)
        if values.size:
            regions.append(box_region(region))
            arrays.append(values)
    if regions:
        yield from store_region(state, Layers(tuple(regions), tuple(range(len(regions)))), Stack(tuple(arrays)), state.shape)


def store_chunk_subset(state: BoundArray, chunk: Sequence[int], subset: Any, data: Any) -> Op[None]:
    """Store a part of one chunk; `subset` is in coordinates of the chunk and may reach into the padding of an edge chunk."""
    chunk = check_chunk_indices(chunk, state.grid.grid_shape)
    local = as_subset(subset, state.chunk_shape(chunk), "chunk")
    values = broadcast(as_values(state, data), local.shape)
    region = local.shift(state.grid.origin(chunk))
    bounds = np.maximum(np.array(state.shape, np.int64), region.stop)
    if values.size:
        yield from store_region(state, box_region(region), values, tuple(int(bound) for bound in bounds))


def store_selection(state: BoundArray, selection: Selection, data: Any) -> Op[None]:
    """Store values at a NumPy-like selection; where it names an element twice, the later value stays."""
    values = selection.source(as_values(state, data))
    if values.size == 0:
        return
    yield from store_region(state, selection.region, values, state.shape)


def store_region(
    state: BoundArray, region: Region, values: Values, bounds: tuple[int, ...], *, metadata_locked: bool = False
) -> Op[None]:
    """Store a region of an array whose elements exist up to `bounds`.

    `metadata_locked`: the caller has locked the array's metadata, so that nobody else changes its shape. Otherwise updates that
    threads of this process make of one chunk at the same time are merged and stored as one.
    """
    cells = region.split(state.grid, bounds)
    alone = metadata_locked or not state.options.readable
    whole = cells.full if alone else cells.full & ~_over_the_edge(state, cells)

    def write(lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        if whole[lo]:
            return (yield from write_batch(state, cells, values, lo, hi))
        if cells.full[lo] and (outcomes := (yield from write_known(state, cells, values, lo))) is not None:
            return outcomes
        key = state.chunk_keys(cells.index[lo:hi])[0]
        if alone or isinstance(values, Stack) or not state.options.exclusive:
            change = _merge(state, cells, lo, values, alone)
            yield from exclusively(key, change, state.options.exclusive, node=Current(state), beside=metadata_locked)
        else:
            yield from _merge_together(state, key, _Update(cells, lo, values))
        return [None]

    yield from run_batches(state, cells.index, _batches(state, cells, whole), write)


def erase_known(state: BoundArray, chunk: tuple[int, ...]) -> Op[None]:
    """Erase what this handle knows of a chunk at the end of the array: all of it, or its elements become fill."""
    inside = state.grid.in_bounds(chunk)
    shape = state.chunk_shape(chunk)
    cells = box_region(ArraySubset.full(inside.shape)).split(chunk_alone(shape), shape)
    fill = state.fill.full(inside.shape)
    merge = _merge(state, cells, 0, fill, True)

    def change(source: Stored) -> Op[list[Part] | None]:
        return None if (yield from shape_stands(state)) else (yield from merge(source))

    yield from exclusively(state.chunk_key(chunk), change, state.options.exclusive, node=Current(state))


def _over_the_edge(state: BoundArray, cells: Cells) -> npt.NDArray[np.bool_]:
    """(n,) which chunks have elements beyond the bounds."""
    if cells.n == 1:
        return np.array((cells.extent(0) != state.chunk_shape(cells.index[0]),))
    shape = state.grid.uniform_shape
    shapes = state.grid.chunk_shapes(cells.index) if shape is None else np.array(shape, np.int64)
    over: npt.NDArray[np.bool_] = (cells.extents(0, cells.n) != shapes).any(axis=1)
    return over


def _merge(state: BoundArray, cells: Cells, row: int, values: Values, bounds_known: bool) -> Change:
    """The change that lays one row of values over the old chunk.

    A subchunk (or a chunk) of which every element within the bounds is written needs no read; what lies beyond the bounds
    becomes fill. That is right only as long as nothing is there: unless `bounds_known`, the shape must be seen to stand, under
    the chunk's lock. Where it does not, others may have appended, and the bounds are those of the chunk.
    """
    extent, shape = cells.extent(row), state.chunk_shape(cells.index[row])
    prepared = state.prepared_for(shape)
    beyond = not bounds_known and extent != shape and (state.sharded or bool(cells.full[row]))

    def change(source: Stored) -> Op[list[Part] | None]:
        if beyond and not (yield from shape_stands(state)):  # safety: shape
            return (yield from _merge_unseen(state, shape, cells.region(row), values, extent, source))
        encoded = yield from prepared.write(Single(row, source), cells, row, row + 1, values)
        return encoded.row(0)

    return change


def _merge_unseen(
    state: BoundArray, shape: Shape, region: Region, values: Values, known: Shape, source: Stored
) -> Op[list[Part] | None]:
    """Lay values over a chunk in which elements beyond the `known` bounds may have been stored by others."""
    prepared = state.prepared_for(shape)
    cells = region.split(chunk_alone(shape), shape)
    try:
        encoded = yield from prepared.write(Single(0, source), cells, 0, 1, values)
    except ChunkError:
        # Of a damaged subchunk nothing can be kept. It is written as far as this handle knows it; its neighbours stay.
        damaged = yield from _damaged(state, shape, region, known, source)
        if not damaged:
            raise
        region, values = _laid_over_fill(state, damaged, region, values)
        cells = region.split(chunk_alone(shape), shape)
        encoded = yield from prepared.write(Single(0, source), cells, 0, 1, values)
    return encoded.row(0)


def _damaged(state: BoundArray, shape: Shape, region: Region, known: Shape, source: Stored) -> Op[list[ArraySubset]]:
    """The subchunks that cannot be read, of those whose every known element is written but that reach beyond what is known."""
    grid = ChunkGrid.regular(shape, state.piece_shape_for(shape))
    pieces = region.split(grid, known)
    found = []
    for row in np.flatnonzero(pieces.full).tolist():
        box = grid.subset(tuple(pieces.index[row].tolist()))
        if pieces.extent(row) == box.shape:
            continue
        cells = box_region(box).split(chunk_alone(shape), shape)
        try:
            yield from state.prepared_for(shape).read(Single(0, source), cells, 0, 1, state.empty(box.shape))
        except ChunkError:
            found.append(box)
    return found


def _laid_over_fill(state: BoundArray, boxes: Sequence[ArraySubset], region: Region, values: Values) -> tuple[Layers, Stack]:
    """A region on top of boxes of fill."""
    layers = region if isinstance(region, Layers) else Layers((region,), (0,))
    arrays = values.arrays if isinstance(values, Stack) else (values,)
    n = len(arrays)
    regions = (*map(box_region, boxes), *layers.regions)
    fills = tuple(state.fill.full(box.shape) for box in boxes)
    return Layers(regions, (*range(n, n + len(boxes)), *layers.numbers)), Stack((*arrays, *fills))


class _Update(NamedTuple):
    """A part of one chunk to be stored: row `row` of `cells`."""

    cells: Cells
    row: int
    values: Array


def _merge_together(state: BoundArray, key: str, update: _Update) -> Op[None]:
    """Merge an update and those that others make of the same chunk meanwhile, with one read and one write."""

    def lead(take: Callable[[], Sequence[_Update]]) -> Op[Any]:
        def change(source: Stored) -> Op[list[Part] | None]:
            return (yield from _merge(state, *_laid_over(state, take()), False)(source))

        return exclusively(key, change, node=Current(state))

    # Chains are prepared once for what they depend on: updates with the same one differ in where and what only.
    prepared = state.prepared_for(state.chunk_shape(update.cells.index[update.row]))
    yield from group_commit(key, (id(prepared), update.cells.extent(update.row)), update, lead)


def _laid_over(state: BoundArray, updates: Sequence[_Update]) -> tuple[Cells, int, Values]:
    """Updates of one chunk as one, later ones on top."""
    if len(updates) == 1:
        return updates[0]
    layers = Layers(tuple(cells.region(row) for cells, row, _ in updates), tuple(range(len(updates))))
    first = updates[0]
    shape, bounds = state.chunk_shape(first.cells.index[first.row]), first.cells.extent(first.row)
    return layers.split(chunk_alone(shape), bounds), 0, Stack(tuple(values for _, _, values in updates))


def _batches(array: BoundArray, cells: Cells, whole: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Ranges of rows: whole chunks of one shape in batches, each partly written chunk alone."""
    for shape, first, last in equal_shapes(array, cells.index):
        step, here = batch_size(array, shape).stored, whole[first:last]
        borders = [first, *(first + 1 + np.flatnonzero(here[1:] != here[:-1])).tolist(), last]
        for start, stop in pairwise(borders):
            size = step if start < last and whole[start] else 1
            for lo in range(start, stop, size):
                yield lo, min(lo + size, stop)
