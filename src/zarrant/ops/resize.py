"""Operations that change the shape of an array: `resize` and `append`.

In: an array and its new shape, or data to append. Out: the new metadata. The shape in the metadata is the commit point. New
elements are stored before the metadata shows them; elements that are cut off are erased after the metadata hides them. So every
reader sees a whole array, of the old shape or of the new one, and so does the next process after a crash.

Why it is done under the lock of the metadata. The keys of chunks are fixed, so two appenders that both start at the old end
write the same objects. The one that loses the race for the metadata has already overwritten the data of the other, and starting
over does not repair that. So a region must be reserved before it is written. But a reservation that outlives a killed writer
would block the others, or leave a hole. The lock on the metadata is a reservation that ends with its owner. Appenders
therefore run one after the other, each from the shape that it reads under the lock. Writers of data and readers do not wait for
them. Inside one process a queue serves as the lock, and the metadata are replaced by compare-and-swap. On a store that several
processes share and that has no locks, writers take turns, which can be taken over from a killed writer (`ops/turns.py`).

What is stored outside of the shape (padding of edge chunks, chunks beyond the grid) has no meaning: a crash leaves anything
there, and so do other libraries. Hence the rule that growing never brings back old data: *each growth defines all elements that
it exposes, before the metadata shows them*. `append` stores them; `resize` erases chunks, or fills them. Shrinking erases what
it cuts off as well, for other libraries that grow arrays without this rule. No read looks beyond the edge chunks.

Inside the lock, edge chunks are updated by compare-and-swap: a lock inside the lock could wait for a caller that waits for us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from operator import add, sub
from typing import Any, TypeVar

import numpy as np

from zarrant.errors import (
    BoundsError,
    ConflictError,
    ShapeError,
    VersionChangedError,
    ZarrantError,
)
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.region import box_region
from zarrant.metadata.node import dump, main_name
from zarrant.metadata.v3 import ArrayMetadata, of_version
from zarrant.ops import read, turns, update
from zarrant.ops.batching import largest_batch
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.casting import as_values
from zarrant.ops.current import current_array, put_current
from zarrant.ops.guard import MAX_TRIES, with_lock
from zarrant.ops.node import MustExist, metadata_key
from zarrant.ops.stored_chunks import chunks_of, listed_chunks
from zarrant.ops.turns import erase_all, give_back, in_turn
from zarrant.requests import ANY, Op, WriteRequest, before_change, gather, list_prefix, put_one
from zarrant.storage import Version

T = TypeVar("T")
Moved = Callable[[ArrayMetadata], None]
"""Called with the new metadata while they are locked, so that threads that share a handle take them over in order."""

LIST_FROM = 10_000
"""With more chunks to erase the stored ones are listed, however many there are besides. Erasing a file that does not exist takes
about 10 µs."""

BATCH = 64


def append(array: BoundArray, data: Any, axis: int = 0, moved: Moved = lambda metadata: None) -> Op[slice]:
    """Store data behind the end of a dimension, then grow the array; returns the slice of `axis` that holds them.

    `data` has the array's shape in every other dimension. Many may append at once: each gets a slice of its own. When
    something fails the array is as it was. ConflictError where a writer that takes no lock changed the shape meanwhile.
    """
    return (yield from append_all(array, [as_values(array, data)], check_axis(axis, len(array.shape)), moved))


def append_all(array: BoundArray, blocks: Sequence[Array], axis: int, moved: Moved = lambda metadata: None) -> Op[slice]:
    """`append` blocks of values one behind the other, with one change of the metadata; returns the slice of all of them."""

    def op(now: BoundArray) -> Op[slice]:
        return _append(now, blocks, axis, moved)

    def check(now: BoundArray) -> None:
        for values in blocks:
            grown_shape(now.shape, values, axis)

    return (yield from _with_shape_locked(array, op, check))


def resize(
    array: BoundArray,
    shape: Any,
    listing: bool = False,
    moved: Moved = lambda metadata: None,
    shrink: bool | None = None,
) -> Op[list[str]]:
    """Give an array another shape: elements that stay keep their place and value, new ones are the fill value.

    What is cut off is erased, and does not come back when the array grows again. ShapeError where elements would be cut off
    that others have appended since this handle last looked, unless `shrink` is True; with `shrink` False where any would be.
    `listing` says that the store can list, which is how few stored chunks are found among very many.

    Returns what could not be cleaned up after the array had its new shape. It does no harm: the next growth of
    the array erases it first.
    """
    wanted = array.metadata.with_shape(tuple(shape) if np.iterable(shape) else (shape,)).shape

    def check(now: BoundArray) -> None:
        _refuse_to_cut(array.shape, now.shape, wanted, shrink)

    def op(now: BoundArray) -> Op[list[str]]:
        check(now)  # safety: unseen
        return (yield from _resize(now, wanted, listing, moved))

    return (yield from _with_shape_locked(array, op, check))


def _with_shape_locked(array: BoundArray, op: Callable[[BoundArray], Op[T]], check: Callable[[BoundArray], object]) -> Op[T]:
    """Do `op` with the array as it is stored, while no other writer changes its shape. `check`: see `in_turn`."""

    def work() -> Op[T]:
        if array.options.turns:
            return (yield from in_turn(array, op, check))
        now, _ = yield from current_array(array)
        return (yield from op(now))

    if not array.options.guarded:
        return (yield from work())
    node = MustExist(array.prefix, main_name(array.metadata))
    return (yield from with_lock(node.below, work, node))


def _append(now: BoundArray, blocks: Sequence[Array], axis: int, moved: Moved) -> Op[slice]:
    storing = store_behind(now, [as_values(now, values) for values in blocks], axis)
    grown = yield from (storing if now.turn is None else before_change(metadata_key(now.prefix, now.metadata), storing))
    if grown is now:
        yield from _unchanged(now, moved)
    else:
        yield from commit(now, grown.metadata, now.metadata.version, moved)
    return slice(now.shape[axis], grown.shape[axis])


def store_behind(now: BoundArray, blocks: Sequence[Array], axis: int) -> Op[BoundArray]:
    """Store blocks of data behind the end of an array whose metadata this operation has locked; returns the array that shows them.

    Blocks are stored side by side where each begins with a chunk, else in turn: two may lie in one chunk then.
    """
    starts, shape = [], now.shape
    for values in blocks:
        starts.append(shape[axis])
        shape = grown_shape(shape, values, axis)
    if shape[axis] == now.shape[axis]:
        return now
    grown = now.with_shape(shape)
    ops = [_store_block(grown, values, start, axis) for values, start in zip(blocks, starts, strict=True) if values.size]
    depth = grown.grid.uniform_shape
    if len(ops) > 1 and depth is not None and not any(start % depth[axis] for start in starts[1:]):
        yield from gather(ops, 0)
    else:
        for op in ops:
            yield from op
    return grown


def _store_block(grown: BoundArray, values: Array, start: int, axis: int) -> Op[None]:
    origin = tuple(start if dimension == axis else 0 for dimension in range(values.ndim))
    region = box_region(ArraySubset(origin, values.shape))
    return update.store_region(grown, region, values, grown.shape, metadata_locked=True)


def _resize(now: BoundArray, shape: tuple[int, ...], listing: bool, moved: Moved) -> Op[list[str]]:
    new = now.with_shape(shape)
    if any(b > a for a, b in zip(now.shape, shape, strict=True)):
        yield from _erase_outside(now, new, listing)
        yield from _fill_outside(now, shape, listing)
    if shape == now.shape:
        yield from _unchanged(now, moved)
        return []
    cuts = any(b < a for a, b in zip(now.shape, shape, strict=True))
    yield from commit(now, new.metadata, now.metadata.version, moved, keep_turn=cuts)
    if not cuts:
        return []
    # The array has its new shape: what fails from here on does not fail the operation.
    left = []
    for cleaning in (_erase_outside(new, now, listing), _fill_outside(new, None, listing)):
        try:
            yield from cleaning
        except ZarrantError as error:
            left.append(str(error))
    if now.turn is not None:
        yield from _unchanged(now, moved)
    return left


def _unchanged(now: BoundArray, moved: Moved) -> Op[None]:
    """End an operation that has nothing (more) to change in the metadata."""
    metadata = now.metadata if now.turn is None else (yield from give_back(now))
    if metadata is not None:
        moved(metadata)


def _refuse_to_cut(seen: Sequence[int], now: Sequence[int], wanted: Sequence[int], shrink: bool | None) -> None:
    """ShapeError where elements would be cut off that the caller has not seen, or wants to keep."""
    cut = [axis for axis, (n, m) in enumerate(zip(now, wanted, strict=True)) if m < n]
    unseen = [axis for axis in cut if now[axis] > seen[axis]]
    if shrink is True or not (unseen or (cut and shrink is False)):
        return
    if unseen:
        message, hint = "others have appended to the array since this handle last looked", "refresh() and decide"
    else:
        message, hint = "the array would become smaller", "Leave shrink out"
    raise ShapeError(message, field="shape", expected=f"at least {tuple(now)}", got=tuple(wanted), hint=f"{hint}, or shrink=True")


# The metadata -----------------------------------------------------------------------------------------------------------


def commit(
    now: BoundArray,
    metadata: ArrayMetadata,
    version: Version,
    moved: Moved = lambda metadata: None,
    keep_turn: bool = False,
) -> Op[None]:
    """Replace the metadata. What others changed in its attributes meanwhile stays; a shape they changed is a conflict."""
    if now.turn is not None:
        moved((yield from turns.commit(now, metadata, keep_turn)))
        return
    metadata = replace(metadata, turn=None)  # of a copy of what was on another store
    key = metadata_key(now.prefix, now.metadata)
    for _ in range(MAX_TRIES):
        try:
            stored = yield from put_one(key, [dump(metadata)], version if now.options.guarded else ANY)
        except VersionChangedError:
            other, version = yield from current_array(now)
            if other.metadata.with_attributes({}) != now.metadata.with_attributes({}):
                break
            metadata = metadata.with_attributes(other.metadata.attributes)
            continue
        moved(of_version(metadata, stored))
        return
    raise ConflictError("the array was resized or replaced meanwhile, by a writer that took no lock", key=key)


def check_axis(axis: Any, ndim: int) -> int:
    """The number of a dimension, from 0; BoundsError where there is none."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__") or not -ndim <= int(axis) < ndim:
        raise BoundsError("no such dimension", field="axis", expected=f"-{ndim}..{ndim - 1}", got=repr(axis))
    return int(axis) % ndim


