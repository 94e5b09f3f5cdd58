"""Fixed-size types: names in metadata, NumPy types, spellings."""

from __future__ import annotations

import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from zarrant.dtypes.fixed import FixedType, data_types, from_numpy, parse_data_type, raw
from zarrant.errors import DataTypeError, LimitError, MetadataError, UnknownExtensionError
from zarrant.limits import LIMITS
from zarrant.testkit import DataTypeSuite

ALL = (*data_types, raw(1), raw(3), raw(16, "raw_bytes"))


# ── what every type promises


class TestInt16(DataTypeSuite):
    elements = np.array([1, -2, 30000], "i2")
    wrong_fills = (1.5, "1", 2**15, None)

    @pytest.fixture
    def data_type(self) -> FixedType:
        return parse_data_type("int16")


class TestFloat32(TestInt16):
    elements = np.array([1.5, -np.inf, -0.0], "f4")
    wrong_fills = ("nan", [1], {"a": 1})

    @pytest.fixture
    def data_type(self) -> FixedType:
        return parse_data_type("float32")


class TestComplex64(TestInt16):
    elements = np.array([1 + 2j, -3j, 4], "c8")
    wrong_fills = (1.5, [1], "1")

    @pytest.fixture
    def data_type(self) -> FixedType:
        return parse_data_type("complex64")


class TestRawBits(TestInt16):
    elements = np.array([b"abc", b"xyz"], "V3")
    wrong_fills = ([1, 2], "abc!", 5)

    @pytest.fixture(params=["r24", "raw_bytes"])
    def data_type(self, request: pytest.FixtureRequest) -> FixedType:
        return raw(3, "" if request.param == "r24" else "raw_bytes")


# ── types


@pytest.mark.parametrize(
    ("name", "itemsize", "word"),
    [
        ("bool", 1, 1),
        *((f"{sign}int{8 * n}", n, n) for sign in ("", "u") for n in (1, 2, 4, 8)),
        *((f"float{8 * n}", n, n) for n in (2, 4, 8)),
        ("complex64", 8, 4),
        ("complex128", 16, 8),
        ("bfloat16", 2, 2),
        ("r8", 1, 1),
        ("r24", 3, 1),
    ],
)
def test_parse(name: str, itemsize: int, word: int) -> None:
    data_type = parse_data_type(name)
    assert (data_type.name, data_type.itemsize, data_type.word) == (name, itemsize, word)
    assert data_type.numpy.isnative
    assert data_type.numpy.itemsize == itemsize
    assert data_type.to_json() == name
    assert from_numpy(name) == data_type
    assert from_numpy(data_type.numpy) == data_type
    assert from_numpy(data_type.numpy.newbyteorder()) == data_type


def test_the_table_is_whole() -> None:
    assert len({row.name for row in data_types}) == len(data_types) == 15
    kinds = {row.name.rstrip("0123456789"): row.kind for row in data_types}
    assert kinds == {"bool": "bool", "int": "int", "uint": "uint", "float": "float", "complex": "complex", "bfloat": "float"}
    assert raw(2).kind == "raw"


@pytest.mark.parametrize("data_type", ALL, ids=str)
def test_frozen_hashable_and_pickled(data_type: FixedType) -> None:
    again = pickle.loads(pickle.dumps(data_type))
    assert again == data_type
    assert hash(again) == hash(data_type)
    assert again.to_json() == data_type.to_json()
    assert again.numpy == data_type.numpy
    with pytest.raises(AttributeError):
        data_type.name = "x"  # type: ignore[misc]


