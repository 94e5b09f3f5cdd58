"""Buffered writes: what is kept in memory, which chunks are complete, and what is stored next.

In: regions and their values, copied into one array for each chunk (stored object). Out: operations that store chunks. A chunk
of which every element within the bounds was written is stored with no read; one of which a part was written is updated like
every other partial write (`ops/update.py`), so that the rest of it stays. A chunk goes this way:

    open ---(complete, flush, or more memory is needed)---> sealed ---(taken)---> in flight ---> stored

It is written into while it is open only. What comes for the chunk later goes into a new one, which is stored after the first:
so the later write stays. Nothing here waits, and nothing is locked: the drivers (`run/buffered.py`, `run/buffered_async.py`)
call one method at a time, but for `PendingChunk.copy`, which belongs to the caller who has opened the chunk.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from zarrant.codecs.buffer_pool import lent
from zarrant.errors import ShapeError, ZarrantError
from zarrant.geometry.box import ArraySubset, Shape
from zarrant.geometry.overlay import Overlay
from zarrant.geometry.region import CopyPlan, Stack, box_region
from zarrant.geometry.written import Written
from zarrant.ops.atomic_update import update_subset
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.casting import as_values
from zarrant.ops.current import ArrayHandle, look
from zarrant.ops.indexing import selected, understood
from zarrant.ops.update import store_region
from zarrant.requests import Op, Outcome, gather_outcomes

BATCH_BYTES = 4 << 20
"""Chunks that are taken together: many small ones cost one request, and a large one is alone."""
BATCH_CHUNKS = 256

J = TypeVar("J", bound="Job")


class Job(Protocol):
    """Something in memory that is stored with one operation."""

    number: int
    nbytes: int
    copies: int
    """How often the values are in memory once more while they are stored: see `copies_of`."""


class Buffers(Generic[J]):
    """What is in memory, within `limit` bytes: counted are the values, and the copies of them that a job in flight needs."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.sealed: deque[J] = deque()
        self.in_flight: list[J] = []
        self.alive: dict[int, J] = {}
        """Jobs that are not stored, by number: the oldest first."""
        self.made = 0

    def fits(self, needed: int) -> bool:
        """Whether there are so many bytes to keep values and to store them. A job that needs more than the limit must be alone."""
        return self.used == 0 or self.used + needed <= self.limit

    def add(self, job: J) -> None:
        """A new job is in memory."""
        job.number, self.made = self.made, self.made + 1
        self.alive[job.number] = job
        self.used += job.nbytes

    def grow(self, job: J, nbytes: int) -> None:
        """A job takes more memory than was known when it was made."""
        job.nbytes += nbytes
        self.used += nbytes

    def start(self, jobs: Sequence[J]) -> None:
        """Jobs are about to be stored."""
        self.in_flight.extend(jobs)
        self.used += sum(job.copies * job.nbytes for job in jobs)

    def may_start(self, job: J, jobs: Sequence[J]) -> bool:
        """Whether a job can be stored together with others, and with those in flight. One alone always can."""
        alone = not jobs and not self.in_flight
        return alone or self.used + sum(each.copies * each.nbytes for each in (*jobs, job)) <= self.limit

    def end(self, jobs: Sequence[J]) -> None:
        """Jobs are stored, or have failed."""
        for job in jobs:
            self.in_flight.remove(job)
            del self.alive[job.number]
            self.used -= (1 + job.copies) * job.nbytes

    def waits_for(self, mark: int) -> bool:
        """Whether one of the first `mark` jobs is not stored."""
        return bool(self.alive) and next(iter(self.alive)) < mark

    @property
    def nbytes_pending(self) -> int:
        """Bytes that are not stored."""
        return sum(job.nbytes for job in list(self.alive.values()))


# Regions ---------------------------------------------------------------------------------------------------------------