def grown_shape(shape: tuple[int, ...], values: Array, axis: int) -> tuple[int, ...]:
    """The shape with the values behind its end; ShapeError where they do not fit."""
    added = values.shape[axis] if values.ndim == len(shape) else 0
    expected = tuple(added if dimension == axis else length for dimension, length in enumerate(shape))
    if values.shape != expected:
        shown = "(" + ", ".join("any" if d == axis else str(n) for d, n in enumerate(shape)) + ("," * (len(shape) == 1)) + ")"
        hint = "One more dimension: data[np.newaxis]" if values.ndim == len(shape) - 1 else None
        raise ShapeError("appended data has the array's shape in the other dimensions", expected=shown, got=values.shape, hint=hint)
    return tuple(n + added if dimension == axis else n for dimension, n in enumerate(shape))


# What is outside of the shape -------------------------------------------------------------------------------------------


def _erase_outside(inner: BoundArray, outer: BoundArray, listing: bool) -> Op[None]:
    """Erase the chunks of the outer array that the inner one does not have."""
    yield from _all(_erase_block(outer, block, listing) for block in _beyond(inner.grid.grid_shape, outer.grid.grid_shape))


def _erase_block(array: BoundArray, block: ArraySubset, listing: bool) -> Op[None]:
    chunks = iter((yield from _chunks(array, block, listing)))
    batches = iter(lambda: list(islice(chunks, BATCH)), [])
    yield from gather((_erase(array, batch) for batch in batches), 0)


