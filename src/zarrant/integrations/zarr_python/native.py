"""Reads and writes of zarr-python as operations of Zarrant, for arrays that Zarrant knows.

In: an `OurArray` and a batch of zarr-python. Out: whether it was done; False for what is no region (`batches`), of which nothing
was done then. Small work on files of this machine is done where it is asked for, on zarr-python's event loop: a hop to
another thread takes longer. All else is done in threads, or awaited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zarrant.errors import ChunkMissingError, LockTimeout, PartialFailure
from zarrant.integrations.zarr_python.arrays import OurArray, bounds_for
from zarrant.integrations.zarr_python.batches import Item, Plan, Values, plan
from zarrant.nodes.base import READ, UPDATE
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.casting import as_values
from zarrant.ops.node import stored_metadata
from zarrant.ops.read import read_region
from zarrant.ops.update import store_region

SMALL_BYTES, MAX_SMALL_CHUNKS = 128 << 10, 4
"""Values and chunks of so many bytes, in so many chunks, are worked on where they are asked for: that takes about as long as
zarr-python takes for the call (0.3 ms), and no longer keeps the event loop from other work."""


async def read(ours: OurArray, batch: Sequence[Any], out: Values, drop_axes: tuple[int, ...]) -> bool:
    """Read a batch into `out`. Where chunks are missing that must not be, False."""
    spec = batch[0][1]
    context, array = ours.variant(bool(spec.config.write_empty_chunks), not getattr(spec.config, "read_missing_chunks", True))
    found = _planned(array, batch, drop_axes)
    target = None if found is None else found.target(out)
    if found is None or target is None:
        return False
    if out.dtype != array.data_type.numpy:
        return False
    op = read_region(array, found.region, target, bounds_for(array, found.stop))
    try:
        if _is_small(ours, array, batch, out):
            context.run(op, READ)
        else:
            await context.run_async(op, READ, brief=True)
    except (ChunkMissingError, PartialFailure):
        if array.options.missing_chunks == "fill":
            raise
        return False
    return True


async def write(ours: OurArray, batch: Sequence[Any], value: Values, drop_axes: tuple[int, ...]) -> bool:
    """Store the values of a batch."""
    empty = bool(batch[0][1].config.write_empty_chunks)
    context, array = ours.variant(empty, False)
    found = _planned(array, batch, drop_axes)
    if found is None:
        return False
    values = found.source(as_values(array, value))  # zarr-python hands on values of the other byte order
    if any(length < end for length, end in zip(array.shape, found.stop, strict=True)):  # it was made smaller than it is by now
        array = await _grown(ours, empty) or array
    bounds = bounds_for(array, found.stop)
    if _is_small(ours, array, batch, value) and len(batch) == 1:
        try:
            ours.at_once(empty).run(store_region(array, found.region, values, bounds), UPDATE)
            return True
        except LockTimeout:
            pass  # somebody else writes there: wait for that in a thread
    await context.run_async(store_region(array, found.region, values, bounds), UPDATE, brief=True)
    return True


def _planned(array: BoundArray, batch: Sequence[Any], drop_axes: tuple[int, ...]) -> Plan | None:
    start = len(array.prefix) + 1 if array.prefix else 0
    ndim, parse = len(array.shape), array.key_encoding.parse
    items = []
    for place, _, inside, outside, _ in batch:
        chunk = parse(place.path[start:], ndim)
        if chunk is None:
            return None
        items.append(Item(chunk, _tuple(inside), _tuple(outside)))
    return plan(items, array.grid, drop_axes)


def _tuple(selection: Any) -> tuple[Any, ...]:
    return selection if type(selection) is tuple else (selection,)


def _is_small(ours: OurArray, array: BoundArray, batch: Sequence[Any], values: Values) -> bool:
    size = max(values.size, array.piece_size) * (array.data_type.itemsize or SMALL_BYTES)
    return ours.local and len(batch) <= MAX_SMALL_CHUNKS and size <= SMALL_BYTES


async def _grown(ours: OurArray, empty: bool) -> BoundArray | None:
    """The array as it is stored now."""
    context, array = ours.variant(empty, False)
    return ours.grown(empty, await context.run_async(stored_metadata(array.prefix, array.metadata), ("get",)))
