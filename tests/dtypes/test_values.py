from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.dtypes.base import FixedFill
from zarrant.dtypes.fixed import data_types, from_numpy
from zarrant.dtypes.values import as_values
from zarrant.errors import DataTypeError, ShapeError

NUMBERS = [row for row in data_types if row.kind in ("int", "uint", "bool")]


def taken(data: Any, dtype: Any, fill: bytes | None = None) -> Any:
    data_type = from_numpy(dtype)
    values = as_values(data, data_type, data_type.default_fill() if fill is None else FixedFill(data_type, fill))
    assert type(values) is np.ndarray
    assert values.dtype == data_type.numpy
    return values


FIT = [
    ("uint8", np.array([3, 255]), [3, 255]),
    ("uint8", np.array([0, 127], "int8"), [0, 127]),
    ("int8", np.array([-128, 127], "int64"), [-128, 127]),
    ("int64", np.array([2**63 - 1], "uint64"), [2**63 - 1]),
    ("uint64", [2**64 - 1, 0], [2**64 - 1, 0]),
    ("uint64", [[2**63], [1]], [[2**63], [1]]),
    ("uint8", np.int64(7), 7),
    ("uint8", True, 1),
    ("bool", [0, 1], [False, True]),
    ("bool", np.array([1, 0], "uint16"), [True, False]),
    ("uint16", np.array([1, 2], ">u2"), [1, 2]),
    ("uint8", [], []),
    ("uint8", [[], []], [[], []]),
    ("bool", [], []),
    ("r16", [], []),
    ("uint8", np.zeros(0, "int64"), []),
    ("float32", np.array([1, 2**40]), [1, 2.0**40]),
    ("float32", np.array([math.inf, -math.inf]), [math.inf, -math.inf]),
    ("float32", np.array([1e-300]), [0]),
    ("float16", [2**10, 0.5], [1024, 0.5]),
    ("float64", [2**70, 1], [2.0**70, 1]),
    ("float64", 2**1000, 2.0**1000),
    ("float64", np.array([0.5], ml_dtypes.bfloat16), [0.5]),
    ("float16", np.array([0.5], ml_dtypes.bfloat16), [0.5]),
    ("bfloat16", np.array([0.5]), [0.5]),
    ("bfloat16", [1, math.inf], [1, math.inf]),
    ("complex64", np.array([1.5]), [1.5]),
    ("complex64", [1j, 2**70], [1j, 2.0**70]),
    ("float64", np.ma.array([1.0, 2.0]), [1, 2]),
]  # fmt: skip

UNFIT = [
    ("uint8", np.array([3, 256])),
    ("uint8", np.array([-1])),
    ("uint8", np.array([300, 65535], "uint16")),
    ("uint8", np.int64(256)),
    ("uint8", 256),
    ("uint8", [np.int64(300)]),
    ("uint8", [[1], [-1]]),
    ("int32", np.full(3, 2**40 + 5)),
    ("int64", np.array([2**63], "uint64")),
    ("uint64", [2**64, 0]),
    ("uint64", [2**64 - 1, -1]),
    ("uint64", [2**64 - 1, 0.5]),
    ("int64", 2**70),
    ("bool", 2),
    ("bool", np.array([-1])),
    ("bool", np.array([1.0])),
    ("uint8", np.array([3.0])),
    ("uint8", 3.0),
    ("uint8", np.zeros(0)),
    ("float32", np.array([1e300])),
    ("float32", 1e300),
    ("float32", [1e39, 1]),
    ("float32", np.array([1e300] * 9)[::3]),
    ("float32", 3.4028235677973366e38),
    ("float16", np.array([70000])),
    ("float16", np.array([70000], "uint32")),
    ("float16", np.array([1e30], ml_dtypes.bfloat16)),
    ("bfloat16", np.array([3.4e38], "float32")),
    ("bfloat16", 1e300),
    ("float64", 10**400),
    ("float32", [10**400]),
    ("complex64", np.array([1e300j])),
    ("complex64", 1e300),
    ("complex128", 10**400),
    ("float64", np.array([1j])),
    ("bfloat16", np.array([1j])),
    ("float64", 1j),
    ("int32", "text"),
    ("float64", ["1"]),
    ("float64", None),
    ("int32", [1, None]),
    ("int32", np.array([1, 2], object)),
    ("float64", np.array(["2020-01-01"], "datetime64[D]")),
    ("int64", np.array([1], "timedelta64[s]")),
    ("r16", np.array([b"abc"])),
    ("r16", 2**70),
    ("r64", [2**70]),
    ("uint8", [2**70, 1]),
    ("float64", [2**70, 1j]),
    ("float64", [2**70, "1"]),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "data", "expected"), FIT)