def _all(ops: Iterable[Op[None]]) -> Op[None]:
    """Perform all operations, one after the other, also those after one that failed; the first error is raised at the end."""
    failed: list[ZarrantError] = []
    for op in ops:
        try:
            yield from op
        except ZarrantError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _erase(array: BoundArray, chunks: Sequence[tuple[int, ...]]) -> Op[None]:
    keys = [array.chunk_key(chunk) for chunk in chunks]
    if array.turn is not None:
        yield from erase_all(array, list(zip(keys, map(array.chunk_shape, chunks), strict=True)))
        return
    for outcome in (yield from put_current(array, [WriteRequest(key, None) for key in keys])):
        if isinstance(outcome, Exception):
            raise outcome


def _fill_outside(array: BoundArray, limit: Sequence[int] | None, listing: bool) -> Op[None]:
    """Fill the padding of edge chunks, up to `limit` (None: all of it)."""
    array = array.with_options(replace(array.options, missing_chunks="fill"))
    ends = array.grid.padded_shape
    slabs = _beyond(array.shape, ends if limit is None else tuple(map(min, ends, limit)))
    yield from _all(_fill_slab(array, slab, listing) for slab in slabs)


def _fill_slab(array: BoundArray, slab: ArraySubset, listing: bool) -> Op[None]:
    chunks = [*(yield from _chunks(array, array.grid.block_of(slab), listing))]
    if chunks:
        cost = largest_batch(array, np.array(chunks, np.int64).reshape(len(chunks), len(array.shape))).cost
        yield from gather((_fill_part(array, chunk, slab) for chunk in chunks), cost)


