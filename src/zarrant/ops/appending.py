"""Buffered appends: slabs that come one by one, and the blocks of them that are appended together.

In: slabs of any length along one dimension, copied into blocks that end where a chunk (stored object) does, as far as the end of
the array is known. Out: operations that append all complete blocks with one change of the metadata (`ops/resize.py`). One such
operation is in flight at a time, so slabs get their places in the order in which they came. A slab is never cut: one that
reaches over the end of a chunk is appended whole, so it has one place, also where other writers append in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from zarrant.errors import ZarrantError
from zarrant.geometry.box import Shape
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.buffered import Buffers, copies_of, elsewhere, empty_values
from zarrant.ops.casting import as_values
from zarrant.ops.current import ArrayHandle
from zarrant.ops.resize import append_all, grown_shape
from zarrant.requests import Op, Outcome


class Appended:
    """The place of one slab that was given to an appender.

    >>> import numpy as np, zarrant
    >>> a = zarrant.create_array({}, shape=(0, 6), dtype="int32", chunks=(2, 6))
    >>> with a.appender() as frames:
    ...     first = frames.append(np.ones((1, 6), "int32"))
    ...     first.slice is None
    True
    >>> first.slice
    slice(0, 1, None)
    """

    __slots__ = ("_start", "length")

    def __init__(self, length: int) -> None:
        self.length = length
        """How many rows the slab has."""
        self._start: int | None = None

    @property
    def slice(self) -> slice | None:
        """The slice of the dimension that the slab got; None as long as it is in memory only."""
        return None if self._start is None else slice(self._start, self._start + self.length)

    def __repr__(self) -> str:
        return f"<Appended {'in memory' if self.slice is None else self.slice}>"


class Block:
    """Slabs one behind the other, in memory for `capacity` rows."""

    __slots__ = ("axis", "busy", "capacity", "copies", "due", "filled", "nbytes", "number", "slabs", "values")

    def __init__(self, array: BoundArray, copies: int, shape: Shape, axis: int) -> None:
        self.values = empty_values(array, shape)
        self.axis, self.capacity = axis, shape[axis]
        self.number, self.nbytes, self.copies = 0, self.values.nbytes, copies
        self.filled = 0
        self.slabs: list[Appended] = []
        self.busy = self.due = False

    def _rows(self, start: int, stop: int) -> Array:
        return self.values[(slice(None),) * self.axis + (slice(start, stop),)]

    def copy(self, slab: Array) -> int:
        """Copy a slab in; returns the bytes that its elements have elsewhere (text)."""
        n = slab.shape[self.axis]
        self._rows(self.filled, self.filled + n)[...] = slab
        return elsewhere(slab)

    @property
    def content(self) -> Array:
        """All slabs as one array."""
        return self._rows(0, self.filled)

    def placed(self, start: int) -> int:
        """The block was stored from `start` on: so its slabs have places. Returns its end."""
        for slab in self.slabs:
            slab._start = start
            start += slab.length
        return start


class AppendBuffers(Buffers[Block]):
    """Appends, block by block: one is open at a time, and all that are sealed go together."""

    def __init__(self, handle: ArrayHandle, axis: int, limit: int) -> None:
        super().__init__(limit)
        self.handle, self.axis = handle, axis
        self.open: Block | None = None
        self.end_known = handle.array.shape[axis]
        """Where the next slab will lie if nobody else appends: that is only for choosing where blocks end."""

    def slab(self, data: Any) -> Array:
        """Data as values of the array; ShapeError or DataTypeError where they cannot be appended."""
        array = self.handle.array
        values = as_values(array, data)
        grown_shape(array.shape, values, self.axis)
        return values

    def begin(self, slab: Array) -> Block | None:
        """Open a block that has room for a slab, for one caller, until `finish`. None where the caller must wait."""
        block = self.open
        if block is not None and block.busy:
            return None
        n, shape = slab.shape[self.axis], slab.shape
        if block is not None and block.filled + n > block.capacity:
            self._seal(block)
            block = None
        if block is None:
            row = math.prod(shape[: self.axis] + shape[self.axis + 1 :]) * slab.dtype.itemsize
            array = self.handle.array
            copies = copies_of(array, array.grid.typical_shapes()[0])
            # One block is stored while the next one is filled.
            rows = max(n, min(self._rows_to_boundary(n), self.limit // ((2 + copies) * max(1, row))))
            if not self.fits((1 + copies) * rows * row):
                return None
            block = Block(array, copies, (*shape[: self.axis], rows, *shape[self.axis + 1 :]), self.axis)
            self.add(block)
        self.open = block
        block.busy = True
        return block

    def finish(self, block: Block, slab: Array, more: int) -> Appended:
        """A slab was copied into a block, which is sealed where that fills it up to the end of a chunk, or where it is due."""
        place = Appended(slab.shape[self.axis])
        before, after = self.end_known, self.end_known + place.length
        if more:
            self.grow(block, more)
        full = block.filled + place.length == block.capacity or self._chunk_of(before) != self._chunk_of(after)
        block.filled, self.end_known = block.filled + place.length, after
        block.slabs.append(place)  # an interrupt can come from here on, and then it is in the block all the same
        if block.due or full:
            self._seal(block)
        block.busy = False
        return place

    def give_up(self, block: Block) -> None:
        """A slab could not be copied: the block is as it was."""
        if block.due:
            self._seal(block)
        block.busy = False

    @property
    def _depth(self) -> int:
        return self.handle.array.grid.typical_shapes()[0][self.axis]

    def _chunk_of(self, row: int) -> int:
        return row // max(1, self._depth)

    def _rows_to_boundary(self, n: int) -> int:
        """Of so many slabs of length `n` as reach the end of a chunk."""
        depth, n = max(1, self._depth), max(1, n)
        return -(-(depth - self.end_known % depth) // n) * n

    def _seal(self, block: Block) -> None:
        if self.open is block:
            self.open = None
            self.sealed.append(block)

    def seal_all(self) -> int:
        """Seal what is open; returns the mark that `waits_for` takes."""
        if self.open is not None:
            if self.open.busy:
                self.open.due = True
            else:
                self._seal(self.open)
        return self.made

    @property
    def ready(self) -> int:
        """How many threads would find something to do."""
        return 1 if self.sealed and not self.in_flight else 0

    def take(self) -> list[Block]:
        """All complete blocks, unless some are in flight."""
        if self.in_flight:  # safety: order of appends
            return []
        jobs: list[Block] = []
        while self.sealed and self.may_start(self.sealed[0], jobs):
            jobs.append(self.sealed.popleft())
        self.start(jobs)
        return jobs

    def store(self, jobs: Sequence[Block]) -> Op[list[Outcome[Any]]]:
        """Append blocks: the slice of them, for each."""
        try:
            found = yield from append_all(self.handle.array, [job.content for job in jobs], self.axis, self.handle.take_over)
        except ZarrantError as error:
            raise error.annotate(path=self.handle.array.prefix or "/") from error.__cause__
        return [found] * len(jobs)

    def done(self, jobs: Sequence[Block], outcomes: Sequence[Outcome[Any]]) -> None:
        """Blocks are stored, or have failed: then outcomes are errors."""
        if jobs and isinstance(outcomes[0], slice):
            at = outcomes[0].start
            for job in jobs:
                at = job.placed(at)
            waiting = [*self.sealed, *([] if self.open is None else [self.open])]
            self.end_known = at + sum(job.filled for job in waiting)
        self.end(jobs)
