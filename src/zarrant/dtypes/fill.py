"""Fill values of fixed-size types: JSON, Python scalars, and the bytes of one element.

Three tables, one row a kind of type. The bytes are in native byte order and every bit counts: a NaN keeps its payload
through hex strings ("0x7fc00001", the bit pattern as an unsigned integer); only the canonical quiet NaN is written "NaN".
Numbers are written as the shortest decimal that reads back to the same bits by way of float64, as every library reads them.
Forms: https://zarr-specs.readthedocs.io/en/latest/v3/data-types/index.html#fill-values
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from zarrant.errors import DataTypeError, MetadataError, shown

Dtype = np.dtype[Any]

_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
SMALL = {
    np.dtype(item): ("uint" if item.__name__[0] == "u" else "int" if item.__name__[0] == "i" else "float")
    for item in vars(ml_dtypes).values()
    if isinstance(item, type) and issubclass(item, np.generic)
}
"""The kinds of the numbers that ml_dtypes adds to NumPy's."""


def kind_of(dtype: Dtype) -> str:
    """ "bool", "int", "uint", "float" or "complex"; "" for what is no number."""
    return SMALL.get(dtype) or _KINDS.get(dtype.kind, "")


_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_FLOATS = 'a number, "NaN", "Infinity", "-Infinity", or "0x" and {} hex digits'


def from_json(kind: str, dtype: Dtype, value: Any, path: str) -> bytes:
    """One element from the fill value of a document; MetadataError where it has no such form or does not fit."""
    return _FROM_JSON[kind](dtype, value, path)


def to_json(kind: str, dtype: Dtype, fill: bytes) -> Any:
    """The form that a document takes."""
    return _TO_JSON[kind](dtype, fill)


def from_python(kind: str, dtype: Dtype, value: Any) -> bytes:
    """One element from a caller's scalar; DataTypeError where the type cannot hold it (`same_kind`, and no overflow)."""
    return _FROM_PYTHON[kind](dtype, value)


def _wrong(path: str, expected: str, got: Any) -> MetadataError:
    return MetadataError("wrong fill value", path=path, expected=expected, got=shown(got))


# ── JSON to bytes


def _bool_from_json(dtype: Dtype, value: Any, path: str) -> bytes:
    if not isinstance(value, bool):
        raise _wrong(path, "true or false", value)
    return b"\x01" if value else b"\x00"


def _int_from_json(dtype: Dtype, value: Any, path: str) -> bytes:
    # "a JSON number with no fraction or exponent part that is within the representable range of the data type"
    # https://zarr-specs.readthedocs.io/en/latest/v3/data-types/ (permitted fill values; so are the quotations below)
    low, high = int_range(dtype)
    if type(value) is not int or not low <= value <= high:
        raise _wrong(path, f"an integer in {low}..{high}", value)
    return np.array(value, dtype).tobytes()


def int_range(dtype: Dtype) -> tuple[int, int]:
    """The smallest and the largest integer of a type."""
    info = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return int(info.min), int(info.max)


def _float_from_json(dtype: Dtype, value: Any, path: str) -> bytes:
    expected = _FLOATS.format(2 * dtype.itemsize)
    if isinstance(value, str):
        if value in _WORDS:  # "NaN" has "the sign bit 0 (positive), the most significant bit (MSB) of the mantissa 1"
            fill = _round_checked(_WORDS[value], dtype)
            if fill is None:
                raise _wrong(path, f"a number that {dtype.name} can hold", value)
            return fill
        # "0xYYYYYYYY", specifying the byte representation of the floating point number as an unsigned integer"
        if re.fullmatch(rf"0x[0-9a-fA-F]{{{2 * dtype.itemsize}}}", value):
            return int(value, 16).to_bytes(dtype.itemsize, _native())
        raise _wrong(path, expected, value)
    if type(value) is not int and not isinstance(value, float):
        raise _wrong(path, expected, value)
    fill = _round_checked(value, dtype)
    if fill is None:
        raise _wrong(path, f"a number that {dtype.name} can hold", value)
    return fill


def _complex_from_json(dtype: Dtype, value: Any, path: str) -> bytes:
    if not isinstance(value, list) or len(value) != 2:  # "a two-element array, specifying the real and imaginary components"
        raise _wrong(path, "[real, imaginary]", value)
    part = _part(dtype)
    return b"".join(_float_from_json(part, item, f"{path}[{i}]") for i, item in enumerate(value))