def _chunks(array: BoundArray, block: ArraySubset, listing: bool) -> Op[Iterable[tuple[int, ...]]]:
    """The chunks of a block, or those of them that are stored, where the others would take long to ask for."""
    found = (yield from listed_chunks(array, block)) if listing and array.turn is None else None
    if found is not None:
        return map(tuple, found.tolist())
    if not listing or block.size <= (LIST_FROM if array.turn is None else BATCH):
        return (tuple(map(add, block.start, offset)) for offset in np.ndindex(*block.shape))
    keys = yield from list_prefix(array.key_of(""))
    return map(tuple, chunks_of(array, keys, block).tolist())


def _fill_part(array: BoundArray, chunk: tuple[int, ...], slab: ArraySubset) -> Op[None]:
    """Fill the part of one chunk's padding that is in a slab. Mostly it is so already: then nothing is written."""
    whole = array.grid.subset(chunk)
    box = slab.intersect(whole)
    local = tuple(map(sub, box.start, whole.start))
    found = yield from read.retrieve_chunk_subset(array, chunk, ArraySubset(local, box.shape))
    if array.fill.equals(found[np.newaxis]).all():
        return
    fill = array.fill.full(box.shape)
    bounds = tuple(map(max, array.shape, box.stop))
    yield from update.store_region(array, box_region(box), fill, bounds, metadata_locked=True)


def _beyond(inner: Sequence[int], outer: Sequence[int]) -> Iterator[ArraySubset]:
    """Boxes that together are the box (0, outer) without the box (0, inner); none overlap.

    >>> [(box.start, box.stop) for box in _beyond((2, 3), (4, 4))]
    [((2, 0), (4, 4)), ((0, 3), (2, 4))]
    """
    for axis in range(len(outer)):
        start = tuple(inner[axis] if dimension == axis else 0 for dimension in range(len(outer)))
        stop = tuple(min(a, b) if dimension < axis else b for dimension, (a, b) in enumerate(zip(inner, outer, strict=True)))
        if all(b > a for a, b in zip(start, stop, strict=True)):
            yield _block(start, stop)


def _block(start: tuple[int, ...], stop: tuple[int, ...]) -> ArraySubset:
    return ArraySubset(start, tuple(map(sub, stop, start)))
