"""Where encoded bytes are: in stored objects, in parts of them, or in memory.

`Stored`, `InMemory` and `Window` are sources: bytes that can be read in parts. `StoredChunks` and `OneChunk` say which source
belongs to which chunk of a batch. A `Stored` source remembers the version that it first saw and asks for that version only, so
that an index and its data belong together. A reader that finds the object replaced gets VersionChangedError and starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.codecs.kept import Keeper
from zarrant.codecs.protocols import Fetched, Source
from zarrant.errors import ByteRangeError, ChunkError, ChunkMissingError, LimitError, VersionChangedError
from zarrant.requests import Op, ReadRequest, fetch, fetch_one
from zarrant.storage import Blob, Buffer, ByteRange, FileDecoder, Part, Version, is_unique


class Stored:
    """A stored object, read in parts of one version."""

    published = True

    def __init__(self, key: str, required: bool = False) -> None:
        self.key = key
        self.required = required
        self.version: Version = None
        self.seen = False
        self.size = 0
        self.gap = 0
        self.brief = False
        """What is done with the bytes takes microseconds (`requests`)."""
        self.keeper: Keeper | None = None
        """Where what is decoded from this object is kept, for the next reads of it."""
        self.index: Any = None
        """The index of the shard, once it was read from this version: it is not read again."""
        self.unlocked = False
        """It will be replaced if it has the same version then, and is not locked meanwhile: only a unique version will do."""

    def read(self, ranges: Sequence[ByteRange]) -> Op[list[memoryview] | None]:
        """The bytes of each range, or None where there is no object. Ranges nearer than `gap` are asked for as one."""
        if not self.gap or len(ranges) < 2:
            return self.accept((yield from fetch_one(self.key, tuple(ranges), self.version, brief=self.brief)))
        merged, places = coalesced(ranges, self.gap)
        found = self.accept((yield from fetch_one(self.key, tuple(merged), self.version, brief=self.brief)))
        return None if found is None else [found[i][start : start + length] for i, start, length in places]

    def open(self, read_index: Callable[[], Op[Any]]) -> Op[Any]:
        """The index of the shard, which `read_index` reads from here; None where there is no object."""
        self.index = yield from read_index()
        return self.index

    def read_all(self, limit: int | None = None) -> Op[memoryview | None]:
        """The whole object in one request, so it is of one version. LimitError beyond `limit` bytes."""
        data = self.accept((yield from fetch_one(self.key, None, self.version, limit, brief=self.brief)))
        return None if data is None else data[0]

    def accept(self, blob: Blob | None) -> list[memoryview] | None:
        """Remember the version of what was read, and return its bytes."""
        self.seen = True
        if blob is None:
            if self.required:
                raise ChunkMissingError(
                    "the chunk is not stored", key=self.key, hint='Read with missing_chunks="fill" for fill values'
                )
            return None
        self.version, self.size = blob.version, blob.size
        if self.unlocked and not is_unique(blob.version):  # safety: swap by a unique version
            raise VersionChangedError("another object may have had this version", key=self.key, got=blob.version)
        return list(blob.data)

    def part(self, start: int, length: int) -> Part:
        """A range of the object that is being replaced."""
        return ByteRange(start, length)


def coalesced(ranges: Sequence[ByteRange], gap: int) -> tuple[list[ByteRange], list[tuple[int, int, int]]]:
    """Ranges that are more than `gap` bytes from each other, and where the given ones lie in them: (number, start, length).

    >>> coalesced([ByteRange(0, 4), ByteRange(20, 2), ByteRange(6, 2)], gap=4)
    ([ByteRange(start=0, length=8), ByteRange(start=20, length=2)], [(0, 0, 4), (1, 0, 2), (0, 6, 2)])
    """
    spans: list[tuple[int, int]] = []
    places: dict[int, tuple[int, int, int]] = {}
    for at in sorted(range(len(ranges)), key=lambda at: ranges[at].start):
        start, length = ranges[at]
        assert start >= 0 and length is not None, "only an index is read from the end, and alone"
        stop = start + length
        if spans and start - spans[-1][1] <= gap:
            spans[-1] = spans[-1][0], max(spans[-1][1], stop)
        else:
            spans.append((start, stop))
        places[at] = len(spans) - 1, start - spans[-1][0], length
    return [ByteRange(start, stop - start) for start, stop in spans], [places[at] for at in range(len(ranges))]


class StoredWhole(Stored):
    """A stored object of which all is read with the first request, where that costs less than several requests.

    Of no use where a store can copy ranges of the object that is replaced: here they are bytes in memory.
    """

    def __init__(self, key: str, limit: int | None = None) -> None:
        super().__init__(key)
        self.limit = limit
        self._whole: InMemory | None = None

    def read(self, ranges: Sequence[ByteRange]) -> Op[list[memoryview] | None]:
        """See `Stored.read`."""
        if not self.seen:
            data = yield from self.read_all(self.limit)
            self._whole = None if data is None else InMemory(data)
        return None if self._whole is None else (yield from self._whole.read(ranges))

    def part(self, start: int, length: int) -> Part:
        """The bytes themselves."""
        return super().part(start, length) if self._whole is None else self._whole.part(start, length)


class InMemory:
    """Bytes in memory."""

    published = False

    def __init__(self, data: Buffer) -> None:
        self.data = memoryview(data).cast("B")
        self.size = len(self.data)

    def read(self, ranges: Sequence[ByteRange]) -> Op[list[memoryview] | None]:
        """Slices; nothing is requested."""
        return [self.data[slice(*_fit(span, self.size))] for span in ranges]
        yield  # makes this a generator, as every operation is; it has no requests

    def part(self, start: int, length: int) -> Part:
        """The bytes themselves."""
        return self.data[start : start + length]


class Window:
    """`size` bytes from `start` of another source: a shard inside a shard."""

    published = False

    def __init__(self, source: Source, start: int, size: int) -> None:
        self.source, self.start, self.size = source, start, size

    def read(self, ranges: Sequence[ByteRange]) -> Op[list[memoryview] | None]:
        """The bytes of each range of the window."""
        fitted = [_fit(span, self.size) for span in ranges]
        return (yield from self.source.read([ByteRange(self.start + a, b - a) for a, b in fitted]))

    def part(self, start: int, length: int) -> Part:
        """The same bytes, as a part of the outer source."""
        return self.source.part(self.start + start, length)


def _fit(span: ByteRange, size: int) -> tuple[int, int]:
    try:
        return span.resolve(size)
    except ValueError as error:
        raise ByteRangeError(str(error)) from None


class StoredChunks:
    """Chunks that are stored objects: chunk i has the key `keys[i - first]`."""

    remembers = False
    """Whether its sources keep what was seen of them."""
    at_once = False
    """Whether all of them are decoded in one go, as they are read: where the pipeline says that it can (`is_read_decoded`)."""

    def __init__(self, keys: Sequence[str], first: int, required: bool = False, brief: bool = False, gap: int = 0) -> None:
        self.keys, self.first, self.required, self.brief, self.gap = keys, first, required, brief, gap

    def fetch(self, lo: int, hi: int, wanted: npt.NDArray[np.bool_], limit: int | None = None) -> Op[Fetched]:
        """Whole objects, in one batched request; a failure names its key."""
        rows = np.flatnonzero(wanted).tolist()
        first = lo - self.first
        requests = [ReadRequest(self.keys[first + row], None, None, limit) for row in rows]
        outcomes = yield from fetch(requests, brief=self.brief)
        there, buffers = [], []
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise _too_large(outcome) if isinstance(outcome, LimitError) else outcome
            if outcome is None or self.remembers:
                self.source(lo + row).accept(outcome)
            if outcome is not None:
                there.append(row)
                buffers.append(outcome.data[0])
        size = np.array([len(data) for data in buffers], np.int64)
        return Fetched(np.array(there, np.int64), buffers, np.arange(len(buffers)), np.zeros(len(buffers), np.int64), size)

    def fetch_decoded(self, lo: int, hi: int, limit: int, decoder: FileDecoder) -> Op[list[tuple[int, memoryview | None]]]:
        """Read whole objects with a decoder; the rows that it did not decode, each with its bytes (None: not stored)."""
        requests = [ReadRequest(self.keys[i - self.first], None, None, limit) for i in range(lo, hi)]
        outcomes = yield from fetch(requests, brief=self.brief, decoder=decoder)
        left: list[tuple[int, memoryview | None]] = []
        for row, outcome in enumerate(outcomes):
            if isinstance(outcome, Exception):
                raise _too_large(outcome) if isinstance(outcome, LimitError) else outcome
            if outcome is None or outcome.data:
                data = self.source(lo + row).accept(outcome)
                left.append((row, None if data is None else data[0]))
        return left

    def fetch_one(self, i: int, limit: int | None = None, into: memoryview | None = None) -> Op[Buffer | None]:
        """Chunk i alone. `into` itself, if the chunk has just as many bytes, and they are there."""
        source = self.source(i)
        try:
            blob = yield from fetch_one(source.key, None, None, limit, into, brief=self.brief)
        except LimitError as error:
            raise _too_large(error) from None
        data = source.accept(blob)
        return None if data is None else data[0] if data else into

    def source(self, i: int) -> Stored:
        """Chunk i as a byte source."""
        source = Stored(self.keys[i - self.first], self.required)
        source.gap = self.gap
        return source


class VersionedChunks(StoredChunks):
    """Chunks 0, 1, … of which the versions are known after they were read."""

    remembers = True

    def __init__(self, keys: Sequence[str], required: bool = False) -> None:
        super().__init__(keys, 0, required)
        self._sources = [Stored(key, required) for key in keys]

    def source(self, i: int) -> Stored:
        """Chunk i as a byte source, always the same."""
        return self._sources[i]


class OneChunk:
    """One chunk with a given source; None where it is not stored."""

    def __init__(self, row: int, source: Source | None) -> None:
        self.row, self._source = row, source

    def fetch(self, lo: int, hi: int, wanted: npt.NDArray[np.bool_], limit: int | None = None) -> Op[Fetched]:
        """The whole source."""
        data = None if self._source is None else (yield from read_whole(self._source, limit))
        rows = np.array([] if data is None else [0], np.int64)
        size = np.array([] if data is None else [len(data)], np.int64)
        return Fetched(rows, [] if data is None else [data], np.zeros(rows.size, np.int64), np.zeros(rows.size, np.int64), size)

    def fetch_one(self, i: int, limit: int | None = None) -> Op[Buffer | None]:
        """The whole source."""
        return None if self._source is None else (yield from read_whole(self._source, limit))

    def source(self, i: int) -> Source | None:
        """The source."""
        return self._source


def keeper_of(source: Source | None) -> Keeper | None:
    """Where what is decoded from a source is kept: of the version that it has, from its first byte on."""
    start = 0
    while isinstance(source, Window):
        start += source.start
        source = source.source
    if not isinstance(source, Stored) or source.keeper is None:
        return None
    return source.keeper._replace(version=source.version, start=start)


def _too_large(error: LimitError) -> ChunkError:
    """The error for a stored chunk that is larger than its codecs can have made it."""
    expected = f"at most {error.limit} bytes, as the codecs make no more of a chunk"
    return ChunkError(
        "the stored chunk is too large", key=error.key, expected=expected, got=f"{error.got} bytes", limit=error.limit
    )


def read_whole(source: Source, limit: int | None = None) -> Op[memoryview | None]:
    """All bytes of a source; ChunkError where they are more than `limit`."""
    if isinstance(source, Stored):
        try:
            return (yield from source.read_all(limit))
        except LimitError as error:
            raise _too_large(error) from None
    if limit is not None and source.size > limit:
        raise _too_large(LimitError(got=source.size, limit=limit))
    data = yield from source.read([ByteRange(0, None)])
    return None if data is None else data[0]
