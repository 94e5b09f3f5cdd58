"""Shards whose subchunks are laid out in Morton order: the layout, and that others read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs.sharding.prepared import Shard, _reordered

MISSING = 2**64 - 1


def interleaved(chunk: tuple[int, ...]) -> int:
    """The bits of all coordinates, one of each axis in turn; those of the last axis are the lowest."""
    code = 0
    for bit in range(16):
        for place, coordinate in enumerate(reversed(chunk)):
            code |= (coordinate >> bit & 1) << (bit * len(chunk) + place)
    return code


def stored(shard: Path, grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The stored subchunks in the order of their bytes; the index is 16 bytes each and a CRC-32C, at the end."""
    table = np.frombuffer(shard.read_bytes()[-16 * int(np.prod(grid)) - 4 : -4], "<u8").reshape(*grid, 2)
    selections = [chunk for chunk in np.ndindex(*grid) if table[chunk][0] != MISSING]
    selections.sort(key=lambda chunk: int(table[chunk][0]))
    ends = [int(table[chunk].sum()) for chunk in selections]
    assert [int(table[chunk][0]) for chunk in selections] == [0, *ends[:-1]], "back to back from the beginning"
    return selections


LAYOUTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((16,), (2,)),
    ((12, 20), (3, 2)),
    ((8, 6, 16), (2, 2, 1)),
    ((7, 9, 4), (1, 3, 2)),
]


@pytest.fixture(params=["one batch", "many batches"])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many batches":
        monkeypatch.setattr(Shard, "batches", lambda self, n, shards, least=0: ((lo, min(lo + 3, n)) for lo in range(0, n, 3)))


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize(("shape", "chunk"), LAYOUTS, ids=str)
@pytest.mark.parametrize("compressors", [None, "auto"])
def test_subchunks_lie_in_morton_order(tmp_path: Path, shape: Any, chunk: Any, compressors: Any) -> None:
    zarr = pytest.importorskip("zarr")
    values = np.random.default_rng(0).integers(1, 60, shape).astype("int32")
    grid = tuple(length // size for length, size in zip(shape, chunk, strict=True))
    values[tuple(slice(0, size) for size in chunk)] = 0  # a subchunk of fill only is not stored
    array = zarrant.create_array(
        tmp_path,
        shape=shape,
        shards=shape,
        chunks=chunk,
        dtype="int32",
        compressors=compressors,
        config={"subchunk_order": "morton"},
    )
    array[...] = values
    (shard,) = (path for path in (tmp_path / "c").rglob("*") if path.is_file())
    found, filled = stored(shard, grid), list(np.ndindex(*grid))[1:]
    assert found == sorted(filled, key=interleaved)
    assert (found == filled) == (len(grid) == 1), "in one dimension, and only there, it is C order"
    assert np.array_equal(zarr.open_array(tmp_path, mode="r")[...], values)
    assert np.array_equal(array[...], values)


@pytest.mark.usefixtures("batches")
def test_shards_within_a_shard_lie_in_morton_order(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    values = np.arange(1, 16 * 16 + 1, dtype="uint16").reshape(16, 16)
    codecs: list[Any] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    index = [*codecs, {"name": "crc32c"}]
    for chunk in ((2, 2), (4, 4)):
        configuration = {"chunk_shape": chunk, "codecs": codecs, "index_codecs": index, "index_location": "end"}
        codecs = [{"name": "sharding_indexed", "configuration": configuration}]
    array = zarrant.create_array(
        tmp_path,
        shape=(16, 16),
        chunks=(16, 16),
        dtype="uint16",
        serializer=codecs[0],
        compressors=None,
        config={"subchunk_order": "morton"},
    )
    array[...] = values
    assert stored(tmp_path / "c" / "0" / "0", (4, 4)) == sorted(np.ndindex(4, 4), key=interleaved)
    assert np.array_equal(zarr.open_array(tmp_path, mode="r")[...], values)
    array[3:6, 5] = 7
    values[3:6, 5] = 7
    assert np.array_equal(zarr.open_array(tmp_path, mode="r")[...], values)


@pytest.mark.parametrize("cuts", [[], [4], [1, 2, 3, 5, 7], [0, 0, 9, 9], list(range(10))])
def test_rows_and_pieces_may_be_cut_anywhere(cuts: list[int]) -> None:
    data = bytes(range(9))
    ends = [*cuts, 9]
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    sizes, rank = np.array([2, 0, 3, 4]), np.array([20, 0, 30, 10])
    assert bytes(_reordered(pieces, sizes, rank)) == data[5:] + data[:2] + data[2:5]


def test_nothing_has_any_order() -> None:
    assert bytes(_reordered([], np.zeros(0, np.int64), np.zeros(0, np.int64))) == b""
