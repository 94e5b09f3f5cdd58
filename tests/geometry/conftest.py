"""A copy of elements by regions, as slow and plain as can be: the judge of every split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import ChunkSelections, CopyPlan, Region


def copy_boxes(boxes: CopyPlan, chunk: np.ndarray, values: np.ndarray, write: bool) -> None:
    """Copy boxes one after the other between one chunk and the values; all boxes must lie inside of both."""
    for chunk_start, value_start, shape in zip(boxes.chunk_start, boxes.value_start, boxes.shape, strict=True):
        ends = chunk_start + (shape - 1) * boxes.step
        assert (shape >= 1).all()
        assert (chunk_start >= 0).all()
        assert (ends < chunk.shape).all()
        assert (value_start >= 0).all()
        assert (value_start + shape <= values.shape).all()
        there = tuple(slice(a, b + 1, s) for a, b, s in zip(chunk_start, ends, boxes.step, strict=True))
        here = tuple(slice(a, a + n) for a, n in zip(value_start, shape, strict=True))
        if write:
            chunk[there] = values[here]
        else:
            values[here] = chunk[there]


def check_columns(selections: ChunkSelections, grid: ChunkGrid) -> None:
    """Columns are int64, C-contiguous, in C order of the chunks, and `boxes` of a range is that of its rows put together."""
    assert selections.index.shape == (selections.n, grid.ndim)
    assert selections.full.shape == (selections.n,)
    index = [tuple(row) for row in selections.index.tolist()]
    assert index == sorted(set(index))
    lo, hi = selections.n // 3, selections.n
    boxes = selections.boxes(lo, hi)
    for column in (selections.index, *boxes):
        assert column.dtype == np.int64
        assert column.flags.c_contiguous
    assert set(boxes.row.tolist()) == set(range(hi - lo))
    for name in ("chunk_start", "value_start", "shape"):
        parts = [getattr(selections.boxes(i, i + 1), name) for i in range(lo, hi)]
        joined = np.concatenate(parts) if parts else np.empty((0, grid.ndim))
        assert np.array_equal(getattr(boxes, name), joined)


def simulate(
    region: Region,
    array: np.ndarray,
    values: np.ndarray,
    chunks: Sequence[Sequence[int]],
    write: bool,
    bounds: Sequence[int],
) -> None:
    """Split by the first chunk shape, each chunk by the next, and so on; copy; and compare `full` with what was touched."""
    grid = ChunkGrid.regular(array.shape, chunks[0])
    selections = region.split(grid, bounds)
    check_columns(selections, grid)
    for i in range(selections.n):
        index = tuple(selections.index[i].tolist())
        there = tuple(slice(a, a + n) for a, n in zip(grid.origin(index), grid.chunk_shape(index), strict=True))
        chunk = array[there] if there else array
        shape = selections.shape(i)
        inside = tuple(slice(0, n) for n in shape)
        touched = np.zeros(chunk.shape, bool)
        copy_boxes(selections.boxes(i, i + 1), touched, np.ones(values.shape, bool), write=True)
        assert touched.any()
        assert touched.sum() == touched[inside].sum()
        assert selections.full[i] == touched[inside].all()
        if len(chunks) > 1:
            simulate(selections.region(i), chunk, values, chunks[1:], write, shape)
        else:
            copy_boxes(selections.boxes(i, i + 1), chunk, values, write)


@pytest.fixture(scope="session")
def copy_by() -> Callable[..., None]:
    """`copy_by(region, array, values, chunks, write)`."""

    def copy(region: Region, array: np.ndarray, values: np.ndarray, chunks: Sequence[Sequence[int]], write: bool) -> None:
        simulate(region, array, values, chunks, write, array.shape)

    return copy
