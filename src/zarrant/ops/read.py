"""Operations that read. No operation in this module writes.

What is not stored reads as the fill value (or is a ChunkMissingError under `missing_chunks="error"`). A shard that is replaced
between its index and its data is read again from the new index; after a few tries, whole and in one request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from zarrant import kernels
from zarrant.codecs.byte_sources import InMemory, OneChunk, Stored, StoredChunks, VersionedChunks
from zarrant.codecs.kept import DecodedCache, Keeper
from zarrant.codecs.pipeline.fixed_size import FixedSizePipeline
from zarrant.codecs.pipeline.kept import nbytes_of, read_kept
from zarrant.codecs.protocols import Prepared
from zarrant.codecs.sharding.prepared import Shard
from zarrant.errors import CapabilityError, ChunkMissingError, PartialFailure, ShapeError, VersionChangedError, ZarrantError
from zarrant.geometry.box import ArraySubset, Shape, as_subset, check_chunk_indices
from zarrant.geometry.disjoint_boxes import DisjointBoxes
from zarrant.geometry.grid import ChunkGrid, block_indices
from zarrant.geometry.region import BoxInChunk, BoxInChunks, ChunkSelections, Region, box_region
from zarrant.geometry.selection import Selection
from zarrant.limits import LIMITS
from zarrant.ops.batching import batch_size, equal_shapes, largest_batch, within_budget
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.casting import output
from zarrant.ops.kept_boxes import BoxesByChunk, boxes_by_chunk, copy_kept
from zarrant.requests import Op, ReadRequest, fetch, fetch_one, gather_outcomes
from zarrant.storage import Blob

T = TypeVar("T")

MOVED_TRIES = 4
"""Reads of a moving shard in parts before it is read whole; each further try meets another writer with the same odds."""
MAX_BRIEF = 256
"""The most chunks of one read that are planned on the event loop; each takes 10 to 20 µs."""
AT_ONCE_BYTES = 256 << 20
"""Of chunks that are decoded in one go; those of more are read in batches, which an error or a signal can come between."""
MAX_TWICE = 1.25
"""Of regions that are read together: so many times each subchunk may be decoded, on average, before they are read in another way,
by which it is decoded once, and which takes a quarter more time for each."""
MIN_BATCHES = 16
"""Batches of a read of many chunks, at least, before they become larger: so that all threads have work to the end."""
SMALL_BYTES, MAX_SMALL_CHUNKS = 64 << 10, 8
"""A result of so many bytes, from pieces of so many, is decoded on the event loop: 64 KiB of zstd take 50 µs, as a hop between
threads does on an idle machine, and milliseconds less than on a busy one."""


def is_planned_at_once(array: BoundArray, selection: Any) -> bool:
    """Whether an index expression is a small box, which is planned in microseconds."""
    items = selection if isinstance(selection, tuple) else (selection,)
    size = math.prod(array.shape[len(items) :])
    for item, length in zip(items, array.shape, strict=False):
        if type(item) is slice and item.step is None:
            start, stop = item.start or 0, length if item.stop is None else item.stop
            if not type(start) is type(stop) is int or start < 0 or stop < 0:
                return False
            size *= max(0, min(stop, length) - start)
        elif type(item) is not int:
            return False
    return size <= MAX_BRIEF * math.prod(array.grid.typical_shapes()[0]) and size <= SMALL_BYTES


def retrieve_selection(array: BoundArray, selection: Selection, out: Array | None = None) -> Op[Array]:
    """The elements of a NumPy-like selection."""
    result = output(array, out, selection.out_shape)
    yield from read_region(array, selection.region, selection.to_work(result), array.shape)
    return result


def retrieve_array_subset(array: BoundArray, subset: Any, out: Array | None = None) -> Op[Array]:
    """The elements of a region, decoded into `out` where it is given."""
    region = as_subset(subset, array.shape)
    result = output(array, out, region.shape)
    yield from read_region(array, box_region(region), result, array.shape)
    return result


def retrieve_array_subsets(
    array: BoundArray, subsets: Sequence[Any], out: Array | Sequence[Array] | None = None
) -> Op[list[Array]]:
    """The elements of many regions; each stored object is read once for all those of one shape."""
    regions = [as_subset(subset, array.shape) for subset in subsets]
    given = None if out is None else _outputs(array, out, regions)
    if not array.shape:
        only = yield from retrieve_array_subset(array, ())
        return _copied([only] * len(regions), given or [array.empty(()) for _ in regions])
    by_shape: dict[Shape, list[int]] = {}
    for number, region in enumerate(regions):
        by_shape.setdefault(region.shape, []).append(number)
    joined = out.flags.c_contiguous if isinstance(out, np.ndarray) and len(by_shape) == 1 else False
    results: dict[int, Array] = {}
    for shape, numbers in by_shape.items():
        rows = (len(numbers) * shape[0], *shape[1:])
        values = out.reshape(rows) if joined and isinstance(out, np.ndarray) else array.empty(rows)
        alike = [regions[number] for number in numbers]
        if values.size and not (yield from _read_together(array, alike, values)):
            yield from read_region(array, _boxes(array, alike), values, array.shape)
        results.update(zip(numbers, values.reshape(len(numbers), *shape), strict=True))
    found = [results[number] for number in range(len(regions))]
    return found if given is None else given if joined else _copied(found, given)


def _outputs(array: BoundArray, out: Array | Sequence[Array], regions: Sequence[ArraySubset]) -> list[Array]:
    """Where each region goes: an array of its own, or its row of one array; ShapeError, DataTypeError before anything is read."""
    if isinstance(out, np.ndarray) and out.ndim == 0:
        raise ShapeError("`out` is one array", expected=f"{len(regions)} rows, one for each region", got=out.shape)
    rows = [out[row, ...] for row in range(len(out))] if isinstance(out, np.ndarray) else list(out)
    if len(rows) != len(regions):
        raise ShapeError("`out` is not for these regions", expected=f"{len(regions)} arrays", got=len(rows))
    return [output(array, row, region.shape) for row, region in zip(rows, regions, strict=True)]


def _copied(values: Sequence[Array], out: Sequence[Array]) -> list[Array]:
    for each, place in zip(values, out, strict=True):
        place[...] = each
    return list(out)


def _read_together(array: BoundArray, regions: Sequence[ArraySubset], out: Array) -> Op[bool]:
    """Read regions of one shape, one after the other in `out`, with one compiled call; False where that cannot be."""
    n = len(regions)
    if (array.options.cache is None and not array.sharded) or (n > MAX_BRIEF and out.nbytes < n * SMALL_BYTES):
        return False  # the general way has one for chunks, and plans many small regions as columns, in half of the time
    length, rest = regions[0].shape[0], (0,) * (len(array.shape) - 1)
    places = ((region, (number * length, *rest)) for number, region in enumerate(regions))
    parts = [box_region(region, place).split(array.grid, array.shape) for region, place in places]
    if array.options.cache is not None:
        left = yield from copy_kept(array, parts, out)
        return left is not None and not left
    boxes = boxes_by_chunk(parts)
    if boxes is None:
        return False
    done = yield from within_budget(array, parts[0], out.size, _read_shards_decoded(array, boxes, out, together=True))
    return done is not None and done == boxes.keys()


def retrieve_copies(array: BoundArray, regions: Sequence[ArraySubset]) -> Op[list[Array]]:
    """`retrieve_array_subsets`, each with memory of its own: none is kept for as long as another one."""
    return [found.copy() for found in (yield from retrieve_array_subsets(array, regions))]


def plain_box(array: BoundArray, selection: tuple[Any, ...]) -> ArraySubset | None:
    """The region of slices that give start and stop within the bounds, one for each dimension; None for other selections."""
    if len(selection) != len(array.shape):
        return None
    start, shape = [], []
    for item, length in zip(selection, array.shape, strict=True):
        if type(item) is not slice or item.step is not None or type(item.start) is not int or type(item.stop) is not int:
            return None
        if not 0 <= item.start < item.stop <= length:
            return None
        start.append(item.start)
        shape.append(item.stop - item.start)
    return ArraySubset(tuple(start), tuple(shape)) if shape else None


def _boxes(array: BoundArray, regions: Sequence[ArraySubset]) -> DisjointBoxes:
    """Regions of one shape, cut at the borders of what is decoded whole; in the values they come one after the other."""
    pieces = ChunkGrid.regular(array.shape, array.subchunk_shapes[-1]) if array.sharded else array.grid
    return DisjointBoxes.cut(np.array([region.start for region in regions], np.int64), regions[0].shape, pieces)


def retrieve_chunk(array: BoundArray, chunk: Sequence[int], out: Array | None = None) -> Op[Array]:
    """One chunk in its full shape, padding of edge chunks included."""
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    return (yield from retrieve_chunks(array, ArraySubset(chunk, (1,) * len(chunk)), out))


def retrieve_chunks(array: BoundArray, chunks: Any, out: Array | None = None) -> Op[Array]:
    """A block of chunks as one array, padding of edge chunks included."""
    chunks = as_subset(chunks, array.grid.grid_shape, "chunk grid")
    subset = array.grid.block(chunks)
    result = output(array, out, subset.shape)
    yield from read_region(array, box_region(subset), result, subset.stop)
    return result


def retrieve_chunk_if_exists(array: BoundArray, chunk: Sequence[int]) -> Op[Array | None]:
    """One chunk, or None where it is not stored."""
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    required = array.with_options(replace(array.options, missing_chunks="error"))
    try:
        return (yield from retrieve_chunk(required, chunk))
    except ChunkMissingError:
        return None


def retrieve_chunk_subset(array: BoundArray, chunk: Sequence[int], subset: Any, out: Array | None = None) -> Op[Array]:
    """A part of one chunk; `subset` is in coordinates of the chunk."""
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    local = as_subset(subset, array.chunk_shape(chunk), "chunk")
    region = local.shift(array.grid.origin(chunk))
    result = output(array, out, region.shape)
    bounds = tuple(max(length, stop) for length, stop in zip(array.shape, region.stop, strict=True))
    yield from read_region(array, box_region(region), result, bounds)
    return result


def retrieve_encoded_chunk(array: BoundArray, chunk: Sequence[int]) -> Op[memoryview | None]:
    """The stored bytes of one chunk, or None."""
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    blob = yield from fetch_one(array.chunk_key(chunk), limit=whole_limit(array.prepared_for(array.chunk_shape(chunk))))
    return None if blob is None else blob.data[0]


def retrieve_encoded_chunks(array: BoundArray, chunks: Any) -> Op[list[memoryview | None]]:
    """The stored bytes of a block of chunks, in C order."""
    chunks = as_subset(chunks, array.grid.grid_shape, "chunk grid")
    if chunks.is_empty:
        return []
    rows = block_indices(chunks)
    indices = [tuple(int(i) for i in row) for row in rows]
    cost = largest_batch(array, rows).cost
    outcomes = yield from gather_outcomes((retrieve_encoded_chunk(array, chunk) for chunk in indices), cost)
    _raise_read_failures(array, indices, outcomes)
    return outcomes  # type: ignore[return-value]  # every exception was raised


def retrieve_subchunk(array: BoundArray, subchunk: Sequence[int]) -> Op[Array]:
    """One subchunk, by its indices in the grid of all subchunks of the array."""
    grid = subchunk_grid(array)
    subchunk = check_chunk_indices(subchunk, grid.grid_shape)
    return (yield from retrieve_subchunks(array, ArraySubset(subchunk, (1,) * len(subchunk))))


def retrieve_subchunks(array: BoundArray, subchunks: Any) -> Op[Array]:
    """A block of subchunks as one array, clipped to the array."""
    grid = subchunk_grid(array)
    chosen = as_subset(subchunks, grid.grid_shape, "subchunk grid")
    if chosen.is_empty:
        return array.empty(tuple(n and n * size for n, size in zip(chosen.shape, grid.uniform_shape or (), strict=True)))
    first, last = grid.in_bounds(chosen.start), grid.in_bounds(tuple(stop - 1 for stop in chosen.stop))
    subset = ArraySubset(first.start, tuple(stop - start for start, stop in zip(first.start, last.stop, strict=True)))
    return (yield from retrieve_array_subset(array, subset))


def subchunk_grid(array: BoundArray) -> ChunkGrid:
    """The grid of the outermost subchunks, over the whole array; CapabilityError where the array is not sharded."""
    if not array.sharded:
        raise CapabilityError("the array is not sharded", expected="shards", got="chunks only", hint="Use retrieve_chunk")
    return ChunkGrid.regular(array.shape, array.subchunk_shapes[0])


def read_region(array: BoundArray, region: Region, out: Array, bounds: tuple[int, ...]) -> Op[None]:
    """Read a region of an array whose elements exist up to `bounds` into the values `out`."""
    if out.size == 0:
        return
    selections = region.split(array.grid, bounds)
    if selections.n:
        left = None if array.options.cache is None else (yield from copy_kept(array, [selections], out))
        if left is None:
            read = _read_selections(array, selections, out)
        elif left:
            rows = [row for row, chunk in enumerate(selections.index.tolist()) if tuple(chunk) in left]
            read = _read_each(array, selections, rows, out)
        else:
            return
        yield from within_budget(array, selections, out.size, read, selections.n <= MAX_BRIEF)


def _read_selections(array: BoundArray, selections: ChunkSelections, out: Array) -> Op[None]:
    small = selections.n <= MAX_SMALL_CHUNKS and _is_small(array, out)
    if selections.n <= MAX_BRIEF and not small and array.options.cache is None:
        left = yield from (_read_boxes_of_shards if array.sharded else _read_decoded)(array, selections, out)
        if left is not None:
            yield from _read_each(array, selections, left, out)
            return
    if selections.n == 1:  # nothing is shared out, and no other chunk can fail
        try:
            yield from _read_batch(array, selections, 0, 1, out, _is_small(array, out))
        except ZarrantError as error:
            chunk = tuple(selections.index[0].tolist())
            raise error.annotate(chunk=chunk, key=array.chunk_key(chunk)) from error.__cause__
        return
    ranges, cost = _ranges(array, selections)
    batches = (_read_batch(array, selections, lo, hi, out, small) for lo, hi in ranges)
    outcomes = yield from gather_outcomes(batches, cost, brief=selections.n <= MAX_BRIEF, small=small)
    failed = [(lo, hi) for (lo, hi), outcome in zip(ranges, outcomes, strict=True) if isinstance(outcome, Exception)]
    # Again one by one, to name every chunk that fails and to read every one that does not.
    yield from _read_each(array, selections, [row for lo, hi in failed for row in range(lo, hi)], out)


def _read_each(array: BoundArray, selections: ChunkSelections, rows: Sequence[int], out: Array) -> Op[None]:
    """Read chunks side by side, each by itself."""
    if not rows:
        return
    cost = largest_batch(array, selections.index).cost
    outcomes = yield from gather_outcomes((_read_batch(array, selections, row, row + 1, out) for row in rows), cost)
    _raise_read_failures(array, [tuple(int(i) for i in selections.index[row]) for row in rows], outcomes)


def _read_decoded(array: BoundArray, selections: ChunkSelections, out: Array) -> Op[Sequence[int] | None]:
    """Have chunks decoded in one go, as they are read; those that are left then, or None where nothing is known of any."""
    shape = array.grid.uniform_shape
    if shape is None or selections.n == 1:
        return None
    prepared = array.prepared_for(shape)
    if not (isinstance(prepared, FixedSizePipeline) and prepared.is_read_decoded):
        return None
    if selections.n * prepared.spec.nbytes > AT_ONCE_BYTES:
        return None
    try:
        yield from _read_batch(array, selections, 0, selections.n, out, at_once=True)
    except ZarrantError:
        return None
    return ()


def _read_boxes_of_shards(array: BoundArray, selections: ChunkSelections, out: Array) -> Op[Sequence[int] | None]:
    """The same of boxes of shards."""
    boxes = boxes_by_chunk([selections])
    done = None if boxes is None else (yield from _read_shards_decoded(array, boxes, out))
    return None if boxes is None or done is None else [row for row, chunk in enumerate(boxes) if chunk not in done]


def _read_shards_decoded(array: BoundArray, boxes: BoxesByChunk, out: Array, together: bool = False) -> Op[set[Shape] | None]:
    """Have boxes of those shards of which the indexes are known decoded as they are read, if they are still of that version.

    Out: the shards of which all was; None where that is none. With `together` nothing is done unless all indexes are known, and few
    subchunks would be decoded more than once.
    """
    shape = array.grid.uniform_shape
    prepared = None if shape is None else array.prepared_for(shape)
    if not isinstance(prepared, Shard) or out.nbytes > AT_ONCE_BYTES:
        return None
    sources = {chunk: array.indexes.source(array.chunk_key(chunk), False) for chunk in boxes}
    known = [(chunk, box) for chunk, parts in boxes.items() if sources[chunk].kept for box in parts]
    parts = [box for _, box in known]
    if not known or not prepared.is_read_decoded(parts):
        return None
    if together and not (all([sources[chunk].kept for chunk in boxes]) and prepared.decoded_often(boxes.values()) <= MAX_TWICE):  # noqa: C419
        return None
    done = yield from prepared.read_decoded([sources[chunk] for chunk, _ in known], parts, out)
    failed = {chunk for (chunk, _), good in zip(known, done, strict=True) if not good}
    return {chunk for chunk, _ in known} - failed


def _is_small(array: BoundArray, out: Array) -> bool:
    """Whether a result and what it is decoded from are small, so that decoding takes no longer than a change of threads."""
    return max(out.size, array.piece_size) * (array.data_type.itemsize or SMALL_BYTES) <= SMALL_BYTES


def _ranges(array: BoundArray, selections: ChunkSelections) -> tuple[list[tuple[int, int]], int]:
    """Ranges of rows that are decoded together, and the bytes that the largest of them holds."""
    if _all_kept(array, selections):
        return [(0, selections.n)], 0
    ranges, cost = [], 0
    uniform = array.grid.uniform_shape
    for shape, first, last in equal_shapes(array, selections.index) if uniform is None else [(uniform, 0, selections.n)]:
        size = batch_size(array, shape)
        cost = max(cost, size.cost if array.options.cache is None else 2 * size.cost)  # those that are kept are decoded once more
        step, prepared = size.encoded, array.prepared_for(shape)
        if isinstance(prepared, FixedSizePipeline) and prepared.program and array.options.cache is None:
            # One kernel call decodes and copies them: there are no decoded bytes beside the encoded ones, so twice as many fit.
            step = min(2 * step, max(step, (last - first) // MIN_BATCHES))
        ranges += [(lo, min(lo + step, last)) for lo in range(first, last, step)]
    return ranges, cost


def _all_kept(array: BoundArray, selections: ChunkSelections) -> bool:
    """Whether every chunk is kept: those are only looked at and copied, which one thread does faster than several."""
    cache, shape = array.options.cache, array.grid.uniform_shape
    if cache is None or shape is None or array.sharded or selections.n > MAX_BRIEF:
        return False
    return None not in cache.find_all([(array.decoding, key, shape) for key in array.chunk_keys(selections.index)])


def whole_limit(prepared: Prepared) -> int:
    """The bytes of a stored object that is read whole as it is: a shard may also have dead ones, and a file holes."""
    return 2 * max(LIMITS.decoded, prepared.encoded_bound)


def _raise_read_failures(array: BoundArray, chunks: Sequence[tuple[int, ...]], outcomes: Sequence[object]) -> None:
    failed: dict[tuple[int, ...], Exception] = {}
    for chunk, outcome in zip(chunks, outcomes, strict=True):
        if isinstance(outcome, ZarrantError):
            outcome.annotate(chunk=chunk, key=array.chunk_key(chunk))
        if isinstance(outcome, Exception):
            failed[chunk] = outcome
    if len(failed) == 1:
        raise next(iter(failed.values()))
    if failed:
        raise PartialFailure(f"reading {len(chunks)} chunks", failed=failed, path=array.prefix or "/")


def _read_batch(
    array: BoundArray, selections: ChunkSelections, lo: int, hi: int, out: Array, small: bool = False, at_once: bool = False
) -> Op[None]:
    if isinstance(selections, BoxInChunks) and hi - lo == 1:
        selections, lo, hi = selections.part(lo), 0, 1
    if isinstance(selections, BoxInChunk):
        keys, shape = [array.chunk_key(selections.chunk)], array.chunk_shape(selections.chunk)
    elif isinstance(selections, BoxInChunks):
        chunks = [each[0] for each in selections.chunks[lo:hi]]
        keys, shape = [array.chunk_key(chunk) for chunk in chunks], array.chunk_shape(chunks[0])
    else:
        keys, shape = array.chunk_keys(selections.index[lo:hi]), array.chunk_shape(selections.index[lo])
    prepared = array.prepared_for(shape)
    cache = array.options.cache
    if cache is not None and not prepared.partial.read and prepared.spec.nbytes <= cache.max_value_bytes:
        yield from _read_kept(array, cache, keys, selections, lo, out)
        return
    if not array.sharded:
        required = array.options.missing_chunks == "error"
        stored = StoredChunks(keys, lo, required, small, array.options.coalesce_gap)
        stored.at_once = at_once
        yield from prepared.read(stored, selections, lo, hi, out)
        return
    for row in range(lo, hi):
        yield from _read_shard(array, prepared, keys[row - lo], selections, row, out, small)


def _read_kept(
    array: BoundArray, cache: DecodedCache, keys: list[str], selections: ChunkSelections, lo: int, out: Array
) -> Op[None]:
    """Read chunks that are decoded whole: those that are kept, and are still of that version, from memory."""
    required, shape = array.options.missing_chunks == "error", array.chunk_shape(selections.index[lo])
    places = [(array.decoding, key, shape) for key in keys]
    kept = cache.find_all(places)
    found: list[Array | None] = [None] * len(keys)
    asked = [row for row, each in enumerate(kept) if each is not None]
    outcomes = yield from _look_at([keys[row] for row in asked])
    for row, outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, Exception):
            raise outcome
        each = kept[row]
        if each is not None and outcome is not None and outcome.version == each.version:  # safety: version of a kept chunk
            found[row] = each.value
    missing = VersionedChunks([key for key, chunk in zip(keys, found, strict=True) if chunk is None], required)
    decoded = yield from read_kept(array.prepared_for(shape), shape, found, missing, selections, lo, out)
    for i, (row, new) in enumerate(decoded.items()):
        cache.keep(places[row], missing.source(i).version, new, nbytes_of(new))


def _look_at(keys: Sequence[str]) -> Op[list[Blob | Exception | None]]:
    """Which versions objects have now, in blobs without data; None for one that is not there."""
    requests = [ReadRequest(key, ()) for key in keys]
    if len(keys) < 2 or kernels.file_looks is None:
        return (yield from fetch(requests)) if keys else []
    outcomes = yield from fetch(requests, decoder=kernels.file_looks)
    again = [i for i, outcome in enumerate(outcomes) if outcome is None]  # it may also be something unusual
    for i, outcome in zip(again, (yield from fetch([requests[i] for i in again])) if again else (), strict=True):
        outcomes[i] = outcome
    return outcomes


def _read_shard(
    array: BoundArray, shard: Prepared, key: str, selections: ChunkSelections, row: int, out: Array, small: bool
) -> Op[None]:
    required, cache = array.options.missing_chunks == "error", array.options.cache

    def in_parts() -> Op[None]:
        source = array.indexes.source(key, required)
        source.gap = array.options.coalesce_gap
        source.brief = small
        source.keeper = None if cache is None else Keeper(cache, (array.decoding, key))
        try:
            yield from shard.read(OneChunk(row, source), selections, row, row + 1, out)
            yield from source.confirm()
        except ZarrantError as error:
            array.indexes.drop(key)
            if source.kept and not isinstance(error, VersionChangedError):
                yield from source.confirm()  # the error may be that of an index which is out of date
            raise
        array.indexes.keep(source)

    def at_once() -> Op[None]:
        data = yield from Stored(key, required).read_all(whole_limit(shard))
        whole = None if data is None else InMemory(data)
        yield from shard.read(OneChunk(row, whole), selections, row, row + 1, out)

    if cache is None and shard.spec.nbytes <= array.options.codec.fetch_bytes and selections.full[row]:
        yield from at_once()
    else:
        yield from while_replaced(in_parts, at_once)


def while_replaced(read: Callable[[], Op[T]], at_last: Callable[[], Op[T]]) -> Op[T]:
    """`read()`, again where the object was replaced between two of its requests; after a few tries `at_last()`."""
    for _ in range(MOVED_TRIES):
        try:
            return (yield from read())
        except VersionChangedError:
            continue
    return (yield from at_last())
