"""A chain of `bytes` alone (and transposition), prepared for large chunks: only what a box touches is read, or made anew.

An element that is not compressed has a fixed place in its chunk. So a box of a chunk is read as the ranges that hold it, and
written as an object of old ranges and new bytes, which the store puts together without handing the old ones out. Where
that is not worth it (a box in very many runs, steps, several boxes), or shows something that only the whole chunk can tell
(it is absent, it has another size, all of it may be fill now), the chunk goes the way of any leaf, with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.pipeline.fixed_size import FixedSizePipeline
from zarrant.codecs.pipeline.resolve import Stages
from zarrant.codecs.protocols import Encoded, Fetched, Ints, Rows, Spans, Step
from zarrant.errors import ByteRangeError
from zarrant.geometry.layers import Values, drawn
from zarrant.geometry.region import Boxes, Cells
from zarrant.requests import Op
from zarrant.storage import Buffer, ByteRange, Part

LEAST = 1 << 18
"""Bytes of the smallest chunk that is worth ranges: a smaller one is copied in the time that a few requests take."""
MOST = 64
"""Ranges of one chunk that are asked for at once."""
BLOCK = 1 << 18
"""Bytes of fill that are kept to write from."""
RANGE = 1 << 15
"""Bytes that are copied in the time that one more range takes."""


class Runs(NamedTuple):
    """Where a box lies in the bytes of a chunk: `start` (n,), in order, each `length` bytes long.

    A run holds the dimensions from `axis` on; there is one for each index of those before.
    """

    start: Ints
    length: int
    axis: int

    def parts(self, old: Callable[[int, int], Iterable[Part]], new: memoryview, size: int) -> Iterator[Part]:
        """A chunk of `size` bytes: the new ones in the runs, between them what `old` gives for (start, length)."""
        end = 0
        for i, start in enumerate(self.start.tolist()):
            if start > end:
                yield from old(end, start - end)
            yield new[i * self.length : (i + 1) * self.length]
            end = start + self.length
        if end < size:
            yield from old(end, size - end)


def worth_ranges(stages: Stages) -> bool:
    """Whether chunks are stored as their elements, and are large enough for ranges."""
    return stages.head is not None and not stages.codecs and stages.laid_out.nbytes >= LEAST


class UncompressedPipeline(FixedSizePipeline):
    """Chunks without compression or checksum, of at least `LEAST` bytes."""

    @cached_property
    def head(self) -> tuple[Step, ...]:
        """The compiled steps from elements to what is stored: a byte swap, or nothing."""
        return self.stages.head or ()

    def write(self, spans: Spans | None, cells: Cells, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`."""
        encoded = None
        if hi == lo + 1:
            encoded = yield from self._write_box(spans, cells, lo, values)
        return encoded or (yield from super().write(spans, cells, lo, hi, values))

    def read(self, spans: Spans, cells: Cells, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""
        if cells.full[lo:hi].all():
            yield from super().read(spans, cells, lo, hi, out)
            return
        for i in range(lo, hi):
            if not (yield from self._read_box(spans, cells, i, out)):
                yield from super().read(spans, cells, i, i + 1, out)

    def _write_box(self, spans: Spans | None, cells: Cells, i: int, values: Values) -> Op[Encoded | None]:
        """Row i, or None where it goes the way of any leaf."""
        laid = drawn(cells, i, i + 1, values)
        boxes, array = laid[0]
        if len(laid) > 1 or not _single(boxes):
            return None
        box = self._box(boxes, array)
        whole = bool(self._covered(cells, i, i + 1)[0])
        runs = Runs(np.zeros(1, np.int64), self.spec.nbytes, 0) if whole and box.flags.c_contiguous else self._runs(boxes)
        if runs is None:
            return None
        row = np.ascontiguousarray(box).reshape(1, -1)
        if not self.options.write_empty_chunks and self.spec.fill.equals(row)[0]:
            return None
        flat = row.view(np.uint8)
        source = None if spans is None or cells.full[i] else spans.source(i)
        there = source is not None and (yield from source.read(())) is not None
        if source is not None and there and source.size != self.spec.nbytes:
            return None
        new = (kernels.encode(self.head, flat)[0] if self.head else flat[0]).data
        old = (lambda start, length: (source.part(start, length),)) if source is not None and there else self._fill_parts
        parts = list(runs.parts(old, new, self.spec.nbytes))
        return Encoded(np.array([self.spec.nbytes], np.int64), parts, [len(parts)])

    def _fill_parts(self, start: int, length: int) -> Iterator[Part]:
        """Fill elements, as they are stored: one block again and again, which is faster than memory never used before."""
        block = self._fill_block
        while length > 0:
            yield block[:length]
            length -= len(block)

    @cached_property
    def _fill_block(self) -> memoryview:
        row = np.repeat(self.spec.fill.element.reshape(1), max(1, BLOCK // self.spec.data_type.numpy.itemsize))
        flat = row.reshape(1, -1).view(np.uint8)
        return kernels.encode(self.head, flat)[0].data.toreadonly()

    def _deliver(self, fetched: Fetched, cells: Cells, lo: int, hi: int, out: npt.NDArray[np.generic]) -> None:
        """Straight from the bytes as they are stored, where all rows are there and right."""
        if self.head or fetched.rows.size != hi - lo or (fetched.size != self.spec.nbytes).any():
            super()._deliver(fetched, cells, lo, hi, out)
            return
        for i in range(hi - lo):
            start = int(fetched.offset[i])
            data = memoryview(fetched.buffers[int(fetched.which[i])])[start : start + self.spec.nbytes]
            row = np.frombuffer(data, self.spec.data_type.numpy).reshape(1, *self.spec.shape)
            self._copy_out(cells.boxes(lo + i, lo + i + 1), row, out)

    def _read_box(self, spans: Spans, cells: Cells, i: int, out: npt.NDArray[np.generic]) -> Op[bool]:
        """Whether row i was read; False where it goes the way of any leaf."""
        boxes = cells.boxes(i, i + 1)
        runs = self._runs(boxes) if _single(boxes) else None
        source = None if runs is None else spans.source(i)
        if runs is None or source is None:
            return False
        try:
            found = yield from source.read([ByteRange(start, runs.length) for start in runs.start.tolist()])
        except ByteRangeError:
            return False
        if found is None or source.size != self.spec.nbytes:
            return False
        target, item = self._box(boxes, out), self.spec.data_type.numpy
        for place, data in zip(np.ndindex(target.shape[: runs.axis]), self._decoded(found, runs.length), strict=True):
            target[place] = np.frombuffer(data, item).reshape(target.shape[runs.axis :])
        return True

    def _decoded(self, found: list[memoryview], length: int) -> Iterable[Buffer]:
        """The bytes of runs in native byte order."""
        if not self.head:
            return found
        flat: Rows = np.empty((len(found), length), np.uint8)
        zeros = np.zeros(len(found), np.int64)
        kernels.decode(self.head, found, np.arange(len(found)), zeros, zeros + length, flat)
        return [row.data for row in flat]

    def _box(self, boxes: Boxes, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The values of a box, laid out as they are stored."""
        start, shape = boxes.value_start[0].tolist(), boxes.shape[0].tolist()
        box = values[tuple(slice(low, low + count) for low, count in zip(start, shape, strict=True))]
        return box if self.order is None else box.transpose(self.order)

    def _runs(self, boxes: Boxes) -> Runs | None:
        """The runs of a single box; None where they are not worth it."""
        order = range(len(self.spec.shape)) if self.order is None else self.order
        start, count = ([int(column[axis]) for axis in order] for column in (boxes.cell_start[0], boxes.shape[0]))
        return runs_of(self.spec.shape, start, count, self.spec.data_type.numpy.itemsize)


def _single(boxes: Boxes) -> bool:
    """Whether there is one box, without steps."""
    return len(boxes.row) == 1 and not ((boxes.step != 1) & (boxes.shape[0] > 1)).any()


def runs_of(shape: tuple[int, ...], start: list[int], count: list[int], itemsize: int) -> Runs | None:
    """The runs of a box of `count` elements at `start` in an array in C order, or None where they are not worth it.

    >>> runs_of((4, 1 << 20), [1, 8], [2, 16], 2)
    Runs(start=array([2097168, 4194320]), length=32, axis=1)
    """
    axis = max((j for j, extent in enumerate(shape) if count[j] != extent), default=0)
    strides = [math.prod(shape[j + 1 :]) * itemsize for j in range(len(shape))]
    n, length = math.prod(count[:axis]), count[axis] * strides[axis]
    if n > MOST or math.prod(shape) * itemsize - n * length < (n + 1) * RANGE:
        return None
    begin = np.array([start[axis] * strides[axis]], np.int64)
    for j in range(axis):
        begin = (begin[:, np.newaxis] + np.arange(start[j], start[j] + count[j]) * strides[j]).reshape(-1)
    return Runs(begin, length, axis)
