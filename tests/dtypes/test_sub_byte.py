"""Small numbers: every element goes through JSON, and what a type has no element for is refused."""

from __future__ import annotations

import math
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from zarrant.dtypes.fixed import Number, from_numpy, parse_data_type
from zarrant.dtypes.sub_byte import small_types
from zarrant.errors import DataTypeError, MetadataError

INTS = [row for row in small_types if row.kind != "float"]
FLOATS = [row for row in small_types if row.kind == "float"]
COMPLEX = [f"complex_{row.name}" for row in FLOATS] + ["complex_bfloat16", "complex_float16", "complex_float32", "complex_float64"]
# From the pages of the types in zarr-extensions, and for float8_e4m3fn from that of ml_dtypes.
NANS = {
    "float8_e3m4": "78", "float8_e4m3": "7c", "float8_e4m3b11fnuz": "80", "float8_e4m3fn": "7f", "float8_e4m3fnuz": "80",
    "float8_e5m2": "7e", "float8_e5m2fnuz": "80", "float8_e8m0fnu": "ff",
}  # fmt: skip
INFINITE = {"float8_e3m4", "float8_e4m3", "float8_e5m2"}


@pytest.mark.parametrize("row", small_types, ids=lambda row: row.name)
def test_names(row: Number) -> None:
    assert parse_data_type(row.name) == from_numpy(row.name) == from_numpy(row.numpy) == pickle.loads(pickle.dumps(row)) == row
    assert (row.itemsize, row.word, row.to_json()) == (1, 1, row.name)
    assert row.numpy == np.dtype(getattr(ml_dtypes, row.name))
    with pytest.raises(MetadataError) as caught:
        parse_data_type(row.name, {"a": 1})
    assert caught.value.path == "$.data_type.configuration"


@pytest.mark.parametrize("row", FLOATS, ids=lambda row: row.name)
def test_every_element_goes_through_json(row: Number) -> None:
    bits = {"float4": 4, "float6": 6}.get(row.name[:6], 8)
    for pattern in range(1 << bits):
        data = bytes([pattern])
        value = row.fill_to_json(data)
        assert row.fill_from_json(value).data == data, value
        element = row.fill_from_json(value).scalar
        if not isinstance(value, str):
            assert float(element) == value
            assert row.fill_from_python(value).data == data
        assert row.fill_from_python(element).data == data


@pytest.mark.parametrize("row", FLOATS, ids=lambda row: row.name)
def test_words(row: Number) -> None:
    if row.name in NANS:
        assert row.fill_from_json("NaN").data.hex() == NANS[row.name]
        assert math.isnan(row.fill_from_python(math.nan).scalar)
    words = {"Infinity", "-Infinity", "NaN"} - ({"NaN"} if row.name in NANS else set())
    for word in words - ({"Infinity", "-Infinity"} if row.name in INFINITE else set()):
        with pytest.raises(MetadataError) as caught:
            row.fill_from_json(word)
        assert caught.value.path == "$.fill_value"
        with pytest.raises(DataTypeError):
            row.fill_from_python(float(word.replace("inity", "")))
    if row.name in INFINITE:
        assert row.fill_from_json("-Infinity").scalar == -math.inf
    for wrong in (1e9 if row.name != "float8_e8m0fnu" else 1e39, "0x1", "0x001", "0xgg", True, None, [1]):
        with pytest.raises(MetadataError):
            row.fill_from_json(wrong)


@pytest.mark.parametrize("row", INTS, ids=lambda row: row.name)
def test_integers(row: Number) -> None:
    info = ml_dtypes.iinfo(row.numpy)
    for value in range(info.min, info.max + 1):
        fill = row.fill_from_json(value)
        assert int(fill.scalar) == value == fill.to_json()
        assert row.fill_from_python(value) == row.fill_from_python(fill.scalar) == row.fill_from_python(np.int64(value)) == fill
    for wrong in (info.min - 1, info.max + 1, 0.0, "0", True, None):
        with pytest.raises(MetadataError):
            row.fill_from_json(wrong)
    for wrong in (info.min - 1, info.max + 1, 0.5, "0", ml_dtypes.float8_e5m2(1.5)):
        with pytest.raises(DataTypeError):
            row.fill_from_python(wrong)


