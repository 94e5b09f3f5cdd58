"""Operations that only write. Nothing in this room asks for a read.

In come whole chunks; out go `Put` requests. A chunk whose every element is the fill value is erased instead of stored,
unless `write_empty_chunks`. What is written to several chunks is written to each atomically; a failure of some is one
PartialFailure that names them and those that were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.codecs.sources import InMemory, Single
from zarrant.effects import ANY, New, Op, Outcome, gather, gather_outcomes, put, put_one
from zarrant.errors import CallerError, PartialFailure, ShapeError, ZarrantError
from zarrant.geometry.box import ArraySubset, as_subset, check_chunk_indices
from zarrant.geometry.layers import Values
from zarrant.geometry.region import Cells, box_region
from zarrant.ops.state import Array, ArrayState
from zarrant.storage import Buffer

Batch = Callable[[int, int], Op[list[Outcome[Any]]]]


def store_chunk(state: ArrayState, chunk: Sequence[int], data: Any) -> Op[None]:
    """Store one whole chunk, without a read.

    `data` has the chunk's full shape, or at the array's edge the shape of its in-bounds part (the padding becomes fill), or
    broadcasts to it. BoundsError, ShapeError or DataTypeError before anything is written.
    """
    chunk = check_chunk_indices(chunk, state.grid.grid_shape)
    yield from store_chunks(state, ArraySubset(chunk, (1,) * len(chunk)), data)


def store_chunks(state: ArrayState, chunks: Any, data: Any) -> Op[None]:
    """Store a block of chunks, side by side, without a read.

    `chunks` is a subset of the chunk grid; `data` is one block of their full shape, or of its in-bounds part.
    """
    chunks = as_subset(chunks, state.grid.grid_shape, "chunk grid")
    values = state.values(data)
    whole = block_subset(state, chunks)
    inside = whole.intersect(ArraySubset.full(state.shape))
    subset = inside if _fits(values.shape, inside.shape) else whole
    if not _fits(values.shape, subset.shape):
        raise ShapeError("data does not have the shape of the chunks", expected=_either(whole, inside), got=values.shape)
    if chunks.is_empty:
        return
    cells = box_region(subset).split(state.grid, subset.stop)
    yield from write_cells(state, cells, np.broadcast_to(values, subset.shape))


def store_encoded_chunk(state: ArrayState, chunk: Sequence[int], buffer: Buffer, check: bool = False) -> Op[None]:
    """Store bytes as they are, without a copy; `check` decodes them first and raises ChunkError where they do not."""
    chunk = check_chunk_indices(chunk, state.grid.grid_shape)
    view = _flat(buffer)
    key = state.chunk_key(chunk)
    if check:
        yield from check_encoded(state, chunk, view)
    yield from put_one(key, [view])


def store_encoded_chunks(
    state: ArrayState, chunks: Sequence[Sequence[int]], buffers: Sequence[Buffer], check: bool = False
) -> Op[None]:
    """Store the bytes of many chunks as they are, side by side."""
    if len(chunks) != len(buffers):
        raise ShapeError("as many buffers as chunks", expected=len(chunks), got=len(buffers))
    checked = [check_chunk_indices(chunk, state.grid.grid_shape) for chunk in chunks]
    views = [_flat(buffer) for buffer in buffers]
    ops = (store_encoded_chunk(state, chunk, view, check) for chunk, view in zip(checked, views, strict=True))
    outcomes = yield from gather_outcomes(ops, state.cost)
    settle(state, checked, outcomes)


def erase_chunk(state: ArrayState, chunk: Sequence[int]) -> Op[None]:
    """Erase one chunk: it reads as fill. Succeeds where it is absent."""
    chunk = check_chunk_indices(chunk, state.grid.grid_shape)
    yield from put_one(state.chunk_key(chunk), None)


def erase_chunks(state: ArrayState, chunks: Any) -> Op[None]:
    """Erase a block of chunks, side by side and bounded."""
    chunks = as_subset(chunks, state.grid.grid_shape, "chunk grid")
    if chunks.is_empty:
        return
    indices = block_indices(chunks)

    def erase(lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        return (yield from put([New(key, None) for key in state.chunk_keys(indices[lo:hi])]))

    yield from run_batches(state, indices, [(lo, min(lo + 64, len(indices))) for lo in range(0, len(indices), 64)], erase)


def write_cells(state: ArrayState, cells: Cells, values: Array) -> Op[None]:
    """Write cells whose every element comes from `values` (the rest is padding)."""

    def write(lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        return (yield from write_batch(state, cells, values, lo, hi))

    step = state.write_batch
    yield from run_batches(state, cells.index, ((lo, min(lo + step, cells.n)) for lo in range(0, cells.n, step)), write)


def write_batch(state: ArrayState, cells: Cells, values: Values, lo: int, hi: int) -> Op[list[Outcome[Any]]]:
    """Encode rows lo..hi, side by side, and store them with one request, whatever is there."""
    step = state.batch
    parts = (_encode(state, cells, values, at, min(at + step, hi)) for at in range(lo, hi, step))
    items = yield from gather(parts, state.cost)
    return (yield from put([item for each in items for item in each]))


def _encode(state: ArrayState, cells: Cells, values: Values, lo: int, hi: int) -> Op[list[New]]:
    encoded = yield from state.prepared.write(None, cells, lo, hi, values)
    keys = state.chunk_keys(cells.index[lo:hi])
    return [New(key, encoded.row(i), ANY) for i, key in enumerate(keys)]


def run_batches(state: ArrayState, chunks: npt.NDArray[np.int64], batches: Any, run: Batch) -> Op[None]:
    """Run batches of rows side by side and settle what became of each chunk."""
    ranges: list[tuple[int, int]] = []

    def ops() -> Iterator[Op[list[Outcome[Any]]]]:
        for lo, hi in batches:
            ranges.append((lo, hi))
            yield run(lo, hi)

    outcomes = yield from gather_outcomes(ops(), state.write_cost)
    flat: list[Outcome[Any]] = []
    for (lo, hi), outcome in zip(ranges, outcomes, strict=True):
        flat.extend([outcome] * (hi - lo) if isinstance(outcome, Exception) else outcome)
    if any(isinstance(outcome, Exception) for outcome in flat):
        settle(state, [tuple(int(i) for i in chunk) for chunk in chunks], flat)


def settle(state: ArrayState, chunks: Sequence[tuple[int, ...]], outcomes: Sequence[Outcome[Any]]) -> None:
    """Raise what has failed: the error itself where there is one chunk, else a PartialFailure."""
    failed: dict[tuple[int, ...], Exception] = {}
    stored = []
    for chunk, outcome in zip(chunks, outcomes, strict=True):
        if isinstance(outcome, Exception):
            failed[chunk] = _named(state, chunk, outcome) if len(chunks) == 1 or chunk not in failed else outcome
        else:
            stored.append(chunk)
    if not failed:
        return
    first = next(iter(failed.values()))
    if len(chunks) == 1 or isinstance(first, CallerError):
        raise first
    raise PartialFailure(f"writing {len(chunks)} chunks", failed=failed, stored=stored, path=state.prefix or "/")


def _named(state: ArrayState, chunk: tuple[int, ...], error: Exception) -> Exception:
    return error.annotate(chunk=chunk, key=state.chunk_key(chunk)) if isinstance(error, ZarrantError) else error


def check_encoded(state: ArrayState, chunk: tuple[int, ...], data: memoryview) -> Op[None]:
    """Decode bytes as this chunk; ChunkError where that fails."""
    cells = box_region(ArraySubset.full(state.chunk_shape)).split(
        type(state.grid).regular(state.chunk_shape, state.chunk_shape), state.chunk_shape
    )
    try:
        yield from state.prepared.read(Single(0, InMemory(data)), cells, 0, 1, state.empty(state.chunk_shape))
    except ZarrantError as error:
        raise error.annotate(chunk=chunk, key=state.chunk_key(chunk)) from error.__cause__


def block_subset(state: ArrayState, chunks: ArraySubset) -> ArraySubset:
    """The elements of a block of chunks, padding of edge chunks included."""
    if chunks.is_empty:
        return ArraySubset(
            (0,) * chunks.ndim, tuple(0 if n == 0 else n * c for n, c in zip(chunks.shape, state.chunk_shape, strict=True))
        )
    first = state.grid.subset(chunks.start)
    last = state.grid.subset(tuple(stop - 1 for stop in chunks.stop))
    return ArraySubset(first.start, tuple(stop - start for start, stop in zip(first.start, last.stop, strict=True)))


def block_indices(chunks: ArraySubset) -> npt.NDArray[np.int64]:
    """(n, d) indices of a block of chunks, in C order."""
    if not chunks.ndim:
        return np.empty((1, 0), np.int64)
    indices = np.indices(chunks.shape).reshape(chunks.ndim, -1).T + np.array(chunks.start, np.int64)
    return np.ascontiguousarray(indices, np.int64)


def _fits(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether data of a shape broadcasts to `target`. np.broadcast_shapes says so too, but only up to 32 dimensions."""
    return len(shape) <= len(target) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(target), strict=False))


def _either(whole: ArraySubset, inside: ArraySubset) -> str:
    return str(whole.shape) if whole.shape == inside.shape else f"{whole.shape}, or {inside.shape} in bounds"


def _flat(buffer: Any) -> memoryview:
    try:
        view = memoryview(buffer)
    except TypeError:
        raise ShapeError(
            "encoded chunks are bytes", expected="an object with the buffer protocol", got=type(buffer).__name__
        ) from None
    if not view.c_contiguous:
        raise ShapeError("encoded chunks are contiguous bytes", expected="a C-contiguous buffer", got=f"strides {view.strides}")
    return view.cast("B")
