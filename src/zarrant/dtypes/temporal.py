"""Moments and durations: `numpy.datetime64` and `numpy.timedelta64`.

An element is a signed 64-bit count of `scale_factor` units; the smallest integer is NaT, "not a time". Data of other units are
taken where every value can be said exactly in the array's unit: nothing is cut off or wrapped.
https://github.com/zarr-developers/zarr-extensions/tree/main/data-types/numpy.datetime64
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zarrant.dtypes import values
from zarrant.dtypes.base import Array, FixedFill
from zarrant.dtypes.fixed import FixedType, check_members, positive
from zarrant.errors import DataTypeError, MetadataError, shown
from zarrant.metadata.v3 import Named

UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "μs", "ns", "ps", "fs", "as", "generic")
MAX_SCALE = 2**31 - 1
NAT = -(2**63)

_NAMES = {"M": "numpy.datetime64", "m": "numpy.timedelta64"}
_KINDS = {name: kind for kind, name in _NAMES.items()}


@dataclass(frozen=True)
class Time(FixedType):
    """Moments since 1970 (datetime64), or durations (timedelta64).

    >>> Time.from_numpy(np.dtype("M8[10us]")).to_json()
    {'name': 'numpy.datetime64', 'configuration': {'unit': 'us', 'scale_factor': 10}}
    """

    @classmethod
    def from_json(cls, document: Named, path: str) -> Time:
        """The type of a unit and a scale factor, both of which must be given."""
        check_members(document, path, "unit", "scale_factor")
        unit = document.configuration["unit"]
        if unit not in UNITS:
            raise MetadataError("unknown unit", path=f"{path}.configuration.unit", expected=" ".join(UNITS), got=shown(unit))
        scale = positive(document, path, "scale_factor", MAX_SCALE, "scale_factor")
        return _time(np.dtype(f"{_KINDS[document.name]}8[{scale}{unit}]"))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> Time | None:
        """The type for a NumPy type of times."""
        return _time(dtype.newbyteorder("=")) if dtype.kind in _NAMES else None

    def element_from_json(self, value: Any, path: str) -> bytes:
        """ "NaT", or an integer that counts units."""
        if value == "NaT":
            value = NAT
        if type(value) is not int or not NAT <= value < 2**63:
            raise MetadataError("wrong fill value", path=path, expected='a 64-bit integer, or "NaT"', got=shown(value))
        return np.int64(value).tobytes()

    def element_from_python(self, value: Any) -> bytes:
        """A time that can be said in this unit, "NaT", or an integer that counts units."""
        if isinstance(value, str) and value == "NaT":
            value = NAT
        if type(value) is int and NAT <= value < 2**63:
            return np.int64(value).tobytes()
        try:
            array = values.as_values(value, self, self.default_fill())
        except DataTypeError as error:
            raise error.annotate(field="fill_value") from error.__cause__
        if array.ndim or np.ma.isMaskedArray(value):
            raise DataTypeError("not one time", field="fill_value", expected=str(self.numpy), got=shown(value))
        return array.tobytes()

    def fill_to_json(self, data: bytes) -> Any:
        """ "NaT", or an integer that counts units."""
        value = int(np.frombuffer(data, np.int64)[0])
        return "NaT" if value == NAT else value

    def default_fill(self) -> FixedFill:
        """NaT, as in NumPy and zarr-python: the epoch would be a time like any other."""
        return FixedFill(self, np.int64(NAT).tobytes())

    def from_objects(self, data: Any) -> Array:
        """Times of the standard library, ISO 8601 text, and lists of them."""
        natural = np.asarray(data)
        if natural.size == 0 and natural.dtype == np.float64:
            return np.empty(natural.shape, self.numpy)
        if natural.dtype.kind not in "OU":
            return natural
        known = natural != "NaT"  # NumPy would give these no unit
        times = np.full(natural.shape, "NaT", self.numpy)
        if not known.any():
            return times
        try:
            given = np.asarray(natural[known].tolist(), f"{self.numpy.kind}8")  # in the unit that holds what was given
            times = times.astype(given.dtype)
            times[known] = given
            return times
        except (TypeError, ValueError, OverflowError) as error:
            expected, got = f"{self.name} ({self.numpy})", shown(data)
            raise DataTypeError("not a time that is understood", expected=expected, got=got) from error

    def cast(self, array: Array) -> Array:
        """Times of another unit, where each is a whole number of these units."""
        if array.dtype.kind != self.numpy.kind:
            raise DataTypeError(
                "the data are not times",
                expected=f"{self.name} ({self.numpy})",
                got=str(array.dtype),
                hint=f"Say what they count: data.astype('{self.numpy}')",
            )
        try:
            result = array.astype(self.numpy)
            same = (result.astype(array.dtype) == array) | np.isnat(array)
        except (OverflowError, TypeError, ValueError) as error:
            raise self._inexact(array.dtype, shown(array.flat[0])) from error
        if not same.all():
            raise self._inexact(array.dtype, str(array[~same][0]))
        return result

    def _inexact(self, dtype: np.dtype[Any], got: str) -> DataTypeError:
        hint = f"Nothing was stored: round the values first, with data.astype('{self.numpy}')"
        return DataTypeError(
            "a time that the data type cannot hold exactly", expected=str(self.numpy), got=f"{got} of {dtype}", hint=hint
        )

    def to_json(self) -> dict[str, Any]:
        """Name, unit and scale factor."""
        unit, scale = np.datetime_data(self.numpy)
        return {"name": self.name, "configuration": {"unit": unit, "scale_factor": scale}}


def _time(numpy: np.dtype[Any]) -> Time:
    return Time(_NAMES[numpy.kind], numpy, 8)
