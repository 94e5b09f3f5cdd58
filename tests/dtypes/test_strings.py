"""Text and bytes: nothing is cut off, and half a character is no text."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import numpy as np
import pytest

from zarrant.dtypes.base import DataType, Fill
from zarrant.dtypes.fixed import from_numpy, parse_data_type
from zarrant.errors import DataTypeError, LimitError, MetadataError, ShapeError
from zarrant.limits import LIMITS

U5, S5, TEXT, BYTES = from_numpy("U5"), from_numpy("S5"), from_numpy("string"), from_numpy("bytes")
ALL = [U5, S5, TEXT, BYTES, from_numpy("variable_length_bytes")]
OBJECT_BYTES = np.array([b"a", b"bc\0"], object)


@pytest.mark.parametrize("data_type", ALL, ids=str)
def test_types_are_values(data_type: DataType) -> None:
    again = pickle.loads(pickle.dumps(data_type))
    assert again == data_type
    assert hash(again) == hash(data_type)
    assert isinstance(data_type, DataType)
    assert from_numpy(data_type.to_json()) == data_type == from_numpy(data_type)
    fill = data_type.default_fill()
    assert isinstance(fill, Fill)
    assert fill == pickle.loads(pickle.dumps(fill)) == data_type.fill_from_json(fill.to_json()) == data_type.fill_from_python(None)
    assert not fill.scalar
    assert fill.full((2, 3)).shape == (2, 3)
    rows = np.array(fill.full((2, 3)))
    assert fill.equals(rows).tolist() == [True, True]
    rows[1, 2] = "x" if data_type in (U5, TEXT) else b"x"
    assert fill.equals(rows).tolist() == [True, False]
    assert fill.equals(rows[:, 0]).tolist() == [True, True]
    with pytest.raises(ValueError, match="read-only"):
        fill.element[...] = fill.scalar


def test_names() -> None:
    assert U5.to_json() == {"name": "fixed_length_utf32", "configuration": {"length_bytes": 20}}
    assert S5.to_json() == {"name": "null_terminated_bytes", "configuration": {"length_bytes": 5}}
    assert (U5.itemsize, U5.word, S5.itemsize, S5.word) == (20, 4, 5, 1)
    assert from_numpy(">U5") == U5
    assert from_numpy(str) == from_numpy("str") == from_numpy(np.dtypes.StringDType()) == TEXT
    assert from_numpy(bytes) == BYTES
    assert TEXT.itemsize is BYTES.itemsize is None
    assert (TEXT.to_json(), BYTES.to_json()) == ("string", "bytes")


@pytest.mark.parametrize(
    ("name", "configuration", "where", "error"),
    [
        ("fixed_length_utf32", {}, "", MetadataError),
        ("fixed_length_utf32", {"length": 4}, "", MetadataError),
        ("fixed_length_utf32", {"length_bytes": 4, "x": 1}, "", MetadataError),
        ("fixed_length_utf32", {"length_bytes": 0}, ".length_bytes", MetadataError),
        ("fixed_length_utf32", {"length_bytes": 6}, ".length_bytes", MetadataError),
        ("fixed_length_utf32", {"length_bytes": "4"}, ".length_bytes", MetadataError),
        ("fixed_length_utf32", {"length_bytes": LIMITS.element + 1}, ".length_bytes", LimitError),
        ("null_terminated_bytes", {}, "", MetadataError),
        ("null_terminated_bytes", {"length_bytes": 0}, ".length_bytes", MetadataError),
        ("null_terminated_bytes", {"length_bytes": True}, ".length_bytes", MetadataError),
        ("null_terminated_bytes", {"length_bytes": 2**40}, ".length_bytes", LimitError),
        ("string", {"length": 1}, "", MetadataError),
        ("bytes", {"length_bytes": 1}, "", MetadataError),
        ("variable_length_bytes", {"a": 1}, "", MetadataError),
    ],
)
def test_configurations_that_are_refused(name: str, configuration: Any, where: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        parse_data_type(name, configuration)
    assert type(caught.value) is error
    assert caught.value.path == f"$.data_type.configuration{where}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("data_type", "value", "scalar"),
    [
        (U5, "", ""),
        (U5, "añ🎈", "añ🎈"),
        (U5, "abcde", "abcde"),
        (U5, "ab\0\0\0\0\0\0", "ab"),
        (U5, "a\0b", "a\0b"),
        (S5, "", b""),
        (S5, "YWIA/w==", b"ab\0\xff"),
        (S5, base64.b64encode(b"ab\0\0\0\0\0").decode(), b"ab"),
        (TEXT, "any length at all, ñ🎈\0", "any length at all, ñ🎈\0"),
        (BYTES, "AQID", b"\1\2\3"),
        (BYTES, [1, 2, 0], b"\1\2\0"),
        (BYTES, [], b""),
    ],
)
def test_fills(data_type: DataType, value: Any, scalar: Any) -> None:
    fill = data_type.fill_from_json(value)
    assert fill.scalar == scalar
    assert data_type.fill_from_json(fill.to_json()) == fill == data_type.fill_from_python(scalar)


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        *((data_type, value) for data_type in ALL for value in (None, 0, True, {}, [256], ["a"])),
        (U5, "abcdef"),
        (U5, "\ud800"),
        (U5, []),
        (TEXT, "\udfff"),
        (TEXT, []),
        *((data_type, value) for data_type in (S5, BYTES) for value in ("a", "!!!!", "YWI", "é", "YWI=\n")),
        (S5, base64.b64encode(b"abcdef").decode()),
        (BYTES, [1.0]),
        (BYTES, [-1]),
        (BYTES, [True]),
    ],
)
def test_fills_that_are_refused(data_type: DataType, value: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        data_type.fill_from_json(value, "$.x")
    assert caught.value.path == "$.x"


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        *((data_type, b"x") for data_type in (U5, TEXT)),
        *((data_type, "x") for data_type in (S5, BYTES)),
        *((data_type, value) for data_type in ALL for value in (0, 1.5, ["x"], np.ma.masked, object())),
        (U5, "abcdef"),
        (U5, "ab\0"),
        (S5, b"abcdef"),
        (S5, b"ab\0"),
        (U5, "\ud800"),
        (TEXT, "\ud800"),
    ],
)
def test_fills_that_python_has_and_the_type_has_not(data_type: DataType, value: Any) -> None:
    with pytest.raises(DataTypeError) as caught:
        data_type.fill_from_python(value)
    assert caught.value.field == "fill_value"


def taken(data_type: DataType, data: Any) -> Any:
    values = data_type.as_values(data, data_type.fill_from_python("?" if data_type in (U5, TEXT) else b"?"))
    assert values.dtype == data_type.numpy
    return values


@pytest.mark.parametrize(
    ("data_type", "data", "expected"),
    [
        (U5, ["a", "abcde"], ["a", "abcde"]),
        (U5, "ñ🎈", "ñ🎈"),
        (U5, np.array(["a"], "U2"), ["a"]),
        (U5, np.array(["ab"], ">U9"), ["ab"]),
        (U5, np.array(["ab"], np.dtypes.StringDType()), ["ab"]),
        (U5, np.array(["ab"], object), ["ab"]),
        (U5, [], []),
        (U5, np.ma.array(["ab", "c"], mask=[0, 1]), ["ab", "?"]),
        (S5, [b"a", b"ab\0c"], [b"a", b"ab\0c"]),
        (S5, b"abc", b"abc"),
        (S5, np.array([b"a"], "S9"), [b"a"]),
        (S5, np.ma.array([b"ab", b"c"], mask=[0, 1]), [b"ab", b"?"]),
        (TEXT, [["a", ""], ["ñ🎈\0", "x" * 1000]], [["a", ""], ["ñ🎈\0", "x" * 1000]]),
        (TEXT, np.array(["abc"]), ["abc"]),
        (TEXT, np.array(["abc"], object), ["abc"]),
        (TEXT, np.ma.array(["ab", "c"], mask=[0, 1]), ["ab", "?"]),
        (TEXT, [], []),
        (BYTES, [b"a", b"bc\0"], [b"a", b"bc\0"]),
        (BYTES, np.array([b"abc"]), [b"abc"]),
        (BYTES, OBJECT_BYTES, [b"a", b"bc\0"]),
        (BYTES, np.ma.array(OBJECT_BYTES, mask=[0, 1]), [b"a", b"?"]),
        (BYTES, b"x", b"x"),
    ],
)
def test_values_that_fit_are_taken(data_type: DataType, data: Any, expected: Any) -> None:
    assert taken(data_type, data).tolist() == expected


@pytest.mark.parametrize(
    ("data_type", "data"),
    [
        (U5, ["abcdef"]),
        (U5, np.array(["abcdef"])),
        (U5, np.array(["abcdef"], np.dtypes.StringDType())),
        (U5, ["ab\0"]),
        (U5, np.array(["ab\0"], np.dtypes.StringDType())),
        (S5, [b"abcdef"]),
        (S5, [b"ab\0"]),
        *((data_type, data) for data_type in (U5, TEXT) for data in ([b"x"], np.array([b"x"]), ["a", None], ["\ud800"])),
        (TEXT, np.array(["\ud800"])),
        (TEXT, np.array(["a", None], np.dtypes.StringDType(na_object=None))),
        (TEXT, np.array(["a", np.nan], np.dtypes.StringDType(na_object=np.nan))),
        *((data_type, data) for data_type in (S5, BYTES) for data in (["x"], np.array(["x"]), [b"a", None], np.zeros(1, "V1"))),
        (BYTES, np.array([b"a", 5], object)),
        *((data_type, data) for data_type in ALL for data in (5, [1.5], np.arange(3), np.array(["2020"], "M8[D]"), True)),
    ],
)
def test_values_that_do_not_fit_are_refused(data_type: DataType, data: Any) -> None:
    with pytest.raises(DataTypeError):
        taken(data_type, data)


def test_ragged_lists_are_shapes_that_do_not_fit() -> None:
    for data_type, item in ((U5, "a"), (TEXT, "a"), (BYTES, b"a")):
        with pytest.raises((ShapeError, DataTypeError)):
            taken(data_type, [[item, item], [item]])


def test_no_value_is_looked_at_where_the_types_are_equal() -> None:
    for data_type, data in ((U5, np.array(["a"], "U5")), (S5, np.array([b"a"], "S5")), (TEXT, np.array(["a"], TEXT.numpy))):
        assert taken(data_type, data) is data
