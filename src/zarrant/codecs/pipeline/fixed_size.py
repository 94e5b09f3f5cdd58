"""The pipeline for elements of fixed size: a chain without sharding, prepared for one chunk shape.

In comes a mini-batch of chunks, as boxes of a values array. Out go encoded chunks, or decoded elements in their places. The
chunks of the batch are the rows of one array (n, *shape). Writing copies the boxes into it, drops rows that are all fill, and
runs the codec program over the others; reading does the reverse. If every codec has a compiled step all of that is one kernel
call, which has memory for a few rows only; otherwise each row goes through the codecs by itself (the general path). Property
tests check that both give the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.buffer_pool import borrowed, lent
from zarrant.codecs.byte_sources import StoredChunks
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.pipeline.general import DecodeError, decode_chunk, encode_chunk
from zarrant.codecs.protocols import BoxUpdate, Encoded, EncodedChunks, Fetched, Rows, Step
from zarrant.errors import ChunkError
from zarrant.geometry.box import Shape
from zarrant.geometry.region import Box, BoxInChunk, ChunkSelections, CopyPlan, ProductSelections, Values, slices_of, unit_steps
from zarrant.requests import Op
from zarrant.storage import Buffer, Part

Bools = npt.NDArray[np.bool_]
MAX_LINES = 256
"""A box of so many lines is copied by NumPy: 40 ns for each line, where the columns for the kernel take 10 µs."""
_ONE_ROW = np.zeros(1, np.int64)
_ONE_ROW.flags.writeable = False
MAX_READ_DECODED_BYTES = 1 << 22
"""Of a chunk that is decoded as it is read, its encoded bytes being in memory of the thread; with larger ones Python is no cost."""
MAX_UPDATED_BYTES = 1 << 20
"""Of what is decoded by the compiled update of a box: the call makes memory for it, which has a price where it is large."""
_NO_INDEX: tuple[Any, ...] = ((), (0, 0, False), (1.0, 0, 1, 0, 0, 0, 0))
_NOT_STORED = np.full(1, -1, np.int64)
_NOT_STORED.flags.writeable = False
GROUP_BYTES = 1 << 18
"""Decoded bytes that a kernel has at hand. With their encoded bytes and the state of a compressor they fit in an L2 cache."""


@dataclass(frozen=True)
class FixedSizePipeline(ChunkPipeline):
    """Encodes and decodes batches of chunks; a row is one chunk after transposition."""

    def write(self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`; UnknownExtensionError where a codec of the chain is not known."""
        if self.skipped:  # safety: skipped codecs
            raise self.unknown_codec()
        if self.program == () and (row := self._whole_row(selections, values)) is not None:
            return self._stored_row(row)
        if not self.program:  # without steps the encoded bytes are the rows themselves, so their memory cannot be reused at once
            memory = lent((hi - lo) * self.spec.nbytes)  # begins with a page, as direct I/O needs it
            return (yield from self._update(stored, selections, lo, hi, values, self._rows(hi - lo, memory)))
        whole = stored is None or bool(selections.full[lo:hi].all())
        if isinstance(values, np.ndarray) and (whole or self._is_merged(selections, values)):
            old = None if stored is None or whole else (yield from stored.fetch(lo, hi, ~selections.full[lo:hi], self.stored_limit))
            return self.encode_boxes(plan_of(selections, lo, hi), values, self._covered(selections, lo, hi), old)
        with borrowed((hi - lo) * self.spec.nbytes) as memory:
            return (yield from self._update(stored, selections, lo, hi, values, self._rows(hi - lo, memory)))

    def _is_merged(self, selections: ChunkSelections, values: npt.NDArray[np.generic]) -> bool:
        """Whether the kernel that encodes lays values over what is stored; NumPy does so with a box of few lines in less time."""
        small = isinstance(selections, BoxInChunk) and self._is_copied_by_numpy(selections.count, values.dtype)
        return values.dtype == self._numpy and not small

    def encode_boxes(
        self,
        plan: kernels.RowBoxes | kernels.OuterBoxes,
        values: npt.NDArray[np.generic],
        covered: Bools,
        old: Fetched | None = None,
    ) -> Encoded:
        """Encode chunks in one kernel call: boxes, laid over those that are `old`; else what is not `covered` is fill. May raise
        ChunkError.
        """
        assert self.program is not None, "asked by the caller"
        drop, program = not self.options.write_empty_chunks, self.program
        fill, check = self._fill_bytes, self.options.validate_checksums
        if values.dtype != self._numpy:  # rows of the other byte order, as the values are
            fill, program = self.spec.fill.element.byteswap().tobytes(), self._of_swapped
        with borrowed(self._group(len(covered)) * self.spec.nbytes) as memory:
            rows, before = self._row_memory(memory), None if old is None else kernels.EncodedRows(*old)
            try:
                arena, sizes, failures = self.kernel.encode_boxes(
                    program, values[np.newaxis], plan, before, rows, covered, fill, drop, check, lent
                )
            except RuntimeError as error:
                raise self._not_encoded(error) from error
        if old is not None:
            self._raise(old, self._named(failures))
        return Encoded(sizes, [memoryview(arena.data)])

    @cached_property
    def _of_swapped(self) -> tuple[Step, ...]:
        """The program for elements in the other byte order: one swap more, or one less."""
        assert self.program is not None, "asked by write"
        swap = (kernels.SWAP, self.spec.data_type.word)
        return self.program[1:] if self.program[:1] == (swap,) else (swap, *self.program)

    def _group(self, n: int) -> int:
        """How many of n rows a kernel has memory for."""
        return min(n, max(1, GROUP_BYTES // self.spec.nbytes))

    def _row_memory(self, memory: Rows) -> kernels.RowMemory:
        rows = self._rows(memory.size // self.spec.nbytes, memory)
        return kernels.RowMemory(_bytes(rows), rows if self.order is None else self._view(rows))

    def _update(
        self,
        stored: EncodedChunks | None,
        selections: ChunkSelections,
        lo: int,
        hi: int,
        values: Values,
        rows: npt.NDArray[np.generic],
    ) -> Op[Encoded]:
        """Encode chunks of which a part may be old; `rows` is memory for them."""
        if (
            isinstance(selections, BoxInChunk)
            and isinstance(values, np.ndarray)
            and selections.count  # NumPy has no views of arrays without axes
            and self._is_copied_by_numpy(selections.count, values.dtype)
        ):
            old = None
            if stored is not None and selections.count != selections.bounds:
                old = yield from stored.fetch_one(lo, self.stored_limit)
            return self._update_box(old, selections, values, rows)
        stale, blank = ~selections.full[lo:hi], ~self._covered(selections, lo, hi)
        fetched = (yield from stored.fetch(lo, hi, stale, self.stored_limit)) if stored is not None and stale.any() else None
        if fetched is not None:
            blank[fetched.rows] = False  # all of them is decoded
        if blank.any():
            rows[blank] = self.spec.fill.element
        if fetched is not None:
            self._decode(fetched, rows)
        for boxes, array in selections.boxes_by_source(lo, hi, values):
            self._copy_in(boxes, rows, array)
        keep = None if self.options.write_empty_chunks else ~self.spec.fill.equals(rows)
        return self._encode(_bytes(rows), keep)

    def _whole_row(self, selections: ChunkSelections, values: Values) -> npt.NDArray[np.generic] | None:
        """The values of the only chunk, if they lie in memory as the chunk is stored; None where they have to be copied."""
        if not (isinstance(selections, BoxInChunk) and isinstance(values, np.ndarray) and values.dtype == self._numpy):
            return None
        if not selections.count or selections.count != self.spec.shape or self.order is not None:
            return None
        box = selections.of_values(values)
        return box[np.newaxis] if box.flags.c_contiguous else None

    def _stored_row(self, rows: npt.NDArray[np.generic]) -> Encoded:
        """The only chunk, laid out as it is stored; nothing where it is fill."""
        data, element = _bytes(rows).reshape(-1).data, self._fill_bytes
        # The first element tells it of nearly all chunks, in a fifth of the time.
        if not self.options.write_empty_chunks and data[: len(element)] == element and self.spec.fill.equals(rows)[0]:
            return Encoded(_NOT_STORED, [], [0])
        return Encoded(self._one_size, [data], [1])

    def _update_box(
        self, data: Buffer | None, box: BoxInChunk, values: npt.NDArray[np.generic], rows: npt.NDArray[np.generic]
    ) -> Encoded:
        """Lay one box of values over an old chunk, or over fill; the same as `_update`, without columns of one row."""
        if data is not None:
            self._decode(_one(data), rows)
        elif box.count != self.spec.shape:
            rows[...] = self.spec.fill.element
        box.of_chunk(self._view(rows)[0])[...] = box.of_values(values)
        if self.program == ():
            return self._stored_row(rows)
        kept = self.options.write_empty_chunks or not self.spec.fill.equals(rows)[0]
        return self._encode(_bytes(rows), np.array((kept,), np.bool_))

    @cached_property
    def _fill_bytes(self) -> bytes:
        """One element of fill."""
        return self.spec.fill.element.tobytes()

    @cached_property
    def _one_size(self) -> npt.NDArray[np.int64]:
        size = np.array((self.spec.nbytes,), np.int64)
        size.flags.writeable = False
        return size

    def read(self, stored: EncodedChunks, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""
        if isinstance(selections, BoxInChunk) and hi - lo == 1:
            self._deliver_box((yield from stored.fetch_one(lo, self.stored_limit)), selections, out)
            return
        if isinstance(stored, StoredChunks) and stored.at_once:
            yield from self._read_decoded(stored, selections, lo, hi, out)
            return
        fetched = yield from stored.fetch(lo, hi, np.ones(hi - lo, np.bool_), self.stored_limit)
        self._deliver(fetched, selections, lo, hi, out)

    @cached_property
    def is_read_decoded(self) -> bool:
        """Whether chunks are decoded as they are read: all of a call at once, by several threads."""
        able = self.options.reads_decoded and kernels.read_files is not None and hasattr(self.kernel, "BoxDecoder")
        return bool(able and self.program and self.spec.nbytes <= MAX_READ_DECODED_BYTES)

    def _read_decoded(
        self, stored: StoredChunks, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]
    ) -> Op[None]:
        """Have chunks decoded as they are read, and decode here those that were not."""
        with borrowed(self.spec.nbytes) as memory:
            rows, boxes = self._row_memory(memory[: self.spec.nbytes]), plan_of(selections, lo, hi)
            fill, check = self._fill_bytes, self.options.validate_checksums
            decoder = self.kernel.BoxDecoder(self.program, rows, boxes, out[np.newaxis], fill, check)
            left = yield from stored.fetch_decoded(lo, hi, self.stored_limit, decoder)
        for row, data in left:
            self._deliver_one(data, selections, lo + row, out)

    def _deliver_one(self, data: Buffer | None, selections: ChunkSelections, i: int, out: npt.NDArray[np.generic]) -> None:
        """Decode chunk i into `out`; fill where it is not stored."""
        if isinstance(selections, BoxInChunk):
            self._deliver_box(data, selections, out)
        else:
            self._deliver(_NONE if data is None else _one(data), selections, i, i + 1, out)

    def _deliver(self, fetched: Fetched, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> None:
        """Decode the fetched chunks of lo..hi into `out`; fill for those that are not stored."""
        if self.program is not None and fetched.rows.size:
            self.decode_boxes(fetched, plan_of(selections, lo, hi), hi - lo, out)
            return
        boxes = selections.boxes(lo, hi)
        if fetched.rows.size == 0:
            self._copy_out(boxes, self.spec.fill.full((hi - lo, *self.spec.shape)), out)
            return
        with borrowed((hi - lo) * self.spec.nbytes) as memory:
            rows = self._rows(hi - lo, memory)
            if fetched.rows.size < hi - lo:
                rows[...] = self.spec.fill.element
            self._decode(fetched, rows)
            self._copy_out(boxes, rows, out)

    def _deliver_box(self, data: Buffer | None, box: BoxInChunk, out: npt.NDArray[np.generic]) -> None:
        """Decode a chunk, and copy one box of it into `out`; the same as `_deliver`, without columns of one row."""
        target = box.of_values(out)
        if data is None:
            target[...] = self.spec.fill.element
            return
        fetched = _one(data)
        if box.count == self.spec.shape and self.order is None and target.flags.c_contiguous and target.dtype == self._numpy:
            self._decode(fetched, target[np.newaxis])
            return
        in_blocks = self.program and self.spec.nbytes > GROUP_BYTES  # the kernel leaves blocks out that are not needed
        if in_blocks or not self._is_copied_by_numpy(box.count, self._numpy):
            self._deliver(fetched, box, 0, 1, out)
            return
        with borrowed(self.spec.nbytes) as memory:
            rows = self._rows(1, memory)
            self._decode(fetched, rows)
            target[...] = box.of_chunk(self._view(rows)[0])

    def _is_copied_by_numpy(self, shape: Shape, dtype: np.dtype[np.generic]) -> bool:
        """Whether NumPy copies a box to or from a chunk as the kernel does, bit by bit, and in less time."""
        return math.prod(shape[:-1]) <= MAX_LINES and dtype == self._numpy and dtype.kind in "biufc"

    @property
    def _numpy(self) -> np.dtype[np.generic]:
        return self.spec.data_type.numpy

    def decode_boxes(
        self, fetched: Fetched, plan: kernels.RowBoxes | kernels.OuterBoxes, n: int, out: npt.NDArray[np.generic]
    ) -> None:
        """Decode those of n chunks that are stored, and copy boxes, in one kernel call; ChunkError names the first that fails."""
        fill, check = self._fill_bytes, self.options.validate_checksums
        with borrowed(self._group(n) * self.spec.nbytes) as memory:
            rows = self._row_memory(memory)
            failures = self.kernel.decode_boxes(
                self.program, kernels.EncodedRows(*fetched), n, rows, plan, out[np.newaxis], fill, check
            )
        self._raise(fetched, self._named(failures))

    def row_bytes(self, n: int) -> int:
        """Memory for as many of n rows as a kernel has at hand."""
        return self._group(n) * self.spec.nbytes

    def decoder_of_shards(
        self, shards: Sequence[Any], edge: Shape, grid: Shape, touched: int, memory: Rows, out: npt.NDArray[np.generic]
    ) -> Any:
        """A `kernels.compiled.ShardDecoder`, where `is_read_decoded`; `memory` has `row_bytes`."""
        fill, check = self._fill_bytes, self.options.validate_checksums
        most = self.stored_limit  # safety: size of decoded subchunks
        layout = (edge, grid, most, touched, self.program, self._row_memory(memory))
        return self.kernel.ShardDecoder(shards, *layout, out[np.newaxis], fill, check)

    def encode_row(self, row: npt.NDArray[np.generic]) -> Part:
        """The bytes of one whole chunk, fill or not."""
        if self.skipped:
            raise self.unknown_codec()
        encoded = self._encode(_bytes(self._laid_out(row[np.newaxis])), None)
        return encoded.parts[0]

    def decode_row(self, data: Buffer) -> npt.NDArray[np.generic]:
        """One whole chunk; ChunkError where the bytes do not decode."""
        rows, zero = self._rows(1), np.zeros(1, np.int64)
        self._decode(Fetched(zero, [data], zero, zero, np.array([memoryview(data).nbytes])), rows)
        decoded: npt.NDArray[np.generic] = self._view(rows)[0]
        return decoded

    def box_update(self, selections: ChunkSelections, row: int, values: npt.NDArray[np.generic]) -> BoxUpdate | None:
        """See `Prepared.box_update`."""
        layout = self._box_layout
        if layout is None:
            return None
        part = selections.region(row)
        if isinstance(part, Box):
            return BoxUpdate.of(layout, self.spec, self.options, ((0, part.start, part.value, part.shape),), values)
        return BoxUpdate.of(layout, self.spec, self.options, (0,), values, plan_of(selections, row, row + 1))

    @cached_property
    def _box_layout(self) -> Any | None:
        return self.box_layout_within(_NO_INDEX, False)

    def box_layout_within(self, index: tuple[Any, ...], check_index: bool) -> Any | None:
        """What the compiled update of a box has to know of the subchunks of a shard with such an index; None where it has no form
        of these.
        """
        spec, options = self.spec, self.options
        served = kernels.ChunkLayout is not None and self.program is not None and self.kernel is not kernels.reference
        if not served or self.skipped or self.partial.write or spec.data_type.numpy.kind not in "biufc":
            return None
        if not 0 < spec.nbytes <= MAX_UPDATED_BYTES:
            return None
        seen = self._view(self._rows(1))[0]
        row = (spec.nbytes, self.stored_limit, seen.shape, seen.strides, seen.itemsize)
        fill = (self._fill_bytes, not options.write_empty_chunks)
        assert kernels.ChunkLayout is not None, "looked at above"
        return kernels.ChunkLayout(self.program, row, fill, *index, (options.validate_checksums, check_index))

    def _rows(self, n: int, memory: Rows | None = None) -> npt.NDArray[np.generic]:
        return np.ndarray((n, *self.spec.shape), self.spec.data_type.numpy, memory)

    def _covered(self, selections: ChunkSelections, lo: int, hi: int) -> Bools:
        """Which rows get every element from values, padding included."""
        full = selections.full[lo:hi]
        if hi - lo == 1:
            return full if selections.shape(lo) == self.shape else np.zeros(1, np.bool_)
        covered: Bools = full & (selections.shapes(lo, hi) == np.array(self.shape, np.int64)).all(axis=1)
        return covered

    def _laid_out(self, rows: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Rows as they are stored, after transposition."""
        order = () if self.order is None else (0, *(1 + axis for axis in self.order))
        return np.ascontiguousarray(rows.transpose(order) if order else rows)

    def _copy_in(self, boxes: CopyPlan, rows: npt.NDArray[np.generic], values: npt.NDArray[np.generic]) -> None:
        if values.dtype != self._numpy:  # of the other byte order: NumPy swaps; they are one box for each chunk
            for inside, outside in slices_of(boxes):
                self._view(rows)[inside] = values[outside]
            return
        values_start, values_step, row_start, row_step, shape = columns(boxes)
        seen = rows if self.order is None else self._view(rows)
        kernels.copy_boxes(values[np.newaxis], values_start, values_step, seen, row_start, row_step, shape)

    def _copy_out(self, boxes: CopyPlan, rows: npt.NDArray[np.generic], out: npt.NDArray[np.generic]) -> None:
        out_start, out_step, row_start, row_step, shape = columns(boxes)
        seen = rows if self.order is None else self._view(rows)
        kernels.copy_boxes(seen, row_start, row_step, out[np.newaxis], out_start, out_step, shape)

    def _encode(self, flat: Rows, keep: Bools | None) -> Encoded:
        program = self.program
        if program == () and (keep is None or keep.all()):
            return Encoded(np.full(len(flat), flat.shape[1], np.int64), [flat.reshape(-1).data])
        if program is not None:
            try:
                arena, sizes = self.kernel.encode(program, flat, keep)
            except RuntimeError as error:
                raise self._not_encoded(error) from error
            return Encoded(sizes, [memoryview(arena.data)])
        new_parts: list[Part] = []
        shaped = flat.view(self.spec.data_type.numpy).reshape(len(flat), *self.spec.shape)
        sizes = np.full(len(flat), -1, np.int64)
        for i in range(len(flat)) if keep is None else np.flatnonzero(keep):
            data = encode_chunk(self.stages, shaped[i, ...])
            new_parts.append(data)
            sizes[i] = len(data)
        return Encoded(sizes, new_parts, [int(size >= 0) for size in sizes])

    def _not_encoded(self, error: RuntimeError) -> ChunkError:
        names = ", ".join(codec.name for codec in self.stages.codecs)
        return ChunkError(f"cannot encode: {error}", codec=names)

    def _decode(self, fetched: Fetched, rows: npt.NDArray[np.generic]) -> None:
        """Decode fetched rows into their places; ChunkError names the first that fails."""
        if fetched.rows.size == 0:
            return
        straight = fetched.rows.size == len(rows)
        flat = _bytes(rows) if straight else np.empty((fetched.rows.size, self.spec.nbytes), np.uint8)
        self._raise(fetched, self._failures(fetched, flat, self.options.validate_checksums))
        if not straight:
            _bytes(rows)[fetched.rows] = flat

    def _raise(self, fetched: Fetched, failures: list[tuple[int, str, str]]) -> None:
        if failures:
            row, codec, reason = failures[0]
            raise ChunkError(reason, codec=codec, got=f"{int(fetched.size[row])} encoded bytes")

    def check(self, fetched: Fetched) -> Op[dict[int, str]]:
        """See `ChunkPipeline.check`."""
        flat = np.empty((fetched.rows.size, self.spec.nbytes), np.uint8)
        failures = self._failures(fetched, flat, validate_checksums=True)
        return {int(fetched.rows[i]): f"{codec}: {reason}" for i, codec, reason in failures}
        yield  # makes this a generator, as every operation is; it has no requests

    def _failures(self, fetched: Fetched, flat: Rows, validate_checksums: bool) -> list[tuple[int, str, str]]:
        """Decode into `flat`; (row, codec, reason) of what fails."""
        program = self.program
        if program is None:
            return self._decode_each(fetched, flat)
        failures = self.kernel.decode(
            program, fetched.buffers, fetched.buffer_index, fetched.offset, fetched.size, flat, validate_checksums
        )
        return self._named(failures)

    def _named(self, failures: list[kernels.Failure]) -> list[tuple[int, str, str]]:
        return [(row, self.step_names[min(step, len(self.step_names) - 1)], reason) for row, step, reason in failures]

    def _decode_each(self, fetched: Fetched, flat: Rows) -> list[tuple[int, str, str]]:
        failures = []
        shaped = flat.view(self.spec.data_type.numpy).reshape(len(flat), *self.spec.shape)
        for i in range(len(flat)):
            try:
                shaped[i, ...] = decode_chunk(self.stages, fetched.data(i))
            except DecodeError as error:
                failures.append((i, error.codec, error.reason))
        return failures


_NOTHING = np.zeros(0, np.int64)
_NOTHING.flags.writeable = False
_NONE = Fetched(_NOTHING, (), _NOTHING, _NOTHING, _NOTHING)
"""Nothing is stored."""


def _one(data: Buffer) -> Fetched:
    """The only chunk of a batch."""
    return Fetched(_ONE_ROW, (data,), _ONE_ROW, _ONE_ROW, np.array((len(data),), np.int64))


def _bytes(rows: npt.NDArray[np.generic]) -> Rows:
    """Rows as (n, bytes); rows are C-contiguous."""
    return rows.reshape(len(rows), -1).view(np.uint8) if rows.ndim > 1 else rows.reshape(-1, 1).view(np.uint8)


def plan_of(selections: ChunkSelections, lo: int, hi: int) -> kernels.RowBoxes | kernels.OuterBoxes:
    """What of chunks lo..hi is read or written, for the kernel: boxes, or the segments of which they are combinations."""
    if not isinstance(selections, ProductSelections) or not selections.is_scattered:
        return row_boxes(selections.boxes(lo, hi))
    plan = selections.outer(lo, hi)
    steps = unit_steps(1 + len(plan.step))
    row_steps = np.append(steps[:1], plan.step)
    return kernels.OuterBoxes(plan.value_start, steps, plan.chunk_start, row_steps, plan.length, plan.spans)


def row_boxes(boxes: CopyPlan) -> kernels.RowBoxes:
    """The plan as columns for the kernel, values and rows."""
    return kernels.RowBoxes(*columns(boxes))


def columns(boxes: CopyPlan) -> tuple[npt.NDArray[np.int64], ...]:
    """The plan as columns for the kernel. Both sides get a leading axis: 0 for the values, the row number for the rows."""
    k, d = boxes.chunk_start.shape
    value_start, row_start, shape = np.empty((3, k, d + 1), np.int64)
    value_start[:, 0] = 0
    value_start[:, 1:] = boxes.value_start
    row_start[:, 0] = boxes.row
    row_start[:, 1:] = boxes.chunk_start
    shape[:, 0] = 1
    shape[:, 1:] = boxes.shape
    row_step = np.empty(d + 1, np.int64)
    row_step[0] = 1
    row_step[1:] = boxes.step
    return value_start, unit_steps(d + 1), row_start, row_step, shape
