"""Records: fields keep their names, order and types; each is taken as its own data type takes data."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import numpy as np
import pytest

from zarrant.dtypes.base import DataType
from zarrant.dtypes.fixed import from_numpy, parse_data_type
from zarrant.errors import DataTypeError, LimitError, MetadataError, UnknownExtensionError
from zarrant.limits import LIMITS

POINT = np.dtype([("x", "f4"), ("n", "u1")])
NESTED = np.dtype([("p", POINT), ("t", "M8[s]"), ("s", "U2"), ("b", "S3"), ("ok", "?")])
FIELDS = [{"name": "x", "data_type": "float32"}, {"name": "n", "data_type": "uint8"}]


def struct(*fields: Any, name: str = "struct") -> DataType:
    return parse_data_type(name, {"fields": list(fields)})


def test_names_and_sizes() -> None:
    point, nested = from_numpy(POINT), from_numpy(NESTED)
    assert point.to_json() == {"name": "struct", "configuration": {"fields": FIELDS}}
    assert (point.itemsize, point.word, point.numpy) == (5, 0, POINT)
    assert (nested.itemsize, nested.numpy) == (5 + 8 + 8 + 3 + 1, NESTED)
    assert from_numpy([("a", "f4"), ("b", "u4")]).word == 4
    assert from_numpy([("a", "u1"), ("b", "S4")]).word == 1
    for data_type in (point, nested):
        assert from_numpy(data_type.to_json()) == data_type == pickle.loads(pickle.dumps(data_type))
        assert hash(data_type) == hash(pickle.loads(pickle.dumps(data_type)))
        assert isinstance(data_type, DataType)
        assert from_numpy(data_type.numpy.newbyteorder()) == data_type
    assert struct({"name": "x", "data_type": {"name": "float32"}}, FIELDS[1]) == point


def test_the_older_form_is_read() -> None:
    old = struct(["x", "float32"], ["n", "uint8"], name="structured")
    assert old == from_numpy(POINT)
    assert old.to_json() == from_numpy(POINT).to_json()
    packed = np.array((1.5, 7), POINT.newbyteorder("<")).tobytes()
    assert old.fill_from_json(base64.b64encode(packed).decode()).scalar.tolist() == (1.5, 7)


def test_padding_is_not_stored() -> None:
    aligned = np.dtype([("n", "u1"), ("x", "f4")], align=True)
    data_type = from_numpy(aligned)
    assert data_type.itemsize == 5 and aligned.itemsize == 8
    values = data_type.as_values(np.array([(1, 2.5)], aligned), data_type.default_fill())
    assert values.dtype == data_type.numpy and values.tolist() == [(1, 2.5)]


def test_fills() -> None:
    nested = from_numpy(NESTED)
    value = {"p": {"x": "NaN", "n": 3}, "t": "NaT", "s": "ñ", "b": "YQ==", "ok": True}
    fill = nested.fill_from_json(value)
    assert fill.to_json() == value
    assert nested.fill_from_python(fill.scalar) == fill == nested.fill_from_python(np.array(fill.scalar))
    assert nested.fill_from_python(((float("nan"), 3), "NaT", "ñ", b"a", True)) == fill
    assert nested.fill_from_python({"p": (float("nan"), 3), "t": "NaT", "s": "ñ", "b": b"a", "ok": True}) == fill
    assert nested.default_fill().to_json() == {"p": {"x": 0.0, "n": 0}, "t": "NaT", "s": "", "b": "", "ok": False}
    rows = np.array(fill.full((2, 2)))
    rows["p"]["n"][1, 0] = 4
    assert fill.equals(rows).tolist() == [True, False]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (None, ""),
        (0, ""),
        ([1.5, 7], ""),
        ("AAAA", ""),
        ("!", ""),
        ({}, ".x"),
        ({"x": 1.0}, ".n"),
        ({"x": 1.0, "n": 256}, ".n"),
        ({"x": "zero", "n": 2}, ".x"),
        ({"x": 1.0, "n": 2, "y": 3}, ".y"),
    ],
)
def test_fills_that_are_refused(value: Any, where: str) -> None:
    with pytest.raises(MetadataError) as caught:
        from_numpy(POINT).fill_from_json(value)
    assert caught.value.path == f"$.fill_value{where}"


def test_fills_that_python_has_and_the_type_has_not() -> None:
    other = np.array((1, 2), [("a", "f4"), ("n", "u1")])[()]
    for wrong in (0, (1.0,), (1.0, 256), ("x", 1), {"x": 1.0}, {"x": 1.0, "n": 1, "y": 1}, other, b"abcde", [1.0, 2]):
        with pytest.raises(DataTypeError) as caught:
            from_numpy(POINT).fill_from_python(wrong)
        assert caught.value.field == "fill_value"


@pytest.mark.parametrize(
    ("fields", "where", "error"),
    [
        (None, "", MetadataError),
        ({}, "", MetadataError),
        ("x", "", MetadataError),
        ([], "", MetadataError),
        (["x"], "[0]", MetadataError),
        ([{"name": "x"}], "[0]", MetadataError),
        ([{"name": "x", "data_type": "int8", "offset": 4}], "[0]", MetadataError),
        ([{"name": "", "data_type": "int8"}], "[0].name", MetadataError),
        ([{"name": 5, "data_type": "int8"}], "[0].name", MetadataError),
        ([["", "int8"]], "[0].name", MetadataError),
        ([["x", "int8", 2]], "[0]", MetadataError),
        ([FIELDS[0], FIELDS[0]], "[1]", MetadataError),
        ([FIELDS[0], ["x", "int8"]], "[1]", MetadataError),
        ([["x", "int9"]], "[0].data_type", UnknownExtensionError),
        ([["x", 5]], "[0].data_type", MetadataError),
        ([["x", "string"]], "[0].data_type", MetadataError),
        ([["x", {"name": "fixed_length_utf32", "configuration": {"length_bytes": 3}}]],
         "[0].data_type.configuration.length_bytes", MetadataError),
        ([["x", {"name": "struct", "configuration": {"fields": []}}]], "[0].data_type.configuration.fields", MetadataError),
        ([[name, {"name": "raw_bytes", "configuration": {"length_bytes": LIMITS.element}}] for name in "ab"], "", LimitError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["struct", "structured"])
def test_fields_that_are_refused(name: str, fields: Any, where: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        parse_data_type(name, {"fields": fields})
    assert type(caught.value) is error
    assert caught.value.path == f"$.data_type.configuration.fields{where}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("dtype", "word"),
    [
        (np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}), "overlap"),
        (np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 0]}), "overlap"),
        (np.dtype([("a", "i4", (2,))]), "field 'a'"),
        (np.dtype([("a", "O")]), "field 'a'"),
        (np.dtype([("a", [("b", "g")])]), "field 'a'"),
        (np.dtype([(("title", "a"), "i4")]), "titles"),
    ],
)
def test_numpy_types_that_are_refused(dtype: Any, word: str) -> None:
    with pytest.raises(DataTypeError, match=word) as caught:
        from_numpy(dtype)
    assert caught.value.field == "dtype"


def test_values() -> None:
    point = from_numpy(POINT)
    fill = point.fill_from_python((9, 9))
    same = np.zeros(2, POINT)
    assert point.as_values(same, fill) is same
    wide = np.array([(0.5, 255)], [("x", "f8"), ("n", "i8")])
    for data in ([(0.5, 255)], wide, wide.astype([("x", ">f8"), ("n", ">i8")]), [wide[0]]):
        assert point.as_values(data, fill).tolist() == [(0.5, 255)]
    assert point.as_values((0.5, 1), fill).tolist() == (0.5, 1)
    assert point.as_values(wide[0], fill).tolist() == (0.5, 255)
    masked = np.ma.masked_array(wide.repeat(2), mask=[(0, 0), (1, 1)])
    assert point.as_values(masked, fill).tolist() == [(0.5, 255), (9, 9)]
    for masks in ([(0, 1), (0, 0)], [(1, 0), (1, 1)]):
        with pytest.raises(DataTypeError, match="in part"):
            point.as_values(np.ma.masked_array(wide.repeat(2), mask=masks), fill)
    nested = from_numpy([("p", POINT), ("s", "U2")])
    assert nested.as_values([((1.5, 2), "ab")], nested.default_fill()).tolist() == [((1.5, 2), "ab")]


@pytest.mark.parametrize(
    "data",
    [
        [(0.5, 256)],
        [(0.5, -1)],
        [(0.5, 1.5)],
        [("x", 1)],
        (1e300, 1),
        np.array([(0.5, 256)], [("x", "f8"), ("n", "i8")]),
        np.array([(0.5, 1)], [("n", "f8"), ("x", "i8")]),
        np.array([(0.5, 1)], [("x", "f8"), ("m", "i8")]),
        np.array([(0.5,)], [("x", "f8")]),
        np.zeros(3),
        5,
        [5],
        (1.0, 2, 3),
        np.zeros(2, "V5"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(data: Any) -> None:
    point = from_numpy(POINT)
    with pytest.raises(DataTypeError):
        point.as_values(data, point.default_fill())
