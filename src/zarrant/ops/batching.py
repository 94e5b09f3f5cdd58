"""Batches of chunks: how many are encoded and stored with one request, and the outcome of each.

In: columns of chunks (`ChunkSelections`) and values. Out: `Put` requests, each on condition that the array is still there
(`ops/current.py`). The chunks of one batch have one shape. A failure of some chunks is one PartialFailure that names them and
those that were stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from zarrant.errors import CallerError, PartialFailure, ZarrantError
from zarrant.geometry.box import Shape
from zarrant.geometry.region import ChunkSelections, Values, chunk_of
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.current import look_ahead, put_current
from zarrant.ops.turns import store_new
from zarrant.requests import ANY, MIN_ADMITTED_BYTES, Op, Outcome, WriteRequest, admitted, gather, gather_outcomes

T = TypeVar("T")

Batch = Callable[[int, int], Op[list[Outcome[Any]]]]


LOOK_AHEAD_BYTES = 8 << 20
"""Of a write that is encoded beside the look at the metadata: a look serves for 0.1 s (`run/looks.py`), in which zstd 1 encodes
some 30 MB. Of larger ones the first chunks are stored before the last are encoded, and a look that is too old is made again."""


class BatchSize(NamedTuple):
    """How many chunks of one shape are handled together, and the bytes that they hold at the peak."""

    encoded: int
    """Chunks encoded or decoded together: many small ones, or one that is large or a shard."""
    cost: int
    """Bytes of rows and encoded rows, or of an encoded shard."""
    stored: int
    """Chunks stored with one request."""
    stored_cost: int


def batch_size(array: BoundArray, chunk_shape: Shape) -> BatchSize:
    """The sizes of batches for chunks of a shape."""
    nbytes, options = array.prepared_for(chunk_shape).spec.nbytes, array.options
    encoded = 1 if array.sharded else max(1, options.codec.batch_bytes // max(1, nbytes))
    stored = max(encoded, options.batch_put_bytes // max(1, nbytes))
    return BatchSize(encoded, 2 * encoded * nbytes, stored, 2 * stored * nbytes)


def equal_shapes(array: BoundArray, chunks: npt.NDArray[np.int64]) -> list[tuple[Shape, int, int]]:
    """Ranges of rows of `chunks` (n, d), each of chunks that have one shape: (shape, lo, hi)."""
    shape = array.grid.uniform_shape
    if shape is not None:
        return [(shape, 0, len(chunks))]
    shapes = array.grid.chunk_shapes(chunks)
    borders = [0, *(np.flatnonzero((shapes[1:] != shapes[:-1]).any(axis=1)) + 1).tolist(), len(chunks)]
    return [(tuple(shapes[lo].tolist()), lo, hi) for lo, hi in pairwise(borders) if lo < hi]


def largest_batch(array: BoundArray, chunks: npt.NDArray[np.int64]) -> BatchSize:
    """The batch that costs most among those of some chunks."""
    shapes = {shape for shape, _, _ in equal_shapes(array, chunks)}
    return max((batch_size(array, shape) for shape in shapes), key=lambda size: size.cost)


def within_budget(array: BoundArray, selections: ChunkSelections, elements: int, op: Op[T], brief: bool = False) -> Op[T]:
    """An operation on so many elements of some chunks, begun when the bytes are left that it holds: those of its largest batch."""
    if selections.n <= array.brief_chunks:
        return op
    if array.sharded:  # no more of a shard than is selected is encoded or decoded, in whole subchunks
        itemsize = array.data_type.itemsize
        cost = 2 * (itemsize or 1) * (elements + math.prod(array.subchunk_shapes[0]))
        if selections.n == 1 and itemsize and cost <= MIN_ADMITTED_BYTES:
            return op
        return admitted(op, min(largest_batch(array, selections.index).cost, cost), brief=brief)
    rows = largest_batch(array, selections.index)
    return admitted(op, min(rows.cost, rows.cost // rows.encoded * selections.n), brief=brief)


def write_selections(array: BoundArray, selections: ChunkSelections, values: Array) -> Op[None]:
    """Write chunks whose every element comes from `values` (the rest is padding)."""
    if selections.n == 1:
        batches = run_one(array, chunk_of(selections, 0), write_batch(array, selections, values, 0, 1))
    else:
        index = selections.index
        batches = run_batches(array, index, _ranges(array, index), partial(write_batch, array, selections, values))
    yield from within_budget(array, selections, values.size, batches)


def check_encodable(array: BoundArray, selections: ChunkSelections, values: Array) -> Op[None]:
    """Encode what `write_selections` would store, and drop it: the same errors, before anything is changed."""

    def check(lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        yield from encode(array, selections, values, lo, hi)
        return [None] * (hi - lo)

    rows = ((row, row + 1) for row in range(selections.n))
    yield from within_budget(array, selections, values.size, run_batches(array, selections.index, rows, check))


def _ranges(array: BoundArray, chunks: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of rows that are stored with one request each."""
    for shape, first, last in equal_shapes(array, chunks):
        step = batch_size(array, shape).stored
        for lo in range(first, last, step):
            yield lo, min(lo + step, last)