class PendingChunk:
    """The values of one chunk, and which of them were written."""

    __slots__ = ("array", "busy", "chunk", "copies", "due", "nbytes", "number", "origin", "shape", "values", "written")

    def __init__(self, array: BoundArray, chunk: Shape) -> None:
        self.array, self.chunk = array, chunk
        self.shape, self.origin = array.chunk_shape(chunk), array.grid.origin(chunk)
        self.values = empty_values(array, self.shape)
        self.written = Written(self.shape)
        self.number, self.nbytes, self.copies = 0, self.values.nbytes, copies_of(array, self.shape)
        self.busy = False
        """A caller writes into it."""
        self.due = False
        """It is sealed as soon as nobody writes into it."""

    def copy(self, boxes: CopyPlan, values: Array) -> int:
        """Copy values in; returns the bytes that this takes elsewhere: of the elements of text, of a mask."""
        marks = self.written.nbytes
        ones, step = np.ones(len(self.shape), np.int64), boxes.step
        steps = None if (step == ones).all() else tuple(step.tolist())
        starts, sources = boxes.chunk_start.tolist(), boxes.value_start.tolist()
        for start, source, count in zip(starts, sources, boxes.shape.tolist(), strict=True):
            strides = steps or (1,) * len(count)
            stop = tuple([a + (n - 1) * s + 1 for a, n, s in zip(start, count, strides, strict=True)])
            new = values[tuple([slice(a, a + n) for a, n in zip(source, count, strict=True)])]
            self.values[tuple(map(slice, start, stop, strides))] = new
            self.written.add(tuple(start), stop, steps)
        return self.written.nbytes - marks + elsewhere(values)

    @property
    def complete(self) -> bool:
        """Whether every element within the bounds was written."""
        return self.written.covers(self._bounds)

    @property
    def _bounds(self) -> Shape:
        return self.array.grid.in_bounds(self.chunk).shape

    def store(self) -> Op[None]:
        """Store what was written, and nothing else."""
        try:
            yield from self._store()
        except ZarrantError as error:
            raise error.annotate(chunk=self.chunk, key=self.array.chunk_key(self.chunk)) from error.__cause__

    def _store(self) -> Op[None]:
        written = self.written
        if self.complete:  # safety: written only
            yield from self._store_boxes([((0,) * len(self.shape), self._bounds)])
        elif written.mask is None:
            yield from self._store_boxes(written.boxes)
        else:
            box = written.bounds()
            inside = box.slices
            mask, values = written.mask[inside], self.values[inside]

            def lay_over(current: Array) -> Array:
                np.copyto(current, values, where=mask)
                return current

            yield from update_subset(self.array, box.shift(self.origin), lay_over)

    def _store_boxes(self, boxes: Iterable[tuple[Shape, Shape]]) -> Op[None]:
        regions, bounds = [], self.array.shape
        for start, stop in boxes:
            subset = ArraySubset(start, tuple([b - a for a, b in zip(start, stop, strict=True)])).shift(self.origin)
            bounds = tuple(map(max, bounds, subset.stop))
            regions.append(box_region(subset, start))
        if len(regions) == 1:
            yield from store_region(self.array, regions[0], self.values, bounds)
        elif regions:  # else the write that has opened it was stopped before it had copied anything
            region = Overlay(tuple(regions), (0,) * len(regions))
            yield from store_region(self.array, region, Stack((self.values,)), bounds)


class Piece(NamedTuple):
    """What one write means for one chunk."""

    chunk: Shape
    boxes: CopyPlan


class Plan(NamedTuple):
    """What one write means: the array as it was seen, values, and what goes where."""

    array: BoundArray
    values: Array
    pieces: list[Piece]


def plan(handle: ArrayHandle, selection: Any, data: Any) -> Op[Plan]:
    """Understand a write of `array[selection] = data`; nothing is copied, and nothing stored."""
    array, chosen = yield from understood(handle, selection, "numpy")
    try:
        values = chosen.source(as_values(array, data))
    except ShapeError:  # maybe values for an array that others have grown
        if not (yield from look(handle)):
            raise
        array = handle.array
        chosen = selected(array, selection, "numpy")
        values = chosen.source(as_values(array, data))
    if not values.size:
        return Plan(array, values, [])
    rows = chosen.region.split(array.grid, array.shape)
    pieces = [Piece(tuple(chunk), rows.boxes(i, i + 1)) for i, chunk in enumerate(rows.index.tolist())]
    return Plan(array, values, pieces)


