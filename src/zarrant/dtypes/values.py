"""What a caller gives as data becomes an array of a data type, or an error: nothing is wrapped, clamped or made infinite.

In come arrays, buffers, numbers and lists; out goes a NumPy array of the type, a view of what was given where the types are
equal. Kinds decide first, then values:

- integers and booleans go into integers and booleans where every value fits;
- they, and floats, go into floats (complex numbers into complex), rounded; a finite number that would become infinite does not;
- floats do not go into integers, nor complex numbers into floats, whatever their values;
- raw bits take elements that are no longer than they are.

Elements under a mask become the fill value: what lies under the mask is not data. All else is a DataTypeError.
"""

from __future__ import annotations

from typing import Any, Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt

from zarrant.dtypes.base import Fill
from zarrant.dtypes.fill import SMALL, int_range, kind_of, lost
from zarrant.errors import DataTypeError, ShapeError

Array = npt.NDArray[np.generic]


class Target(Protocol):
    """A data type, as far as it matters here."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def numpy(self) -> np.dtype[Any]: ...  # noqa: D102

    def from_objects(self, data: Any) -> Array: ...  # noqa: D102

    def cast(self, array: Array) -> Array: ...  # noqa: D102


class Numbers(Protocol):
    """A data type of numbers, or of raw bits."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def kind(self) -> str:
        """ "bool", "int", "uint", "float" or "complex"."""
        ...

    @property
    def numpy(self) -> np.dtype[Any]: ...  # noqa: D102


_FROM = {
    "bool": ("bool", "int", "uint"),
    "int": ("bool", "int", "uint"),
    "uint": ("bool", "int", "uint"),
    "float": ("bool", "int", "uint", "float"),
    "complex": ("bool", "int", "uint", "float", "complex"),
}
"""The kinds of data that each kind of type takes, where their values fit."""


def as_values(data: Any, data_type: Target, fill: Fill) -> Array:
    """Data as an array of the type: a view where the types are equal; `fill` stands where data are masked.

    >>> from zarrant.dtypes.fixed import from_numpy
    >>> uint8 = from_numpy("uint8")
    >>> as_values(np.ma.masked_equal([1, 2, 3], 2), uint8, uint8.fill_from_python(9)).tolist()
    [1, 9, 3]
    """
    array = data if type(data) is np.ndarray else as_array(data, data_type)
    if isinstance(array, np.ma.MaskedArray):
        return _filled(array, data_type, fill)
    return array if array.dtype == data_type.numpy else data_type.cast(array)


def cast_numbers(array: Array, data_type: Numbers) -> Array:
    """An array of another type as one of numbers."""
    target = data_type.numpy
    if array.dtype.newbyteorder("=") == target:
        return array.astype(target)
    kind = kind_of(array.dtype)
    if kind not in _FROM[data_type.kind]:
        raise wrong_kind(array.dtype, data_type)
    if data_type.kind in ("float", "complex"):
        return _rounded(array, data_type)
    if array.dtype in SMALL:
        array = array.astype(np.int8)
    # NumPy says of types alone whether every value fits; only where it does not, values are looked at.
    if array.size and not np.can_cast(array.dtype, target, "safe"):
        _check_range(int(array.min()), int(array.max()), data_type)
    return array.astype(target)


def _rounded(array: Array, data_type: Numbers) -> Array:
    try:
        with np.errstate(over="raise", under="ignore"):
            result = array.astype(data_type.numpy)
    except FloatingPointError as error:
        raise _too_large(array, data_type) from error
    # ml_dtypes does not tell of what it makes infinite, or what it has no element for.
    if data_type.kind == "float" and (data_type.numpy in SMALL or array.dtype in SMALL) and lost(array, result).any():
        raise _too_large(array[lost(array, result)], data_type)
    return result


def _too_large(array: Array, data_type: Numbers) -> DataTypeError:
    finite = np.abs(array[np.isfinite(array)])
    largest = ml_dtypes.finfo(data_type.numpy).max  # type: ignore[no-untyped-call]
    got = finite.max() if finite.size else array[0]
    return _unfit(data_type, f"finite numbers up to {float(largest):.3g}", f"{got} of {array.dtype}")


def _check_range(low: int, high: int, data_type: Numbers) -> None:
    least, most = (0, 1) if data_type.kind == "bool" else int_range(data_type.numpy)
    if low < least or high > most:
        raise _unfit(data_type, f"{least}..{most}", low if low < least else high)


def _unfit(data_type: Numbers, expected: str, got: object) -> DataTypeError:
    hint = "Nothing was stored: take a wider data type, or bring the values into its range first"
    return DataTypeError("a value that the data type cannot hold", expected=f"{data_type.name}: {expected}", got=got, hint=hint)


