"""A copy of elements by regions, as slow and plain as can be: the judge of every split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import Boxes, Cells, Region


def copy_boxes(boxes: Boxes, cell: np.ndarray, values: np.ndarray, write: bool) -> None:
    """Copy boxes one after the other between one cell and the values; all boxes must lie inside of both."""
    for cell_start, value_start, shape in zip(boxes.cell_start, boxes.value_start, boxes.shape, strict=True):
        ends = cell_start + (shape - 1) * boxes.step
        assert (shape >= 1).all()
        assert (cell_start >= 0).all()
        assert (ends < cell.shape).all()
        assert (value_start >= 0).all()
        assert (value_start + shape <= values.shape).all()
        there = tuple(slice(a, b + 1, s) for a, b, s in zip(cell_start, ends, boxes.step, strict=True))
        here = tuple(slice(a, a + n) for a, n in zip(value_start, shape, strict=True))
        if write:
            cell[there] = values[here]
        else:
            values[here] = cell[there]


def check_columns(cells: Cells, grid: ChunkGrid) -> None:
    """Columns are int64, C-contiguous, in C order of the cells, and `boxes` of a range is that of its rows put together."""
    assert cells.index.shape == (cells.n, grid.ndim)
    assert cells.full.shape == (cells.n,)
    index = [tuple(row) for row in cells.index.tolist()]
    assert index == sorted(set(index))
    lo, hi = cells.n // 3, cells.n
    boxes = cells.boxes(lo, hi)
    for column in (cells.index, *boxes):
        assert column.dtype == np.int64
        assert column.flags.c_contiguous
    assert set(boxes.row.tolist()) == set(range(hi - lo))
    for name in ("cell_start", "value_start", "shape"):
        parts = [getattr(cells.boxes(i, i + 1), name) for i in range(lo, hi)]
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
    """Split by the first chunk shape, each cell by the next, and so on; copy; and compare `full` with what was touched."""
    grid = ChunkGrid.regular(array.shape, chunks[0])
    cells = region.split(grid, bounds)
    check_columns(cells, grid)
    for i in range(cells.n):
        index = tuple(cells.index[i].tolist())
        there = tuple(slice(a, a + n) for a, n in zip(grid.origin(index), grid.chunk_shape(index), strict=True))
        cell = array[there] if there else array
        extent = cells.extent(i)
        inside = tuple(slice(0, n) for n in extent)
        touched = np.zeros(cell.shape, bool)
        copy_boxes(cells.boxes(i, i + 1), touched, np.ones(values.shape, bool), write=True)
        assert touched.any()
        assert touched.sum() == touched[inside].sum()
        assert cells.full[i] == touched[inside].all()
        if len(chunks) > 1:
            simulate(cells.region(i), cell, values, chunks[1:], write, extent)
        else:
            copy_boxes(cells.boxes(i, i + 1), cell, values, write)


@pytest.fixture(scope="session")
def copy_by() -> Callable[..., None]:
    """`copy_by(region, array, values, chunks, write)`."""

    def copy(region: Region, array: np.ndarray, values: np.ndarray, chunks: Sequence[Sequence[int]], write: bool) -> None:
        simulate(region, array, values, chunks, write, array.shape)

    return copy