def raw_from_json(itemsize: int, value: Any, path: str) -> bytes:
    """Raw bits from a list of bytes, or from base64."""
    expected = f"a list of {itemsize} integers in 0..255, or that many bytes as base64"
    if isinstance(value, list):  # "An array of integers [...] where each integer is in the range [0, 255]."
        if len(value) != itemsize or any(type(byte) is not int or not 0 <= byte <= 255 for byte in value):
            raise _wrong(path, expected, value)
        return bytes(value)
    if isinstance(value, str):
        try:
            fill = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as cause:
            raise _wrong(path, expected, value) from cause
        if len(fill) == itemsize:
            return fill
    raise _wrong(path, expected, value)


_FROM_JSON: dict[str, Callable[[Dtype, Any, str], bytes]] = {
    "bool": _bool_from_json,
    "int": _int_from_json,
    "uint": _int_from_json,
    "float": _float_from_json,
    "complex": _complex_from_json,
}


# ── bytes to JSON


def _bool_to_json(dtype: Dtype, fill: bytes) -> Any:
    if fill not in (b"\x00", b"\x01"):
        raise DataTypeError("not a boolean", field="fill", expected="byte 0 or 1", got=fill.hex())
    return fill == b"\x01"


def _int_to_json(dtype: Dtype, fill: bytes) -> Any:
    return int(np.frombuffer(fill, dtype)[0])


def _float_to_json(dtype: Dtype, fill: bytes) -> Any:
    value = float(np.frombuffer(fill, dtype)[0])
    if math.isfinite(value):
        return value if dtype.itemsize == 1 else _shortest(value, dtype, fill)  # 0.125 is not to be read as 0.1
    for word, number in _WORDS.items():
        if fill == _round_checked(number, dtype):
            return word
    return f"0x{int.from_bytes(fill, _native()):0{2 * dtype.itemsize}x}"


def _shortest(value: float, dtype: Dtype, fill: bytes) -> float:
    """0.1 for the float32 nearest to it, rather than 0.10000000149011612."""
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if _round_checked(short, dtype) == fill:
            return short
    return value


def _complex_to_json(dtype: Dtype, fill: bytes) -> Any:
    part = _part(dtype)
    return [_float_to_json(part, fill[: part.itemsize]), _float_to_json(part, fill[part.itemsize :])]


_TO_JSON: dict[str, Callable[[Dtype, bytes], Any]] = {
    "bool": _bool_to_json,
    "int": _int_to_json,
    "uint": _int_to_json,
    "float": _float_to_json,
    "complex": _complex_to_json,
}


# ── Python to bytes


