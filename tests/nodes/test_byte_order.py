"""Values in the other byte order are stored as values in the native one: the same bytes, without a copy of all of them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant

SHAPE, CHUNK = (7, 10), (2, 4)
LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "raw, stored in the other order": {"compressors": None, "serializer": {"name": "bytes", "configuration": {"endian": "big"}}},
    "zstd": {"compressors": [{"name": "zstd"}]},
    "zstd, stored in the other order": {"serializer": {"name": "bytes", "configuration": {"endian": "big"}}},
    "transposed": {"filters": [{"name": "transpose", "configuration": {"order": [1, 0]}}]},
    "without a compiled step": {"compressors": [{"name": "numcodecs.bz2", "configuration": {"level": 1}}]},
    "sharded": {"shards": (4, 8)},
    "behind a codec": {"filters": [{"name": "numcodecs.delta", "configuration": {"dtype": "DTYPE", "astype": "DTYPE"}}]},
    "V2": {"zarr_format": 2},
}
DTYPES = ["int8", "uint16", "float32", "int64", "complex128"]


def made(layout: str, dtype: str, **more: Any) -> tuple[dict[str, bytes], Any]:
    options = {**LAYOUTS[layout], **more}
    if layout == "behind a codec":
        name = np.dtype(dtype).str
        options["filters"] = [{"name": "numcodecs.delta", "configuration": {"dtype": name, "astype": name}}]
    place: dict[str, bytes] = {}
    return place, zarrant.create_array(place, **{"shape": SHAPE, "chunks": CHUNK, "dtype": dtype, "fill_value": 1, **options})


@pytest.mark.parametrize("layout", LAYOUTS)
@given(data=st.data())
def test_the_same_bytes_are_stored(layout: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 2, SHAPE).astype(dtype)
    values[: data.draw(st.integers(0, 7)), : data.draw(st.integers(0, 10))] = 1
    swapped = values.astype(values.dtype.newbyteorder())
    order = data.draw(st.sampled_from("CF"))
    box = np.s_[data.draw(st.integers(0, 3)) : data.draw(st.integers(4, 7)), data.draw(st.integers(0, 5)) : 10]
    stored = []
    for given_values in (values, np.asarray(swapped, order=order)):
        place, array = made(layout, dtype)
        array[...] = given_values
        array[box] = given_values[box][::-1]
        array.store_chunk((0, 0), given_values[tuple(slice(0, n) for n in array.write_unit)])
        array[0, 0] = given_values[6, 9]
        array.oindex[[1, 6], 2:5] = given_values[[1, 6], 2:5]
        stored.append(place)
        assert array[box].dtype == dtype
    assert stored[0] == stored[1]


@pytest.mark.parametrize("layout", ["raw", "zstd", "sharded"])
def test_large_chunks_and_new_arrays(layout: str) -> None:
    """Chunks of more than 256 KiB, of which raw ones are not copied; data given at creation."""
    values = np.arange(600 * 700, dtype=np.uint16).reshape(600, 700)
    swapped = values.astype(">u2" if values.dtype.newbyteorder() == ">u2" else "<u2")
    large = {"shape": values.shape, "chunks": (300, 600), "shards": (300, 600) if layout == "sharded" else None}
    stored = []
    for each in (values, swapped):
        place, array = made(layout, "uint16", **large)
        array[...] = each
        array[100:550, 20:690] = each[:450, :670]
        stored.append(place)
    assert stored[0] == stored[1]
    assert zarrant.create_array({}, data=swapped, chunks=(300, 300))[...].tolist() == values.tolist()


@pytest.mark.parametrize("layout", ["zstd", "sharded"])
def test_no_copy_of_all_values_is_made(layout: str) -> None:
    n, store = 1 << 22, dict[str, bytes]()
    whole: dict[str, Any] = {"shape": (2, n), "chunks": (1, 1 << 14), "shards": (1, 1 << 17) if layout == "sharded" else None}
    array: Any = zarrant.create_array(store, **whole, dtype="uint16", compressors=[{"name": "zstd"}])
    source = np.zeros((4, 2 * n), np.uint16)
    for values in (source[::2, ::2], source[::-2, ::-2], source.view(source.dtype.newbyteorder())[:2, n:]):
        source += np.uint16(1)
        array[...] = values  # what is kept for later calls is there after this
        tracemalloc.start()
        array[...] = values
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < values.nbytes // 2
        assert array[1, -1] == values[1, -1]
