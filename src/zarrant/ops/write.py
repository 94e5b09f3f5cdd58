"""Operations on whole chunks, which never read what is stored.

In: whole chunks. Out: `Put` requests. A chunk whose every element is the fill value is erased instead of stored,
unless `write_empty_chunks`. What is written to several chunks is written to each atomically; a failure of some is one
PartialFailure that names them and those that were stored.

One case is different. At the end of the array the in-bounds part of a chunk is all that this handle knows of it. Where others
have appended to that chunk meanwhile, storing or erasing the in-bounds part is a partial write, and is done as one. Data in the
full shape of a chunk, and encoded bytes, name every element of it: they replace all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zarrant.codecs.byte_sources import InMemory, OneChunk
from zarrant.errors import ShapeError, ZarrantError
from zarrant.geometry.box import ArraySubset, as_subset, check_chunk_indices
from zarrant.geometry.grid import chunk_alone
from zarrant.geometry.region import box_region, whole_chunk
from zarrant.ops.batching import largest_batch, raise_failures, run_batches, write_selections
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.casting import as_source
from zarrant.ops.current import put_current, put_current_one
from zarrant.ops.stored_chunks import stored_chunks
from zarrant.ops.update import erase_known, store_region
from zarrant.requests import Op, Outcome, WriteRequest, gather_outcomes
from zarrant.storage import Buffer


def store_chunk(array: BoundArray, chunk: Sequence[int], data: Any) -> Op[None]:
    """Store one whole chunk, without a read.

    `data` has the chunk's full shape, or at the array's edge the shape of its in-bounds part (the padding becomes fill), or
    broadcasts to it. BoundsError, ShapeError or DataTypeError before anything is written.
    """
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    values, shape = as_source(array, data), array.chunk_shape(chunk)
    if values.shape == shape:
        yield from write_selections(array, whole_chunk(chunk, shape), values)
    else:
        yield from store_chunks(array, ArraySubset(chunk, (1,) * len(chunk)), values)


def store_chunks(array: BoundArray, chunks: Any, data: Any) -> Op[None]:
    """Store a block of chunks, side by side, without a read.

    `chunks` is a subset of the chunk grid; `data` is one block of their full shape, or of its in-bounds part.
    """
    chunks = as_subset(chunks, array.grid.grid_shape, "chunk grid")
    values = as_source(array, data)
    whole = array.grid.block(chunks)
    inside = whole.intersect(ArraySubset.full(array.shape))
    subset = inside if _fits(values.shape, inside.shape) else whole
    if not _fits(values.shape, subset.shape):
        raise ShapeError("data does not have the shape of the chunks", expected=_either(whole, inside), got=values.shape)
    if chunks.is_empty:
        return
    values = np.broadcast_to(values, subset.shape)
    if subset.shape != whole.shape:  # at the end of the array: what others have appended to these chunks stays
        yield from store_region(array, box_region(subset), values, array.shape)
        return
    yield from write_selections(array, box_region(subset).split(array.grid, subset.stop), values)


def store_encoded_chunk(array: BoundArray, chunk: Sequence[int], buffer: Buffer, check: bool = False) -> Op[None]:
    """Store bytes as they are, without a copy; `check` decodes them first and raises ChunkError where they do not."""
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    view = _flat(buffer)
    key = array.chunk_key(chunk)
    if check:
        yield from check_encoded(array, chunk, view)
    yield from put_current_one(array, WriteRequest(key, [view]))


def store_encoded_chunks(
    array: BoundArray, chunks: Sequence[Sequence[int]], buffers: Sequence[Buffer], check: bool = False
) -> Op[None]:
    """Store the bytes of many chunks as they are, side by side."""
    if len(chunks) != len(buffers):
        raise ShapeError("as many buffers as chunks", expected=len(chunks), got=len(buffers))
    checked = [check_chunk_indices(chunk, array.grid.grid_shape) for chunk in chunks]
    views = [_flat(buffer) for buffer in buffers]
    ops = (store_encoded_chunk(array, chunk, view, check) for chunk, view in zip(checked, views, strict=True))
    cost = largest_batch(array, np.array(checked, np.int64).reshape(len(checked), len(array.shape))).cost if checked else 0
    outcomes = yield from gather_outcomes(ops, cost)
    raise_failures(array, checked, outcomes)


def erase_chunk(array: BoundArray, chunk: Sequence[int]) -> Op[None]:
    """Erase one chunk: it reads as fill. Succeeds where it is absent. What others have appended to the chunk stays."""
    chunk = check_chunk_indices(chunk, array.grid.grid_shape)
    if array.options.readable and not array.grid.is_within(chunk):
        yield from erase_known(array, chunk)
    else:
        yield from put_current_one(array, WriteRequest(array.chunk_key(chunk), None))


def erase_chunks(array: BoundArray, chunks: Any) -> Op[None]:
    """Erase a block of chunks, side by side and bounded. What others have appended to chunks at the end stays."""
    chunks = as_subset(chunks, array.grid.grid_shape, "chunk grid")
    if chunks.is_empty:
        return
    indices = yield from stored_chunks(array, chunks)
    if not len(indices):
        return
    # Of elements beyond the end of the array this handle knows nothing.
    whole = array.grid.within(indices) if array.options.readable else np.ones(len(indices), np.bool_)

    def erase(lo: int, hi: int) -> Op[list[Outcome[Any]]]:
        inner, edge = indices[lo:hi][whole[lo:hi]], indices[lo:hi][~whole[lo:hi]]
        outcomes = np.empty(hi - lo, object)
        outcomes[whole[lo:hi]] = yield from put_current(array, [WriteRequest(key, None) for key in array.chunk_keys(inner)])
        outcomes[~whole[lo:hi]] = yield from gather_outcomes((erase_known(array, tuple(chunk.tolist())) for chunk in edge), 0)
        return list(outcomes)

    yield from run_batches(array, indices, [(lo, min(lo + 64, len(indices))) for lo in range(0, len(indices), 64)], erase)


def check_encoded(array: BoundArray, chunk: tuple[int, ...], data: memoryview) -> Op[None]:
    """Decode bytes as this chunk; ChunkError where that fails."""
    shape = array.chunk_shape(chunk)
    selections = box_region(ArraySubset.full(shape)).split(chunk_alone(shape), shape)
    try:
        yield from array.prepared_for(shape).read(OneChunk(0, InMemory(data)), selections, 0, 1, array.empty(shape))
    except ZarrantError as error:
        raise error.annotate(chunk=chunk, key=array.chunk_key(chunk)) from error.__cause__


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
