"""Free what stored objects hold without use (`zarrant compact`): dead bytes of shards, and objects of nothing but the fill value.

In: an address. Out: a dict that says what was freed. Each object is changed in one guarded step, as by every other writer, so
others may write meanwhile. Bytes in use are copied without being decoded; only `fill` decodes every object, to see what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from zarrant.geometry.box import ArraySubset
from zarrant.nodes.base import LIST, UPDATE, NodeContext
from zarrant.ops.atomic_update import update_subset
from zarrant.ops.batching import batch_size, raise_failures
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.compact import compact_chunk
from zarrant.ops.read import retrieve_chunk
from zarrant.ops.stored_chunks import stored_chunks
from zarrant.progress import Meter, Report
from zarrant.requests import Op, fetch_one, gather_outcomes
from zarrant.storage import ByteRange
from zarrant.tools.check import open_context, search


def compact(
    address: Any, *, fill: bool = False, report: Report | None = None, storage_options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Free bytes of an array, or of all arrays below a group.

    Args:
        address: the node.
        fill: erase also the objects in which every element is the fill value, as other libraries store them.
        report: is called with a `Progress` after each object.
        storage_options: options of the store, as `open` takes them.

    Returns:
        How many `arrays` and `objects` were looked at, `changed` and `erased` objects, and the bytes `freed`; `cannot`, the
        metadata that could not be read.

    Raises:
        NodeNotFoundError: nothing is there.
        PartialFailure: some objects could not be compacted. It names them, with causes.

    >>> import numpy as np, zarrant
    >>> objects = {}
    >>> a = zarrant.create_array(objects, shape=(8,), dtype="int32", chunks=(2,), shards=(8,))
    >>> a[...] = np.arange(8)
    >>> a[0] = 7
    >>> facts = compact(objects)
    >>> facts["changed"], facts["freed"] > 0, compact(objects)["freed"]
    (1, True, 0)
    """
    context = open_context(address, storage_options)
    arrays, broken = search(context, context.path)
    rows = {found.array.prefix: context.run(_stored(found.array), LIST) for found in arrays}
    sizes = {found.array.prefix: [_nbytes(found.array, chunk) for chunk in rows[found.array.prefix]] for found in arrays}
    meter = Meter(sum(map(sum, sizes.values())), sum(map(len, sizes.values())), report)
    freed = [each for found in arrays for each in _compacted(context, found.array, rows[found.array.prefix], fill, meter)]
    return {
        "address": context.url,
        "arrays": len(arrays),
        "objects": len(freed),
        "changed": sum(nbytes > 0 for nbytes, _ in freed),
        "erased": sum(gone for _, gone in freed),
        "freed": sum(nbytes for nbytes, _ in freed),
        "cannot": {finding.key: finding.detail for finding in broken if finding.kind in ("metadata", "unsupported")},
    }


def _stored(array: BoundArray) -> Op[list[tuple[int, ...]]]:
    rows = yield from stored_chunks(array, ArraySubset.full(array.grid.grid_shape))
    return [tuple(int(i) for i in row) for row in rows]


def _nbytes(array: BoundArray, chunk: tuple[int, ...]) -> int:
    return array.prepared_for(array.chunk_shape(chunk)).spec.nbytes


def _compacted(
    context: NodeContext, array: BoundArray, chunks: list[tuple[int, ...]], fill: bool, meter: Meter
) -> list[tuple[int, bool]]:
    """(bytes freed, whether it was erased) of each chunk."""
    cost = max((batch_size(array, array.chunk_shape(chunk)).cost for chunk in chunks), default=0)
    outcomes = context.run(gather_outcomes((_one(array, chunk, fill, meter) for chunk in chunks), cost), UPDATE)
    if any(isinstance(outcome, Exception) for outcome in outcomes):
        raise_failures(array, chunks, outcomes)
    return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]


def _one(array: BoundArray, chunk: tuple[int, ...], fill: bool, meter: Meter) -> Op[tuple[int, bool]]:
    before = yield from _size(array, chunk)
    yield from compact_chunk(array, chunk)
    if fill:
        yield from _erase_fill(array, chunk)
    after = yield from _size(array, chunk)
    meter.add(_nbytes(array, chunk), 1)
    return max(0, before - after), before > 0 and after == 0


def _size(array: BoundArray, chunk: tuple[int, ...]) -> Op[int]:
    blob = yield from fetch_one(array.chunk_key(chunk), (ByteRange(0, 0),))
    return 0 if blob is None else blob.size


class _HasValues(Exception):
    """Ends an update: the object stays as it is."""


def _erase_fill(array: BoundArray, chunk: tuple[int, ...]) -> Op[None]:
    """Erase an object of nothing but the fill value, in a guarded step that sees what others have written meanwhile."""
    # Most objects have values, and are told without a lock.
    values = yield from retrieve_chunk(array, chunk)
    if not array.fill.equals(values[None]).all():
        return

    def unless_filled(current: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if not array.fill.equals(current[None]).all():
            raise _HasValues
        return current

    try:
        yield from update_subset(array, array.grid.in_bounds(chunk), unless_filled)
    except _HasValues:
        pass
