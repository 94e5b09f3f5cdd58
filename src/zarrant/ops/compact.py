"""Operations that look after stored objects: how full shards are, and dropping what is dead in them.

Bytes in use are never decoded: they are copied as ranges of the old object. If there is nothing to do, one read finds that out
(one for each level of nesting), and nothing is written. Compacting is an update like every other: guarded, atomic, and started
over where another writer was faster. Offsets that readers hold of the old object are of no use for the new one; our own readers
notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from zarrant.codecs.byte_sources import Stored
from zarrant.codecs.sharding.compact import changes, rebuilt
from zarrant.codecs.sharding.inspect import ShardReport, inspect
from zarrant.codecs.sharding.prepared import Shard, length_of
from zarrant.errors import ChunkError, VersionChangedError, ZarrantError
from zarrant.geometry.box import ArraySubset, as_subset, check_chunk_indices
from zarrant.ops.batching import largest_batch, raise_failures
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.current import Current
from zarrant.ops.guard import Guard, update_object
from zarrant.ops.read import while_replaced
from zarrant.ops.stored_chunks import chunks_of, stored_chunks
from zarrant.ops.turns import erased
from zarrant.requests import Op, ReadRequest, fetch, fetch_one, gather_outcomes, list_prefix
from zarrant.storage import Blob, ByteRange, Part


@dataclass(frozen=True, slots=True)
class LevelStats:
    """The shards of one level of nesting inside of one stored object, added up.

    `subchunks` are those there could be, `present` those that are stored. `live` bytes are what the entries of the indexes
    point to, `dead` what they do not, `index` the indexes themselves.
    """

    shards: int
    subchunks: int
    present: int
    live: int
    dead: int
    index: int


@dataclass(frozen=True, slots=True)
class ChunkStats:
    """One stored object. Of a chunk that is no shard every byte is live, and it counts as one subchunk.

    `stored` is the size of the object, 0 where there is none. `live` are bytes of encoded subchunks at the innermost level,
    `dead` and `index` the other bytes at all levels: together they are the bytes before codecs that follow sharding, which is
    `stored` where there are none. Dead bytes that no reader needs any more are holes where the store has them: they are counted,
    but take no space. `levels` goes from the outermost shard inwards.
    """

    stored: int
    live: int
    dead: int
    index: int
    present: int
    subchunks: int
    levels: tuple[LevelStats, ...]


class _Unchanged(Exception):
    """Breaks an update off: there is nothing to do (any more)."""


def chunk_stats(array: BoundArray, chunk: Sequence[int]) -> Op[ChunkStats]:
    """What is in one stored object; only indexes are read. ChunkError for a shard that is broken."""
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    shard = array.prepared_for(array.chunk_shape(chunk))
    if not isinstance(shard, Shard):
        blob = yield from fetch_one(array.chunk_key(chunk), (ByteRange(0, 0),))
        size, there = (0, 0) if blob is None else (blob.size, 1)
        return ChunkStats(size, size, 0, 0, there, 1, ())
    look = partial(_read_stats, array, shard, chunk)
    return (yield from while_replaced(look, look))


def _read_stats(array: BoundArray, shard: Shard, chunk: tuple[int, ...]) -> Op[ChunkStats]:
    source = Stored(array.chunk_key(chunk))
    report = yield from _sound(array, chunk, source)
    return _stats(shard, source.size, report)


def compact_chunk(array: BoundArray, chunk: Sequence[int]) -> Op[int]:
    """Drop the dead bytes of one shard, at all levels of nesting; returns the bytes freed.

    A shard without live subchunks is erased. ChunkError for one that is broken (nothing is written). A chunk that is no
    shard has nothing to drop.
    """
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    if not array.sharded:
        return 0
    key = array.chunk_key(chunk)
    freed = 0

    def change(source: Stored) -> Op[list[Part] | None]:
        nonlocal freed
        report = yield from _sound(array, chunk, source)
        if report is None or not changes(report, compact=True):
            raise _Unchanged
        parts = rebuilt(report)
        freed = source.size - sum(map(length_of, parts or ()))
        if freed <= 0:  # codecs after sharding may make more of less
            raise _Unchanged
        return parts if parts is not None else (yield from erased(array, array.chunk_shape(chunk), source))

    try:
        yield from _look(change, key)
        yield from update_object(key, change, Guard.lock_if(array.options.guarded), node=Current(array))
    except _Unchanged:
        return 0
    return freed


def _look(change: Any, key: str) -> Op[None]:
    """Try without a lock first: most shards have nothing dead, and a lock is a write."""
    try:
        yield from change(Stored(key))
    except VersionChangedError:
        pass  # someone writes: look again under the lock


def compact(array: BoundArray, chunks: Any = None) -> Op[int]:
    """`compact_chunk` for a block of chunks (None: all of them), side by side; returns the bytes freed in total."""
    shape = array.grid.grid_shape
    chosen = ArraySubset.full(shape) if chunks is None else as_subset(chunks, shape, "chunk grid")
    if chosen.is_empty or not array.sharded:
        return 0
    rows = yield from stored_chunks(array, chosen)
    if not len(rows):
        return 0
    indices = [tuple(int(i) for i in row) for row in rows]
    cost = largest_batch(array, rows).cost
    outcomes = yield from gather_outcomes((compact_chunk(array, chunk) for chunk in indices), cost)
    if any(isinstance(outcome, Exception) for outcome in outcomes):
        raise_failures(array, indices, outcomes)
    return sum(freed for freed in outcomes if isinstance(freed, int))


def count_stored(array: BoundArray) -> Op[int]:
    """The number of chunks (stored objects) of the grid that are stored, by listing what the store holds."""
    keys = yield from list_prefix(array.key_of(""))
    return len(chunks_of(array, keys, ArraySubset.full(array.grid.grid_shape)))


def stored_sizes(array: BoundArray, *, listed: bool) -> Op[list[int]]:
    """The size in bytes of every stored object of the grid. `listed`: the store is asked first which there are; else for each."""
    if listed:
        keys = yield from list_prefix(array.key_of(""))
        chunks = chunks_of(array, keys, ArraySubset.full(array.grid.grid_shape)).tolist()
    else:
        chunks = list(np.ndindex(*array.grid.grid_shape))
    blobs = yield from fetch([ReadRequest(array.chunk_key(tuple(chunk)), (ByteRange(0, 0),)) for chunk in chunks])
    for blob in blobs:
        if isinstance(blob, Exception):
            raise blob
    return [blob.size for blob in blobs if isinstance(blob, Blob)]


def _sound(array: BoundArray, chunk: tuple[int, ...], source: Stored) -> Op[ShardReport | None]:
    """The tree of a shard in which nothing is wrong; ChunkError otherwise."""
    shard = array.shard_for(chunk)
    try:
        report = yield from inspect(shard, source)
        if report is not None and (faults := report.all_faults()):
            raise ChunkError(
                f"subchunk {faults[0].path} {faults[0].detail}", codec="sharding_indexed", hint="zarrant check says more"
            )
    except ZarrantError as error:
        raise error.annotate(chunk=chunk, key=source.key) from error.__cause__
    return report


def _stats(shard: Shard, stored: int, report: ShardReport | None) -> ChunkStats:
    levels: list[LevelStats] = []
    here = [] if report is None else [report]
    possible = 1
    kind: object = shard
    while isinstance(kind, Shard):
        possible *= int(np.prod(kind.grid.grid_shape, dtype=np.int64))
        levels.append(
            LevelStats(
                shards=len(here),
                subchunks=possible,
                present=sum(int(each.index.present.sum()) for each in here),
                live=sum(each.index.live_bytes for each in here),
                dead=sum(each.dead for each in here),
                index=sum(each.shard.index_size for each in here),
            )
        )
        here = [child for each in here for child in each.children.values()]
        kind = kind.subchunk_pipeline
    last = levels[-1]
    dead, index = sum(each.dead for each in levels), sum(each.index for each in levels)
    return ChunkStats(stored, last.live, dead, index, last.present, last.subchunks, tuple(levels))
