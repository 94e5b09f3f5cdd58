"""Data of a caller as values of an array: cast, checked, broadcast to a region; and arrays to read into.

In: any data of a caller. Out: a NumPy array of the array's data type, a view where possible; or DataTypeError or ShapeError, before
anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zarrant.errors import DataTypeError, ShapeError
from zarrant.ops.bound_array import Array, BoundArray


def as_values(array: BoundArray, data: Any) -> Array:
    """Data as an array of the array's data type; DataTypeError for what the type cannot hold."""
    if type(data) is np.ndarray and data.dtype == array.data_type.numpy and data.dtype.kind in "biufc":
        return data  # numbers of the same type: nothing to find out, and most writes are these
    return array.data_type.as_values(data, array.fill)


def as_source(array: BoundArray, data: Any) -> Array:
    """As `as_values`, for whole chunks: numbers in the other byte order are handed on as they are, since chunks are put together
    in any order of bytes, and a copy of all of the data would take its time and its memory."""
    return data if is_swapped(array, data) else as_values(array, data)


def is_swapped(array: BoundArray, values: Any) -> bool:
    """Whether values are numbers of the array's type but in the other byte order."""
    kind = array.data_type.numpy
    return type(values) is np.ndarray and kind.kind in "iufc" and values.dtype == kind.newbyteorder() and values.dtype != kind


def broadcast(values: Array, shape: tuple[int, ...]) -> Array:
    """Values in the shape of a region; ShapeError where they do not broadcast to it."""
    if values.shape == shape:
        return values
    try:
        return np.broadcast_to(values, shape)
    except ValueError:
        raise ShapeError("data does not have the shape of the region", expected=shape, got=values.shape) from None


def output(array: BoundArray, out: Array | None, shape: Sequence[int]) -> Array:
    """`out` checked, or a new array."""
    if out is None:
        return array.empty(shape)
    if not isinstance(out, np.ndarray):
        raise DataTypeError("out= must be a NumPy array", expected="numpy.ndarray", got=type(out).__name__)
    if out.shape != tuple(shape):
        raise ShapeError("out= has the wrong shape", expected=tuple(shape), got=out.shape)
    as_objects = out.dtype == object and array.data_type.numpy.kind == "T"  # text is read as objects of str on request
    if out.dtype != array.data_type.numpy and not as_objects:
        raise DataTypeError("out= has the wrong type", expected=array.data_type.name, got=str(out.dtype))
    if not out.flags.writeable:
        raise DataTypeError("out= is read-only", expected="a writeable array", got="read-only")
    return out
