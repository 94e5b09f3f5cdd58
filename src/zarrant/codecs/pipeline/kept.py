"""Reads of chunks that may be at hand as they were decoded before: those are copied, the others are decoded whole.

In: for each chunk of a batch its decoded array, or None. Out: the selected elements in their places, and the arrays that were
decoded now, for the caller to keep. They are read-only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.buffer_pool import borrowed
from zarrant.codecs.pipeline.fixed_size import plan_of
from zarrant.codecs.protocols import EncodedChunks, Prepared
from zarrant.geometry.box import ArraySubset, Shape
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import ChunkSelections, box_region, slices_of, whole_chunk
from zarrant.requests import Op

Array = npt.NDArray[Any]


def read_kept(
    prepared: Prepared,
    shape: Shape,
    found: Sequence[Array | None],
    missing: EncodedChunks,
    selections: ChunkSelections,
    lo: int,
    out: Array,
) -> Op[dict[int, Array]]:
    """Read the chunks of `shape` from `lo` on that were `found`, and those that were not; the latter are returned by row.

    `missing` has the encoded chunks of those that were not found, as chunks 0, 1, …
    """
    rows = [row for row, array in enumerate(found) if array is None]
    decoded = dict(zip(rows, (yield from _decode(prepared, shape, missing, len(rows))) if rows else [], strict=True))
    arrays = [decoded[row] if array is None else array for row, array in enumerate(found)]
    _copy_out(selections, lo, arrays, out)
    return decoded


def _decode(prepared: Prepared, shape: Shape, stored: EncodedChunks, n: int) -> Op[list[Array]]:
    """The first n chunks, decoded whole with one call; each in memory of its own, so that one can be dropped alone."""
    stack = np.empty((n, *shape), prepared.spec.data_type.numpy)
    if n == 1:
        yield from prepared.read(stored, whole_chunk((0,) * len(shape), shape), 0, 1, stack[0, ...])
        arrays = [stack[0, ...]]
    else:
        side_by_side = (n * shape[0], *shape[1:])
        grid, region = ChunkGrid.regular(side_by_side, shape), box_region(ArraySubset.full(side_by_side))
        yield from prepared.read(stored, region.split(grid, side_by_side), 0, n, stack.reshape(side_by_side))
        arrays = [stack[i, ...].copy() for i in range(n)]
    for array in arrays:
        array.flags.writeable = False
    return arrays


def nbytes_of(array: Array) -> int:
    """Memory of an array, with what its elements refer to; of texts the most that it can be."""
    if array.dtype.kind == "T":
        return array.nbytes + 4 * int(np.strings.str_len(array).sum())
    if array.dtype.kind == "O":
        return array.nbytes + sum(VALUE_BYTES + len(value) for value in array.reshape(-1).tolist())
    return array.nbytes


VALUE_BYTES = 64
"""Memory of a Python object around its content."""


def _copy_out(selections: ChunkSelections, lo: int, arrays: Sequence[Array], out: Array) -> None:
    n, one = len(arrays), arrays[0]
    if one.dtype.kind in "OT" or out.dtype != one.dtype:
        for (row, *inside), outside in slices_of(selections.boxes(lo, lo + n)):
            out[outside] = arrays[row][tuple(inside)]  # type: ignore[call-overload]  # the first is the row
        return
    # To the kernel they are chunks that are encoded as they are, and so copied from where they lie, all with one call.
    plain = one.dtype.kind in "biuf" and one.dtype.isnative  # others may have no buffer
    buffers = arrays if plain else [array.reshape(-1).view(np.uint8) for array in arrays]
    rows, nothing = np.arange(n), np.zeros(n, np.int64)
    spans = kernels.EncodedRows(rows, buffers, rows, nothing, np.full(n, one.nbytes))
    with borrowed(one.nbytes) as memory:
        seen = np.ndarray((1, *one.shape), one.dtype, memory)
        place = kernels.RowMemory(memory[: one.nbytes].reshape(1, -1), seen)
        kernels.decode_boxes((), spans, n, place, plan_of(selections, lo, lo + n), out[np.newaxis], bytes(one.itemsize), False)