class ChunkBuffers(Buffers[PendingChunk]):
    """Writes of regions, chunk by chunk. At most one of each chunk is open, and one in flight."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.open: dict[Shape, PendingChunk] = {}
        """Those that were written into last come last."""
        self.storing: set[Shape] = set()

    def begin(self, array: BoundArray, chunk: Shape) -> PendingChunk | None:
        """Open a chunk for one caller, until `finish`. None where it must wait: for another caller, or for memory."""
        job = self.open.get(chunk)
        if job is not None and job.busy:
            return None
        if job is None:
            nbytes = math.prod(array.chunk_shape(chunk)) * array.data_type.numpy.itemsize
            needed = (1 + copies_of(array, array.chunk_shape(chunk))) * nbytes
            if not self.fits(needed):
                self._relieve(needed)
                return None
            job = PendingChunk(array, chunk)
            job.due = needed > self.limit
            self.add(job)
        else:
            del self.open[chunk]
            job.array = array
        self.open[chunk] = job
        job.busy = True
        return job

    def finish(self, job: PendingChunk, more: int = 0) -> None:
        """Nobody writes into a chunk any more; sealed where it is complete, or due."""
        if more:
            self.grow(job, more)
        if job.due or job.complete:
            self._seal(job)
        job.busy = False  # last: an interrupt can come before, and then this is done again

    def _seal(self, job: PendingChunk) -> None:
        if self.open.get(job.chunk) is job:
            del self.open[job.chunk]
            self.sealed.append(job)

    def _relieve(self, needed: int) -> None:
        """Seal those that were not written into for longest, if what is sealed and in flight leaves too little room."""
        leaving = sum(job.nbytes for job in self.sealed) + sum((1 + job.copies) * job.nbytes for job in self.in_flight)
        if self.used - leaving + needed <= self.limit:
            return
        most = min(self.limit - needed, self.limit * 3 // 4)
        for job in list(self.open.values()):
            if self.used - leaving <= most:
                return
            if not job.busy:
                self._seal(job)
                leaving += job.nbytes

    def seal_all(self) -> int:
        """Seal what is open; returns the mark that `waits_for` takes."""
        for job in list(self.open.values()):
            if job.busy:
                job.due = True
            else:
                self._seal(job)
        return self.made

    def take(self) -> list[PendingChunk]:
        """Chunks to be stored now. One of which an older state is in flight has to wait."""
        jobs: list[PendingChunk] = []
        size, waiting = 0, []
        while self.sealed and len(jobs) < BATCH_CHUNKS:
            job = self.sealed.popleft()
            if job.chunk in self.storing:  # safety: order of writes
                waiting.append(job)
                continue
            if (jobs and size + job.nbytes > BATCH_BYTES) or not self.may_start(job, jobs):
                waiting.append(job)
                break
            jobs.append(job)
            self.storing.add(job.chunk)
            size += job.nbytes
        self.sealed.extendleft(reversed(waiting))
        self.start(jobs)
        return jobs

    @property
    def ready(self) -> int:
        """About how many threads would find something to do."""
        return len(self.sealed)

    def store(self, jobs: Sequence[PendingChunk]) -> Op[list[Outcome[Any]]]:
        """Store chunks, side by side; one outcome each."""
        return gather_outcomes((job.store() for job in jobs), 0)

    def done(self, jobs: Sequence[PendingChunk], outcomes: Sequence[Outcome[Any]]) -> None:
        """Chunks are stored, or have failed."""
        self.storing.difference_update(job.chunk for job in jobs)
        self.end(jobs)


def copies_of(array: BoundArray, shape: Shape) -> int:
    """How often the values of a chunk are in memory once more while it is stored: encoded, and before that gathered.

    Uncompressed chunks need no second copy, and shards one of a few subchunks only: both can be written in parts.
    """
    return 1 if array.prepared_for(shape).partial.write else 2


def empty_values(array: BoundArray, shape: Shape) -> Array:
    """Memory for values, used before where possible: of numbers only, others refer to memory of their own."""
    kind = array.data_type.numpy
    if kind.hasobject or kind.kind == "T":
        return array.empty(shape)
    return lent(math.prod(shape) * kind.itemsize).view(kind).reshape(shape)


_LENGTH: dict[str, Callable[[Array], int]] = {
    "T": lambda values: int(np.strings.str_len(values).sum()),
    "O": lambda values: sum(len(value) for value in values.flat if hasattr(value, "__len__")),
}


def elsewhere(values: Array) -> int:
    """Bytes that elements have outside of the array, about."""
    length = _LENGTH.get(values.dtype.kind)
    return 0 if length is None else length(values)
