"""Find what is wrong with stored objects, and repair them.

`verify` only reads; it reports every problem and does not stop at the first. `drop_corrupt_subchunks` removes the subchunks of a
shard that cannot be read, so that they read as fill and all others can be read again; the bytes of the others stay untouched,
in place. It works under the same guard as every update, on exactly the object that was verified (and copied) before, and
refuses what it cannot decide. `erase_orphan` erases a chunk outside of the grid while no other writer can grow the array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from zarrant.codecs.byte_sources import Stored
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.protocols import Fetched, Prepared
from zarrant.codecs.sharding.compact import rebuilt
from zarrant.codecs.sharding.inspect import ShardReport, decode, inspect
from zarrant.codecs.sharding.prepared import Shard
from zarrant.errors import ChunkError, ConflictError, LimitError, ZarrantError
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.current import Current
from zarrant.ops.guard import Guard, update_object
from zarrant.ops.node import metadata_key, read_metadata
from zarrant.ops.read import while_replaced
from zarrant.requests import Op, fetch_one, locked
from zarrant.storage import ByteRange, Part, Version

MAX_PROBLEMS_LISTED = 100
"""Problems of one object that are problems one by one; a hostile index may have millions."""


class Problem(NamedTuple):
    """One thing that is wrong with a stored object; `kind` as in `codecs.inspect.Fault`, or "index", "size", "chunk"."""

    kind: str
    detail: str
    repairable: bool


@dataclass(frozen=True, slots=True)
class Verified:
    """A stored object: its version and bytes (None and 0: there is none), how many are dead, and what is wrong."""

    version: Version
    stored: int
    dead: int
    problems: tuple[Problem, ...]


def verify(array: BoundArray, chunk: Sequence[int], deep: bool) -> Op[Verified]:
    """Look at one stored object: sizes and indexes; with `deep` every byte of it is decoded."""
    look = partial(_verify, array, chunk, deep)
    return (yield from while_replaced(look, look))


def _verify(array: BoundArray, chunk: Sequence[int], deep: bool) -> Op[Verified]:
    source = Stored(array.chunk_key(chunk))
    prepared = array.prepared_for(array.chunk_shape(chunk))
    if isinstance(prepared, ChunkPipeline):
        return (yield from _verify_chunk(prepared, source, deep))
    report, problems = yield from _verify_shard(array, chunk, source, deep)
    if report is None:
        return Verified(source.version, source.size, 0, problems)
    return Verified(source.version, source.size, sum(each.dead for each in report.walk()), problems)


def _verify_chunk(pipeline: ChunkPipeline, source: Stored, deep: bool) -> Op[Verified]:
    problems = []
    if deep:
        try:
            data = yield from source.read_all(pipeline.stored_limit)
        except LimitError as error:
            data, problems = None, [Problem("size", f"is too large: {error.got} bytes, at most {error.limit} are read", False)]
            yield from source.read([ByteRange(0, 0)])  # its version is not known yet
        if data is not None:
            zero = np.zeros(1, np.int64)
            failed = yield from pipeline.check(Fetched(zero, [data], zero, zero, np.array([len(data)])))
            problems = [Problem("chunk", f"does not decode: {reason}", False) for reason in failed.values()]
    else:
        yield from source.read([ByteRange(0, 0)])
        size = pipeline.encoded_size()
        if source.version is not None and size is not None and source.size != size:
            what = "is cut off" if source.size < size else "has a tail that is not its own"
            problems = [Problem("size", f"{what}: {source.size} bytes, where every chunk has {size}", False)]
    return Verified(source.version, source.size, 0, tuple(problems))


def _verify_shard(
    array: BoundArray, chunk: Sequence[int], source: Stored, deep: bool
) -> Op[tuple[ShardReport | None, tuple[Problem, ...]]]:
    """The tree of a shard without what is at fault, and the faults; no tree where there is none, or no index."""
    shard = array.shard_for(chunk)
    try:
        report = yield from inspect(shard, source)
    except ChunkError as error:
        if not source.seen or source.version is None:
            yield from source.read([ByteRange(0, 0)])  # too small for an index: its version is not known yet
        return None, (Problem("index", f"cannot be read, so that no subchunk can be found: {error.message or error}", False),)
    if report is None:
        return None, ()
    if deep:
        yield from decode(report)
    faults = report.all_faults()
    report.drop_faulty()
    repairable = not any(each.index.overlapping().size for each in report.walk()) and bool(report.index.present.any())
    problems = [
        Problem(fault.kind, f"{_where(shard, fault.path)} {fault.detail}", repairable) for fault in faults[:MAX_PROBLEMS_LISTED]
    ]
    if len(faults) > MAX_PROBLEMS_LISTED:
        problems.append(
            Problem(faults[MAX_PROBLEMS_LISTED].kind, f"and {len(faults) - MAX_PROBLEMS_LISTED} more subchunks", repairable)
        )
    return report, tuple(problems)


def _where(shard: Prepared, path: tuple[int, ...]) -> str:
    """The indices of a subchunk within its shard, and before that those of the shards around it."""
    names = []
    for row in path:
        assert isinstance(shard, Shard), "a path ends where nesting does"
        index = [int(i) for i in np.unravel_index(row, shard.grid.grid_shape)] if shard.grid.grid_shape else []
        if shard.order is not None:
            index = [index[shard.order.index(axis)] for axis in range(len(index))]
        names.append(f"({', '.join(map(str, index))})")
        shard = shard.subchunk_pipeline
    return f"subchunk {' in '.join(reversed(names))}"


def drop_corrupt_subchunks(array: BoundArray, chunk: Sequence[int], version: Version, deep: bool) -> Op[bool]:
    """Drop the subchunks of one shard that cannot be read; False where there is nothing (left) to drop, or no way.

    ConflictError unless the object still is of `version`, of which the caller has a copy.
    """
    key, done = array.chunk_key(chunk), False

    def change(source: Stored) -> Op[list[Part] | None]:
        nonlocal done
        report, problems = yield from _verify_shard(array, chunk, source, deep)
        if source.version != version:
            raise ConflictError("the object was replaced since it was examined", key=key, expected=version, got=source.version)
        if report is None or not problems or not all(problem.repairable for problem in problems):
            raise _Nothing
        parts = rebuilt(report, compact=False)
        if parts is None:  # every shard inside turned out empty: fill would hide a loss
            raise _Nothing
        done = True
        return parts

    try:
        yield from update_object(key, change, node=Current(array))
    except _Nothing:
        return False
    except ZarrantError as error:
        raise error.annotate(chunk=tuple(chunk), key=key) from error.__cause__
    return done


class _Nothing(Exception):
    """Breaks an update off: there is nothing to do, or no way."""


def erase_orphan(array: BoundArray, chunk: Sequence[int], version: Version) -> Op[bool]:
    """Erase the object of a chunk outside of the grid; False where the array has grown to hold it meanwhile.

    Under the lock of the metadata: who grows an array stores data outside of its shape first.
    """
    key = array.chunk_key(chunk)

    def erase() -> Op[bool]:
        metadata = yield from read_metadata(array.prefix)
        if not isinstance(metadata, ArrayMetadata):
            return False
        now = BoundArray.from_metadata(array.prefix, metadata, array.options)
        if now.key_encoding != array.key_encoding or len(now.shape) != len(array.shape) or in_grid(now, chunk):
            return False
        yield from update_object(key, gone, Guard.NESTED_LOCK)
        return True

    def gone(source: Stored) -> Op[list[Part] | None]:
        yield from source.read([ByteRange(0, 0)])
        if source.version != version:
            raise ConflictError("the object was replaced since it was examined", key=key, expected=version, got=source.version)
        return None

    return (yield from locked((metadata_key(array.prefix, array.metadata),), erase()))


def in_grid(array: BoundArray, chunk: Sequence[int]) -> bool:
    """Whether a chunk holds elements of the array."""
    return all(0 <= i < n for i, n in zip(chunk, array.grid.grid_shape, strict=True))


def object_version(key: str) -> Op[tuple[Version, int]]:
    """The version and size of an object, (None, 0) where there is none."""
    blob = yield from fetch_one(key, (ByteRange(0, 0),))
    return (None, 0) if blob is None else (blob.version, blob.size)
