"""Arrays of every family of data types go through every kind of change, in chunks and in shards, as NumPy's do."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.dtypes import from_numpy
from zarrant.errors import DataTypeError
from zarrant.tools.check import check

S = np.s_
RECORD = np.dtype([("a", "u1"), ("t", "M8[s]"), ("s", "U2")])
ELEMENTS: dict[str, Any] = {
    "datetime64": np.arange(40).astype("M8[s]"),
    "timedelta64": np.arange(40).astype("m8[10us]"),
    "text": np.array([f"ñ{i}" for i in range(40)], "U3"),
    "bytes": np.array([b"%d" % i for i in range(40)], "S3"),
    "record": np.array([(i, i, str(i)) for i in range(40)], RECORD),
    "int4": (np.arange(40) % 15 - 7).astype(from_numpy("int4").numpy),
    "float8": (np.arange(40) % 15).astype(from_numpy("float8_e5m2").numpy),
    "complex_float16": np.array([(i, -i) for i in range(40)], from_numpy("complex_float16").numpy),
}
LAYOUTS = {"chunks": {"chunks": (3, 4)}, "shards": {"chunks": (3, 4), "shards": (6, 8)}}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ELEMENTS)
def test_every_change(name: str, layout: str, tmp_path: Any) -> None:
    elements, fill = ELEMENTS[name], ELEMENTS[name][3]
    a: Any = zarrant.create_array(tmp_path / "a", shape=(10, 9), dtype=elements.dtype, fill_value=fill, **LAYOUTS[layout])
    values = np.full((10, 9), fill, elements.dtype)
    assert np.array_equal(a[...], values) and a.nchunks_initialized == 0
    data = np.resize(elements, (10, 9))
    a[...], values[...] = data, data
    a[2:5, 3:7], values[2:5, 3:7] = data[:3, :4], data[:3, :4]
    a[1, 1], values[1, 1] = elements[7], elements[7]
    a[::3, -1], values[::3, -1] = fill, fill
    a.oindex[[1, 4], [0, 8]], values[np.ix_([1, 4], [0, 8])] = data[:2, :2], data[:2, :2]
    a.append(data[:3])
    values = np.concatenate([values, data[:3]])
    assert np.array_equal(zarrant.open_array(tmp_path / "a")[...], values)
    a.resize((7, 9), shrink=True)
    a.resize((12, 9))
    values = np.concatenate([values[:7], np.full((5, 9), fill, elements.dtype)])
    with a.partial_encoder((0, 0)) as encoder:
        encoder.store(S[0:2, 0:2], data[4:6, 4:6])
    values[0:2, 0:2] = data[4:6, 4:6]
    a.update(S[0:1, 0:3], lambda old: old[:, ::-1])
    values[0:1, 0:3] = values[0:1, 0:3][:, ::-1].copy()
    out = np.empty((12, 9), elements.dtype)
    a.retrieve_array_subset(S[:, :], out=out)
    for got in (out, pickle.loads(pickle.dumps(a))[...], np.asarray(a), asyncio.run(_async(tmp_path / "a"))):
        assert np.array_equal(got, values)
    a.compact()
    assert check(str(tmp_path / "a"), deep=True).findings == ()
    a[...] = fill
    assert a.nchunks_initialized == 0
    assert a.metadata.data_type.name in str(a.info)
    assert repr(a) and a._repr_html_()


async def _async(place: Any) -> Any:
    return await (await zarrant.open_array_async(place)).getitem(S[...])


def test_what_does_not_fit_stores_nothing() -> None:
    for name, wrong in [("datetime64", 5), ("text", "abcd"), ("bytes", "a"), ("record", [(300, 1, "a")]), ("int4", 8)]:
        objects: dict[str, Any] = {}
        a: Any = zarrant.create_array(objects, shape=(4,), dtype=ELEMENTS[name].dtype, chunks=(2,))
        for select in (S[...], S[1:2], 0):
            with pytest.raises(DataTypeError):
                a[select] = wrong
        with pytest.raises(DataTypeError):
            a.store_chunk((0,), wrong)
        assert objects.keys() == {"zarr.json"}
