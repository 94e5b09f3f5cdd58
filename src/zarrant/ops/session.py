"""Operations that belong together: `fn(current) -> new`, what a hold takes, and one object changed many times.

What is in memory here is decoded and cut into *pieces*: the smallest parts of a stored object that can be replaced without
decoding another (innermost subchunks of a shard, else the whole object). A change is written in whole pieces, so that it is
one write, which reads the index of a shard and those pieces only that it covers partly, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.codecs.sources import Single, Stored
from zarrant.effects import Op, Outcome
from zarrant.errors import DataTypeError, ZarrantError
from zarrant.geometry.box import ArraySubset, Shape, as_subset, check_chunk_indices
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import Cells, box_region
from zarrant.geometry.tiles import Tiles
from zarrant.ops.decoder import Held
from zarrant.ops.exclusive import exclusively
from zarrant.ops.state import Array, ArrayState
from zarrant.ops.update import broadcast
from zarrant.ops.write import block_indices, run_batches
from zarrant.storage import Part

Function = Callable[[npt.NDArray[Any]], Any]


def update_subset(state: ArrayState, subset: Any, fn: Function) -> Op[None]:
    """Replace a region by `fn(current)`, atomically for each stored object it touches; no other write comes in between.

    `fn` gets the part of the region in one stored object (all of the region where it lies in one), as an array of its own
    that it may change, with fill values where nothing is stored. It returns new values that have this shape or broadcast to
    it. It is called for each object, for several at once in threads, and again for one that another writer replaced
    meanwhile (compare-and-swap), so it should have no side effects. Where it raises, that object stays as it is: the error
    itself where there is one object, a PartialFailure where there are more.
    """
    region = as_subset(subset, state.shape)
    if region.is_empty:
        return
    chunks = block_indices(state.grid.chunks_in(region))

    def change(lo: int, hi: int) -> Op[list[Outcome[None]]]:
        chunk = tuple(int(i) for i in chunks[lo])
        yield from exclusively(state.chunk_key(chunk), partial(_apply, state, chunk, region, fn), state.options.exclusive, Held)
        return [None]

    yield from run_batches(state, chunks, ((row, row + 1) for row in range(len(chunks))), change)


def _apply(state: ArrayState, chunk: Shape, region: ArraySubset, fn: Function, source: Stored) -> Op[list[Part] | None]:
    inside = state.grid.in_bounds(chunk)
    origin = inside.start
    part = region.intersect(inside)
    local = ArraySubset(_minus(part.start, origin), part.shape)
    around = _whole_pieces(local, piece_shape(state), inside.shape)
    current = state.empty(around.shape)
    cells = _cells(state, around, inside.shape)
    yield from state.prepared.read(Single(0, source), cells, 0, 1, current)
    within = ArraySubset(_minus(local.start, around.start), local.shape).slices
    current[within] = broadcast(_new_values(state, fn, current[within].copy()), local.shape)
    encoded = yield from state.prepared.write(Single(0, source), cells, 0, 1, current)
    return encoded.row(0)


def _new_values(state: ArrayState, fn: Function, current: Array) -> Array:
    new = fn(current)
    if new is None:
        raise DataTypeError("the function of an update returns the new values", expected="an array", got="None")
    return state.values(new)


def touched_keys(state: ArrayState, subset: Any) -> list[str]:
    """The keys of all stored objects that a region touches."""
    chunks = state.grid.chunks_in(as_subset(subset, state.shape))
    return [] if chunks.is_empty else state.chunk_keys(block_indices(chunks))


class Encoder:
    """One stored object, to be changed many times and written once; whoever uses it holds the object meanwhile.

    `store` copies values into pieces and asks for nothing; `flush` writes all pieces at once, and nothing was written until
    then. Pieces that take more than half of `limit` bytes are flushed at once: a flush needs as much again.
    """

    def __init__(self, state: ArrayState, chunk: Sequence[int], limit: int) -> None:
        self.state = state
        self.chunk = check_chunk_indices(chunk, state.grid.grid_shape)
        self.key = state.chunk_key(self.chunk)
        self.limit = limit
        self.piece = piece_shape(state)
        self.discard()

    def discard(self) -> None:
        """Forget what is not written yet."""
        self.pieces: dict[Shape, _Piece] = {}
        self.erased = False
        self.nbytes = 0
        self.bounds = self.state.grid.in_bounds(self.chunk).shape

    def store(self, subset: Any, data: Any) -> Op[None]:
        """Store a part, in coordinates of the chunk; it may reach into the padding of an edge chunk. `data` is copied."""
        local = as_subset(subset, self.state.chunk_shape, "chunk")
        values = broadcast(self.state.values(data), local.shape)
        if values.size:
            self.bounds = tuple(max(bound, stop) for bound, stop in zip(self.bounds, local.stop, strict=True))
            for index, inside, outside in _cut(local, self.piece):
                self._piece(index, inside).put(inside, values[outside])
        if 2 * self.nbytes > self.limit:
            yield from self.flush()

    def erase(self) -> Op[None]:
        """Every element becomes fill: the object is erased unless something is stored after this."""
        self.discard()
        self.erased = True
        return
        yield  # an operation is a generator, also where it asks for nothing

    def flush(self) -> Op[None]:
        """Write what was stored and erased, as one new object."""
        if self.pieces or self.erased:
            try:
                yield from exclusively(self.key, self._change, self.state.options.exclusive, Held)
            except ZarrantError as error:
                raise error.annotate(chunk=self.chunk, key=self.key) from error.__cause__
        self.discard()

    def _piece(self, index: Shape, inside: tuple[slice, ...]) -> _Piece:
        piece = self.pieces.get(index)
        if piece is None:
            piece = self.pieces[index] = _Piece(self.state, self.piece, inside, self.erased)
            self.nbytes += piece.nbytes
        return piece

    def _change(self, source: Stored) -> Op[list[Part] | None]:
        """The parts of the new object. Every piece is complete before it is written, so that nothing is read twice."""
        if not self.pieces:
            return None
        n, pieces = len(self.pieces), list(self.pieces.values())
        rank = len(self.piece)
        start = np.array(list(self.pieces), np.int64).reshape(n, rank) * np.array(self.piece, np.int64)
        shape = np.minimum(start + self.piece, self.bounds) - start
        value = np.zeros((n, rank), np.int64)
        value[:, :1] = (np.arange(n) * (*self.piece, 1)[0])[:, np.newaxis]
        stack = self.state.empty((n * self.piece[0], *self.piece[1:]) if rank else ())
        rows = stack.reshape(n, *self.piece)
        lacking = np.flatnonzero([piece.lacks(within) for piece, within in zip(pieces, shape.tolist(), strict=True)])
        spans = None if self.erased else Single(0, source)
        if lacking.size and spans is not None:
            old = self._cells(start[lacking], shape[lacking], value[lacking])
            yield from self.state.prepared.read(spans, old, 0, 1, stack)
        for row, piece in enumerate(pieces):
            piece.copy_to(rows[row : row + 1])
        cells = self._cells(start, shape, value)
        encoded = yield from self.state.prepared.write(spans, cells, 0, 1, stack)
        return encoded.row(0)

    def _cells(self, start: npt.NDArray[np.int64], shape: npt.NDArray[np.int64], value: npt.NDArray[np.int64]) -> Cells:
        """Boxes of pieces as one row of cells. A piece that is a whole shard is cut further on: it is no tile."""
        grid = ChunkGrid.regular(self.state.chunk_shape, self.state.chunk_shape)
        if len(start) > 1:
            return Tiles(start, shape, value).split(grid, self.bounds)
        box = ArraySubset(tuple(start[0].tolist()), tuple(shape[0].tolist()))
        return box_region(box, value[0].tolist()).split(grid, self.bounds)


class _Piece:
    """Elements of a piece and which of them were written (None: all). What was not written is fill."""

    def __init__(self, state: ArrayState, shape: Shape, first: tuple[slice, ...], known: bool) -> None:
        self.values = state.empty(shape)
        self.written: npt.NDArray[np.bool_] | None = None
        if not _covers(first, shape):
            self.values[...] = np.frombuffer(state.fill, state.data_type.numpy)[0]
            self.written = None if known else np.zeros(shape, np.bool_)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (0 if self.written is None else self.written.nbytes)

    def put(self, inside: tuple[slice, ...], values: Array) -> None:
        self.values[inside] = values
        if self.written is not None:
            self.written[inside] = True

    def lacks(self, extents: Sequence[int]) -> bool:
        """Whether an element within `extents` was not written."""
        return self.written is not None and not self.written[tuple(map(slice, extents))].all()

    def copy_to(self, old: Array) -> None:
        """Lay what was written over the old elements, (1, *shape)."""
        np.copyto(old[0, ...], self.values, where=True if self.written is None else self.written)


def piece_shape(state: ArrayState) -> Shape:
    """The smallest part of a stored object that can be replaced without decoding another."""
    shapes = state.chain.subchunk_shapes()
    return shapes[-1] if shapes and state.prepared.partial.write else state.chunk_shape


def _cells(state: ArrayState, box: ArraySubset, bounds: Shape) -> Cells:
    """A box of one chunk as a row of cells, in the chunk's coordinates."""
    return box_region(box).split(ChunkGrid.regular(state.chunk_shape, state.chunk_shape), bounds)