def taken(name: str, data: Any) -> list[float]:
    data_type = parse_data_type(name)
    values = data_type.as_values(data, data_type.default_fill())
    assert values.dtype == data_type.numpy
    found: list[float] = values.astype(np.float64).tolist()
    return found


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("int4", [-8, 7], [-8, 7]),
        ("int4", np.array([-8, 7], "int64"), [-8, 7]),
        ("int4", np.array([1, 0], ml_dtypes.uint2), [1, 0]),
        ("int4", np.array([True]), [1]),
        ("uint2", np.array([3], "uint64"), [3]),
        ("int16", np.array([-8], ml_dtypes.int4), [-8]),
        ("uint8", np.array([15], ml_dtypes.uint4), [15]),
        ("float32", np.array([-2], ml_dtypes.int2), [-2]),
        ("float32", np.array([1.5], ml_dtypes.float8_e4m3), [1.5]),
        ("float8_e4m3", [1.5, 0.1], [1.5, 0.1015625]),
        ("float8_e4m3", np.array([240, 1], "int16"), [240, 1]),
        ("float8_e4m3fn", [448.0], [448]),
        ("float6_e2m3fn", np.array([7.5, -7.5], ml_dtypes.bfloat16), [7.5, -7.5]),
        ("float4_e2m1fn", 6, 6),
        ("float8_e8m0fnu", [0.5, 2.0**127], [0.5, 2.0**127]),
        ("float8_e5m2", np.ma.array([1.0, 1e9], mask=[0, 1]), [1, 0]),
    ],
)
def test_values_that_fit_are_taken(name: str, data: Any, expected: list[float]) -> None:
    assert taken(name, data) == expected


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("int4", [8]),
        ("int4", -9),
        ("uint2", np.array([4], "int8")),
        ("uint4", np.array([-1], ml_dtypes.int2)),
        ("int2", np.array([1.0])),
        ("int4", np.array([1.0], ml_dtypes.float8_e5m2)),
        ("uint8", np.array([-1], ml_dtypes.int4)),
        ("float4_e2m1fn", [6.5]),
        ("float4_e2m1fn", [math.nan]),
        ("float6_e3m2fn", [-29]),
        ("float6_e3m2fn", [math.inf]),
        ("float8_e4m3", [1e9]),
        ("float8_e4m3fn", [449.0]),
        ("float8_e4m3fn", [math.inf]),
        ("float8_e4m3fnuz", np.array([1e9], ml_dtypes.bfloat16)),
        ("float8_e8m0fnu", [0.0]),
        ("float8_e8m0fnu", [-1.0]),
        ("float8_e5m2", [1j]),
        ("float8_e5m2", ["1"]),
    ],
)
def test_values_that_do_not_fit_are_refused(name: str, data: Any) -> None:
    with pytest.raises(DataTypeError):
        taken(name, data)


@pytest.mark.parametrize("name", COMPLEX)
def test_complex(name: str) -> None:
    data_type = parse_data_type(name)
    part = parse_data_type(name.removeprefix("complex_"))
    assert (data_type.itemsize, data_type.word, data_type.to_json()) == (2 * (part.itemsize or 0), part.word, name)
    assert pickle.loads(pickle.dumps(data_type)) == data_type == from_numpy(name)
    fill = data_type.fill_from_json([1.0, 2.0])
    assert fill.to_json() == [1.0, 2.0]
    assert fill.element.tobytes() == part.fill_from_json(1.0).element.tobytes() + part.fill_from_json(2.0).element.tobytes()
    assert data_type.fill_from_python(1 + 2j) == data_type.fill_from_python(fill.scalar) == fill
    for wrong in (1, "NaN", [1], [1, 2, 3], ["x", 1]):
        with pytest.raises(MetadataError):
            data_type.fill_from_json(wrong)
    for data in ([1 + 2j], np.array([1 + 2j], "c8"), np.array([(1, 2)], [("real", "f4"), ("imag", "f4")])):
        if "e8m0" not in name and not (data_type.numpy.kind == "c" and data.__class__ is np.ndarray and data.dtype.names):
            assert data_type.as_values(data, fill).tobytes() == fill.element.tobytes()
    if "e8m0" not in name:
        assert data_type.as_values([1.0, 2], data_type.default_fill()).shape == (2,)
    for bad in (["x"], np.zeros(1, "M8[s]"), np.zeros(1, [("a", "f4"), ("b", "f4")])):
        with pytest.raises(DataTypeError):
            data_type.as_values(bad, fill)
