"""Arrays of text and of bytes: elements of variable size, from `create_array` to the store and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zarrant

ELEMENTS: dict[str, list[Any]] = {
    "string": ["a", "é" * 9, "", "zz", "日本"],
    "variable_length_bytes": [b"a", b"\xff" * 9, b"", b"zz"],
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (3,)},
    "shards": {"chunks": (2,), "shards": (4,)},
    "uncompressed": {"chunks": (3,), "compressors": None},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ELEMENTS)
def test_written_and_read(dtype: str, layout: str) -> None:
    store: dict[str, Any] = {}
    a = zarrant.create_array(store, shape=(10,), dtype=dtype, **LAYOUTS[layout])
    values = np.array((ELEMENTS[dtype] * 3)[:10], a.dtype)
    a[...] = values
    values[3:6] = values[0:3].copy()
    a[3:6] = values[0:3]
    b = zarrant.open_array(store)
    assert (b[...] == values).all()
    assert (b[::3] == values[::3]).all()
    a.append(values[:3])
    a.update(np.s_[3:4], lambda old: values[9:10])
    with a.partial_encoder((0,)) as encoder:
        encoder.store(np.s_[1:2], values[4:5])
    values[1], values[3] = values[4], values[9]
    assert (a[:10] == values).all()
    assert (a.partial_decoder((0,)).retrieve(np.s_[1:3]) == values[1:3]).all()
    a[...] = a.fill_value
    assert sorted(store) == ["zarr.json"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ELEMENTS)
def test_zarr_python_reads_it_and_is_read(dtype: str, layout: str, tmp_path: Any) -> None:
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("zarr.core.dtype")
    a = zarrant.create_array(tmp_path / "ours", shape=(10,), dtype=dtype, **LAYOUTS[layout])
    values = np.array((ELEMENTS[dtype] * 3)[:10], a.dtype)
    a[...] = values
    assert list(zarr.open_array(tmp_path / "ours", mode="r")[...]) == list(values)
    theirs = zarr.create_array(tmp_path / "theirs", shape=(10,), dtype=dtype, chunks=(3,))
    theirs[...] = values
    assert list(zarrant.open_array(tmp_path / "theirs")[...]) == list(values)
