"""A Dataset with one of each kind of variable, and when two of them are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr


def dataset() -> Any:
    """One of each: masks, scales, times, strings, numbers without values, coordinates of several dimensions."""
    random = np.random.default_rng(3)
    values = random.random((10, 6, 5)).astype("f4")
    values[2, 3] = np.nan
    times = pd.date_range("2020-01-30", periods=10, freq="6h")
    ds = xr.Dataset(
        {
            "tas": (("time", "y", "x"), values, {"units": "K", "list": [1, 2]}),
            "packed": (("time", "y"), random.random((10, 6)).round(2)),
            "count": (("y", "x"), random.integers(0, 9, (6, 5))),
            "flag": ("y", np.array([True, False] * 3)),
            "label": ("y", np.array(["a", "ü", "ccc", "", "e", "f"], object)),
            "fixed": ("x", np.array([b"a", b"bb", b"c", b"", b"e"])),
            "unicode": ("x", np.array(["a", "ü", "cc", "d", "e"])),
            "wait": ("time", np.arange(10).astype("m8[s]").astype("m8[ns]")),
            "complex": ("x", np.arange(5) + 1j),
            "number": ((), np.float64(3.5)),
        },
        coords={
            "time": times,
            "y": np.arange(6) * 0.5,
            "x": list("vwxyz"),
            "lat": (("y", "x"), random.random((6, 5))),
            "day": ("time", times.normalize()),
        },
        attrs={"title": "one of each", "n": 3},
    )
    ds["packed"].encoding = {"scale_factor": 0.01, "add_offset": 1.0, "dtype": "i2", "_FillValue": -9999}
    ds["wait"].encoding = {"units": "seconds", "dtype": "i8"}
    ds["tas"].encoding = {"chunks": (4, 3, 5), "_FillValue": np.float32(-999)}
    return ds


def assert_same(ours: Any, theirs: Any, layout: bool = True) -> None:
    """Values, types, names, attributes and indexes; and of the encoding what says how values are decoded; with `layout`, chunks."""
    xr.testing.assert_identical(ours, theirs)
    for name in theirs.variables:
        assert ours[name].dtype == theirs[name].dtype, name
        mine, other = ours[name].encoding, theirs[name].encoding
        assert mine.keys() == other.keys(), name
        for key in other.keys() - {"compressors", "filters", "serializer", *(() if layout else ("chunks", "preferred_chunks"))}:
            assert np.array_equal(mine[key], other[key]) or repr(mine[key]) == repr(other[key]), (name, key)
