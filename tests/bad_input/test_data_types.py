"""Data types that are malformed, in documents and in calls: the exact class of the error, and the place that it names."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import DataTypeError, LimitError, MetadataError, UnknownExtensionError

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
SECONDS = {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}
U2 = {"name": "fixed_length_utf32", "configuration": {"length_bytes": 8}}
S2 = {"name": "null_terminated_bytes", "configuration": {"length_bytes": 2}}
X = {"name": "x", "data_type": "int16"}


def struct(*fields: Any) -> dict[str, Any]:
    return {"name": "struct", "configuration": {"fields": list(fields)}}


def times(**members: Any) -> dict[str, Any]:
    return {"name": "numpy.timedelta64", "configuration": members}


IN = "$.data_type.configuration"
DOCUMENTS: list[tuple[Any, Any, type[Exception], str]] = [  # data type, fill value, error, path
    ("numpy.datetime64", 0, MetadataError, IN),
    (times(unit="s"), 0, MetadataError, IN),
    (times(scale_factor=1), 0, MetadataError, IN),
    (times(unit="sec", scale_factor=1), 0, MetadataError, f"{IN}.unit"),
    (times(unit="s", scale_factor=0), 0, MetadataError, f"{IN}.scale_factor"),
    (times(unit="s", scale_factor=2**31), 0, LimitError, f"{IN}.scale_factor"),
    (SECONDS, "2020-01-01", MetadataError, "$.fill_value"),
    (SECONDS, 2**63, MetadataError, "$.fill_value"),
    ("fixed_length_utf32", "", MetadataError, IN),
    ({"name": "fixed_length_utf32", "configuration": {"length_bytes": 5}}, "", MetadataError, f"{IN}.length_bytes"),
    ({"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**40}}, "", LimitError, f"{IN}.length_bytes"),
    (U2, "abc", MetadataError, "$.fill_value"),
    (U2, 0, MetadataError, "$.fill_value"),
    (U2, "\ud800", MetadataError, "$.fill_value"),
    (S2, "YWJj", MetadataError, "$.fill_value"),
    (S2, "ab", MetadataError, "$.fill_value"),
    ("struct", {}, MetadataError, IN),
    (struct(), {}, MetadataError, f"{IN}.fields"),
    (struct(X, X), {"x": 0}, MetadataError, f"{IN}.fields[1]"),
    (struct(X, {"name": "s", "data_type": "string"}), {"x": 0, "s": ""}, MetadataError, f"{IN}.fields[1].data_type"),
    (struct({"name": "y", "data_type": "int17"}), {"y": 0}, UnknownExtensionError, f"{IN}.fields[0].data_type"),
    (struct({"name": "y", "data_type": struct({"name": "", "data_type": "int8"})}), {"y": {}}, MetadataError,
     f"{IN}.fields[0].data_type.configuration.fields[0].name"),
    (struct(X), {}, MetadataError, "$.fill_value.x"),
    (struct(X), {"x": 2**15}, MetadataError, "$.fill_value.x"),
    (struct(X), {"x": 0, "y": 0}, MetadataError, "$.fill_value.y"),
    (struct(X), "AA==", MetadataError, "$.fill_value"),
    (struct(X), None, MetadataError, "$.fill_value"),
    ({"name": "int4", "configuration": {"bits": 4}}, 0, MetadataError, IN),
    ("int4", 8, MetadataError, "$.fill_value"),
    ("uint2", -1, MetadataError, "$.fill_value"),
    ("float6_e2m3fn", "NaN", MetadataError, "$.fill_value"),
    ("float8_e4m3fn", "Infinity", MetadataError, "$.fill_value"),
    ("float8_e8m0fnu", 0, MetadataError, "$.fill_value"),
    ("complex_float16", 1.0, MetadataError, "$.fill_value"),
    ("complex_float16", [0, 1e9], MetadataError, "$.fill_value[1]"),
]  # fmt: skip


@pytest.mark.parametrize(("data_type", "fill", "kind", "path"), DOCUMENTS)
def test_documents(data_type: Any, fill: Any, kind: type[Exception], path: str) -> None:
    document = {
        "zarr_format": 3, "node_type": "array", "shape": [4], "data_type": data_type, "fill_value": fill, "codecs": [LITTLE],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}}, "chunk_key_encoding": {"name": "default"},
    }  # fmt: skip
    objects = {"zarr.json": json.dumps(document).encode()}
    for mode in ("r", "r+", "a"):
        with pytest.raises(kind) as caught:
            zarrant.open_array(objects, mode=mode)
        assert type(caught.value) is kind
        assert (caught.value.path, caught.value.key) == (path, "zarr.json")  # type: ignore[attr-defined]
    assert objects == {"zarr.json": json.dumps(document).encode()}


CALLS: list[tuple[Any, Any, str]] = [  # dtype, fill value, what the error says
    ("U", None, "length"),
    ("S", None, "length"),
    (object, None, "'string' for text"),
    ([("a", "O")], None, "field 'a'"),
    ([("a", "i4", (3,))], None, "field 'a'"),
    (np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 3]}), None, "share bytes"),
    ("numpy.datetime64", None, "unit, scale_factor"),
    ({"name": "numpy.datetime64", "configuration": {"unit": "x", "scale_factor": 1}}, None, "unknown unit"),
    ("M8[s]", 1.5, "not times"),
    ("M8[s]", np.datetime64(1500, "ms"), "exactly"),
    ("U2", "abc", "too long"),
    ("U2", 0, "str"),
    ("S2", "ab", "bytes"),
    ([("a", "u1")], 0, "record"),
    ([("a", "u1")], (256,), "uint8"),
    ("int4", 8, "int4"),
    ("float6_e2m3fn", float("nan"), "float6_e2m3fn"),
]


@pytest.mark.parametrize(("dtype", "fill", "words"), CALLS)
def test_calls(dtype: Any, fill: Any, words: str) -> None:
    objects: dict[str, Any] = {}
    with pytest.raises(DataTypeError) as caught:
        zarrant.create_array(objects, shape=(4,), dtype=dtype, fill_value=fill)
    assert type(caught.value) is DataTypeError
    assert words in str(caught.value)
    assert caught.value.field in ("dtype", "fill_value", "a")
    assert objects == {}
