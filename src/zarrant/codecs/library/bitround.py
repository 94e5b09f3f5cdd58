"""bitround: numbers with fewer significant bits, which compress better.

Floats keep `keepbits` bits of the mantissa. Integers keep `keepbits` bits from the first bit that is set; negative ones are taken
as the unsigned integers with the same bits, so their first bit is the sign. Halves go to the even neighbour, as IEEE 754 has it.
What the codec wrote is read as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members, integer
from zarrant.codecs.library.elementwise import encoded_fill, refuse_data_type
from zarrant.codecs.protocols import ArraySpec, Kind
from zarrant.metadata.v3 import Named

MAX_KEEPBITS = 64

MANTISSA = {
    "float16": 10,
    "float32": 23,
    "float64": 52,
    "bfloat16": 7,
    "complex64": 23,
    "complex128": 52,
    "complex_float16": 10,
    "complex_float32": 23,
    "complex_float64": 52,
    "complex_bfloat16": 7,
}
"""Bits of the mantissa of floats, and of the parts of complex numbers."""

INTEGERS = (
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("numpy.datetime64", "numpy.timedelta64"),
)


@dataclass(frozen=True, slots=True)
class BitRound:
    """Round numbers to `keepbits` bits, of the mantissa or from the first bit that is set.

    Source: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/bitround

    >>> BitRound(10).to_json()
    {'name': 'bitround', 'configuration': {'keepbits': 10}}
    """

    keepbits: int
    name: ClassVar[str] = "bitround"
    kind: ClassVar[Kind] = "array_to_array"

    def __post_init__(self) -> None:
        integer(self.keepbits, "keepbits", 1, MAX_KEEPBITS)

    @classmethod
    def from_json(cls, document: Named, path: str) -> BitRound:
        """Read the codec from its name and configuration."""
        check_members(document, path, required=("keepbits",))
        return cls(integer(document.configuration["keepbits"], f"{path}.configuration.keepbits", 1, MAX_KEEPBITS))

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name, "configuration": {"keepbits": self.keepbits}}

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        """The same array, with the fill value rounded."""
        name = spec.data_type.name
        if name not in MANTISSA and name not in INTEGERS:
            raise refuse_data_type(self, spec, ", ".join((*MANTISSA, *INTEGERS)))
        return replace(spec, fill=encoded_fill(self, spec, spec.data_type))

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The rounded numbers. NaN stay as they are; what is nearer to infinity than to the largest number becomes infinity."""
        bits = np.ascontiguousarray(array).reshape(-1).view(f"u{spec.data_type.word}")
        mantissa = MANTISSA.get(spec.data_type.name)
        rounded = _round_integers(bits, self.keepbits) if mantissa is None else _round_floats(bits, mantissa, self.keepbits)
        return rounded.view(array.dtype).reshape(array.shape)

    def decode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The numbers as they are stored."""
        return array


def _round_floats(bits: npt.NDArray[Any], mantissa: int, keepbits: int) -> npt.NDArray[Any]:
    drop = mantissa - keepbits
    if drop <= 0:
        return bits
    exponent = bits.dtype.type(((1 << (8 * bits.dtype.itemsize - 1)) - 1) >> mantissa << mantissa)
    nan = ((bits & exponent) == exponent) & ((bits & ~exponent & bits.dtype.type(_ones(bits) >> 1)) != 0)
    result: npt.NDArray[Any] = np.where(nan, bits, round_mantissa(bits, drop))
    return result


def round_mantissa(bits: npt.NDArray[Any], drop: int) -> npt.NDArray[Any]:
    """The bits of floats without the last `drop` bits of the mantissa (1 or more); halves go to the even neighbour.

    A carry out of the mantissa is right: it makes the exponent larger by one. Of a NaN it may make another number.
    """
    one = bits.dtype.type(1)
    half = bits.dtype.type((1 << (drop - 1)) - 1)
    kept = ~bits.dtype.type((1 << drop) - 1)
    rounded: npt.NDArray[Any] = (bits + ((bits >> bits.dtype.type(drop)) & one) + half) & kept
    return rounded


def _round_integers(bits: npt.NDArray[Any], keepbits: int) -> npt.NDArray[Any]:
    width = 8 * bits.dtype.itemsize
    if keepbits >= width:
        return bits
    ones = bits.copy()  # every bit from the first that is set, down to the last
    for shift in (1, 2, 4, 8, 16, 32):
        if shift < width:
            ones |= ones >> bits.dtype.type(shift)
    dropped = ones >> bits.dtype.type(keepbits)
    is_odd = (bits & (dropped + bits.dtype.type(1)) != 0) & (dropped != 0)
    more = bits + (dropped >> bits.dtype.type(1)) + is_odd.astype(bits.dtype)
    # The largest integers would wrap around: they go down instead.
    more[more < bits] = _ones(bits)
    result: npt.NDArray[Any] = more & ~dropped
    return result


def _ones(bits: npt.NDArray[Any]) -> int:
    return (1 << (8 * bits.dtype.itemsize)) - 1
