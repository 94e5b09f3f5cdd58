"""The pipeline for large uncompressed chunks: only the bytes of a box are read or written.

Without compression an element has a fixed place in its chunk. So a box is read as byte ranges, and written as an object that is
put together from ranges of the old one and new bytes; the store can copy the old ranges without handing them out. A chunk is
read or written whole, as by the fixed-size pipeline and with the same result, where ranges are not worth it (boxes in many
runs, steps), and where only the whole chunk gives the answer (it is not stored, has another size, or may be all fill now).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.byte_sources import StoredChunks
from zarrant.codecs.pipeline.fixed_size import FixedSizePipeline
from zarrant.codecs.pipeline.resolve import Stages
from zarrant.codecs.protocols import Encoded, EncodedChunks, Ints, Partial, Rows, Step
from zarrant.errors import ByteRangeError
from zarrant.geometry.pieces import pieces_of
from zarrant.geometry.region import ChunkSelections, CopyPlan, Values
from zarrant.requests import Op
from zarrant.storage import Buffer, ByteRange, Part

MIN_RANGED_CHUNK_BYTES = 1 << 18
"""Smaller chunks are read and written whole: copying one takes no longer than a few requests."""
MAX_RANGES = 64
"""The most ranges of one chunk in one request."""
FILL_BLOCK_BYTES = 1 << 18
"""Bytes of fill that are kept in memory, to write from; and of a chunk that are compared with it at a time."""
RANGE_COST_BYTES = 1 << 15
"""One more range takes as long as copying this many bytes."""
GRANULARITY_BYTES = RANGE_COST_BYTES
"""The size of what is read and written for a single element: as much as one more range costs."""
MIN_GRANULARITY_DIVISOR = 8
"""The write granularity is at least an eighth of that: keeping account of smaller parts costs more than it saves."""


class Runs(NamedTuple):
    """Where a box lies in the bytes of a chunk: `start` (n,), in order, each `length` bytes long.

    A run has the dimensions from `axis` on; there is one run for each index of the dimensions before it.
    """

    start: Ints
    length: int
    axis: int


def interleaved(old: Callable[[int, int], Iterable[Part]], new: Sequence[tuple[int, memoryview]], size: int) -> Iterator[Part]:
    """The parts of a chunk of `size` bytes: the new ones (start, bytes), in order, and `old(start, length)` between them."""
    end = 0
    for start, data in new:
        if start > end:
            yield from old(end, start - end)
        yield data
        end = start + len(data)
    if end < size:
        yield from old(end, size - end)


def worth_ranges(stages: Stages) -> bool:
    """Whether chunks are stored as their elements, and are large enough for ranges."""
    return stages.serializer_steps is not None and not stages.codecs and stages.laid_out.nbytes >= MIN_RANGED_CHUNK_BYTES


class UncompressedPipeline(FixedSizePipeline):
    """Chunks without compression or checksum, of at least `MIN_RANGED_CHUNK_BYTES` bytes."""

    @property
    def partial(self) -> Partial:
        """An element has a fixed place in its chunk."""
        return Partial(read=True, write=True)

    @cached_property
    def write_granularity(self) -> tuple[int, ...]:
        """See `Prepared.write_granularity`: one run of about `GRANULARITY_BYTES` bytes."""
        granularity, nbytes = [1] * len(self.spec.shape), self.spec.data_type.numpy.itemsize
        for axis in reversed(range(len(granularity))):
            length, most = self.spec.shape[axis], max(1, GRANULARITY_BYTES // nbytes)
            size = next(size for size in range(min(length, most), 0, -1) if length % size == 0)
            granularity[axis] = (
                size if MIN_GRANULARITY_DIVISOR * size * nbytes >= GRANULARITY_BYTES else length
            )  # a side of prime length is not cut
            nbytes *= granularity[axis]
            if granularity[axis] < length:
                break
        return self.as_array_sees(tuple(granularity))

    @cached_property
    def serializer_steps(self) -> tuple[Step, ...]:
        """The compiled steps from elements to what is stored: a byte swap, or nothing."""
        return self.stages.serializer_steps or ()

    def write(self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`."""
        if hi > lo + 1 and selections.full[lo:hi].all():
            return (yield from super().write(stored, selections, lo, hi, values))
        rows: list[list[Part] | None] = []
        if hi == lo + 1 and self.options.strided_parts and (box := self._box_to_gather(selections, lo, values)) is not None:
            if not self.options.write_empty_chunks and self._is_fill(box):
                return Encoded(np.array([-1], np.int64), [], [0])
            return Encoded(np.array([self.spec.nbytes], np.int64), [_plain(box)], [1])
        for i in range(lo, hi):
            encoded = yield from self._write_boxes(stored, selections, i, values)
            encoded = encoded or (yield from super().write(stored, selections, i, i + 1, values))
            if hi == lo + 1:
                return encoded
            rows.append(encoded.only())
        sizes = np.array([-1 if parts is None else self.spec.nbytes for parts in rows], np.int64)
        return Encoded(sizes, [part for parts in rows for part in parts or ()], [len(parts or ()) for parts in rows])

    def read(self, stored: EncodedChunks, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""
        if selections.full[lo:hi].all():
            place = self._place_of(selections, lo, out) if self.options.reads_into and hi == lo + 1 else None
            if place is not None and isinstance(stored, StoredChunks) and not stored.at_once:
                yield from self._read_to(place, stored, selections, lo, out)
            else:
                yield from super().read(stored, selections, lo, hi, out)
            return
        for i in range(lo, hi):
            if not (yield from self._read_boxes(stored, selections, i, out)):
                yield from super().read(stored, selections, i, i + 1, out)

    def _write_boxes(self, stored: EncodedChunks | None, selections: ChunkSelections, i: int, values: Values) -> Op[Encoded | None]:
        """Encode chunk i; None if it must be written whole."""
        plans = selections.boxes_by_source(i, i + 1, values)
        boxes, array = plans[0]
        runs = self._runs(boxes, self._is_whole(selections, i, boxes, array)) if len(plans) == 1 else None
        new = None if runs is None else self._new(boxes, runs, array)
        if new is None:
            return None
        source = None if stored is None or selections.full[i] else stored.source(i)
        there = source is not None and (yield from source.read(())) is not None
        if source is not None and there and source.size != self.spec.nbytes:
            return None
        old = (lambda start, length: (source.part(start, length),)) if source is not None and there else self._fill_parts
        parts = list(interleaved(old, new, self.spec.nbytes))
        return Encoded(np.array([self.spec.nbytes], np.int64), parts, [len(parts)])

    def _is_whole(self, selections: ChunkSelections, i: int, boxes: CopyPlan, values: npt.NDArray[np.generic]) -> bool:
        """Whether one box of values is all of chunk i, in the order in which it is stored."""
        covered = len(boxes.row) == 1 and bool(self._covered(selections, i, i + 1)[0])
        return covered and self._box(boxes, 0, values).flags.c_contiguous

    def _box_to_gather(self, selections: ChunkSelections, i: int, values: Values) -> npt.NDArray[np.generic] | None:
        """Chunk i as a view of the values, which the store gathers while it writes it.

        None where it is not one box, is not stored as its elements, or lies in one piece of memory.
        """
        if not isinstance(values, np.ndarray) or not self._covered(selections, i, i + 1)[0]:
            return None
        box = self._whole_box(selections, i, values)
        return None if box is None or box.flags.c_contiguous else box

    def _is_fill(self, box: npt.NDArray[np.generic]) -> bool:
        """Whether a view has nothing but fill. It is looked at in pieces, up to the first one with something else."""
        pieces = chain((box[(slice(1),) * box.ndim],), pieces_of(box, FILL_BLOCK_BYTES))
        return all(self.spec.fill.equals(np.ascontiguousarray(piece).reshape(1, -1))[0] for piece in pieces)

    def _whole_box(self, selections: ChunkSelections, i: int, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic] | None:
        """The values of chunk i, laid out as they are stored; None where they are not one box with elements as they are stored."""
        boxes = selections.boxes(i, i + 1)
        whole = len(boxes.row) == 1 and tuple(boxes.shape[0].tolist()) == self.shape
        return self._box(boxes, 0, values) if whole and not self.serializer_steps and values.dtype == self._numpy else None

    def _place_of(self, selections: ChunkSelections, i: int, out: npt.NDArray[np.generic]) -> memoryview | None:
        """Where the bytes of the whole chunk i go; None where that is no one place."""
        box = self._whole_box(selections, i, out)
        return None if box is None else _plain(box)

    def _read_to(
        self, place: memoryview, stored: StoredChunks, selections: ChunkSelections, i: int, out: npt.NDArray[np.generic]
    ) -> Op[None]:
        """Read chunk i to its place, if it has the bytes that it should have; else as any other."""
        data = yield from stored.fetch_one(i, self.stored_limit, place)
        if data is not place:
            self._deliver_one(data, selections, i, out)

    def _new(self, boxes: CopyPlan, runs: list[Runs], values: npt.NDArray[np.generic]) -> list[tuple[int, memoryview]] | None:
        """The new bytes of each run, in order; None where all are fill, or where boxes overlap."""
        new: list[tuple[int, memoryview]] = []
        some = self.options.write_empty_chunks
        for k, of_box in enumerate(runs):
            row = np.ascontiguousarray(self._box(boxes, k, values), self._numpy).reshape(1, -1)
            some = some or not self.spec.fill.equals(row)[0]
            flat = row.view(np.uint8)
            data = (kernels.encode(self.serializer_steps, flat)[0] if self.serializer_steps else flat[0]).data
            new += [(start, data[j * of_box.length : (j + 1) * of_box.length]) for j, start in enumerate(of_box.start.tolist())]
        new.sort(key=itemgetter(0))
        apart = all(start + len(data) <= after for (start, data), (after, _) in pairwise(new))
        return new if some and apart else None

    def _fill_parts(self, start: int, length: int) -> Iterator[Part]:
        """Stored bytes of fill elements. One block is repeated: that is faster than using new memory."""
        block = self._fill_block
        while length > 0:
            yield block[:length]
            length -= len(block)

    @cached_property
    def _fill_block(self) -> memoryview:
        row = np.repeat(self.spec.fill.element.reshape(1), max(1, FILL_BLOCK_BYTES // self.spec.data_type.numpy.itemsize))
        flat = row.reshape(1, -1).view(np.uint8)
        return kernels.encode(self.serializer_steps, flat)[0].data.toreadonly()

    def _read_boxes(self, stored: EncodedChunks, selections: ChunkSelections, i: int, out: npt.NDArray[np.generic]) -> Op[bool]:
        """Read the boxes of chunk i; False if it must be read whole."""
        boxes = selections.boxes(i, i + 1)
        runs = self._runs(boxes)
        source = None if runs is None else stored.source(i)
        if runs is None or source is None:
            return False
        try:
            found = yield from source.read([ByteRange(start, each.length) for each in runs for start in each.start.tolist()])
        except ByteRangeError:
            return False
        if found is None or source.size != self.spec.nbytes:
            return False
        item, at = self.spec.data_type.numpy, 0
        for k, each in enumerate(runs):
            target, mine = self._box(boxes, k, out), found[at : at + len(each.start)]
            at += len(each.start)
            for place, data in zip(np.ndindex(target.shape[: each.axis]), self._decoded(mine, each.length), strict=True):
                target[place] = np.frombuffer(data, item).reshape(target.shape[each.axis :])
        return True

    def _decoded(self, found: list[memoryview], length: int) -> Iterable[Buffer]:
        """The bytes of runs in native byte order."""
        if not self.serializer_steps:
            return found
        flat: Rows = np.empty((len(found), length), np.uint8)
        zeros = np.zeros(len(found), np.int64)
        kernels.decode(self.serializer_steps, found, np.arange(len(found)), zeros, zeros + length, flat)
        return [row.data for row in flat]

    def _box(self, boxes: CopyPlan, k: int, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The values of box k, laid out as they are stored."""
        start, shape = boxes.value_start[k].tolist(), boxes.shape[k].tolist()
        box = values[tuple(slice(low, low + count) for low, count in zip(start, shape, strict=True))]
        return box if self.order is None else box.transpose(self.order)

    def _runs(self, boxes: CopyPlan, whole: bool = False) -> list[Runs] | None:
        """The runs of each box; None if ranges are not worth it. A `whole` chunk is one run."""
        if whole:
            return [Runs(np.zeros(1, np.int64), self.spec.nbytes, 0)]
        if len(boxes.row) > MAX_RANGES or ((boxes.step != 1) & (boxes.shape > 1)).any():
            return None
        order = range(len(self.spec.shape)) if self.order is None else self.order
        found, n, nbytes = [], 0, 0
        for chunk_start, shape in zip(boxes.chunk_start.tolist(), boxes.shape.tolist(), strict=True):
            start, count = ([column[axis] for axis in order] for column in (chunk_start, shape))
            runs = runs_of(self.spec.shape, start, count, self.spec.data_type.numpy.itemsize)
            if runs is None:
                return None
            found.append(runs)
            n, nbytes = n + len(runs.start), nbytes + len(runs.start) * runs.length
        worth = n <= MAX_RANGES and self.spec.nbytes - nbytes >= (n + 1) * RANGE_COST_BYTES
        return found if worth else None


def _plain(box: npt.NDArray[np.generic]) -> memoryview:
    """An array as plain bytes, of whatever type: not all types can be handed on as a buffer."""
    return box.view(f"V{box.itemsize}").data


def runs_of(shape: tuple[int, ...], start: list[int], count: list[int], itemsize: int) -> Runs | None:
    """The runs of a box of `count` elements at `start` in an array in C order, or None where they are not worth it.

    >>> runs_of((4, 1 << 20), [1, 8], [2, 16], 2)
    Runs(start=array([2097168, 4194320]), length=32, axis=1)
    """
    axis = max((j for j, length in enumerate(shape) if count[j] != length), default=0)
    strides = [math.prod(shape[j + 1 :]) * itemsize for j in range(len(shape))]
    n, length = math.prod(count[:axis]), count[axis] * strides[axis]
    if n > MAX_RANGES or math.prod(shape) * itemsize - n * length < (n + 1) * RANGE_COST_BYTES:
        return None
    begin = np.array([start[axis] * strides[axis]], np.int64)
    for j in range(axis):
        begin = (begin[:, np.newaxis] + np.arange(start[j], start[j] + count[j]) * strides[j]).reshape(-1)
    return Runs(begin, length, axis)
