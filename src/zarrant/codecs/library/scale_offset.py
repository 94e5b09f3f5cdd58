"""scale_offset: numbers less an offset, times a factor, in the arithmetic of their own type.

Integers are exact: what does not fit the type, or does not divide, is an error. Floats are rounded, and a finite number never
becomes infinite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members
from zarrant.codecs.library.elementwise import encoded_fill, json_scalar, native, refuse_data_type
from zarrant.codecs.protocols import ArraySpec, Kind
from zarrant.dtypes.fill import int_range, kind_of, lost
from zarrant.errors import MetadataError
from zarrant.metadata.v3 import Named

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ScaleOffset:
    """Store `(x - offset) * scale`. Both are given as fill values of the array are; by default they change nothing.

    Source: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/scale_offset

    >>> ScaleOffset(offset=5, scale=0.1).to_json()["configuration"]
    {'offset': 5, 'scale': 0.1}
    """

    offset: Any = None
    scale: Any = None
    name: ClassVar[str] = "scale_offset"
    kind: ClassVar[Kind] = "array_to_array"

    def __post_init__(self) -> None:
        for name in ("offset", "scale"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, json_scalar(getattr(self, name), name))

    @classmethod
    def from_json(cls, document: Named, path: str) -> ScaleOffset:
        """Read the codec from its name and configuration."""
        check_members(document, path, optional=("offset", "scale"))
        given = document.configuration
        values = {name: json_scalar(given[name], f"{path}.configuration.{name}") for name in ("offset", "scale") if name in given}
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        configuration = {name: getattr(self, name) for name in ("offset", "scale") if getattr(self, name) is not None}
        return {"name": self.name, "configuration": configuration} if configuration else {"name": self.name}

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        """The same array with the fill value that the codec makes of it."""
        if getattr(spec.data_type, "kind", None) not in ("int", "uint", "float"):
            raise refuse_data_type(self, spec, "an integer or a float")
        offset, scale = self._numbers(spec)
        if not np.isfinite(offset):
            raise MetadataError("wrong value", path="$.configuration.offset", expected="a finite number", got=self.offset)
        if not np.isfinite(scale) or scale == 0:
            raise MetadataError("wrong value", path="$.configuration.scale", expected="a finite number, not 0", got=self.scale)
        # "Implementations MUST transform the fill value as it propagates through the codec chain."
        return replace(spec, fill=encoded_fill(self, spec, spec.data_type))

    def _numbers(self, spec: ArraySpec) -> tuple[Any, Any]:
        """Offset and scale, as numbers of the data type in the NumPy type that is calculated with."""

        def number(name: str, default: int) -> Any:
            value = getattr(self, name)  # what is not given need not be a number of the type: one has no zero
            return default if value is None else native(spec.data_type.fill_from_json(value, f"$.configuration.{name}").element)[()]

        return number("offset", 0), number("scale", 1)

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """`(array - offset) * scale`; ValueError where the data type does not have the result."""
        offset, scale = self._numbers(spec)
        if kind_of(array.dtype) == "float":
            return _rounded(lambda x: x * scale, _rounded(lambda x: x - offset, array))
        moved = _moved(native(array), -int(offset), array.dtype)
        return _multiplied(moved, int(scale), array.dtype).astype(array.dtype)

    def decode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """`array / scale + offset`; ValueError where the data type does not have the result."""
        offset, scale = self._numbers(spec)
        if kind_of(array.dtype) == "float":
            return _rounded(lambda x: x + offset, _rounded(lambda x: x / scale, array))
        divided = _divided(native(array), int(scale), array.dtype)
        return _moved(divided, int(offset), array.dtype).astype(array.dtype)


def _check(low: int, high: int, dtype: np.dtype[Any]) -> None:
    """ValueError where results from `low` to `high` (either way round) are not all in the type."""
    # "If any intermediate or final value [...] is not representable in that data type, implementations MUST treat this as an
    # error."
    least, most = int_range(dtype)
    for result in (low, high):
        if not least <= result <= most:
            raise ValueError(f"{result} is not in {least}..{most}, as {dtype} is")


def _moved(array: Array, by: int, dtype: np.dtype[Any]) -> Array:
    _check(int(array.min()) + by, int(array.max()) + by, dtype)
    with np.errstate(over="ignore"):
        moved: Array = array + np.array(by % 2 ** (8 * array.itemsize), f"u{array.itemsize}").astype(array.dtype)
    return moved


def _multiplied(array: Array, scale: int, dtype: np.dtype[Any]) -> Array:
    _check(int(array.min()) * scale, int(array.max()) * scale, dtype)
    product: Array = array * array.dtype.type(scale)
    return product


def _divided(array: Array, scale: int, dtype: np.dtype[Any]) -> Array:
    divisor = array.dtype.type(scale)
    _check(int(array.min()) // scale, int(array.max()) // scale, dtype)
    rest = array % divisor
    if rest.any():
        raise ValueError(f"{int(array[rest != 0][0])} cannot be divided by {scale}")
    quotient: Array = array // divisor
    return quotient


def _rounded(operation: Any, array: Array) -> Array:
    """One operation on floats, rounded to their type; ValueError where a finite number becomes another thing."""
    wide = native(array)
    with np.errstate(all="ignore"):
        exact = operation(wide)
        result: Array = exact.astype(array.dtype)
    broken = np.isfinite(wide) & (~np.isfinite(exact) | lost(np.where(np.isfinite(exact), exact, 0), result))
    if broken.any():
        raise ValueError(f"{float(wide[broken].flat[0])} becomes a number that {array.dtype} does not have")
    return result