def _scalar(dtype: Dtype, value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, np.ma.MaskedArray):  # NumPy would take what lies under the mask
        raise _unfit(dtype, value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as cause:
        raise _unfit(dtype, value) from cause
    if array.ndim or array.dtype.kind in "OSUTmM":
        raise _unfit(dtype, value)
    return array


def _unfit(dtype: Dtype, value: Any) -> DataTypeError:
    return DataTypeError(
        "a fill value that the data type cannot hold",
        field="fill_value",
        expected=f"one {dtype.name} value",
        got=shown(value),
    )


def _bool_from_python(dtype: Dtype, value: Any) -> bytes:
    array = _scalar(dtype, value)
    if array.dtype.kind not in "biu" or int(array) not in (0, 1):
        raise _unfit(dtype, value)
    return b"\x01" if array else b"\x00"


def _int_from_python(dtype: Dtype, value: Any) -> bytes:
    array = _scalar(dtype, value)
    low, high = int_range(dtype)
    if array.dtype in SMALL and kind_of(array.dtype) != "float":
        array = array.astype(np.int8)
    whole = array.dtype.kind in "biu" or (array.dtype.kind == "f" and float(array).is_integer())  # 0.0, as many give it
    if not whole or not low <= int(array) <= high:
        raise _unfit(dtype, value)
    return np.array(int(array), dtype).tobytes()


def _float_from_python(dtype: Dtype, value: Any) -> bytes:
    if isinstance(value, str) and value in _WORDS:
        value = _WORDS[value]
    number = value
    if type(value) is not int:  # an int may be wider than any NumPy integer
        array = _scalar(dtype, value)
        if array.dtype in (dtype, dtype.newbyteorder()):
            return array.astype(dtype).tobytes()
        # float64 stands for all floats: NumPy has no rule between those of ml_dtypes and float16
        if not np.can_cast(array.dtype, np.float64, "same_kind"):
            raise _unfit(dtype, value)
        number = array.item()
    fill = _round_checked(number, dtype)
    if fill is None:
        raise _unfit(dtype, value)
    return fill


def _complex_from_python(dtype: Dtype, value: Any) -> bytes:
    part = _part(dtype)
    if type(value) is int or (array := _scalar(dtype, value)).dtype.kind != "c":
        return _float_from_python(part, value) + bytes(part.itemsize)
    return _float_from_python(part, array.real[()]) + _float_from_python(part, array.imag[()])


def raw_from_python(itemsize: int, value: Any) -> bytes:
    """Raw bits from bytes of the right length."""
    if isinstance(value, bytes | bytearray | memoryview | np.void):
        fill = value.tobytes() if isinstance(value, np.void) else bytes(value)
        if len(fill) == itemsize:
            return fill
    raise DataTypeError(
        "a fill value that the data type cannot hold",
        field="fill_value",
        expected=f"{itemsize} bytes",
        got=shown(value),
    )


_FROM_PYTHON: dict[str, Callable[[Dtype, Any], bytes]] = {
    "bool": _bool_from_python,
    "int": _int_from_python,
    "uint": _int_from_python,
    "float": _float_from_python,
    "complex": _complex_from_python,
}


# ── floats


def _native() -> Any:
    return "little" if np.little_endian else "big"


def _part(dtype: Dtype) -> Dtype:
    """The type of the real and the imaginary part."""
    return np.dtype(f"f{dtype.itemsize // 2}")


def _round_checked(value: float, dtype: Dtype) -> bytes | None:
    """The nearest element, or None where there is none: a finite number would be infinite, or NaN is not among the elements."""
    try:
        number = float(value)
    except OverflowError:
        return None
    fill = _round(number, dtype)
    return None if lost(np.array([number]), np.frombuffer(fill, dtype)).any() else fill


def lost(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where rounding made another thing of a float: infinite, NaN, or finite; the largest element of what is beyond it.

    Small floats have no infinity (it becomes NaN, or the largest), no NaN (it becomes zero), or no zero (it becomes NaN).
    """
    if kind_of(after.dtype) == "float" and after.dtype.kind == "f":  # all of IEEE 754: only overflow is to be seen
        return np.isinf(after) & np.isfinite(before)
    wide = before if before.dtype.kind in "biufc" and before.dtype not in SMALL else before.astype(np.float32)
    changed = (np.isnan(wide) != np.isnan(after)) | (np.isinf(wide) != np.isinf(after))
    if not np.isinf(np.array(np.inf, np.float32).astype(after.dtype)):
        largest = ml_dtypes.finfo(after.dtype).max  # type: ignore[no-untyped-call]
        changed |= np.abs(wide) > float(largest)
    result: np.ndarray[Any, np.dtype[np.bool_]] = changed
    return result


def _round(value: float, dtype: Dtype) -> bytes:
    """The nearest element, ties to even."""
    ieee = issubclass(dtype.type, np.floating)
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(value)
        if not ieee and float(single) != value and math.isfinite(float(single)):
            # ml_dtypes casts float64 by way of float32, which rounds twice. Rounding to odd in between (a discarded rest
            # sets the last bit) makes the second rounding right: Boldo and Melquiond, "When double rounding is odd", 2005.
            single = _to_odd(value, single)
        return np.array(value if ieee else single).astype(dtype).tobytes()


def _to_odd(value: float, single: np.float32) -> np.float32:
    """`value` rounded to float32 towards zero, with the last bit set; `single` is the float32 nearest to it."""
    toward_zero = single if abs(float(single)) < abs(value) else np.nextafter(single, np.float32(0))
    (bits,) = struct.unpack("=I", struct.pack("=f", toward_zero))
    odd: np.float32 = np.uint32(bits | 1).view(np.float32)
    return odd
