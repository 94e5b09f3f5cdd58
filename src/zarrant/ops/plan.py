"""What a read or a write of a region would ask of the store, found out by running it without its bytes.

In: an array and a region. Out: a `Log`: for each stored object what would be read, written and locked. The operation that is run is
the real one (`ops/read.py`, `ops/update.py`), on an array whose pipelines decode and encode nothing (`codecs/dry.py`). `_dry_run`
stands between it and the driver. It lets through what finds out sizes: the index of a shard, the size of an object, the version of
the metadata. It answers by itself, and notes, what would read the bytes of chunks, what would write, and what would lock. So a plan
cannot say anything else than the operation does, for the objects as they are now.

A whole shard that would be read with one request is not read: the operation is told that there is none, and goes on to what it
would write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from zarrant.codecs.dry import DryChain, SizesOnly
from zarrant.geometry.region import Region
from zarrant.ops import read, update
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.kept_indexes import KeptIndexes
from zarrant.ops.node import metadata_key
from zarrant.requests import (
    ANY,
    Acknowledge,
    Admitted,
    All,
    BeforeChange,
    Fetch,
    GroupCommit,
    Locked,
    LookAhead,
    Op,
    Outcome,
    Pause,
    Put,
    PutFirst,
    ReadRequest,
    Request,
    Share,
    UpdateBox,
    WriteRequest,
)
from zarrant.storage import Blob, ByteRange, Part, Version
from zarrant.storage import Hole as Bytes

T = TypeVar("T")


class Read(NamedTuple):
    """One request for bytes of an object. `whole`: for all of it. `there`: whether it is stored."""

    key: str
    nbytes: int
    ranges: int
    whole: bool
    there: bool


class Write(NamedTuple):
    """One object that is stored: bytes that are new, and those of the object that it replaces. `swapped`: if that is unchanged."""

    key: str
    nbytes: int
    kept: int
    swapped: bool


@dataclass(frozen=True)
class Unique:
    """The version of an object, said to be of no other (`storage.is_unique`).

    A file that others stored a moment ago, or one of ours in a hundred, is locked while it is changed. A plan says what is usual.
    """

    version: Version
    unique: ClassVar[bool] = True


@dataclass
class Log:
    """What an operation would do. Several threads may add to it."""

    metadata: str
    threads: int
    reads: list[Read] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    looks: int = 0
    """Requests for the metadata."""
    peaks: list[int] = field(default_factory=list)
    """Bytes that operations ask for, side by side or alone."""
    seen: dict[str, tuple[Version, int]] = field(default_factory=dict)
    """Version and size of objects that were looked at."""
    unread: set[str] = field(default_factory=set)
    """Objects that would be read whole, and were not."""


def dry(array: BoundArray) -> BoundArray:
    """The array without decoding and encoding, and without what is kept of earlier reads."""
    codec = replace(array.options.codec, write_empty_chunks=True)  # what is stored is not looked at, so it is never fill
    options = replace(array.options, cache=None, codec=codec)
    return replace(array, options=options, chain=DryChain.of(array.chain), _prepared={}, indexes=KeptIndexes())


def log_read(array: BoundArray, region: Region, shape: Sequence[int], threads: int) -> Op[Log]:
    """What reading a region, whose values have this shape, would do."""
    log = _log(array, threads)
    out = np.broadcast_to(array.empty(()), tuple(shape))
    yield from _dry_run(read.read_region(dry(array), region, out, array.shape), log)
    return log


def log_write(array: BoundArray, region: Region, shape: Sequence[int], threads: int) -> Op[Log]:
    """What writing a region, whose values have this shape, would do."""
    log = _log(array, threads)
    values = np.broadcast_to(array.empty(()), tuple(shape))
    if values.size:
        yield from _dry_run(update.store_region(dry(array), region, values, array.shape), log)
    return log


def _log(array: BoundArray, threads: int) -> Log:
    return Log(metadata_key(array.prefix, array.metadata), threads)


def _dry_run(op: Op[T], log: Log) -> Op[T]:
    """Run an operation that stores nothing and reads no chunk; `log` says what it would have done."""
    reply: Any = None
    error: Exception | None = None
    while True:
        try:
            request = op.send(reply) if error is None else op.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        answer = _ANSWERS.get(type(request))
        try:
            reply, error = (yield request) if answer is None else (yield from answer(request, log)), None
        except Exception as raised:
            reply, error = None, raised


def _fetch(request: Fetch, log: Log) -> Op[list[Outcome[Blob | None]]]:
    """What tells sizes is really asked for; a whole object that is not a chunk alone is a shard, which would tell too much."""
    if any(item.key == log.metadata for item in request.items):
        log.looks += 1
        seen: list[Outcome[Blob | None]] = yield request
        return seen
    if any(item.ranges is None for item in request.items):
        log.unread.update(item.key for item in request.items)
        yield from _sizes(SizesOnly(*request), log)
        return [None] * len(request.items)
    asked = request._replace(items=[item._replace(if_version=_real(item.if_version)) for item in request.items])
    found: list[Outcome[Blob | None]] = yield asked
    for i, (item, blob) in enumerate(zip(request.items, found, strict=True)):
        if not isinstance(blob, Exception):
            nbytes = 0 if blob is None else sum(view.nbytes for view in blob.data)
            log.reads.append(Read(item.key, nbytes, len(item.ranges or ()), False, blob is not None))
            if blob is not None:
                found[i] = blob._replace(version=Unique(blob.version))
                log.seen[item.key] = Unique(blob.version), blob.size
    return found


def _real(version: Version) -> Version:
    return version.version if isinstance(version, Unique) else version


def _sizes(request: SizesOnly, log: Log) -> Op[list[Outcome[Blob | None]]]:
    """Objects with zeros for bytes."""
    unknown = [item.key for item in request.items if item.key not in log.seen]
    if unknown:
        found: list[Outcome[Blob | None]] = yield Fetch([ReadRequest(key, ()) for key in unknown])
        for key, outcome in zip(unknown, found, strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is not None:
                log.seen[key] = Unique(outcome.version), outcome.size
    return [_zeros(item, log) for item in request.items]


def _zeros(item: ReadRequest, log: Log) -> Blob | None:
    whole, ranges = item.ranges is None, item.ranges or (ByteRange(0, None),)
    if item.key not in log.seen:
        log.reads.append(Read(item.key, 0, len(ranges), whole, False))
        return None
    version, size = log.seen[item.key]
    lengths = [stop - start for start, stop in (each.resolve(size) for each in ranges)]
    log.reads.append(Read(item.key, sum(lengths), len(ranges), whole, True))
    return Blob(tuple(memoryview(bytes(length)) for length in lengths), version, size)


def _put(request: Put, log: Log) -> Op[list[Outcome[Version]]]:
    """Nothing is stored, and every condition holds."""
    log.writes += [_write(item, log) for item in request.items]
    return ["planned"] * len(request.items)
    yield  # makes this a generator, as every operation is; it has no requests


def _write(item: WriteRequest, log: Log) -> Write:
    parts: Sequence[Part] = item.parts or ()
    kept = sum(part.length or 0 for part in parts if isinstance(part, ByteRange))
    new = sum(_length(part) for part in parts if not isinstance(part, ByteRange))
    if item.key in log.unread and item.key in log.seen:  # the rest of it, which is in memory
        new += log.seen[item.key][1]
    return Write(item.key, new, kept, item.if_version is not ANY or item.key in log.unread)


def _length(part: Part) -> int:
    """New bytes: a hole of a store is none, what stands for new ones is (`codecs.dry.Fresh`)."""
    if isinstance(part, Bytes):
        return part.length if type(part) is not Bytes else 0
    return memoryview(part).nbytes if not isinstance(part, ByteRange) else 0


def _locked(request: Locked, log: Log) -> Op[Any]:
    log.locked += request.keys
    return (yield from _dry_run(request.op, log))


class _Alone(NamedTuple):
    """A group commit of one; see `requests.CommitGroup`."""

    items: Sequence[Any]
    failed: list[Exception]

    def take(self) -> Sequence[Any]:
        return self.items

    def resolve(self, number: int, error: Exception | None) -> None:
        if error is not None:
            self.failed.append(error)


def _group_commit(request: GroupCommit, log: Log) -> Op[None]:
    group = _Alone((request.item,), [])
    yield from _dry_run(request.lead(group), log)
    if group.failed:
        raise group.failed[0]


def _all(request: All, log: Log) -> Op[list[Outcome[Any]]]:
    n = 0

    def ops() -> Iterator[Op[Any]]:
        nonlocal n
        for op in request.ops:
            n += 1
            yield _dry_run(op, log)

    outcomes: list[Outcome[Any]] = yield All(ops(), 0)
    log.peaks.append(min(n, log.threads) * request.cost)
    return outcomes


def _admitted(request: Admitted, log: Log) -> Op[Any]:
    log.peaks.append(request.cost)
    return (yield from _dry_run(request.op, log))


def _before_change(request: BeforeChange, log: Log) -> Op[Any]:
    return (yield from _dry_run(request.op, log))


def _share(request: Share, log: Log) -> Op[tuple[Any, bool]]:
    return (yield from _dry_run(request.op(), log)), True


def _nothing(request: Request, log: Log) -> Op[None]:
    return None
    yield  # makes this a generator, as every operation is; it has no requests


_ANSWERS: dict[type, Callable[[Any, Log], Op[Any]]] = {
    Fetch: _fetch,
    SizesOnly: _sizes,
    Put: _put,
    Locked: _locked,
    GroupCommit: _group_commit,
    All: _all,
    Admitted: _admitted,
    BeforeChange: _before_change,
    Share: _share,
    LookAhead: _nothing,
    PutFirst: _nothing,
    UpdateBox: _nothing,
    Acknowledge: _nothing,
    Pause: _nothing,
}
"""What is not passed on to the driver."""