def test_values_that_fit_are_taken_whatever_their_type(dtype: str, data: Any, expected: Any) -> None:
    assert taken(data, dtype).tolist() == np.array(expected, taken(data, dtype).dtype).tolist()


@pytest.mark.parametrize(("dtype", "data"), UNFIT)
def test_values_that_do_not_fit_are_refused(dtype: str, data: Any) -> None:
    with pytest.raises(DataTypeError):
        taken(data, dtype)


@given(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), st.data())
def test_integers_are_kept_or_refused_and_never_changed(source: Any, target: Any, data: st.DataObject) -> None:
    info = np.iinfo(source.numpy) if source.kind != "bool" else None
    low, high = (0, 1) if info is None else (int(info.min), int(info.max))
    numbers = data.draw(st.lists(st.integers(low, high), max_size=4))
    info = np.iinfo(target.numpy) if target.kind != "bool" else None
    low, high = (0, 1) if info is None else (int(info.min), int(info.max))
    for given_data in (np.array(numbers, source.numpy), list(numbers)):
        if all(low <= number <= high for number in numbers):
            assert [int(value) for value in taken(given_data, target)] == numbers
        else:
            with pytest.raises(DataTypeError) as caught:
                taken(given_data, target)
            assert target.name in str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16", "complex64"])
@given(st.floats(allow_nan=False))
def test_a_finite_number_never_becomes_infinite(dtype: str, number: float) -> None:
    for given_data in (number, [number], np.array([number]), np.array([number, 0.0])[:1]):
        try:
            values = taken(given_data, dtype)
        except DataTypeError:
            assert abs(number) > 6e4
        else:
            assert np.isinf(values).any() == math.isinf(number)


def test_no_value_is_looked_at_where_the_types_are_equal() -> None:
    data = np.arange(12, dtype="int32")[::-2]
    assert np.shares_memory(taken(data, "int32"), data)


def test_masked_elements_become_the_fill_value() -> None:
    masked = np.ma.masked_array([1, 2, 3], mask=[0, 1, 0], fill_value=-9)
    assert taken(masked, "int64", np.int64(7).tobytes()).tolist() == [1, 7, 3]
    assert taken(masked, "uint8", bytes([9])).tolist() == [1, 9, 3]
    assert taken(masked, "float32", np.float32("nan").tobytes())[[0, 2]].tolist() == [1, 3]
    assert masked.data.tolist() == [1, 2, 3]
    assert taken(np.ma.masked, "uint8", bytes([9])).tolist() == 9
    assert taken(np.ma.masked_array([1.5, 2.5], mask=True), "uint8", bytes([9])).tolist() == [9, 9]
    assert taken(np.ma.masked_array([1.0, 1e300], mask=[0, 1]), "float32").tolist() == [1, 0]
    assert taken(np.ma.masked_array(np.zeros(2, "V2"), mask=[0, 1]), "r16", b"ab").tolist() == [b"\0\0", b"ab"]
    for wrong in (np.ma.masked_array([300, 2], mask=[0, 1]), np.ma.masked_array([1.5, 2], mask=[0, 1])):
        with pytest.raises(DataTypeError):
            taken(wrong, "uint8")


def test_masks_of_other_libraries_and_in_lists_are_not_lost() -> None:
    class Lazy:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.ma.masked_array([1, 2], mask=[0, 1])

    assert taken(Lazy(), "uint8", bytes([9])).tolist() == [1, 9]
    for data in ([1, np.ma.masked], [[1, 2], [np.ma.masked, 3]], [np.ma.masked_array([1, 2], mask=[0, 1])]):
        with pytest.raises(DataTypeError, match="masked"):
            taken(data, "uint8")


def test_ragged_lists_are_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError):
        taken([[1, 2], [3]], "uint8")


def test_the_error_names_the_value_and_the_range() -> None:
    for data, words in [(np.array([1, 300]), ("uint8: 0..255", "300")), (np.array([-5, 3]), ("0..255", "-5"))]:
        with pytest.raises(DataTypeError) as caught:
            taken(data, "uint8")
        assert all(word in str(caught.value) for word in words)
    with pytest.raises(DataTypeError, match=r"1e\+300 of float64"):
        taken(np.array([1.0, 1e300]), "float32")
