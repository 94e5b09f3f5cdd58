"""Small numbers: integers of 2 and 4 bits, floats of 4, 6 and 8 bits, and complex numbers by the type of their parts.

Each element takes a byte in memory and, with the codec `bytes`, in storage; the types are those of ml_dtypes. Complex numbers
that NumPy has are NumPy's; the others are records of `real` and `imag` in memory, as NumPy has no such type.
https://github.com/zarr-developers/zarr-extensions/tree/main/data-types
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from zarrant.dtypes import values
from zarrant.dtypes.base import Array
from zarrant.dtypes.fixed import FixedType, Number, number, refuse_configuration
from zarrant.errors import MetadataError, shown
from zarrant.metadata.v3 import Named

_FLOATS = (
    *("float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)


class SmallNumber(Number):
    """A row of `small_types`."""

    @classmethod
    def from_json(cls, document: Named, path: str) -> SmallNumber:
        """The number of a name; it has no configuration."""
        refuse_configuration(document, path)
        return _SMALL[document.name]

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> SmallNumber | None:
        """The number for a type of ml_dtypes."""
        return next((row for row in small_types if row.numpy == dtype), None)


def _small(name: str, kind: str) -> SmallNumber:
    return SmallNumber(name, np.dtype(getattr(ml_dtypes, name)), 1, kind)


small_types: tuple[SmallNumber, ...] = (
    *(_small(name, "int") for name in ("int2", "int4")),
    *(_small(name, "uint") for name in ("uint2", "uint4")),
    *(_small(name, "float") for name in _FLOATS),
)
"""Every number of less than a byte, or of a byte that NumPy does not have."""

_SMALL = {row.name: row for row in small_types}

_PARTS: dict[str, Number] = {
    "complex_bfloat16": number("bfloat16", "float", ml_dtypes.bfloat16),
    "complex_float16": number("float16", "float", "f2"),
    **{f"complex_{row.name}": row for row in small_types if row.kind == "float"},
}
_WIDE = {"complex_float32": "c8", "complex_float64": "c16"}


@dataclass(frozen=True)
class SmallComplex(FixedType):
    """Complex numbers whose parts are small floats: records of `real` and `imag` in memory.

    >>> named = Named("complex_float16")
    >>> SmallComplex.from_json(named, "$").fill_from_python(1 + 2j).to_json()
    [1.0, 2.0]
    """

    @classmethod
    def from_json(cls, document: Named, path: str) -> FixedType:
        """The type of a name; it has no configuration."""
        refuse_configuration(document, path)
        name = document.name
        return number(name, "complex", _WIDE[name]) if name in _WIDE else _complex(name)

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> SmallComplex | None:
        """The type for records of two equal small floats, called `real` and `imag`."""
        return next((_complex(name) for name, part in _PARTS.items() if dtype == _pair(part)), None)

    @property
    def part(self) -> Number:
        """The type of the real and the imaginary part."""
        return _PARTS[self.name]

    def element_from_json(self, value: Any, path: str) -> bytes:
        """[real, imaginary]."""
        if not isinstance(value, list) or len(value) != 2:
            raise MetadataError("wrong fill value", path=path, expected="[real, imaginary]", got=shown(value))
        return b"".join(self.part.element_from_json(item, f"{path}[{i}]") for i, item in enumerate(value))

    def element_from_python(self, value: Any) -> bytes:
        """A number, or a record of two."""
        if isinstance(value, np.void | np.ndarray) and value.dtype == self.numpy and value.ndim == 0:
            return value.tobytes()
        if isinstance(value, complex | np.complexfloating):
            parts: tuple[Any, Any] = (value.real, value.imag)
        else:
            parts = (value, 0.0)
        return b"".join(self.part.element_from_python(part) for part in parts)

    def fill_to_json(self, data: bytes) -> Any:
        """[real, imaginary]."""
        half = self.part.itemsize
        return [self.part.fill_to_json(data[:half]), self.part.fill_to_json(data[half:])]

    def from_objects(self, data: Any) -> Array:
        """Python numbers and lists of them."""
        return values.numbers_from_python(data, number("complex128", "complex", "c16"))

    def cast(self, array: Array) -> Array:
        """Numbers of any kind; each part is rounded."""
        if array.dtype.names == ("real", "imag"):
            real, imag = array["real"], array["imag"]
        elif array.dtype.names:
            raise values.wrong_kind(array.dtype, self)
        else:
            real, imag = (array.real, array.imag) if array.dtype.kind == "c" else (array, np.zeros((), np.float32))
        result = np.empty(array.shape, self.numpy)
        fill = self.part.default_fill()
        result["real"], result["imag"] = self.part.as_values(real, fill), self.part.as_values(imag, fill)
        return result


def _complex(name: str) -> SmallComplex:
    part = _PARTS[name]
    return SmallComplex(name, _pair(part), part.word)


def _pair(part: Number) -> np.dtype[Any]:
    return np.dtype([("real", part.numpy), ("imag", part.numpy)])