def wrong_kind(dtype: np.dtype[Any], data_type: Target | Numbers) -> DataTypeError:
    """The error for an array of a type that cannot become this one."""
    message, hint = "the data cannot be cast safely", "Cast it first with .astype"
    return DataTypeError(message, expected=data_type.name, got=str(dtype), hint=hint)


def _filled(array: Any, data_type: Target, fill: Fill) -> Array:
    """Masked elements as the fill value; what lies under the mask may be of any value."""
    mask = _whole_mask(np.ma.getmaskarray(array))
    plain = np.asarray(array.data)
    if not mask.any():
        return as_values(plain, data_type, fill)
    blank = fill.element if plain.dtype.kind == "O" else np.zeros((), plain.dtype)
    nothing = mask.all()  # np.ma.masked is float64, whatever it stands for
    values = np.empty(plain.shape, data_type.numpy) if nothing else np.array(data_type.cast(np.where(mask, blank, plain)))
    values[mask] = fill.element
    return values


def _whole_mask(mask: Array) -> Array:
    """A mask of elements; DataTypeError for records of which only some fields are masked."""
    if not mask.dtype.names:
        return mask
    fields = np.ascontiguousarray(mask).reshape(-1).view(np.bool_).reshape(*mask.shape, mask.dtype.itemsize)
    whole: Array = fields.all(axis=-1)
    if (fields.any(axis=-1) != whole).any():
        message, hint = "records that are masked in part", "Fill them first: .filled(...)"
        raise DataTypeError(message, expected="a mask of whole records", got=str(mask.dtype), hint=hint)
    return whole


def as_array(data: Any, data_type: Target) -> Array:
    """Arrays and buffers as they are; Python scalars and lists as the type understands them."""
    if isinstance(data, np.ndarray | np.generic):
        return np.asanyarray(data)
    if hasattr(data, "__dlpack__") and not hasattr(data, "__array__"):
        return np.from_dlpack(data)
    if hasattr(data, "__array__") or isinstance(data, memoryview | bytearray):
        return np.asanyarray(data)
    if isinstance(data, list | tuple) and _has_masked(data):
        message, hint = "a list with masked elements", "Make it one masked array first: numpy.ma.array(...)"
        raise DataTypeError(message, expected="an array", got=_shown(data), hint=hint)
    return data_type.from_objects(data)


def _has_masked(data: Any) -> bool:
    kinds = set(map(type, data))
    if any(issubclass(kind, np.ma.MaskedArray) for kind in kinds):
        return True
    nested = any(issubclass(kind, list | tuple) for kind in kinds)
    return nested and any(_has_masked(item) for item in data if isinstance(item, list | tuple))


def numbers_from_python(data: Any, data_type: Numbers) -> Array:
    """Python numbers, and lists of them, have no type of their own: they take the array's where their values fit it."""
    if type(data) is int and data_type.numpy.kind in "iu":  # in a sixth of the time
        try:
            return np.array(data, data_type.numpy)
        except OverflowError:
            _check_range(data, data, data_type)
    try:
        natural = np.asarray(data)
    except ValueError as error:
        raise ShapeError("the data is a ragged list", expected="lists of equal length", got=type(data).__name__) from error
    if natural.size == 0 and natural.dtype == np.float64:
        return np.empty(natural.shape, data_type.numpy)  # of no type at all: NumPy calls [] float64
    if natural.dtype.kind in ("O" if data_type.kind in ("float", "complex") else "fO"):
        return _from_objects(np.asarray(data, object), natural, data_type)
    return natural


def _from_objects(exact: Array, natural: Array, data_type: Numbers) -> Array:
    """Python numbers of which NumPy makes floats or objects where some are integers beyond int64, though each may fit."""
    kinds = set(map(type, exact.flat))
    if all(issubclass(kind, int | np.integer) for kind in kinds) and data_type.kind in ("bool", "int", "uint"):
        integers = [int(item) for item in exact.flat]
        _check_range(min(integers), max(integers), data_type)
        return exact.astype(data_type.numpy)
    if natural.dtype != object:
        return natural
    if data_type.kind == "raw" or not all(issubclass(kind, int | float | complex | np.number) for kind in kinds):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataTypeError("the data is not an array of numbers", expected=data_type.name, got=f"a list or object of {names}")
    try:
        return exact.astype(np.complex128 if any(issubclass(kind, complex) for kind in kinds) else np.float64)
    except OverflowError as error:
        raise _unfit(data_type, "a number within its range", _shown(exact.tolist())) from error


def _shown(data: object) -> str:
    return repr(data)[:80]
