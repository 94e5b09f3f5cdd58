from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import zarrant
from zarrant.errors import DataTypeError, ShapeError
from zarrant.ops.casting import as_values, is_swapped, output


@pytest.mark.parametrize(
    ("dtype", "data", "expected"),
    [
        ("int8", [1, -1, 127], [1, -1, 127]),
        ("int8", True, 1),
        ("uint8", 255, 255),
        ("int64", np.int8(-3), -3),
        ("float32", [1, 2.5], [1, 2.5]),
        ("float32", np.float64(2.5), 2.5),
        ("complex64", 1 + 2j, 1 + 2j),
        ("complex64", 3, 3),
        ("bool", [True, False], [True, False]),
        ("bfloat16", 1.5, 1.5),
        ("int16", memoryview(np.array([3, 4], "int16")), [3, 4]),
        ("int16", np.array([3, 4], ">i2"), [3, 4]),
        ("int32", np.array([3, 4], "int64"), [3, 4]),
    ],
)
def test_values_that_fit(dtype, data, expected, state) -> None:
    values = as_values(state(dtype=dtype), data)
    assert values.dtype == (ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype))
    assert values.tolist() == expected


def test_values_are_not_copied_without_need(state) -> None:
    data = np.arange(12, dtype="int32")[::-2]
    assert np.shares_memory(as_values(state(), data), data)


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("int8", 128),
        ("uint8", -1),
        ("uint8", [0, 256]),
        ("int32", 1.5),
        ("int32", np.array([1.0])),
        ("int32", 1j),
        ("float32", 1j),
        ("bool", 2),
        ("uint8", np.array([-1], "int8")),
        ("int32", "text"),
        ("int32", object()),
        ("int32", None),
        ("int32", np.array(["2020-01-01"], "datetime64[D]")),
    ],
)
def test_values_that_do_not_fit(dtype, data, state) -> None:
    with pytest.raises(DataTypeError):
        as_values(state(dtype=dtype), data)


def test_output(state) -> None:
    s = state()
    out = np.zeros((2, 3), "int32")
    assert output(s, out, (2, 3)) is out
    assert output(s, None, (4,)).dtype == np.int32
    frozen = np.zeros((2, 3), "int32")
    frozen.flags.writeable = False
    for wrong, error in [
        (np.zeros((3, 2), "int32"), ShapeError),
        (np.zeros((2, 3), "int64"), DataTypeError),
        (np.zeros((2, 3), ">i4"), DataTypeError),
        ([[1, 2, 3]] * 2, DataTypeError),
        (frozen, DataTypeError),
    ]:
        with pytest.raises(error, match="out="):
            output(s, wrong, (2, 3))


@pytest.mark.parametrize(
    ("dtype", "swapped"), [("uint8", False), ("int8", False), ("int16", True), ("float64", True), ("bool", False)]
)
def test_only_numbers_of_several_bytes_have_another_byte_order(dtype: str, swapped: bool) -> None:
    array = zarrant.create_array({}, shape=(4,), dtype=dtype, chunks=(4,))
    values = np.zeros(4, dtype)
    assert not is_swapped(array._array, values)
    assert is_swapped(array._array, values.astype(values.dtype.newbyteorder())) == swapped
    array[np.array([True, False, True, False])] = values[:2] + np.ones(2, dtype)
    assert array[...].tolist() == [1, 0, 1, 0]
