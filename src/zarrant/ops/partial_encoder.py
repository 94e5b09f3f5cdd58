"""One stored object that is changed many times in memory and stored with one write.

Decoded values are kept in *pieces*: the smallest parts of a stored object that can be replaced without decoding another (the
innermost subchunks of a shard, else the whole object). All changed pieces are stored with one write. It reads the index of a
shard, and only those pieces that were changed in part, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.codecs.byte_sources import OneChunk, Stored
from zarrant.errors import ZarrantError
from zarrant.geometry.box import ArraySubset, Shape, as_subset, check_chunk_indices
from zarrant.geometry.disjoint_boxes import DisjointBoxes
from zarrant.geometry.grid import chunk_alone
from zarrant.geometry.region import ChunkSelections, box_region
from zarrant.ops.atomic_update import known_bounds
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.casting import as_values, broadcast
from zarrant.ops.current import Current
from zarrant.ops.guard import Guard, update_object
from zarrant.ops.partial_decoder import CachedChunk
from zarrant.ops.turns import erased
from zarrant.requests import Op
from zarrant.storage import Part

Function = Callable[[npt.NDArray[Any]], Any]


class Encoder:
    """One stored object that is changed many times and written once. The caller has locked the object.

    `store` copies values into pieces and asks for nothing; `flush` writes all pieces at once, and nothing was written until
    then. Pieces that take more than half of `limit` bytes are flushed at once: a flush needs as much again.
    """

    def __init__(self, array: BoundArray, chunk: Sequence[int], limit: int) -> None:
        self.array = array
        self.chunk = check_chunk_indices(chunk, array.grid.grid_shape)
        self.key = array.chunk_key(self.chunk)
        self.limit = limit
        self.shape = array.chunk_shape(self.chunk)
        self.prepared = array.prepared_for(self.shape)
        self.piece = array.piece_shape_for(self.shape)
        self.discard()

    def discard(self) -> None:
        """Forget what is not written yet."""
        self.pieces: dict[Shape, _PendingSubchunk] = {}
        self.erased = False
        self.nbytes = 0
        self.bounds = self._known

    @property
    def _known(self) -> Shape:
        """The shape of the chunk within the bounds that this handle knows."""
        return self.array.grid.in_bounds(self.chunk).shape

    def store(self, subset: Any, data: Any) -> Op[None]:
        """Store a part, in coordinates of the chunk; it may reach into the padding of an edge chunk. `data` is copied."""
        local = as_subset(subset, self.shape, "chunk")
        values = broadcast(as_values(self.array, data), local.shape)
        if values.size:
            self.bounds = tuple(max(bound, stop) for bound, stop in zip(self.bounds, local.stop, strict=True))
            for index, inside, outside in _cut(local, self.piece):
                self._piece(index, inside).put(inside, values[outside])
        if 2 * self.nbytes > self.limit:
            yield from self.flush()

    def erase(self) -> Op[None]:
        """Set every element to fill. The object is erased unless something is stored afterwards."""
        self.discard()
        self.erased = True
        return
        yield  # makes this a generator, as every operation is; it has no requests

    def flush(self) -> Op[None]:
        """Write what was stored and erased, as one new object."""
        if self.pieces or self.erased:
            try:
                guard, node = Guard.lock_if(self.array.options.exclusive), Current(self.array)
                yield from update_object(self.key, self._change, guard, node=node, source=CachedChunk)
            except ZarrantError as error:
                raise error.annotate(chunk=self.chunk, key=self.key) from error.__cause__
        self.discard()

    def _piece(self, index: Shape, inside: tuple[slice, ...]) -> _PendingSubchunk:
        piece = self.pieces.get(index)
        if piece is None:
            erased = _within(self._known, self.piece, index) if self.erased else None
            piece = self.pieces[index] = _PendingSubchunk(self.array, self.piece, inside, erased)
            self.nbytes += piece.nbytes
        return piece

    def _change(self, source: Stored) -> Op[list[Part] | None]:
        """The parts of the new object. Every piece is complete before it is written, so that nothing is read twice."""
        bounds = yield from known_bounds(self.array, self._known, self.shape)
        if self.erased and bounds != self._known:
            self._erase_known()
        bounds = tuple(map(max, bounds, self.bounds))
        if not self.pieces:
            return None
        n, pieces = len(self.pieces), list(self.pieces.values())
        rank = len(self.piece)
        start = np.array(list(self.pieces), np.int64).reshape(n, rank) * np.array(self.piece, np.int64)
        shape = np.minimum(start + self.piece, bounds) - start
        value = np.zeros((n, rank), np.int64)
        value[:, :1] = (np.arange(n) * (*self.piece, 1)[0])[:, np.newaxis]
        stack = self.array.empty((n * self.piece[0], *self.piece[1:]) if rank else ())
        rows = stack.reshape(n, *self.piece)
        lacking = np.flatnonzero([piece.lacks(within) for piece, within in zip(pieces, shape.tolist(), strict=True)])
        spans = None if self.erased else OneChunk(0, source)
        if lacking.size and spans is not None:
            old = self._selections(start[lacking], shape[lacking], value[lacking], bounds)
            yield from self.prepared.read(spans, old, 0, 1, stack)
        for row, piece in enumerate(pieces):
            piece.copy_to(rows[row : row + 1])
        selections = self._selections(start, shape, value, bounds)
        encoded = yield from self.prepared.write(spans, selections, 0, 1, stack)
        parts = encoded.only()
        return parts if parts is not None else (yield from erased(self.array, self.shape, source))

    def _erase_known(self) -> None:
        """Others may have appended to the chunk since this handle learnt its bounds: what it knows becomes fill, the rest stays."""
        nothing = (slice(0, 0),) * len(self._known)
        for index, _, _ in _cut(ArraySubset.full(self._known), self.piece):
            self._piece(index, nothing)
        self.erased = False

    def _selections(
        self, start: npt.NDArray[np.int64], shape: npt.NDArray[np.int64], value: npt.NDArray[np.int64], bounds: Shape
    ) -> ChunkSelections:
        """Boxes of pieces as one row of chunks. A piece that is a whole shard is split further, so it is not one box."""
        if len(start) > 1:
            return DisjointBoxes(start, shape, value).split(chunk_alone(self.shape), bounds)
        box = ArraySubset(tuple(start[0].tolist()), tuple(shape[0].tolist()))
        return box_region(box, value[0].tolist()).split(chunk_alone(self.shape), bounds)


class _PendingSubchunk:
    """The elements of a piece, and which of them were written (None: all). The others are fill."""

    def __init__(self, array: BoundArray, shape: Shape, first: tuple[slice, ...], erased: tuple[slice, ...] | None) -> None:
        """`first`: what will be put at once. `erased`: what was made fill before."""
        self.values = array.empty(shape)
        self.written: npt.NDArray[np.bool_] | None = None
        if not _covers(first, shape):
            self.values[...] = array.fill.element
            self.written = np.zeros(shape, np.bool_)
            if erased is not None:
                self.written[erased] = True

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (0 if self.written is None else self.written.nbytes)

    def put(self, inside: tuple[slice, ...], values: Array) -> None:
        self.values[inside] = values
        if self.written is not None:
            self.written[inside] = True

    def lacks(self, shape: Sequence[int]) -> bool:
        """Whether an element within `shape` was not written."""
        return self.written is not None and not self.written[tuple(map(slice, shape))].all()

    def copy_to(self, old: Array) -> None:
        """Lay what was written over the old elements, (1, *shape)."""
        np.copyto(old[0, ...], self.values, where=True if self.written is None else self.written)


def _cut(box: ArraySubset, piece: Shape) -> Iterator[tuple[Shape, tuple[slice, ...], tuple[slice, ...]]]:
    """(index of a piece, the box within the piece, the piece within the box) for every piece that a box touches."""
    axes = []
    for low, high, n in zip(box.start, box.stop, piece, strict=True):
        spans = [(i, max(low, i * n), min(high, i * n + n)) for i in range(low // n, -(-high // n))]
        axes.append([(i, slice(a - i * n, b - i * n), slice(a - low, b - low)) for i, a, b in spans])
    for items in product(*axes):
        yield tuple(i for i, _, _ in items), tuple(inside for _, inside, _ in items), tuple(outside for _, _, outside in items)


def _within(bounds: Shape, piece: Shape, index: Shape) -> tuple[slice, ...]:
    """The part of a piece that lies within the bounds of its chunk."""
    return tuple(slice(0, max(0, min(n, bound - i * n))) for bound, n, i in zip(bounds, piece, index, strict=True))


def _covers(inside: tuple[slice, ...], shape: Shape) -> bool:
    return all(span.stop - span.start == n for span, n in zip(inside, shape, strict=True))
