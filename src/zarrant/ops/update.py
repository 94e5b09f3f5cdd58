"""Operations that write regions: whole chunks without a read, parts of chunks by a guarded update.

What is done to a chunk depends on how much of it is written (`_WRITERS`), and on what keeps other writers out (`ops/guard.py`):

| chunk | no lock | compare-and-swap, lock, group commit | lock inside a lock (of the metadata) |
|---|---|---|---|
| whole | stored, no read | stored, no read | stored, no read |
| edge | stored if the shape is still the stored one, else as a part | the same | is whole: no append can run meanwhile |
| part | read, changed and stored once, or LostUpdateError | read, changed and stored until it succeeds | the same |

A write names elements, and changes only those. A chunk or subchunk of which every element is written needs no read. At the end of
the array it needs none either if every element within the bounds is written: but the bounds are those that this handle knows, and
others may have appended. So the shape must be compared with the stored one while the chunk is locked: then no append has begun,
or it waits for the chunk. If it differs, the bounds are those of the chunk: what was appended is read and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from zarrant.codecs.box_update import box_update
from zarrant.codecs.byte_sources import OneChunk, Stored, StoredWhole
from zarrant.errors import ChunkError, MetadataChangedError
from zarrant.geometry.box import ArraySubset, Shape, as_subset, check_chunk_indices
from zarrant.geometry.grid import ChunkGrid, chunk_alone
from zarrant.geometry.overlay import Overlay
from zarrant.geometry.region import Box, BoxInChunk, ChunkSelections, Region, Stack, Values, box_region, chunk_of, is_full
from zarrant.geometry.selection import Selection
from zarrant.ops.batching import batch_size, encode, equal_shapes, run_batches, run_one, within_budget, write_batch
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.casting import as_source, as_values, broadcast, is_swapped
from zarrant.ops.current import Current, shape_stands, while_shape_stands
from zarrant.ops.guard import Guard, update_object
from zarrant.ops.read import whole_limit
from zarrant.ops.turns import erased, keep
from zarrant.requests import Op, Outcome, put, update_box
from zarrant.storage import Part

SWAP_FIRST_BYTES = 1 << 20
"""Bytes of a chunk, or of what is written to a shard, up to which an update does not begin with a lock: 30 of its 200 µs are for
that with 20 kB. What is larger would take long to do again under the lock, where another writer was faster."""


def store_array_subset(array: BoundArray, subset: Any, data: Any) -> Op[None]:
    """Store any region; whole chunks are written without a read, the others updated, side by side.

    `data` has the region's shape or broadcasts to it. An empty region is a no-op.
    """
    region = as_subset(subset, array.shape)
    values = broadcast(as_source(array, data), region.shape)
    if values.size:
        yield from store_region(array, box_region(region), values, array.shape)


def store_new_array(array: BoundArray, data: Array) -> Op[None]:
    """Store all of an array whose metadata this operation has locked, so that no append can run."""
    if data.size:
        yield from store_region(array, box_region(ArraySubset.full(array.shape)), data, array.shape, metadata_locked=True)


def store_array_subsets(array: BoundArray, pairs: Iterable[tuple[Any, Any]]) -> Op[None]:
    """Store many regions as one call: each stored object is read at most once and written once.

    `pairs` are (subset, data) as for `store_array_subset`; where they overlap the later one stays. Every pair is checked
    before anything is written.
    """
    regions: list[Region] = []
    arrays: list[Array] = []
    for subset, data in pairs:
        region = as_subset(subset, array.shape)
        values = broadcast(as_values(array, data), region.shape)
        if values.size:
            regions.append(box_region(region))
            arrays.append(values)
    if regions:
        yield from store_region(array, Overlay(tuple(regions), tuple(range(len(regions)))), Stack(tuple(arrays)), array.shape)


def store_chunk_subset(array: BoundArray, chunk: Sequence[int], subset: Any, data: Any) -> Op[None]:
    """Store a part of one chunk; `subset` is in coordinates of the chunk and may reach into the padding of an edge chunk."""
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    local = as_subset(subset, array.chunk_shape(chunk), "chunk")
    values = broadcast(as_values(array, data), local.shape)
    region = local.shift(array.grid.origin(chunk))
    bounds = np.maximum(np.array(array.shape, np.int64), region.stop)
    if values.size:
        yield from store_region(array, box_region(region), values, tuple(int(bound) for bound in bounds))


def store_selection(array: BoundArray, selection: Selection, data: Any) -> Op[None]:
    """Store values at a NumPy-like selection; where it names an element twice, the later value stays."""
    as_plain = as_source if isinstance(selection.region, Box) else as_values
    values = selection.source(as_plain(array, data))
    if values.size == 0:
        return
    yield from store_region(array, selection.region, values, array.shape)


def store_region(
    array: BoundArray, region: Region, values: Values, bounds: tuple[int, ...], *, metadata_locked: bool = False
) -> Op[None]:
    """Store a region of an array whose elements exist up to `bounds`.

    `metadata_locked`: the caller has locked the array's metadata, so that nobody else changes its shape. Otherwise updates that
    threads of this process make of one chunk at the same time are merged and stored as one.
    """
    selections = region.split(array.grid, bounds)
    bounds_known = metadata_locked or not array.options.readable
    guard = _guard(array, values, metadata_locked, bounds_known)
    if selections.n == 1:  # most writes: nothing is shared out
        task = _Write(array, selections, values, _NONE, guard, bounds_known)
        yield from within_budget(array, selections, values.size, run_one(array, chunk_of(selections, 0), task.run_one()))
        return
    whole = selections.full if bounds_known else selections.full & ~_over_the_edge(array, selections)
    task = _Write(array, selections, values, whole, guard, bounds_known)
    batches = run_batches(array, selections.index, _batches(array, selections, whole), task.run)
    yield from within_budget(array, selections, values.size, batches)


def _guard(array: BoundArray, values: Values, metadata_locked: bool, bounds_known: bool) -> Guard:
    """What keeps other writers out of a chunk of which a part is written."""
    if not array.options.guarded:
        return Guard.NONE
    if metadata_locked:
        return Guard.NESTED_LOCK
    return Guard.LOCK if bounds_known or isinstance(values, Stack) else Guard.GROUP_COMMIT


_NONE = np.zeros(0, np.bool_)


class _Write(NamedTuple):
    """Columns of chunks to be written. Each of `_WRITERS` is an operation with one outcome for each row.

    `whole` (n,): whether every element of a chunk is written; where there is one chunk it is not asked for. Only a box has values
    in the other byte order.
    """

    array: BoundArray
    selections: ChunkSelections
    values: Values
    whole: npt.NDArray[np.bool_]
    guard: Guard
    bounds_known: bool

    def run(self, lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        """Rows of one kind: several whole chunks, or one other chunk."""
        return self._as(bool(self.selections.full[lo]), bool(self.whole[lo]), lo, hi)

    def run_one(self) -> Op[list[Outcome[Any]]]:
        """The only row; what `run` does."""
        selections = self.selections
        full = is_full(selections, 0)
        known = self.bounds_known or selections.shape(0) == self.array.chunk_shape(chunk_of(selections, 0))
        return self._as(full, full and known, 0, 1)

    def _as(self, full: bool, whole: bool, lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        writer = _WRITERS[full, whole]
        if whole or not is_swapped(self.array, self.values):
            return writer(self, lo, hi)
        return writer(self._native(lo), 0, 1)

    def _native(self, row: int) -> _Write:
        """The chunk of one row alone, its values in native byte order."""
        box = self.selections.region(row)
        assert isinstance(box, Box) and isinstance(self.values, np.ndarray), "only boxes have other values"
        here = BoxInChunk(chunk_of(self.selections, row), box.start, box.value, box.shape, self.selections.shape(row))
        part = here.of_values(self.values).astype(self.array.data_type.numpy)
        return self._replace(selections=replace(here, value=(0,) * box.ndim), values=part)

    def store_whole(self, lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        return write_batch(self.array, self.selections, self.values, lo, hi)

    def store_edge(self, lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        condition = while_shape_stands(self.array)
        if condition is None:  # the store cannot check this while it writes
            return (yield from self.update_part(lo, hi))
        outcomes = yield from put((yield from encode(self.array, self.selections, self.values, lo, hi)), condition)
        if any(isinstance(outcome, MetadataChangedError) for outcome in outcomes):
            return (yield from self.update_part(lo, hi, refused=True))
        return outcomes

    def update_part(self, lo: int, hi: int, refused: bool = False) -> Op[list[Outcome[Any]]]:
        array = self.array
        chunk = chunk_of(self.selections, lo)
        key, shape = array.chunk_key(chunk), array.chunk_shape(chunk)
        if array.turn is not None:
            yield from keep(array)
        if not refused and (yield from self._update_box(key, lo, shape)):
            return [None]
        change = _Update(array, shape, self.selections, lo, self.values, self.bounds_known, refused)
        small = self.guard is Guard.GROUP_COMMIT and self._is_small(lo, shape)
        first = array.known.swap_first.if_of_use() if small else None
        yield from update_object(key, change, self.guard, node=Current(array), source=_source(array, shape), swap_first=first)
        return [None]

    def _update_box(self, key: str, row: int, shape: Shape) -> Op[bool]:
        """Have the store replace a box of a chunk, where it does that; False where the general way is to be gone.

        At the end of the array it keeps what others may have appended meanwhile, as it looks at every element that is not written.
        Where a handle knows no such element, nothing is to be read.
        """
        array = self.array
        if self.guard is not Guard.GROUP_COMMIT or not array.options.updates_boxes or is_full(self.selections, row):
            return False
        update = box_update(array.prepared_for(shape), self.selections, row, self.values)
        if update is None:
            return False
        condition = Current(array).condition  # safety: condition at once
        return (yield from update_box(key, update, condition))

    def _is_small(self, row: int, shape: Shape) -> bool:
        """Whether to lock a chunk of this shape takes a good part of the time of changing a part of it.

        At the end of the array the lock is needed: what was appended meanwhile is not known without it.
        """
        array = self.array
        read = 0 if array.sharded else array.prepared_for(shape).spec.nbytes
        small = max(read, getattr(self.values, "nbytes", 0)) <= SWAP_FIRST_BYTES
        return small and array.options.swaps_first and self.selections.shape(row) == shape


# By whether every element that this handle knows is written, and whether every element is.
_WRITERS: dict[tuple[bool, bool], Callable[[_Write, int, int], Op[list[Outcome[Any]]]]] = {
    (True, True): _Write.store_whole,
    (True, False): _Write.store_edge,
    (False, False): _Write.update_part,
}


def _source(array: BoundArray, shape: Shape) -> Callable[[str], Stored]:
    """How a chunk of which a part is written is read: a shard whole, if its bytes would have to be fetched to be kept."""
    prepared = array.prepared_for(shape)
    if array.sharded and prepared.partial.write and prepared.spec.nbytes <= array.options.codec.fetch_bytes:
        return partial(StoredWhole, limit=whole_limit(prepared))
    return Stored


def erase_known(array: BoundArray, chunk: tuple[int, ...]) -> Op[None]:
    """Erase what this handle knows of a chunk at the end of the array: all of it, or its elements become fill."""
    inside = array.grid.in_bounds(chunk)
    shape = array.chunk_shape(chunk)
    selections = box_region(ArraySubset.full(inside.shape)).split(chunk_alone(shape), shape)
    fill = array.fill.full(inside.shape)
    known = _Update(array, shape, selections, 0, fill, bounds_known=True)

    def change(source: Stored) -> Op[list[Part] | None]:
        return None if (yield from shape_stands(array)) else (yield from known(source))

    yield from update_object(array.chunk_key(chunk), change, Guard.lock_if(array.options.guarded), node=Current(array))


def _over_the_edge(array: BoundArray, selections: ChunkSelections) -> npt.NDArray[np.bool_]:
    """(n,) which chunks have elements beyond the bounds."""
    shape = array.grid.uniform_shape
    shapes = array.grid.chunk_shapes(selections.index) if shape is None else np.array(shape, np.int64)
    over: npt.NDArray[np.bool_] = (selections.shapes(0, selections.n) != shapes).any(axis=1)
    return over


class _Update(NamedTuple):
    """The change that lays row `row` of `values` over the old chunk, which has the full shape `shape`; see `guard.Mergeable`.

    A subchunk (or a chunk) of which every element within the bounds is written needs no read; what lies beyond the bounds
    becomes fill. That is right only as long as nothing is there: unless `bounds_known`, the shape must be seen to stand, under
    the chunk's lock. Where it does not, others may have appended, and the bounds are those of the chunk. `refused`: it was
    seen not to stand just now, so the metadata must be read again.
    """

    array: BoundArray
    shape: Shape
    selections: ChunkSelections
    row: int
    values: Values
    bounds_known: bool = False
    refused: bool = False

    @property
    def kind(self) -> tuple[int, tuple[int, ...]]:
        """Chains are prepared once for what they depend on: updates with the same one differ in where and what only."""
        return id(self.array.prepared_for(self.shape)), self.selections.shape(self.row)

    def merged(self, updates: Sequence[_Update]) -> _Update:
        """Updates of one chunk as one, later ones on top."""
        if len(updates) == 1:
            (only,) = updates
            return only if only.array is self.array else only._replace(array=self.array)
        layers = Overlay(tuple(each.selections.region(each.row) for each in updates), tuple(range(len(updates))))
        selections = layers.split(chunk_alone(self.shape), self.selections.shape(self.row))
        values = Stack(tuple(cast("Array", each.values) for each in updates))
        return _Update(self.array, self.shape, selections, 0, values, refused=any(each.refused for each in updates))

    def __call__(self, source: Stored) -> Op[list[Part] | None]:
        """The parts of the new chunk."""
        array, selections, row, values = self.array, self.selections, self.row, self.values
        known_shape = selections.shape(row)
        beyond = not self.bounds_known and known_shape != self.shape and (array.sharded or is_full(selections, row))
        if beyond and not (yield from shape_stands(array, self.refused)):  # safety: shape
            return (yield from _merge_unseen(array, self.shape, selections.region(row), values, known_shape, source))
        encoded = yield from array.prepared_for(self.shape).write(OneChunk(row, source), selections, row, row + 1, values)
        parts = encoded.only()
        return parts if parts is not None else (yield from erased(array, self.shape, source))


def _merge_unseen(
    array: BoundArray, shape: Shape, region: Region, values: Values, known: Shape, source: Stored
) -> Op[list[Part] | None]:
    """Lay values over a chunk in which elements beyond the `known` bounds may have been stored by others."""
    prepared = array.prepared_for(shape)
    selections = region.split(chunk_alone(shape), shape)
    try:
        encoded = yield from prepared.write(OneChunk(0, source), selections, 0, 1, values)
    except ChunkError:
        # Of a damaged subchunk nothing can be kept. It is written as far as this handle knows it; its neighbours stay.
        damaged = yield from _damaged(array, shape, region, known, source)
        if not damaged:
            raise
        region, values = _over_fill(array, damaged, region, values)
        selections = region.split(chunk_alone(shape), shape)
        encoded = yield from prepared.write(OneChunk(0, source), selections, 0, 1, values)
    parts = encoded.only()
    return parts if parts is not None else (yield from erased(array, shape, source))


def _damaged(array: BoundArray, shape: Shape, region: Region, known: Shape, source: Stored) -> Op[list[ArraySubset]]:
    """The subchunks that cannot be read, of those whose every known element is written but that reach beyond what is known."""
    grid = ChunkGrid.regular(shape, array.piece_shape_for(shape))
    pieces = region.split(grid, known)
    found = []
    for row in np.flatnonzero(pieces.full).tolist():
        box = grid.subset(tuple(pieces.index[row].tolist()))
        if pieces.shape(row) == box.shape:
            continue
        selections = box_region(box).split(chunk_alone(shape), shape)
        try:
            yield from array.prepared_for(shape).read(OneChunk(0, source), selections, 0, 1, array.empty(box.shape))
        except ChunkError:
            found.append(box)
    return found


def _over_fill(array: BoundArray, boxes: Sequence[ArraySubset], region: Region, values: Values) -> tuple[Overlay, Stack]:
    """The region as an overlay on boxes of fill."""
    layers = region if isinstance(region, Overlay) else Overlay((region,), (0,))
    arrays = values.arrays if isinstance(values, Stack) else (values,)
    n = len(arrays)
    regions = (*map(box_region, boxes), *layers.regions)
    fills = tuple(array.fill.full(box.shape) for box in boxes)
    return Overlay(regions, (*range(n, n + len(boxes)), *layers.numbers)), Stack((*arrays, *fills))


def _batches(array: BoundArray, selections: ChunkSelections, whole: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Ranges of rows: whole chunks of one shape in batches, each partly written chunk alone."""
    for shape, first, last in equal_shapes(array, selections.index):
        step, here = batch_size(array, shape).stored, whole[first:last]
        borders = [first, *(first + 1 + np.flatnonzero(here[1:] != here[:-1])).tolist(), last]
        for start, stop in pairwise(borders):
            size = step if start < last and whole[start] else 1
            for lo in range(start, stop, size):
                yield lo, min(lo + size, stop)
