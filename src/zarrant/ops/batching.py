"""Batches of chunks: how many are encoded and stored with one request, and what became of each.

In come columns of chunks (`Cells`) and values; out go `Put` requests, each on condition that the array is still there
(`ops/current.py`). A failure of some chunks is one PartialFailure that names them and those that were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.errors import CallerError, PartialFailure, ZarrantError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.layers import Values
from zarrant.geometry.region import Cells
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.current import put_current
from zarrant.requests import ANY, Op, Outcome, WriteRequest, gather, gather_outcomes

Batch = Callable[[int, int], Op[list[Outcome[Any]]]]


def write_cells(state: BoundArray, cells: Cells, values: Array) -> Op[None]:
    """Write cells whose every element comes from `values` (the rest is padding)."""

    def write(lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        return (yield from write_batch(state, cells, values, lo, hi))

    step = state.write_batch
    yield from run_batches(state, cells.index, ((lo, min(lo + step, cells.n)) for lo in range(0, cells.n, step)), write)


def write_batch(state: BoundArray, cells: Cells, values: Values, lo: int, hi: int) -> Op[list[Outcome[Any]]]:
    """Encode rows lo..hi, side by side, and store them with one request, whatever is there."""
    step = state.batch
    if hi - lo <= step:
        return (yield from put_current(state, (yield from encode(state, cells, values, lo, hi))))
    parts = (encode(state, cells, values, at, min(at + step, hi)) for at in range(lo, hi, step))
    items = yield from gather(parts, state.cost)
    return (yield from put_current(state, [item for each in items for item in each]))


def encode(state: BoundArray, cells: Cells, values: Values, lo: int, hi: int) -> Op[list[WriteRequest]]:
    """Encode rows lo..hi: what is to be written for each, whatever is there."""
    encoded = yield from state.prepared.write(None, cells, lo, hi, values)
    keys = state.chunk_keys(cells.index[lo:hi])
    return [WriteRequest(key, encoded.row(i), ANY) for i, key in enumerate(keys)]


def run_batches(state: BoundArray, chunks: npt.NDArray[np.int64], batches: Iterable[tuple[int, int]], run: Batch) -> Op[None]:
    """Run batches of rows side by side and settle what became of each chunk."""
    if len(chunks) == 1:  # most writes: one range, and nothing to run side by side
        try:
            flat = yield from run(0, 1)
        except Exception as error:
            flat = [error]
    else:
        flat = yield from _side_by_side(state, batches, run)
    for outcome in flat:
        if isinstance(outcome, Exception):
            settle(state, [tuple(int(i) for i in chunk) for chunk in chunks], flat)
            return


def _side_by_side(state: BoundArray, batches: Iterable[tuple[int, int]], run: Batch) -> Op[list[Outcome[Any]]]:
    """One outcome for each row."""
    ranges: list[tuple[int, int]] = []

    def ops() -> Iterator[Op[list[Outcome[Any]]]]:
        for lo, hi in batches:
            ranges.append((lo, hi))
            yield run(lo, hi)

    outcomes = yield from gather_outcomes(ops(), state.write_cost)
    flat: list[Outcome[Any]] = []
    for (lo, hi), outcome in zip(ranges, outcomes, strict=True):
        flat.extend([outcome] * (hi - lo) if isinstance(outcome, Exception) else outcome)
    return flat


def settle(state: BoundArray, chunks: Sequence[tuple[int, ...]], outcomes: Sequence[Outcome[Any]]) -> None:
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


def _named(state: BoundArray, chunk: tuple[int, ...], error: Exception) -> Exception:
    return error.annotate(chunk=chunk, key=state.chunk_key(chunk)) if isinstance(error, ZarrantError) else error


def own_grid(state: BoundArray) -> ChunkGrid:
    """The grid of which one chunk is the only one: it cuts what is in coordinates of a chunk."""
    return ChunkGrid.regular(state.chunk_shape, state.chunk_shape)


def block_subset(state: BoundArray, chunks: ArraySubset) -> ArraySubset:
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
