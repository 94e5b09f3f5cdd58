"""sharding_indexed, prepared for one chunk shape: reads and writes shards through a byte source.

A write without old data encodes the whole shard. A write over old data reads the index, and only those subchunks that it covers
partly. It keeps the other subchunks where they are and appends the new ones, so that offsets which readers have stay right
(`dead_bytes` says for how long). A read takes the index, then the subchunks that it needs. Subchunks go in mini-batches through
their own pipeline. That may be a shard again; its source is then a window of the outer one.

Damage is limited to the subchunk. If a subchunk does not decode, or its index entry is invalid, a caller that needs its old
elements gets a ChunkError: a reader, or a writer of a part of it (then nothing of that stored object is written). A write that
covers the subchunk wholly replaces it, and other subchunks are not affected. As long as an entry is invalid no bytes of the
shard are moved or freed: bytes that look dead may be those that the entry should point to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import itemgetter, mul
from types import TracebackType
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.buffer_pool import borrowed
from zarrant.codecs.byte_sources import InMemory, Stored, keeper_of, read_whole
from zarrant.codecs.kept import Keeper
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.pipeline.fixed_size import MAX_UPDATED_BYTES, FixedSizePipeline, plan_of
from zarrant.codecs.pipeline.kept import nbytes_of, read_kept
from zarrant.codecs.protocols import (
    ArraySpec,
    BoxUpdate,
    BytesToBytes,
    CodecOptions,
    Encoded,
    EncodedChunks,
    Fetched,
    Ints,
    Partial,
    Prepared,
    Source,
    step_of,
)
from zarrant.codecs.sharding.dead_bytes import (
    MAX_SHARD_MULTIPLE,
    TAIL_BYTES,
    Record,
    allowance,
    lay_out,
    needs_record,
    read_record,
    record_size,
    rules,
)
from zarrant.codecs.sharding.format import Index, locate, morton_order
from zarrant.codecs.sharding.subchunks import ChosenSubchunks, FetchedSubchunks, KeptSubchunks, Subchunks, SubchunksOfShard
from zarrant.errors import ByteRangeError, ChunkError
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import Box, BoxInChunk, BoxInChunks, ChunkSelections, Region, Stack, Values, unit_steps
from zarrant.kernels.program import EXTERNAL, SLACK
from zarrant.limits import LIMITS, require
from zarrant.requests import Op, ReadRequest, fetch, gather
from zarrant.storage import Blob, Buffer, ByteRange, Hole, Part

NO_BYTES = (ByteRange(0, 0),)
"""One range, so that the reply of a store that decodes nothing has data."""
INDEX_PLACE, NOT_STORED = (0, -1, "index"), -1
"""Where the index of a stored shard is kept; what an index has as the size of a subchunk that is not stored."""
V = TypeVar("V", npt.NDArray[np.generic], Stack, Values)
INDEX_ENTRY_BYTES = 32
"""Memory of an entry of a decoded index, with what is derived from it."""
MAX_BATCH_MULTIPLE = 8
"""A mini-batch of a large shard has up to 8 MiB: the steps in Python then take a tenth of a percent of the time, not several."""
MIN_BATCHES = 4
"""A call on large shards has at least so many mini-batches, so that several threads can share it. A shard that is one of as many
is not cut: measured, 8 shards of 128³ raw values are then read in 0.77 of the time, and written in 0.9."""
MIN_PART_BYTES, SUBCHUNK_BYTES = 3 << 18, 4 << 10
"""A call on a part of one shard is cut in 2, 4, … equal batches of at least so many bytes, 0.3 ms of decoding: to wake a thread
takes 0.05. A subchunk counts for some bytes more than it has: the time in which a codec begins."""
MIN_WRITTEN_PART_BYTES = MIN_PART_BYTES // 4
"""The same of a call that writes: to decode and encode a subchunk takes four times as long as to decode it, and more."""
MAX_UPDATED_INDEX_BYTES = 1 << 16
"""Of an index that the compiled update of a box decodes and encodes whole: a longer one would be most of its time."""
RECORD_GUESS_BYTES = 1 << 13
"""The first read of a record of dead bytes has this size: most are shorter (340 ranges; a shard of 16 MiB in subchunks of 30 kB
has 280). A second read would take more time than these bytes: 20 µs on files, 10 ms and more on an object store."""


@dataclass(frozen=True)
class Shard:
    """A prepared shard. `spec` is its shape after transposition by `order`; `grid` cuts it into subchunks."""

    spec: ArraySpec
    order: tuple[int, ...] | None
    grid: ChunkGrid
    subchunk_pipeline: Prepared
    index_codec: FixedSizePipeline
    index_size: int
    at_start: bool
    outer_codecs: tuple[BytesToBytes, ...]
    options: CodecOptions

    @property
    def partial(self) -> Partial:
        """Partial access needs the bytes as they are stored."""
        return Partial(read=not self.outer_codecs, write=not self.outer_codecs)

    @cached_property
    def write_granularity(self) -> tuple[int, ...]:
        """See `Prepared.write_granularity`."""
        piece = self.subchunk_pipeline.write_granularity
        return piece if self.order is None else tuple(piece[axis] for axis in np.argsort(self.order).tolist())

    def write(self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`. The shards of the batch come one after the other, the subchunks of one in parallel."""
        rows: list[list[Part] | None] = []
        for i in range(lo, hi):
            source = None if stored is None or selections.full[i] else stored.source(i)
            with AddSubchunkToErrors(stored, i):
                rows.append((yield from self._write_one(source, selections, i, values)))
        sizes = np.array([-1 if parts is None else sum(map(length_of, parts)) for parts in rows], np.int64)
        new_parts = [part for parts in rows for part in parts or ()]
        return Encoded(sizes, new_parts, [len(parts or ()) for parts in rows])

    def read(self, stored: EncodedChunks, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""
        for i in range(lo, hi):
            source = stored.source(i)
            with AddSubchunkToErrors(stored, i):
                yield from self._read_one(source, selections, i, out)

    def split_box(self, region: Region, bounds: tuple[int, ...], values: V) -> tuple[ChunkSelections, V]:
        """Split a region of the chunk by subchunks, after transposition."""
        if self.order is not None:
            region, values = region.transpose(self.order), values.transpose(self.order)
            bounds = tuple(bounds[axis] for axis in self.order)
        return region.split(self.grid, bounds), values

    def _numbers(self, selections: ChunkSelections) -> Ints:
        """C-order numbers of the touched subchunks."""
        if isinstance(selections, BoxInChunk):
            return np.array((self.number_of(selections.chunk),), np.int64)
        numbers: Ints = selections.index @ self._strides
        return numbers

    def number_of(self, subchunk: tuple[int, ...]) -> int:
        """The C-order number of a subchunk."""
        return sum(map(mul, subchunk, self._steps))

    def box_update(self, selections: ChunkSelections, row: int, values: npt.NDArray[np.generic]) -> BoxUpdate | None:
        """See `Prepared.box_update`."""
        layout, spec = self._box_layout, self.subchunk_pipeline.spec
        if layout is None:
            return None
        parts, values = self.split_box(selections.region(row), selections.shape(row), values)
        if isinstance(parts, BoxInChunk):
            piece = (self.number_of(parts.chunk), parts.start, parts.value, parts.count)
            return BoxUpdate.of(layout, spec, self.options, (piece,), values)
        if parts.n * spec.nbytes > MAX_UPDATED_BYTES or self.options.subchunk_order != "C":
            return None
        if not isinstance(parts, BoxInChunks):
            numbers = tuple(self._numbers(parts).tolist())
            return BoxUpdate.of(layout, spec, self.options, numbers, values, plan_of(parts, 0, parts.n))
        pieces = tuple([(self.number_of(chunk), start, value, count) for chunk, start, value, count, _ in parts.chunks])
        return BoxUpdate.of(layout, spec, self.options, pieces, values)

    @cached_property
    def _box_layout(self) -> Any | None:
        inner, index, options = self._compiled_subchunks, self.index_codec, self.options
        plain = index.program is not None and index.kernel is not kernels.reference and index.order is None
        if self.outer_codecs or not plain or options.shard_updates != "append" or inner is None:
            return None
        if self.index_size > MAX_UPDATED_INDEX_BYTES:
            return None
        place = (math.prod(self.grid.grid_shape), self.index_size, self.at_start)
        return inner.box_layout_within((index.program, place, rules(options.dead_limit)), index.options.validate_checksums)

    @property
    def _compiled_subchunks(self) -> FixedSizePipeline | None:
        """The pipeline of subchunks where it has rows of elements and a program; None for others, such as shards."""
        inner = self.subchunk_pipeline
        return inner if isinstance(inner, FixedSizePipeline) and inner.program is not None else None

    @cached_property
    def _strides(self) -> Ints:
        return np.array(self._steps, np.int64)

    @cached_property
    def _steps(self) -> tuple[int, ...]:
        """What to add to the number of a subchunk for one step along each dimension."""
        shape = self.grid.grid_shape
        return tuple([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])

    def batch_bytes(self, shards: int) -> int:
        """Decoded bytes of a mini-batch, in a call on some shards: more where a kernel has memory for a few subchunks only."""
        inner, most = self.subchunk_pipeline, self.options.batch_bytes
        if not isinstance(inner, ChunkPipeline) or inner.program is None:
            return most
        return max(most, min(MAX_BATCH_MULTIPLE * most, shards * self.spec.nbytes // MIN_BATCHES, self.spec.nbytes))

    def batches(self, n: int, shards: int, least: int = MIN_PART_BYTES) -> Iterator[tuple[int, int]]:
        """The ranges of `n` subchunks that are the mini-batches; parts of one shard have at least so many bytes."""
        step = max(1, self.batch_bytes(shards) // max(1, self.subchunk_pipeline.spec.nbytes))
        if n <= step and shards == 1:  # nobody else has work for other threads
            parts = n * (self.subchunk_pipeline.spec.nbytes + SUBCHUNK_BYTES) // least
            step = max(1, -(-n // (1 << max(0, parts.bit_length() - 1))))
        return ((lo, min(lo + step, n)) for lo in range(0, n, step))

    def batch_cost(self, shards: int) -> int:
        """Memory of a mini-batch in bytes: decoded subchunks, and about as many encoded bytes at most."""
        return 2 * max(self.batch_bytes(shards), self.subchunk_pipeline.spec.nbytes)

    def _read_one(self, source: Source | None, shards: ChunkSelections, i: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """Read shard i of those of a call."""
        source, index = yield from self._open(source)
        together = chunks_of_call(shards)
        if (yield from self._read_planned(source, index, shards.region(i), out, together)):
            return
        selections, out = self.split_box(shards.region(i), shards.shape(i), out)
        numbers = self._numbers(selections)
        stored = SubchunksOfShard(source or InMemory(b""), index, numbers, self._kept(source, index, numbers))
        if selections.n == 1 or (stored.kept is not None and not stored.kept.missing(0, selections.n).any()):
            # Those that are kept are only copied, which one thread does faster than several.
            yield from self._read_batch(stored, selections, 0, selections.n, out)
            return
        if isinstance(source, Stored) and self._fetches_ahead(selections.n, together):
            step = max(1, self.options.fetch_bytes // max(1, self.subchunk_pipeline.spec.nbytes))
            groups = ((lo, min(lo + step, selections.n)) for lo in range(0, selections.n, step))
            ahead = (self._read_group(stored, selections, lo, hi, out, together) for lo, hi in groups)
            yield from gather(ahead, 2 * step * self.subchunk_pipeline.spec.nbytes)
            return
        batches = (self._read_batch(stored, selections, lo, hi, out) for lo, hi in self.batches(selections.n, together))
        yield from gather(batches, self.batch_cost(together))

    def _read_planned(
        self, source: Source | None, index: Index, region: Region, out: npt.NDArray[np.generic], together: int
    ) -> Op[bool]:
        """Read a box that touches several subchunks of a stored shard, each mini-batch planned, and decoded, by one kernel call.

        False, and nothing was done that matters, for what is otherwise, or at fault: then the general way reads it, and says why.
        """
        if not (isinstance(region, Box) and isinstance(source, Stored) and source.keeper is None):
            return False
        if self._compiled_subchunks is None:
            return False
        if self.order is not None:
            region, out = region.transpose(self.order), out.transpose(self.order)
        n = self._touched(region)
        if n < 2 or self._fetches_ahead(n, together):
            return False
        batches = (self._read_rows(source, index, region, lo, hi, out) for lo, hi in self.batches(n, together))
        return all((yield from gather(batches, self.batch_cost(together))))

    def is_read_decoded(self, boxes: Sequence[Region]) -> bool:
        """Whether boxes of shards with known indexes are decoded as they are read: all in one go, by several threads."""
        inner = self._compiled_subchunks
        plain = not self.outer_codecs and self.order is None and self.grid.uniform_shape is not None
        return plain and inner is not None and inner.is_read_decoded and all(isinstance(box, Box) for box in boxes)

    def read_decoded(self, sources: Sequence[Stored], boxes: Sequence[Box], out: npt.NDArray[np.generic]) -> Op[list[bool]]:
        """Have the boxes of shards decoded as they are read; whether that was done with each. Nothing else of it matters."""
        inner, edges = self._compiled_subchunks, self.grid.uniform_shape
        assert inner is not None and edges is not None, "asked by is_read_decoded"
        shards = [(each.version, box, each.index.offset, each.index.size) for each, box in zip(sources, boxes, strict=True)]
        touched = sum(map(self._touched, boxes))
        with borrowed(inner.row_bytes(touched)) as memory:
            decoder = inner.decoder_of_shards(shards, edges, self.grid.grid_shape, touched, memory, out)
            outcomes = yield from fetch([ReadRequest(each.key, NO_BYTES, each.version) for each in sources], decoder=decoder)
        return [isinstance(blob, Blob) and not blob.data for blob in outcomes]

    @cached_property
    def kept_pieces(self) -> ChunkPipeline | None:
        """The pipeline of subchunks where these may be kept, and lie in the shard as they are; None for others, such as shards."""
        inner = self.subchunk_pipeline
        if self.outer_codecs or self.order is not None or not isinstance(inner, ChunkPipeline) or inner.partial.read:
            return None
        return inner

    def kept_boxes(self, keeper: Keeper, index: Index, boxes: Sequence[Box]) -> list[kernels.KeptBox] | None:
        """Boxes with their subchunks as these are kept; None where one is not, or may not be read."""
        inner, found = self.kept_pieces, list[kernels.KeptBox]()
        assert inner is not None, "asked by the caller"
        for box in boxes:
            numbers = np.array(self._touched_numbers(box))
            offset, size = index.offset[numbers].tolist(), index.size[numbers].tolist()
            pieces = keeper.find_all(list(zip(offset, size, strict=True)), inner.shape)
            if any([piece is None and n != NOT_STORED for piece, n in zip(pieces, size, strict=True)]):  # noqa: C419
                return None
            found.append((box, pieces))
        return found

    def decoded_often(self, boxes: Iterable[Sequence[Box]]) -> float:
        """How often each subchunk is decoded, on average, where each box of each shard is decoded alone."""
        numbers = [[self._touched_numbers(box) for box in parts] for parts in boxes]
        often = sum([len(each) for parts in numbers for each in parts])
        return often / sum([len(set().union(*parts)) for parts in numbers])

    def _touched_numbers(self, box: Box) -> list[int]:
        """The C-order numbers of the subchunks that a box has elements of."""
        numbers = [0]
        for start, count, edge, step in zip(box.start, box.shape, self.grid.uniform_shape or (), self._steps, strict=True):
            places = range(start // edge * step, (start + count - 1) // edge * step + 1, step)
            numbers = [number + place for number in numbers for place in places]
        return numbers

    def _touched(self, box: Box) -> int:
        """How many subchunks a box has elements of."""
        n, edges = 1, self.grid.uniform_shape
        for start, count, edge in zip(box.start, box.shape, edges or (), strict=True):
            n *= (start + count - 1) // edge - start // edge + 1
        return n

    def _read_rows(self, source: Stored, index: Index, box: Box, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[bool]:
        """Read those subchunks lo..hi that a box touches; False where something is wrong with one."""
        inner = self._compiled_subchunks
        assert inner is not None, "asked by _read_planned"
        most = inner.stored_limit  # safety: size of planned subchunks
        plan = kernels.plan_box(box, self.grid.uniform_shape, self.grid.grid_shape, index.offset, index.size, most, lo, hi)
        if plan is None:
            return False
        buffers = (yield from source.read([ByteRange(*run) for run in plan.runs])) if plan.runs else ()
        if buffers is None:
            return False
        boxes = planned_boxes(plan)
        number, which, offset, size = plan.spans
        try:
            inner.decode_boxes(Fetched(number, buffers, which, offset, size), boxes, hi - lo, out)
        except ChunkError:
            return False
        return True

    def _fetches_ahead(self, n: int, shards: int) -> bool:
        """Whether the bytes of several mini-batches of subchunks are read together: where they are waited for, and needed whole."""
        inner = self.subchunk_pipeline
        several = n * inner.spec.nbytes > self.batch_bytes(shards)
        return several and self.options.fetch_bytes > 0 and isinstance(inner, ChunkPipeline) and not inner.partial.read

    def _read_group(
        self, stored: SubchunksOfShard, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic], shards: int
    ) -> Op[None]:
        """Fetch subchunks with one request, and decode them in mini-batches."""
        assert isinstance(self.subchunk_pipeline, ChunkPipeline), "asked by _fetches_ahead"
        limit = self.subchunk_pipeline.stored_limit
        wanted = np.ones(hi - lo, np.bool_) if stored.kept is None else stored.kept.missing(lo, hi)
        fetched = FetchedSubchunks(stored, (yield from stored.fetch(lo, hi, wanted, limit)), lo)
        batches = (self._read_batch(fetched, selections, lo + a, lo + b, out) for a, b in self.batches(hi - lo, shards))
        yield from gather(batches, self.batch_cost(shards))

    def _read_batch(
        self,
        stored: Subchunks,
        selections: ChunkSelections,
        lo: int,
        hi: int,
        out: npt.NDArray[np.generic],
    ) -> Op[None]:
        try:
            if stored.kept is not None:
                yield from self._read_kept(stored, stored.kept, selections, lo, hi, out)
            else:
                yield from self.subchunk_pipeline.read(stored, selections, lo, hi, out)
        except ChunkError as error:
            yield from self._name_subchunk(error, stored, lo, hi, np.ones(hi - lo, np.bool_))
            raise

    def _read_kept(
        self, stored: Subchunks, kept: KeptSubchunks, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]
    ) -> Op[None]:
        """Read subchunks, those that are kept from memory, and keep the others."""
        pipeline = self.subchunk_pipeline
        assert isinstance(pipeline, ChunkPipeline), "asked by _kept"
        missing = ChosenSubchunks(stored, lo + np.flatnonzero(kept.missing(lo, hi)))
        new = yield from read_kept(pipeline, pipeline.shape, kept.found[lo:hi], missing, selections, lo, out)
        for row, array in new.items():
            kept.keep(lo + row, array, nbytes_of(array))

    def _kept(self, source: Source | None, index: Index, numbers: Ints) -> KeptSubchunks | None:
        """What is kept of subchunks, if they are of those that are: always decoded whole."""
        keeper, inner = keeper_of(source), self.subchunk_pipeline
        if keeper is None or not isinstance(inner, ChunkPipeline) or inner.partial.read:
            return None
        return KeptSubchunks(keeper, index, numbers, inner.shape) if inner.spec.nbytes <= keeper.cache.max_value_bytes else None

    def _write_batch(
        self, stored: SubchunksOfShard | None, selections: ChunkSelections, lo: int, hi: int, values: Values
    ) -> Op[Encoded]:
        try:
            return (yield from self.subchunk_pipeline.write(stored, selections, lo, hi, values))
        except ChunkError as error:
            if stored is not None:
                yield from self._name_subchunk(error, stored, lo, hi, ~selections.full[lo:hi])
            raise

    def _name_subchunk(self, error: ChunkError, stored: Subchunks, lo: int, hi: int, wanted: npt.NDArray[np.bool_]) -> Op[None]:
        """Find the subchunk of a batch that does not decode, and add it to an error that does not name it."""
        if error.field is None and isinstance(self.subchunk_pipeline, ChunkPipeline):
            found = yield from self.subchunk_pipeline.check((yield from stored.fetch(lo, hi, wanted)))
            if found:
                error.field = f"subchunk {int(stored.numbers[lo + min(found)])}"

    def _open(self, source: Source | None) -> Op[tuple[Source | None, Index]]:
        """Undo the outer codecs and read the index. A shard that is not stored has an empty index."""
        if isinstance(source, Stored) and source.index is not None:
            return source, source.index
        index = yield from self._kept_index(source)
        if index is not None:
            return source, index
        if isinstance(source, Stored) and not self.outer_codecs:
            index = yield from source.open(partial(self._index_of, source))
            source = None if index is None else source
        elif source is not None:
            source, index = (yield from self._inside(source)) or (None, None)
        return source, Index.empty(math.prod(self.grid.grid_shape)) if index is None else index

    def _index_of(self, source: Source) -> Op[Index | None]:
        """The index of a shard without outer codecs; None if it is not stored."""
        opened = yield from self._inside(source)
        return None if opened is None else opened[1]

    def _inside(self, source: Source) -> Op[tuple[Source, Index] | None]:
        """The bytes of the shard before the outer codecs, and its index; None if the shard is not stored."""
        opened = yield from self.read_index(source)
        if opened is None:
            return None
        source, data = opened
        index = Index.from_table(self.decode_index(data), locate(source.size, self.index_size, self.at_start))
        keeper = keeper_of(source)
        if keeper is not None:
            keeper.keep(*_index_place(source), index, INDEX_ENTRY_BYTES * math.prod(self.grid.grid_shape))
        return source, index

    def _kept_index(self, source: Source | None) -> Op[Index | None]:
        """The index of the shard, where it is kept and still that of now. None if not; a shard that is gone is found out later."""
        keeper = keeper_of(source)
        if keeper is None or source is None or self.outer_codecs:
            return None
        place = _index_place(source)
        if isinstance(source, Stored) and not source.seen:
            if keeper.cache.find((*keeper.place, *place)) is None:
                return None
            yield from source.read(())  # only its version of now
            keeper = keeper._replace(version=source.version)
        index: Index | None = None if keeper.version is None else keeper.find(*place)
        return index

    def read_index(self, source: Source) -> Op[tuple[Source, memoryview] | None]:
        """The bytes of the shard before the outer codecs, and those of its index; None if the shard is not stored."""
        if self.outer_codecs:
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
        """The most bytes of a shard without dead bytes: before its outer codecs, and after each of them."""
        # Elements of variable size have no bound, so all of a shard is limited to what one chunk may have.
        variable = self.spec.data_type.itemsize is None
        body = LIMITS.decoded if variable else math.prod(self.grid.grid_shape) * self.subchunk_pipeline.encoded_bound
        bounds = [self.index_size + body]
        for codec in self.outer_codecs:
            # Our compiled steps add less than an eighth to incompressible data; for others it is not known.
            step = step_of(codec)
            more = bounds[-1] if step is None or step[0] == EXTERNAL else bounds[-1] // 8
            bounds.append(bounds[-1] + more + SLACK)
        return bounds

    @property
    def encoded_bound(self) -> int:
        """The most bytes that an encoded shard without dead bytes can have."""
        return self.outer_bounds[-1]

    def undo_outer(self, data: Buffer) -> Buffer:
        """Undo the outer codecs; ChunkError for far more bytes than a shard can have."""
        for codec, bound in zip(reversed(self.outer_codecs), reversed(self.outer_bounds[:-1]), strict=True):
            try:
                data = codec.decode(data, 2 * bound + SLACK)
            except (ValueError, RuntimeError) as error:
                raise ChunkError(str(error), codec=codec.name, got=f"{len(data)} encoded bytes") from error
        return data

    def decode_index(self, data: memoryview) -> npt.NDArray[np.uint64]:
        """Decode a stored index to its (n, 2) table; ChunkError if its bytes do not decode."""
        try:
            table = self.index_codec.decode_row(data)
        except ChunkError as error:
            raise ChunkError(f"shard index: {error.message}", codec=error.codec, got=error.got) from error
        return np.ascontiguousarray(table.reshape(-1, 2), np.uint64)

    def encode_index(self, index: Index) -> Part:
        """The bytes of an index."""
        return self.index_codec.encode_row(index.to_table().reshape(*self.grid.grid_shape, 2))

    def _write_one(self, source: Source | None, shards: ChunkSelections, i: int, values: Values) -> Op[list[Part] | None]:
        """The parts of the new shard i, of those of a call; None if every subchunk is fill."""
        source, old = yield from self._open(source)
        together = chunks_of_call(shards)
        planned = self._planned(old, shards.region(i), values, together) if source is None else None
        if planned is not None:
            numbers, batches = planned
        else:
            selections, values = self.split_box(shards.region(i), shards.shape(i), values)
            numbers = self._numbers(selections)
            stored = None if source is None else SubchunksOfShard(source, old, numbers)
            ranges = self.batches(selections.n, together, MIN_WRITTEN_PART_BYTES)
            batches = (self._write_batch(stored, selections, lo, hi, values) for lo, hi in ranges)
        encoded = yield from gather(batches, self.batch_cost(together))
        sizes = np.concatenate([batch.sizes for batch in encoded]) if encoded else np.empty(0, np.int64)
        new_parts = [piece for batch in encoded for piece in batch.parts]
        return self._finished((yield from self._lay_out(source, old, numbers, sizes, new_parts)))

    def _planned(self, nothing: Index, region: Region, values: Values, together: int) -> tuple[Ints, Iterator[Op[Encoded]]] | None:
        """The numbers of all subchunks of a new shard, and operations that plan and encode a mini-batch each, by two kernel calls.

        None where values are not one box that touches every subchunk, or where a codec is not compiled.
        """
        inner = self._compiled_subchunks
        if not (isinstance(region, Box) and isinstance(values, np.ndarray) and inner is not None):
            return None
        if not inner.program or inner.skipped or self.grid.uniform_shape is None:
            return None
        if self.order is not None:
            region, values = region.transpose(self.order), values.transpose(self.order)
        n = self._touched(region)
        if n < 2 or n < math.prod(self.grid.grid_shape):
            return None
        ranges = self.batches(n, together, MIN_WRITTEN_PART_BYTES)
        return np.arange(n), (self._encode_rows(inner, nothing, region, lo, hi, values) for lo, hi in ranges)

    def _encode_rows(
        self, inner: FixedSizePipeline, nothing: Index, box: Box, lo: int, hi: int, values: npt.NDArray[np.generic]
    ) -> Op[Encoded]:
        """Encode the subchunks lo..hi of a new shard; the same as `_write_batch`."""
        edge = inner.shape
        plan = kernels.plan_box(box, edge, self.grid.grid_shape, nothing.offset, nothing.size, 0, lo, hi)
        assert plan is not None, "no entry of an empty index is at fault"
        boxes = planned_boxes(plan)
        return inner.encode_boxes(boxes, values, (boxes.shape[:, 1:] == edge).all(axis=1))
        yield  # makes this a generator, as every operation is; it has no requests

    def _finished(self, parts: list[Part] | None) -> list[Part] | None:
        """The parts of a new shard after the outer codecs."""
        if parts is None or not self.outer_codecs:
            return parts
        return [self.apply_outer(b"".join(cast("list[Buffer]", parts)))]

    def join(self, numbers: Ints, encoded: Sequence[Buffer]) -> Op[list[Part] | None]:
        """The parts of a new shard of subchunks that are encoded already, each with its number; None where there are none."""
        sizes = np.array([len(each) for each in encoded], np.int64)
        nothing = Index.empty(math.prod(self.grid.grid_shape))
        return self._finished((yield from self._lay_out(None, nothing, numbers, sizes, [each for each in encoded if len(each)])))

    def split(self, source: Source | None, numbers: Ints, limit: int) -> Op[list[Buffer | None]]:
        """Subchunks of a stored shard as they are encoded, None where one is not stored; `limit`: bytes of one."""
        encoded: list[Buffer | None] = [None] * len(numbers)
        source, index = yield from self._open(source)
        if source is not None:
            wanted = np.ones(len(numbers), np.bool_)
            fetched = yield from SubchunksOfShard(source, index, numbers).fetch(0, len(numbers), wanted, limit)
            for i, row in enumerate(fetched.rows.tolist()):
                encoded[row] = fetched.data(i)
        return encoded

    def filled(self) -> Op[list[Part]]:
        """See `Prepared.filled`."""
        index = self.encode_index(Index.empty(math.prod(self.grid.grid_shape)))
        return [self.apply_outer(cast("Buffer", index)) if self.outer_codecs else index]
        yield  # makes this a generator, as every operation is; it has no requests

    def apply_outer(self, data: Buffer) -> Buffer:
        """Apply the outer codecs; LimitError for bytes that `undo_outer` would refuse."""
        for codec, bound in zip(self.outer_codecs, self.outer_bounds[:-1], strict=True):
            require(len(data), 2 * bound + SLACK, f"too much before {codec.name}", "encoded bytes", "$.codecs")
            data = codec.encode(data)
        return data

    def _lay_out(
        self, source: Source | None, old: Index, numbers: Ints, sizes: Ints, new_parts: list[Part]
    ) -> Op[list[Part] | None]:
        """The parts of the new shard: old subchunks that stay, the new ones, the index."""
        if self.options.subchunk_order == "morton":
            numbers, sizes, new_parts = self._in_morton_order(numbers, sizes, new_parts)
        stored = np.maximum(sizes, 0)
        kept, body, at = yield from self._body(source, old, numbers, new_parts, int(stored.sum()))
        index = kept.moved(numbers, at + stored.cumsum() - stored, sizes)
        if index.all_missing and not self.options.write_empty_chunks:
            return None
        encoded_index = self.encode_index(index)
        return [encoded_index, *body] if self.at_start else [*body, encoded_index]

    def _body(
        self, source: Source | None, old: Index, numbers: Ints, new_parts: list[Part], added: int
    ) -> Op[tuple[Index, list[Part], int]]:
        """The index of the old subchunks that stay, all parts but the index, and where the new subchunks (`added` bytes) begin.

        Old subchunks stay in place, so that offsets which readers have remain right. They are moved together if no reader can
        have offsets (the shard is part of an object that is written anew), or if the options ask for it.
        """
        first = self.index_size if self.at_start else 0
        kept = old.without(numbers)
        if source is None:
            return kept, new_parts, first
        stop = source.size if self.at_start else source.size - self.index_size
        live, appending = kept.live_bytes + added, self.options.shard_updates == "append"
        dead = stop - first - kept.live_bytes
        keep_all = old.faulty is not None  # safety: entry at fault
        if source.published and appending and not keep_all:
            most = allowance(live, self.options.dead_limit)
            if most is not None and needs_record(dead, most):
                found = yield from self._with_freed(source, old, numbers, (first, stop), new_parts, added, most)
                if found is not None:
                    body, at = found
                    return kept, body, at
            keep_all = most is None or stop - first + added <= MAX_SHARD_MULTIPLE * (live + most)
        elif appending and kept.present.any():
            # Readers undo the outer codecs only up to a limit: a shard with too many dead bytes could not be read back.
            readable = not self.outer_codecs or stop + added + self.index_size <= 2 * self.outer_bounds[0] + SLACK
            keep_all = keep_all or (readable and dead <= self.options.dead_limit * (stop - first + added))
        if keep_all:
            return kept, [*_parts(source, first, stop), *new_parts], stop
        parts, kept, end = repack(source, kept, first)
        return kept, [*parts, *new_parts], end

    def _with_freed(
        self, source: Source, old: Index, numbers: Ints, data: tuple[int, int], new_parts: list[Part], added: int, most: int
    ) -> Op[tuple[list[Part], int] | None]:
        """The parts of a shard with many dead bytes, and where its new subchunks begin; None if it would become too long."""
        first, stop = data
        record, stop = yield from self._read_record(source, old, first, stop)
        layout = lay_out(old, numbers, record, (first, stop), added, most)
        if layout is None or layout.size > MAX_SHARD_MULTIPLE * (old.live_bytes + added + most):
            return None
        new = [(layout.at, layout.at + added, new_parts)]
        holes: list[tuple[int, int, list[Part]]] = [(start, end, [Hole(end - start)]) for start, end in layout.holes.tolist()]
        parts: list[Part] = []
        at = first
        for start, end, instead in sorted([*holes, *new], key=itemgetter(0)):
            parts += [*_parts(source, at, start), *instead]
            at = end
        parts += _parts(source, at, layout.end)
        return [*parts, layout.record], layout.at

    def _read_record(self, source: Source, index: Index, first: int, stop: int) -> Op[tuple[Record | None, int]]:
        """The record of dead bytes that earlier updates left, and where the data before it end."""
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

    def _in_morton_order(self, numbers: Ints, sizes: Ints, new_parts: list[Part]) -> tuple[Ints, Ints, list[Part]]:
        rank = np.argsort(morton_order(self.grid.grid_shape), kind="stable")[numbers]
        order = np.argsort(rank, kind="stable")
        if any(isinstance(piece, ByteRange | Hole) for piece in new_parts):
            # Updates of nested shards keep parts of old shards, whose order follows from earlier updates.
            return numbers, sizes, new_parts
        return numbers[order], sizes[order], [_reordered(cast("list[Buffer]", new_parts), np.maximum(sizes, 0), rank)]


def _reordered(new_parts: list[Buffer], sizes: Ints, rank: npt.NDArray[np.intp]) -> Buffer:
    """Subchunks that lie in `pieces` one after the other, ordered by `rank`. Their borders need not be those of the pieces."""
    row_end = np.cumsum(sizes)
    length = np.array([length_of(piece) for piece in new_parts], np.int64)
    piece_end = np.cumsum(length)
    cuts = np.unique(np.concatenate((np.zeros(1, np.int64), row_end, piece_end)))
    start, size = cuts[:-1], np.diff(cuts)
    by_rank = np.argsort(rank[np.searchsorted(row_end, start, side="right")], kind="stable")
    piece = np.searchsorted(piece_end, start, side="right")
    offset = start - (piece_end - length)[piece]
    return kernels.pack(new_parts, piece[by_rank], offset[by_rank], size[by_rank]).data


def planned_boxes(plan: kernels.BoxPlan) -> kernels.RowBoxes:
    """The boxes of a plan, as a kernel copies them."""
    steps = unit_steps(plan.boxes.shape[2])
    return kernels.RowBoxes(plan.boxes[0], steps, plan.boxes[1], steps, plan.boxes[2])


def repack(source: Source, kept: Index, first: int) -> tuple[list[Part], Index, int]:
    """Move live subchunks together, in their order; adjacent ones become one part."""
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


def _index_place(source: Source) -> tuple[int, int, str]:
    """Where the index of a shard is kept. A window of a shard has less bytes than the shard, so their keys differ."""
    return INDEX_PLACE if isinstance(source, Stored) else (0, source.size, "index")


class AddSubchunkToErrors:
    """A context that adds to a ChunkError in which subchunk it arose, where chunk `i` of `stored` is a subchunk."""

    def __init__(self, stored: EncodedChunks | None, i: int) -> None:
        self.stored, self.i = stored, i

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, ChunkError) and isinstance(self.stored, SubchunksOfShard):
            inside = "" if error.field is None else f"{error.field} in "
            error.field = f"{inside}subchunk {int(self.stored.numbers[self.i])}"


def chunks_of_call(selections: ChunkSelections) -> int:
    """Chunks of the call that some are selected for: those share its threads."""
    return selections.together if isinstance(selections, BoxInChunk) else selections.n


def length_of(part: Part) -> int:
    """Bytes of a part of a new object."""
    if isinstance(part, Hole):
        return part.length
    if isinstance(part, ByteRange):
        assert part.length is not None, "kept parts have a length"
        return part.length
    return memoryview(part).nbytes
