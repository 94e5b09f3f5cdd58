"""Update a region with a function of its values, `fn(current) -> new`, and find the keys that such a region touches.

The region is taken chunk by chunk. Each chunk is read, changed and stored in one atomic step (`guard`), which is repeated if
another writer was faster; so `fn` may be called several times. In a shard only the subchunks that the region touches are read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy.typing as npt

from zarrant.codecs.byte_sources import OneChunk, Stored
from zarrant.errors import DataTypeError
from zarrant.geometry.box import ArraySubset, Shape, as_subset
from zarrant.geometry.grid import block_indices, chunk_alone
from zarrant.geometry.region import box_region
from zarrant.ops.batching import run_batches
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.casting import as_values, broadcast
from zarrant.ops.current import Current, shape_stands
from zarrant.ops.guard import Guard, update_object
from zarrant.ops.partial_decoder import CachedChunk
from zarrant.ops.turns import erased
from zarrant.requests import Op, Outcome
from zarrant.storage import Part

Function = Callable[[npt.NDArray[Any]], Any]


def update_subset(array: BoundArray, subset: Any, fn: Function) -> Op[None]:
    """Replace a region by `fn(current)`, atomically for each stored object it touches; no other write comes in between.

    `fn` gets the part of the region in one stored object (all of the region where it lies in one), as an array of its own
    that it may change, with fill values where nothing is stored. It returns new values that have this shape or broadcast to
    it. It is called for each object, for several at once in threads, and again for one that another writer replaced
    meanwhile (compare-and-swap), so it should have no side effects. Where it raises, that object stays as it is: the error
    itself where there is one object, a PartialFailure where there are more.
    """
    region = as_subset(subset, array.shape)
    if region.is_empty:
        return
    chunks = block_indices(array.grid.chunks_in(region))

    def change(lo: int, hi: int) -> Op[list[Outcome[None]]]:
        chunk = tuple(int(i) for i in chunks[lo])
        apply = partial(_apply, array, chunk, region, fn)
        guard = Guard.lock_if(array.options.guarded)
        yield from update_object(array.chunk_key(chunk), apply, guard, node=Current(array), source=CachedChunk)
        return [None]

    yield from run_batches(array, chunks, ((row, row + 1) for row in range(len(chunks))), change)


def _apply(array: BoundArray, chunk: Shape, region: ArraySubset, fn: Function, source: Stored) -> Op[list[Part] | None]:
    inside = array.grid.in_bounds(chunk)
    origin = inside.start
    part = region.intersect(inside)
    local = ArraySubset(subtract(part.start, origin), part.shape)
    shape = array.chunk_shape(chunk)
    prepared = array.prepared_for(shape)
    bounds = yield from known_bounds(array, inside.shape, shape)
    around = _whole_subchunks(local, array.piece_shape_for(shape), bounds)
    current = array.empty(around.shape)
    selections = box_region(around).split(chunk_alone(shape), bounds)
    yield from prepared.read(OneChunk(0, source), selections, 0, 1, current)
    within: tuple[Any, ...] = (
        *ArraySubset(subtract(local.start, around.start), local.shape).slices,
        ...,
    )  # an array also without dimensions
    current[within] = broadcast(_new_values(array, fn, current[within].copy()), local.shape)
    encoded = yield from prepared.write(OneChunk(0, source), selections, 0, 1, current)
    parts = encoded.only()
    return parts if parts is not None else (yield from erased(array, shape, source))


def _new_values(array: BoundArray, fn: Function, current: Array) -> Array:
    new = fn(current)
    if new is None:
        raise DataTypeError("the function of an update returns the new values", expected="an array", got="None")
    return as_values(array, new)


def known_bounds(array: BoundArray, known: Shape, chunk_shape: Shape) -> Op[Shape]:
    """Up to where a locked chunk may hold elements: as far as this handle knows, if the stored shape is the one that it knows."""
    if known == chunk_shape:
        return known
    if (yield from shape_stands(array)):  # safety: bounds
        return known
    return chunk_shape


def touched_keys(array: BoundArray, subset: Any) -> list[str]:
    """The keys of all stored objects that a region touches."""
    chunks = array.grid.chunks_in(as_subset(subset, array.shape))
    return [] if chunks.is_empty else array.chunk_keys(block_indices(chunks))


def subtract(a: Shape, b: Shape) -> Shape:
    """The difference of two positions."""
    return tuple(x - y for x, y in zip(a, b, strict=True))


def _whole_subchunks(box: ArraySubset, piece: Shape, bounds: Shape) -> ArraySubset:
    """The pieces that a box touches, within bounds."""
    start = tuple(low // n * n for low, n in zip(box.start, piece, strict=True))
    stop = tuple(min(-(-high // n) * n, bound) for high, n, bound in zip(box.stop, piece, bounds, strict=True))
    return ArraySubset(start, subtract(stop, start))
