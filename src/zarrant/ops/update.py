"""Operations that write regions: whole chunks without a read, parts of chunks by a guarded update.

A chunk counts as whole when every in-bounds element of it is written, for every kind of selection. What is out of bounds for
this handle may be what others have appended since. So before a chunk that reaches over the edge is stored without a read, its
array's shape must be seen to stand, while the chunk is held: no appender has begun, or else it waits for the chunk. Where the
shape does not stand the chunk is updated like one that is written in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zarrant.codecs.sources import Single, Stored
from zarrant.effects import Op, Outcome, joined, locked, put_one
from zarrant.errors import ChunkError, ShapeError
from zarrant.geometry.box import ArraySubset, as_subset, check_chunk_indices
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.layers import Layers, Stack, Values
from zarrant.geometry.region import Cells, Region, box_region
from zarrant.geometry.selection import Selection
from zarrant.ops.exclusive import Change, beside, exclusively, swapped
from zarrant.ops.hierarchy import shape_stands
from zarrant.ops.state import Array, ArrayState
from zarrant.ops.write import run_batches, write_batch
from zarrant.storage import Part

Merging = Callable[[str, Change, bool], Op[None]]


def store_array_subset(state: ArrayState, subset: Any, data: Any) -> Op[None]:
    """Store any region; whole chunks are written without a read, the others updated, side by side.

    `data` has the region's shape or broadcasts to it. An empty region is a no-op.
    """
    region = as_subset(subset, state.shape)
    values = broadcast(state.values(data), region.shape)
    if values.size:
        yield from store_region(state, box_region(region), values, state.shape)


def store_new_array(state: ArrayState, data: Array) -> Op[None]:
    """Store all of an array whose document this operation holds: nobody appends to it."""
    if data.size:
        yield from store_region(state, box_region(ArraySubset.full(state.shape)), data, state.shape, beside)


def store_array_subsets(state: ArrayState, pairs: Iterable[tuple[Any, Any]]) -> Op[None]:
    """Store many regions as one call: each stored object is read at most once and written once.

    `pairs` are (subset, data) as for `store_array_subset`; where they overlap the later one stays. Every pair is checked
    before anything is written.
    """
    regions: list[Region] = []
    arrays: list[Array] = []
    for subset, data in pairs:
        region = as_subset(subset, state.shape)
        values = broadcast(state.values(data), region.shape)
        if values.size:
            regions.append(box_region(region))
            arrays.append(values)
    if regions:
        yield from store_region(state, Layers(tuple(regions), tuple(range(len(regions)))), Stack(tuple(arrays)), state.shape)


def store_chunk_subset(state: ArrayState, chunk: Sequence[int], subset: Any, data: Any) -> Op[None]:
    """Store a part of one chunk; `subset` is in coordinates of the chunk and may reach into the padding of an edge chunk."""
    chunk = check_chunk_indices(chunk, state.grid.grid_shape)
    local = as_subset(subset, state.chunk_shape, "chunk")
    values = broadcast(state.values(data), local.shape)
    region = local.shift(state.grid.origin(chunk))
    bounds = np.maximum(np.array(state.shape, np.int64), region.stop)
    if values.size:
        yield from store_region(state, box_region(region), values, tuple(int(bound) for bound in bounds))


def store_selection(state: ArrayState, selection: Selection, data: Any) -> Op[None]:
    """Store values at a NumPy-like selection; where it names an element twice, the later value stays."""
    values = selection.source(state.values(data))
    if values.size == 0:
        return
    yield from store_region(state, selection.region, values, state.shape)


def store_region(
    state: ArrayState, region: Region, values: Values, bounds: tuple[int, ...], merging: Merging | None = None
) -> Op[None]:
    """Store a region of an array whose elements exist up to `bounds`.

    `merging` guards the chunks that are written in part, for callers that hold the array's document; None: nobody does, and
    updates that threads of this process make of one chunk at the same time are merged and stored as one.
    """
    cells = region.split(state.grid, bounds)
    whole = cells.full
    if merging is None and state.options.exclusive:
        whole = whole & ~_over_the_edge(state, cells)

    def write(lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        if whole[lo]:
            return (yield from write_batch(state, cells, values, lo, hi))
        key = state.chunk_keys(cells.index[lo:hi])[0]
        if cells.full[lo]:
            yield from _store_edge(state, key, cells, lo, values)
        elif merging is not None:
            yield from merging(key, _merge(state, cells, lo, values), state.options.exclusive)
        elif isinstance(values, Stack) or not state.options.exclusive:
            yield from exclusively(key, _merge(state, cells, lo, values), state.options.exclusive)
        else:
            yield from _merge_together(state, key, _Update(cells, lo, values))
        return [None]

    yield from run_batches(state, cells.index, _batches(whole, state.write_batch), write)


def _over_the_edge(state: ArrayState, cells: Cells) -> npt.NDArray[np.bool_]:
    """(n,) which chunks have elements beyond the bounds."""
    over: npt.NDArray[np.bool_] = (cells.extents(0, cells.n) != np.array(state.chunk_shape, np.int64)).any(axis=1)
    return over


def _store_edge(state: ArrayState, key: str, cells: Cells, row: int, values: Values) -> Op[None]:
    """Store all that this handle knows of a chunk at the edge; what it does not know stays."""
    encoded = yield from state.prepared.write(None, cells, row, row + 1, values)
    known = cells.region(row).split(ChunkGrid.regular(state.chunk_shape, state.chunk_shape), state.chunk_shape)
    yield from locked((key,), _put_edge(state, key, encoded.row(0), _merge(state, known, 0, values)))


def _put_edge(state: ArrayState, key: str, parts: list[Part] | None, merge: Change) -> Op[None]:
    if (yield from shape_stands(state)):  # safety: shape
        yield from put_one(key, parts)
        return
    try:
        yield from swapped(key, merge)
    except ChunkError:
        yield from put_one(key, parts)  # what does not decode is nobody's


def _merge(state: ArrayState, cells: Cells, row: int, values: Values) -> Any:
    def change(source: Stored) -> Op[list[Part] | None]:
        encoded = yield from state.prepared.write(Single(row, source), cells, row, row + 1, values)
        return encoded.row(0)

    return change


class _Update(NamedTuple):
    """A part of one chunk to be stored: row `row` of `cells`."""

    cells: Cells
    row: int
    values: Array


def _merge_together(state: ArrayState, key: str, update: _Update) -> Op[None]:
    """Merge an update and those that others make of the same chunk meanwhile, with one read and one write."""

    def lead(take: Callable[[], Sequence[_Update]]) -> Op[None]:
        def change(source: Stored) -> Op[list[Part] | None]:
            parts: list[Part] | None = yield from _merge(state, *_laid_over(state, take()))(source)
            return parts

        return exclusively(key, change)

    # Chains are prepared once for what they depend on: updates with the same one differ in where and what only.
    yield from joined(key, (id(state.prepared), update.cells.extent(update.row)), update, lead)


def _laid_over(state: ArrayState, updates: Sequence[_Update]) -> tuple[Cells, int, Values]:
    """Updates of one chunk as one, later ones on top."""
    if len(updates) == 1:
        return updates[0]
    layers = Layers(tuple(cells.region(row) for cells, row, _ in updates), tuple(range(len(updates))))
    bounds = updates[0].cells.extent(updates[0].row)
    whole = ChunkGrid.regular(state.chunk_shape, state.chunk_shape)
    return layers.split(whole, bounds), 0, Stack(tuple(values for _, _, values in updates))


def _batches(full: npt.NDArray[np.bool_], step: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows: whole chunks in batches, each partly written chunk alone."""
    if len(full) == 1:
        yield 0, 1
        return
    borders = [0, *(np.flatnonzero(full[1:] != full[:-1]) + 1).tolist(), len(full)]
    for start, stop in pairwise(borders):
        size = step if start < len(full) and full[start] else 1
        for lo in range(start, stop, size):
            yield lo, min(lo + size, stop)


def broadcast(values: Array, shape: tuple[int, ...]) -> Array:
    """Values in the shape of a region; ShapeError where they do not broadcast to it."""
    if values.shape == shape:
        return values
    try:
        return np.broadcast_to(values, shape)
    except ValueError:
        raise ShapeError("data does not have the shape of the region", expected=shape, got=values.shape) from None