def test_raw_bytes_is_another_spelling() -> None:
    document = {"name": "raw_bytes", "configuration": {"length_bytes": 3}}
    data_type = parse_data_type("raw_bytes", {"length_bytes": 3})
    assert data_type == parse_data_type("r24")
    assert data_type.to_json() == document
    assert data_type.fill_to_json(b"\x01\x02\x03") == "AQID"
    assert parse_data_type("r24").fill_to_json(b"\x01\x02\x03") == [1, 2, 3]
    assert from_numpy("V3").to_json() == document
    assert from_numpy("r24").to_json() == "r24"


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (bool, "bool"),
        (int, "int64"),
        (float, "float64"),
        (complex, "complex128"),
        (np.uint16, "uint16"),
        (">u2", "uint16"),
        ("<c8", "complex64"),
        ("=f2", "float16"),
        (np.dtype(">i8"), "int64"),
        (np.longlong, "int64"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (np.dtype(ml_dtypes.bfloat16).newbyteorder(), "bfloat16"),
        ("bfloat16", "bfloat16"),
        ("V3", "r24"),
        (np.void(3), "r24"),
        (np.float32(1), "float32"),
        ("r16", "r16"),
        (parse_data_type("r24"), "r24"),
        (np.zeros(3, "i4").dtype, "int32"),
    ],
)
def test_from_numpy(dtype: Any, name: str) -> None:
    assert from_numpy(dtype).name == name


@pytest.mark.parametrize(
    ("dtype", "word"),
    [
        (object, "'string' for text"),
        ("U", "Give the length"),
        ("S", "Give the length"),
        ([("a", "O")], "field 'a'"),
        (("i4", (2,)), "more dimensions"),
        ("V", "Convert"),
        (np.longdouble, "Convert"),
        (None, "no data type"),
        ("uint17", "not a data type"),
        ("r12", "wrong number of bits"),
        ("r0", "wrong number of bits"),
        (f"r{10**40}", "too large"),
        (5, "not a data type"),
        ({"name": "raw_bytes"}, "wrong members"),
        ({"name": 5}, "a non-empty name"),
    ],
)
def test_from_numpy_refuses(dtype: Any, word: str) -> None:
    with pytest.raises(DataTypeError) as caught:
        from_numpy(dtype)
    assert caught.value.field == "dtype"
    assert caught.value.got is not None
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "configuration", "path", "error"),
    [
        ("float31", {}, "$.data_type", UnknownExtensionError),
        ("Float32", {}, "$.data_type", UnknownExtensionError),
        ("<f4", {}, "$.data_type", UnknownExtensionError),
        ("r", {}, "$.data_type", UnknownExtensionError),
        ("r-8", {}, "$.data_type", UnknownExtensionError),
        ("r８", {}, "$.data_type", UnknownExtensionError),
        ("r0", {}, "$.data_type", MetadataError),
        ("r12", {}, "$.data_type", MetadataError),
        ("r016", {}, "$.data_type", MetadataError),
        (f"r{8 * (LIMITS.element + 1)}", {}, "$.data_type", LimitError),
        ("r" + "8" * 10000, {}, "$.data_type", LimitError),
        ("float32", {"a": 1}, "$.data_type.configuration", MetadataError),
        ("r16", {"a": 1}, "$.data_type.configuration", MetadataError),
        ("raw_bytes", {}, "$.data_type.configuration", MetadataError),
        ("raw_bytes", {"length_bytes": 1, "a": 1}, "$.data_type.configuration", MetadataError),
        ("raw_bytes", {"length_bytes": 0}, "$.data_type.configuration.length_bytes", MetadataError),
        ("raw_bytes", {"length_bytes": True}, "$.data_type.configuration.length_bytes", MetadataError),
        ("raw_bytes", {"length_bytes": 1.0}, "$.data_type.configuration.length_bytes", MetadataError),
        ("raw_bytes", {"length_bytes": 2**31}, "$.data_type.configuration.length_bytes", LimitError),
    ],
)
def test_parse_refuses(name: str, configuration: dict[str, Any], path: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        parse_data_type(name, configuration)
    assert type(caught.value) is error
    assert caught.value.path == path  # type: ignore[attr-defined]
    assert caught.value.got is not None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "words"), [("flaot32", "Did you mean 'float32'"), ("Int8", "Did you mean 'int8'"), ("strnig", "Did you mean 'string'")]
)
def test_a_misspelt_type_has_a_hint(name: str, words: str) -> None:
    with pytest.raises(DataTypeError, match=words):
        from_numpy(name)
