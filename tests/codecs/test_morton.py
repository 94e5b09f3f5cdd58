"""Shards whose subchunks are laid out in Morton order: the layout, and that others read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs.sharding import _reordered

MISSING = 2**64 - 1


def interleaved(cell: tuple[int, ...]) -> int:
    """The bits of all coordinates, one of each axis in turn; those of the last axis are the lowest."""
    code = 0
    for bit in range(16):
        for place, coordinate in enumerate(reversed(cell)):
            code |= (coordinate >> bit & 1) << (bit * len(cell) + place)
    return code


def stored(shard: Path, grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The stored subchunks in the order of their bytes; the index is 16 bytes each and a CRC-32C, at the end."""
    table = np.frombuffer(shard.read_bytes()[:-4], "<u8")[-2 * int(np.prod(grid)) :].reshape(*grid, 2)
    cells = [cell for cell in np.ndindex(*grid) if table[cell][0] != MISSING]
    cells.sort(key=lambda cell: int(table[cell][0]))
    ends = [int(table[cell].sum()) for cell in cells]
    assert [int(table[cell][0]) for cell in cells] == [0, *ends[:-1]], "back to back from the beginning"
    return cells


LAYOUTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((16,), (2,)), ((12, 20), (3, 2)), ((8, 6, 16), (2, 2, 1)), ((7, 9, 4), (1, 3, 2))]


@pytest.mark.parametrize(("shape", "chunk"), LAYOUTS, ids=str)
@pytest.mark.parametrize("compressors", [None, "auto"])
@pytest.mark.parametrize("batch", ["one", "many"])
def test_subchunks_lie_in_morton_order(tmp_path: Path, shape: Any, chunk: Any, compressors: Any, batch: str) -> None:
    zarr = pytest.importorskip("zarr")
    values = np.random.default_rng(0).integers(1, 60, shape).astype("int32")
    grid = tuple(length // size for length, size in zip(shape, chunk, strict=True))
    hole = (slice(None), *(slice(0, size) for size in chunk[1:]))
    if len(shape) > 1:
        values[hole] = 0  # subchunks of fill only are not stored
    memory = "1 KiB" if batch == "many" else "64 MiB"
    with zarrant.config(subchunk_order="morton", memory_limit=memory):
        array = zarrant.create_array(tmp_path / "a", shape=shape, shards=shape, chunks=chunk, dtype="int32", compressors=compressors)
        array[...] = values
    (shard,) = (path for path in (tmp_path / "a" / "c").rglob("*") if path.is_file())
    found = stored(shard, grid)
    filled = [cell for cell in np.ndindex(*grid) if len(shape) == 1 or any(cell[1:])]
    assert found == sorted(filled, key=interleaved)
    assert len(shape) == 1 or found != sorted(filled), "an order that differs from C order"
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], values)
    assert np.array_equal(array[...], values)