def _whole_pieces(box: ArraySubset, piece: Shape, bounds: Shape) -> ArraySubset:
    """The pieces that a box touches, within bounds."""
    start = tuple(low // n * n for low, n in zip(box.start, piece, strict=True))
    stop = tuple(min(-(-high // n) * n, bound) for high, n, bound in zip(box.stop, piece, bounds, strict=True))
    return ArraySubset(start, _minus(stop, start))


def _cut(box: ArraySubset, piece: Shape) -> Iterator[tuple[Shape, tuple[slice, ...], tuple[slice, ...]]]:
    """(index of a piece, the box within the piece, the piece within the box) for every piece that a box touches."""
    axes = []
    for low, high, n in zip(box.start, box.stop, piece, strict=True):
        spans = [(i, max(low, i * n), min(high, i * n + n)) for i in range(low // n, -(-high // n))]
        axes.append([(i, slice(a - i * n, b - i * n), slice(a - low, b - low)) for i, a, b in spans])
    for items in product(*axes):
        yield tuple(i for i, _, _ in items), tuple(inside for _, inside, _ in items), tuple(outside for _, _, outside in items)


def _covers(inside: tuple[slice, ...], shape: Shape) -> bool:
    return all(span.stop - span.start == n for span, n in zip(inside, shape, strict=True))


def _minus(a: Shape, b: Shape) -> Shape:
    return tuple(x - y for x, y in zip(a, b, strict=True))
