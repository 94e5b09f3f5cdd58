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
from zarrant.codecs.pipeline.fixed_size import columns
from zarrant.codecs.protocols import EncodedChunks, Prepared
from zarrant.geometry.box import ArraySubset, Shape
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import ChunkSelections, CopyPlan, box_region, slices_of, whole_chunk
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
    _copy_out(selections.boxes(lo, lo + len(found)), arrays, out)
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


def _copy_out(boxes: CopyPlan, arrays: Sequence[Array], out: Array) -> None:
    if arrays[0].dtype.kind in "OT" or out.dtype != arrays[0].dtype:
        for (row, *inside), outside in slices_of(boxes):
            out[outside] = arrays[row][tuple(inside)]  # type: ignore[call-overload]  # the first is the row
        return
    out_start, out_step, chunk_start, chunk_step, shape = columns(boxes)
    chunk_start[:, 0] = 0
    ends = np.searchsorted(boxes.row, np.arange(len(arrays)), side="right").tolist()
    for array, first, end in zip(arrays, [0, *ends], ends, strict=False):
        plan = (chunk_start[first:end], chunk_step, out[np.newaxis], out_start[first:end], out_step, shape[first:end])
        kernels.copy_boxes(array[np.newaxis], *plan)
