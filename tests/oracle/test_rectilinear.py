"""Rectilinear grids: zarr-python reads what we write, and we read what it writes, also after either has changed it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant

zarr = pytest.importorskip("zarr", minversion="3.4")

CASES: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": [[3, 3, 5, 1], [2, 2, 6]]},
    "one dimension regular": {"chunks": [[3, 3, 5, 1], [10]]},
    "shards": {"shards": [[3, 3, 6], [4, 6]], "chunks": (3, 2)},
    "many equal": {"chunks": [[1] * 12, [9, 1]]},
}
DATA = np.arange(120, dtype=np.float32).reshape(12, 10)


@pytest.fixture(autouse=True)
def enabled() -> Any:
    with zarr.config.set({"array.rectilinear_chunks": True}):
        yield


@pytest.mark.parametrize("name", CASES)
def test_it_reads_ours(name: str, tmp_path: Path) -> None:
    ours = zarrant.create_array(tmp_path / "a", data=DATA, **CASES[name])
    theirs = zarr.open_array(tmp_path / "a", mode="r+")
    assert np.array_equal(theirs[...], DATA)
    assert theirs.write_chunk_sizes == ours.write_chunk_sizes
    assert theirs.read_chunk_sizes == ours.read_chunk_sizes
    theirs[2:9, 1:8] = -1
    assert (ours[2:9, 1:8] == -1).all()
    ours[1:3, 1:3] = -2
    assert (theirs[1:3, 1:3] == -2).all()


@pytest.mark.parametrize("name", CASES)
def test_we_read_its(name: str, tmp_path: Path) -> None:
    theirs = zarr.create_array(tmp_path / "a", shape=DATA.shape, dtype=DATA.dtype, **CASES[name])
    theirs[...] = DATA
    ours = zarrant.open_array(tmp_path / "a")
    assert np.array_equal(ours[...], DATA)
    assert ours.write_chunk_sizes == theirs.write_chunk_sizes
    assert {ours.chunk_key(chunk) for chunk in ours.iter_chunks()} == {
        str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a" / "c").rglob("*") if path.is_file()
    }
    ours[2:9, 1:8] = -1
    assert (theirs[2:9, 1:8] == -1).all()


@pytest.mark.parametrize("name", ["chunks", "many equal"])
def test_what_either_resizes(name: str, tmp_path: Path) -> None:
    ours = zarrant.create_array(tmp_path / "a", data=DATA, **CASES[name])
    ours.append(DATA[:2])
    theirs = zarr.open_array(tmp_path / "a", mode="r+")
    assert np.array_equal(theirs[...], np.concatenate([DATA, DATA[:2]]))
    theirs.resize((7, 10))
    ours.refresh()
    assert np.array_equal(ours[...], DATA[:7])
    assert ours.write_chunk_sizes == theirs.write_chunk_sizes
    theirs.resize((17, 10))
    theirs[14:] = 5
    ours.refresh()
    assert (ours[14:] == 5).all()
    assert ours.write_chunk_sizes == theirs.write_chunk_sizes