def write_batch(array: BoundArray, selections: ChunkSelections, values: Values, lo: int, hi: int) -> Op[list[Outcome[Any]]]:
    """Encode rows lo..hi, chunks of one shape, side by side, and store them with one request, whatever is there."""
    if not array.options.checks_conditions and array.turn is None:
        yield from _look_ahead(array, array.chunk_shape(chunk_of(selections, lo)), selections.n)
    if hi - lo == 1:
        return (yield from _put(array, (yield from encode(array, selections, values, lo, hi)), selections, lo))
    step, cost, _, _ = batch_size(array, array.chunk_shape(chunk_of(selections, lo)))
    parts = (encode(array, selections, values, at, min(at + step, hi)) for at in range(lo, hi, step))
    try:
        items = yield from gather(parts, cost)
    except ZarrantError:
        return (yield from _write_each(array, selections, values, lo, hi))
    return (yield from _put(array, [item for each in items for item in each], selections, lo))


def _write_each(array: BoundArray, selections: ChunkSelections, values: Values, lo: int, hi: int) -> Op[list[Outcome[Any]]]:
    """The same one by one, where some cannot be encoded: the others are stored, and it is known which they are."""
    outcomes: list[Outcome[Any]] = []
    for row in range(lo, hi):
        try:
            items = yield from encode(array, selections, values, row, row + 1)
        except ZarrantError as error:
            outcomes.append(error)
        else:
            outcomes += yield from _put(array, items, selections, row)
    return outcomes


def _look_ahead(array: BoundArray, chunk_shape: Shape, n: int) -> Op[None]:
    """Look whether the array is still there beside the encoding of the `n` chunks of a write, if that ends soon enough."""
    if n * array.prepared_for(chunk_shape).spec.nbytes <= LOOK_AHEAD_BYTES:
        yield from look_ahead(array)


def _put(array: BoundArray, items: Sequence[WriteRequest], selections: ChunkSelections, lo: int) -> Op[list[Outcome[Any]]]:
    """Store whole chunks, of the shape of row `lo`: whatever is there, or (in a turn) by version."""
    if array.turn is None:
        return (yield from put_current(array, items))
    return (yield from store_new(array, items, array.chunk_shape(chunk_of(selections, lo))))


def encode(array: BoundArray, selections: ChunkSelections, values: Values, lo: int, hi: int) -> Op[list[WriteRequest]]:
    """Encode rows lo..hi, chunks of one shape: what is to be written for each, whatever is there."""
    chunk = chunk_of(selections, lo)
    encoded = yield from array.prepared_for(array.chunk_shape(chunk)).write(None, selections, lo, hi, values)
    if hi - lo == 1:
        return [WriteRequest(array.chunk_key(chunk), encoded.only(), ANY)]
    keys = array.chunk_keys(selections.index[lo:hi])
    return [WriteRequest(key, parts, ANY) for key, parts in zip(keys, encoded.rows(), strict=True)]


def run_batches(array: BoundArray, chunks: npt.NDArray[np.int64], batches: Iterable[tuple[int, int]], run: Batch) -> Op[None]:
    """Run batches of rows in parallel, and raise the errors of chunks that failed."""
    if len(chunks) == 1:
        yield from run_one(array, tuple(chunks[0].tolist()), run(0, 1))
        return
    flat = yield from _side_by_side(array, chunks, batches, run)
    for outcome in flat:
        if isinstance(outcome, Exception):
            raise_failures(array, [tuple(int(i) for i in chunk) for chunk in chunks], flat)
            return


def run_one(array: BoundArray, chunk: Shape, op: Op[list[Outcome[Any]]]) -> Op[None]:
    """Run the batch of the only chunk, with nothing beside it, and raise its error."""
    try:
        (outcome,) = yield from op
    except Exception as error:
        outcome = error
    if isinstance(outcome, Exception):
        raise_failures(array, [chunk], [outcome])


def _side_by_side(
    array: BoundArray, chunks: npt.NDArray[np.int64], batches: Iterable[tuple[int, int]], run: Batch
) -> Op[list[Outcome[Any]]]:
    """One outcome for each row."""
    ranges: list[tuple[int, int]] = []

    def ops() -> Iterator[Op[list[Outcome[Any]]]]:
        for lo, hi in batches:
            ranges.append((lo, hi))
            yield run(lo, hi)

    outcomes = yield from gather_outcomes(ops(), largest_batch(array, chunks).stored_cost)
    flat: list[Outcome[Any]] = []
    for (lo, hi), outcome in zip(ranges, outcomes, strict=True):
        flat.extend([outcome] * (hi - lo) if isinstance(outcome, Exception) else outcome)
    return flat


def raise_failures(array: BoundArray, chunks: Sequence[tuple[int, ...]], outcomes: Sequence[Outcome[Any]]) -> None:
    """Raise what has failed: the error itself where there is one chunk, else a PartialFailure."""
    failed: dict[tuple[int, ...], Exception] = {}
    stored = []
    for chunk, outcome in zip(chunks, outcomes, strict=True):
        if isinstance(outcome, Exception):
            failed[chunk] = _named(array, chunk, outcome) if len(chunks) == 1 or chunk not in failed else outcome
        else:
            stored.append(chunk)
    if not failed:
        return
    first = next(iter(failed.values()))
    if len(chunks) == 1 or isinstance(first, CallerError):
        raise first
    raise PartialFailure(f"writing {len(chunks)} chunks", failed=failed, stored=stored, path=array.prefix or "/")


def _named(array: BoundArray, chunk: tuple[int, ...], error: Exception) -> Exception:
    return error.annotate(chunk=chunk, key=array.chunk_key(chunk)) if isinstance(error, ZarrantError) else error
