"""sharding_indexed: chunks of many subchunks and an index.

One prepared shard reads and writes through a byte source. A write without old data is a whole encode; a write over old data
reads the index and only those subchunks that it covers partly, keeps every other one where it is, and appends, so that the
offsets that readers have stay right (`dead_bytes` says for how long). A read takes the index, then the subchunks it needs.
Subchunks travel in mini-batches through the inner chain, which may be a shard again: windows of windows, nothing else.

Damage stays where it is. A subchunk that does not decode, or whose entry in the index cannot be, is a ChunkError for who needs
its old elements: who reads it, or writes a part of it. Then nothing of that stored object is written, since it is one step; a
write that covers the subchunk wholly replaces it, and the others are never decoded. While an entry is at fault nothing of the
shard is moved or freed: what looks dead may be what the entry should lead to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from types import TracebackType
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.pipeline.fixed_size import FixedSizePipeline
from zarrant.codecs.protocols import (
    ArraySpec,
    BytesToBytes,
    CodecOptions,
    Encoded,
    Ints,
    Partial,
    Prepared,
    Source,
    Spans,
    step_of,
)
from zarrant.codecs.sharding.dead_bytes import MOST_TIMES, TAIL_BYTES, Record, allowance, is_much, lay_out, read_record, record_size
from zarrant.codecs.sharding.format import Index, locate, morton_order
from zarrant.codecs.sharding.spans import ShardSpans
from zarrant.codecs.sources import InMemory, read_whole
from zarrant.errors import ByteRangeError, ChunkError
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import ChunkSelections, Region, Stack, Values
from zarrant.kernels.program import SLACK
from zarrant.limits import LIMITS, require
from zarrant.requests import Op, gather
from zarrant.storage import Buffer, ByteRange, Hole, Part

V = TypeVar("V", npt.NDArray[np.generic], Stack, Values)
RECORD_GUESS_BYTES = 1024
"""Read at once where a record of dead bytes may be: most of them are shorter."""


@dataclass(frozen=True)
class Shard:
    """`spec` is laid out after transposition by `order`; `grid` cuts it into subchunks."""

    spec: ArraySpec
    order: tuple[int, ...] | None
    grid: ChunkGrid
    inner: Prepared
    index_codec: FixedSizePipeline
    index_size: int
    at_start: bool
    outer: tuple[BytesToBytes, ...]
    options: CodecOptions

    @property
    def partial(self) -> Partial:
        """Partial access needs the bytes as they are stored."""
        return Partial(read=not self.outer, write=not self.outer)

    @cached_property
    def piece_shape(self) -> tuple[int, ...]:
        """See `Prepared.piece_shape`."""
        piece = self.inner.piece_shape
        return piece if self.order is None else tuple(piece[axis] for axis in np.argsort(self.order).tolist())

    def write(self, spans: Spans | None, cells: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`; shards of the batch one after the other, subchunks of one side by side."""
        rows: list[list[Part] | None] = []
        for i in range(lo, hi):
            source = None if spans is None or cells.full[i] else spans.source(i)
            with Naming(spans, i):
                rows.append((yield from self._write_one(source, cells.region(i), cells.shape(i), values)))
        sizes = np.array([-1 if parts is None else sum(map(length_of, parts)) for parts in rows], np.int64)
        pieces = [part for parts in rows for part in parts or ()]
        return Encoded(sizes, pieces, [len(parts or ()) for parts in rows])

    def read(self, spans: Spans, cells: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""
        for i in range(lo, hi):
            source = spans.source(i)
            with Naming(spans, i):
                yield from self._read_one(source, cells.region(i), cells.shape(i), out)

    def _split(self, region: Region, bounds: tuple[int, ...], values: V) -> tuple[ChunkSelections, V]:
        """Cut a region of the chunk into subchunks, as they are after transposition."""
        if self.order is not None:
            region, values = region.transpose(self.order), values.transpose(self.order)
            bounds = tuple(bounds[axis] for axis in self.order)
        return region.split(self.grid, bounds), values

    def _numbers(self, cells: ChunkSelections) -> Ints:
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
        batches = (self._read_batch(spans, cells, lo, hi, out) for lo, hi in self.batches(cells.n))
        yield from gather(batches, self.batch_cost)

    def _read_batch(self, spans: ShardSpans, cells: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        try:
            yield from self.inner.read(spans, cells, lo, hi, out)
        except ChunkError as error:
            yield from self._name(error, spans, lo, hi, np.ones(hi - lo, np.bool_))
            raise

    def _write_batch(self, spans: ShardSpans | None, cells: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        try:
            return (yield from self.inner.write(spans, cells, lo, hi, values))
        except ChunkError as error:
            if spans is not None:
                yield from self._name(error, spans, lo, hi, ~cells.full[lo:hi])
            raise

    def _name(self, error: ChunkError, spans: ShardSpans, lo: int, hi: int, wanted: npt.NDArray[np.bool_]) -> Op[None]:
        """Find out which subchunk of a batch does not decode, where an error does not say."""
        if error.field is None and isinstance(self.inner, ChunkPipeline):
            found = yield from self.inner.check((yield from spans.fetch(lo, hi, wanted)))
            if found:
                error.field = f"subchunk {int(spans.cells[lo + min(found)])}"

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
        # Of elements that may have any size all of a shard together is held to what one chunk may have.
        variable = self.spec.data_type.itemsize is None
        body = LIMITS.decoded if variable else math.prod(self.grid.grid_shape) * self.inner.encoded_bound
        bounds = [self.index_size + body]
        for codec in self.outer:
            # Those with a step add less than an eighth to what they cannot compress; of the others nobody knows.
            more = bounds[-1] if step_of(codec) is None else bounds[-1] // 8
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
        batches = (self._write_batch(spans, cells, lo, hi, values) for lo, hi in self.batches(cells.n))
        encoded = yield from gather(batches, self.batch_cost)
        sizes = np.concatenate([batch.sizes for batch in encoded]) if encoded else np.empty(0, np.int64)
        pieces = [piece for batch in encoded for piece in batch.pieces]
        parts = yield from self._lay_out(source, old, numbers, sizes, pieces)
        if parts is None or not self.outer:
            return parts
        return [self.apply_outer(b"".join(cast("list[Buffer]", parts)))]

    def apply_outer(self, data: Buffer) -> Buffer:
        """The bytes after the outer codecs; LimitError where `undo_outer` would refuse them."""
        for codec, bound in zip(self.outer, self.outer_bounds[:-1], strict=True):
            require(len(data), 2 * bound + SLACK, f"too much before {codec.name}", "encoded bytes", "$.codecs")
            data = codec.encode(data)
        return data

    def _lay_out(self, source: Source | None, old: Index, numbers: Ints, sizes: Ints, pieces: list[Part]) -> Op[list[Part] | None]:
        """The parts of the new shard: old subchunks that stay, the new ones, the index."""
        if self.options.subchunk_order == "morton":
            numbers, sizes, pieces = self._in_morton_order(numbers, sizes, pieces)
        stored = np.maximum(sizes, 0)
        kept, body, at = yield from self._body(source, old, numbers, pieces, int(stored.sum()))
        index = kept.moved(numbers, at + stored.cumsum() - stored, sizes)
        if index.all_missing and not self.options.write_empty_chunks:
            return None
        encoded_index = self.encode_index(index)
        return [encoded_index, *body] if self.at_start else [*body, encoded_index]

    def _body(
        self, source: Source | None, old: Index, numbers: Ints, pieces: list[Part], added: int
    ) -> Op[tuple[Index, list[Part], int]]:
        """The subchunks that stay, all bytes but the index, and where among them the new subchunks (`added` bytes) are.

        Those that stay do so in place, so that offsets other readers have remain right. They are moved together where no
        reader can have offsets (a shard that is a part of an object made anew), and where that was asked for.
        """
        first = self.index_size if self.at_start else 0
        kept = old.without(numbers)
        if source is None:
            return kept, pieces, first
        stop = source.size if self.at_start else source.size - self.index_size
        live, appending = kept.live_bytes + added, self.options.shard_updates == "append"
        dead = stop - first - kept.live_bytes
        keep_all = old.wrong is not None  # safety: entry at fault
        if source.published and appending and not keep_all:
            most = allowance(live, self.options.dead_limit)
            if most is not None and is_much(dead, most):
                found = yield from self._with_freed(source, old, numbers, (first, stop), pieces, added, most)
                if found is not None:
                    body, at = found
                    return kept, body, at
            keep_all = most is None or stop - first + added <= MOST_TIMES * (live + most)
        elif appending and kept.present.any():
            # What other codecs are applied to is refused in reading where it is far longer than a shard can be.
            readable = not self.outer or stop + added + self.index_size <= 2 * self.outer_bounds[0] + SLACK
            keep_all = keep_all or (readable and dead <= self.options.dead_limit * (stop - first + added))
        if keep_all:
            return kept, [*_parts(source, first, stop), *pieces], stop
        parts, kept, end = repack(source, kept, first)
        return kept, [*parts, *pieces], end

    def _with_freed(
        self, source: Source, old: Index, numbers: Ints, data: tuple[int, int], pieces: list[Part], added: int, most: int
    ) -> Op[tuple[list[Part], int] | None]:
        """The body of a shard with much that is dead, and where new subchunks are in it; None where that is no good."""
        first, stop = data
        record, stop = yield from self._read_record(source, old, first, stop)
        layout = lay_out(old, numbers, record, (first, stop), added, most)
        if layout is None or layout.size > MOST_TIMES * (old.live_bytes + added + most):
            return None
        new = [(layout.at, layout.at + added, pieces)]
        holes: list[tuple[int, int, list[Part]]] = [(start, end, [Hole(end - start)]) for start, end in layout.holes.tolist()]
        parts: list[Part] = []
        at = first
        for start, end, instead in sorted([*holes, *new], key=itemgetter(0)):
            parts += [*_parts(source, at, start), *instead]
            at = end
        parts += _parts(source, at, layout.end)
        return [*parts, layout.record], layout.at

    def _read_record(self, source: Source, index: Index, first: int, stop: int) -> Op[tuple[Record | None, int]]:
        """What former updates noted of dead bytes, and where the data before it end."""
        start = max(first, stop - RECORD_GUESS_BYTES)
        if stop - start < TAIL_BYTES:
            return None, stop
        (found,) = yield from self._fetch(source, start, stop)
        size = record_size(found[-TAIL_BYTES:])
        if not TAIL_BYTES <= size <= stop - first:
            return None, stop
        if size > len(found):
            (found,) = yield from self._fetch(source, stop - size, stop)
        record = read_record(found[len(found) - size :], index, first, stop - size)
        return record, stop if record is None else stop - size

    def _fetch(self, source: Source, start: int, stop: int) -> Op[list[memoryview]]:
        found = yield from source.read([ByteRange(start, stop - start)])
        if found is None:
            raise ChunkError("the shard vanished while it was read", codec="sharding_indexed")
        return found

    def _in_morton_order(self, numbers: Ints, sizes: Ints, pieces: list[Part]) -> tuple[Ints, Ints, list[Part]]:
        rank = np.argsort(morton_order(self.grid.grid_shape), kind="stable")[numbers]
        order = np.argsort(rank, kind="stable")
        if any(isinstance(piece, ByteRange | Hole) for piece in pieces):
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


def _parts(source: Source, start: int, stop: int) -> list[Part]:
    """The bytes [start, stop) of a source as parts: one or none."""
    return [source.part(start, stop - start)] if stop > start else []


class Naming:
    """A block whose ChunkErrors are told which shard inside of a shard they come from: row `i` of `spans`."""

    def __init__(self, spans: Spans | None, i: int) -> None:
        self.spans, self.i = spans, i

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, ChunkError) and isinstance(self.spans, ShardSpans):
            inside = "" if error.field is None else f"{error.field} in "
            error.field = f"{inside}subchunk {int(self.spans.cells[self.i])}"


def length_of(part: Part) -> int:
    """Bytes of a part of a new object."""
    if isinstance(part, Hole):
        return part.length
    if isinstance(part, ByteRange):
        assert part.length is not None, "kept parts have a length"
        return part.length
    return memoryview(part).nbytes
