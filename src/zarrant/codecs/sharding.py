"""sharding_indexed: chunks of many subchunks and an index.

One prepared shard reads and writes through a byte source. A write without old data is a whole encode; a write over old data
reads the index and only those subchunks that it covers partly, keeps every other one where it is, and appends (the layout of
SAFETY.md §4, so that readers' offsets stay right). A read takes the index, then the subchunks it needs. Subchunks travel in
mini-batches through the inner chain, which may be a shard again: windows of windows, nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.base import (
    BytesToBytes,
    ChunkSpec,
    CodecOptions,
    Encoded,
    Ints,
    Partial,
    Prepared,
    Source,
    Spans,
)
from zarrant.codecs.leaf import Leaf
from zarrant.codecs.shard_layout import Index, locate, morton_order
from zarrant.codecs.sources import InMemory, ShardSpans, read_whole
from zarrant.effects import Op, gather
from zarrant.errors import ByteRangeError, ChunkError
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.layers import Stack, Values
from zarrant.geometry.region import Cells, Region
from zarrant.kernels.program import SLACK
from zarrant.limits import require
from zarrant.storage import Buffer, ByteRange, Part

V = TypeVar("V", npt.NDArray[np.generic], Stack, Values)


@dataclass(frozen=True)
class Shard:
    """`spec` is laid out after transposition by `order`; `grid` cuts it into subchunks."""

    spec: ChunkSpec
    order: tuple[int, ...] | None
    grid: ChunkGrid
    inner: Prepared
    index_codec: Leaf
    index_size: int
    at_start: bool
    outer: tuple[BytesToBytes, ...]
    options: CodecOptions

    @property
    def partial(self) -> Partial:
        """Partial access needs the bytes as they are stored."""
        return Partial(read=not self.outer, write=not self.outer)

    def write(self, spans: Spans | None, cells: Cells, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`; shards of the batch one after the other, subchunks of one side by side."""
        rows: list[list[Part] | None] = []
        for i in range(lo, hi):
            source = None if spans is None or cells.full[i] else spans.source(i)
            rows.append((yield from self._write_one(source, cells.region(i), cells.extent(i), values)))
        sizes = np.array([-1 if parts is None else sum(map(length_of, parts)) for parts in rows], np.int64)
        pieces = [part for parts in rows for part in parts or ()]
        return Encoded(sizes, pieces, [len(parts or ()) for parts in rows])

    def read(self, spans: Spans, cells: Cells, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""
        for i in range(lo, hi):
            yield from self._read_one(spans.source(i), cells.region(i), cells.extent(i), out)

    def _split(self, region: Region, bounds: tuple[int, ...], values: V) -> tuple[Cells, V]:
        """Cut a region of the chunk into subchunks, as they are after transposition."""
        if self.order is not None:
            region, values = region.transpose(self.order), values.transpose(self.order)
            bounds = tuple(bounds[axis] for axis in self.order)
        return region.split(self.grid, bounds), values

    def _numbers(self, cells: Cells) -> Ints:
        """C-order numbers of the touched subchunks."""
        numbers: Ints = cells.index @ self._strides
        return numbers

    @cached_property
    def _strides(self) -> Ints:
        """By how much the number of a subchunk grows along each dimension."""
        shape = self.grid.grid_shape
        return np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], np.int64)

    def batches(self, n: int) -> Iterator[tuple[int, int]]:
        """Ranges of subchunks that make a mini-batch."""
        step = max(1, self.options.batch_bytes // max(1, self.inner.spec.nbytes))
        return ((lo, min(lo + step, n)) for lo in range(0, n, step))

    @property
    def batch_cost(self) -> int:
        """Bytes a mini-batch holds: rows, and encoded bytes of at most about the same size."""
        return 2 * max(self.options.batch_bytes, self.inner.spec.nbytes)

    def _read_one(self, source: Source | None, region: Region, bounds: tuple[int, ...], out: npt.NDArray[np.generic]) -> Op[None]:
        source, index = yield from self._open(source)
        cells, out = self._split(region, bounds, out)
        spans = ShardSpans(source or InMemory(b""), index, self._numbers(cells))
        inner = self.inner
        yield from gather((inner.read(spans, cells, lo, hi, out) for lo, hi in self.batches(cells.n)), self.batch_cost)

    def _open(self, source: Source | None) -> Op[tuple[Source | None, Index]]:
        """Undo the outer codecs and read the index; an absent shard is an empty index."""
        n = int(np.prod(self.grid.grid_shape, dtype=np.int64))
        opened = None if source is None else (yield from self.read_index(source))
        if opened is None:
            return None, Index.empty(n)
        source, data = opened
        return source, Index.from_table(self.decode_index(data), locate(source.size, self.index_size, self.at_start))

    def read_index(self, source: Source) -> Op[tuple[Source, memoryview] | None]:
        """The bytes of the shard, with the outer codecs undone, and those of its index; None where there is no shard."""
        if self.outer:
            data = yield from read_whole(source, 2 * self.encoded_bound + SLACK)
            if data is None:
                return None
            source = InMemory(self.undo_outer(data))
            locate(source.size, self.index_size, self.at_start)
        span = ByteRange(0, self.index_size) if self.at_start else ByteRange.suffix(self.index_size)
        try:
            found = yield from source.read([span])
        except ByteRangeError as error:
            expected = f"at least {self.index_size} bytes"
            message = "the shard is smaller than its index"
            raise ChunkError(message, codec="sharding_indexed", expected=expected, got=error.got) from error
        return None if found is None else (source, found[0])

    @cached_property
    def outer_bounds(self) -> list[int]:
        """The bytes that a shard without dead ones has at most: before its outer codecs, and after each of them."""
        bounds = [self.index_size + math.prod(self.grid.grid_shape) * self.inner.encoded_bound]
        for codec in self.outer:
            # Those with a step add less than an eighth to what they cannot compress; of the others nobody knows.
            more = bounds[-1] if codec.step(self.inner.spec) is None else bounds[-1] // 8
            bounds.append(bounds[-1] + more + SLACK)
        return bounds

    @property
    def encoded_bound(self) -> int:
        """The bytes that an encoded shard without dead ones has at most."""
        return self.outer_bounds[-1]

    def undo_outer(self, data: Buffer) -> Buffer:
        """The bytes before the outer codecs; ChunkError where they are far more than a shard can have."""
        for codec, bound in zip(reversed(self.outer), reversed(self.outer_bounds[:-1]), strict=True):
            try:
                data = codec.decode(data, 2 * bound + SLACK)
            except (ValueError, RuntimeError) as error:
                raise ChunkError(str(error), codec=codec.name, got=f"{len(data)} encoded bytes") from error
        return data

    def decode_index(self, data: memoryview) -> npt.NDArray[np.uint64]:
        """The (n, 2) table of a stored index; ChunkError where its bytes do not decode."""
        try:
            table = self.index_codec.decode_row(data)
        except ChunkError as error:
            raise ChunkError(f"shard index: {error.message}", codec=error.codec, got=error.got) from error
        return np.ascontiguousarray(table.reshape(-1, 2), np.uint64)

    def encode_index(self, index: Index) -> Part:
        """The bytes of an index."""
        return self.index_codec.encode_row(index.to_table().reshape(*self.grid.grid_shape, 2))

    def _write_one(self, source: Source | None, region: Region, bounds: tuple[int, ...], values: Values) -> Op[list[Part] | None]:
        """The parts of the new shard, None where every subchunk is fill."""
        source, old = yield from self._open(source)
        cells, values = self._split(region, bounds, values)
        numbers = self._numbers(cells)
        spans = None if source is None else ShardSpans(source, old, numbers)
        inner = self.inner
        batches = (inner.write(spans, cells, lo, hi, values) for lo, hi in self.batches(cells.n))
        encoded = yield from gather(batches, self.batch_cost)
        sizes = np.concatenate([batch.sizes for batch in encoded]) if encoded else np.empty(0, np.int64)
        pieces = [piece for batch in encoded for piece in batch.pieces]
        parts = self._lay_out(source, old, numbers, sizes, pieces)
        if parts is None or not self.outer:
            return parts
        return [self.apply_outer(b"".join(cast("list[Buffer]", parts)))]

    def apply_outer(self, data: Buffer) -> Buffer:
        """The bytes after the outer codecs; LimitError where `undo_outer` would refuse them."""
        for codec, bound in zip(self.outer, self.outer_bounds[:-1], strict=True):
            require(len(data), 2 * bound + SLACK, f"too much before {codec.name}", "encoded bytes", "$.codecs")
            data = codec.encode(data)
        return data

    def _lay_out(self, source: Source | None, old: Index, numbers: Ints, sizes: Ints, pieces: list[Part]) -> list[Part] | None:
        """Old subchunks that stay, then the new ones, then the index (or the index first)."""
        if self.options.subchunk_order == "morton":
            numbers, sizes, pieces = self._in_morton_order(numbers, sizes, pieces)
        first = self.index_size if self.at_start else 0
        stored = np.maximum(sizes, 0)
        keep, kept, end = self._keep(source, old.without(numbers), first, int(stored.sum()))
        index = kept.moved(numbers, end + stored.cumsum() - stored, sizes)
        if not index.present.any() and not self.options.write_empty_chunks:
            return None
        encoded_index = self.encode_index(index)
        return [encoded_index, *keep, *pieces] if self.at_start else [*keep, *pieces, encoded_index]

    def _keep(self, source: Source | None, kept: Index, first: int, added: int) -> tuple[list[Part], Index, int]:
        """Which old bytes stay and where: all of them in place, or the live ones moved together.

        They stay in place, so that offsets other readers hold remain right, until dead bytes pass `dead_limit`.
        """
        if source is None or not kept.present.any():
            return [], kept, first
        stop = source.size if self.at_start else source.size - self.index_size
        dead = stop - first - kept.live_bytes
        # What other codecs are applied to is refused in reading where it is far longer than a shard can be.
        readable = not self.outer or stop + added + self.index_size <= 2 * self.outer_bounds[0] + SLACK
        if readable and self.options.shard_updates == "append" and dead <= self.options.dead_limit * (stop - first + added):
            return [source.part(first, stop - first)], kept, stop
        return repack(source, kept, first)

    def _in_morton_order(self, numbers: Ints, sizes: Ints, pieces: list[Part]) -> tuple[Ints, Ints, list[Part]]:
        rank = np.argsort(morton_order(self.grid.grid_shape), kind="stable")[numbers]
        order = np.argsort(rank, kind="stable")
        if any(isinstance(piece, ByteRange) for piece in pieces):
            # Nested updates keep parts of old shards; their order is the order of updates anyway.
            return numbers, sizes, pieces
        return numbers[order], sizes[order], [_reordered(cast("list[Buffer]", pieces), np.maximum(sizes, 0), rank)]


def _reordered(pieces: list[Buffer], sizes: Ints, rank: npt.NDArray[np.intp]) -> Buffer:
    """Rows that lie in `pieces` back to back, ordered by `rank`. A piece may hold many rows, a row go over many pieces."""
    row_end = np.cumsum(sizes)
    length = np.array([length_of(piece) for piece in pieces], np.int64)
    piece_end = np.cumsum(length)
    cuts = np.unique(np.concatenate((np.zeros(1, np.int64), row_end, piece_end)))
    start, size = cuts[:-1], np.diff(cuts)
    by_rank = np.argsort(rank[np.searchsorted(row_end, start, side="right")], kind="stable")
    piece = np.searchsorted(piece_end, start, side="right")
    offset = start - (piece_end - length)[piece]
    return kernels.pack(pieces, piece[by_rank], offset[by_rank], size[by_rank]).data


def repack(source: Source, kept: Index, first: int) -> tuple[list[Part], Index, int]:
    """Live subchunks moved together, in the order they had; neighbours travel as one part."""
    rows = np.flatnonzero(kept.present)
    begin, end, _ = kept.runs(rows)
    order = rows[np.argsort(kept.offset[rows], kind="stable")]
    size = kept.size[order]
    offset = first + np.cumsum(size) - size
    parts = [source.part(int(a), int(b - a)) for a, b in zip(begin, end, strict=True)]
    return parts, kept.moved(order, offset, size), first + int(size.sum())


def length_of(part: Part) -> int:
    """Bytes of a part of a new object."""
    if isinstance(part, ByteRange):
        assert part.length is not None, "kept parts have a length"
        return part.length
    return memoryview(part).nbytes
