"""Numbers of one type as numbers of another, under rules that say how to round and what to do with what is too large.

In: an array of numbers, the type wanted, a rounding rule, and a rule for what is out of range. Out: an array of that type, or
ValueError with the first value that has no counterpart. Rounding is exact: a number becomes one of its two neighbours in the type
wanted, and is rounded once. What rounds to a number of the type is in range, however much it was above the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from zarrant.codecs.library.elementwise import native
from zarrant.dtypes.fill import SMALL, int_range, kind_of

Array = npt.NDArray[Any]
Dtype = np.dtype[Any]


def _nearest_away(x: Array) -> Array:
    whole = np.trunc(x)
    result: Array = np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(1.0, x), whole)
    return result


WHOLE: Mapping[str, Callable[[Array], Array]] = {
    "nearest-even": np.rint,
    "towards-zero": np.trunc,
    "towards-positive": np.ceil,
    "towards-negative": np.floor,
    "nearest-away": _nearest_away,
}
"""Rounding of floats to whole numbers, by its name."""
ROUNDING = tuple(WHOLE)
OUT_OF_RANGE = ("clamp", "wrap")


def cast_numbers(values: Array, target: Dtype, rounding: str, out_of_range: str | None) -> Array:
    """The values as numbers of `target`; ValueError names one that cannot be."""
    if values.size == 0:
        return np.empty(values.shape, target)
    to_float, from_float = kind_of(target) == "float", kind_of(values.dtype) == "float"
    if to_float:
        straight = rounding == "nearest-even" and from_float and target not in SMALL and values.dtype not in SMALL
        found = _float_to_ieee(values, target) if straight else _to_float(native(values), target, rounding)
        return _within(values, found, target, out_of_range)
    if from_float:
        return _float_to_int(native(values).astype(np.float64), target, rounding, out_of_range)
    return _int_to_int(native(values), target, out_of_range)


def _refuse(values: Array, which: Array, target: Dtype) -> ValueError:
    return ValueError(f"{values[which].flat[0]} is not among the numbers of {target}")


# ── to integers


def _int_to_int(values: Array, target: Dtype, out_of_range: str | None) -> Array:
    least, most = int_range(target)
    low, high = int(values.min()), int(values.max())
    if least <= low and high <= most:
        return values.astype(target)
    if out_of_range == "wrap":
        return _wrapped(values, target)
    known = np.iinfo(values.dtype)
    clipped = np.clip(values, max(least, int(known.min)), min(most, int(known.max)))
    if out_of_range is None:
        raise _refuse(values, clipped != values, target)
    return clipped.astype(target)


def _wrapped(values: Array, target: Dtype) -> Array:
    """The integers of `target` that have the same last bits."""
    if target not in SMALL:
        return values.astype(target)
    bits = ml_dtypes.iinfo(target).bits  # type: ignore[no-untyped-call]
    low = values.astype(np.uint8) & np.uint8((1 << bits) - 1)
    if kind_of(target) == "uint":
        return low.astype(target)
    sign = np.uint8(1 << (bits - 1))
    return ((low ^ sign).astype(np.int8) - np.int8(sign)).astype(target)


def _float_to_int(values: Array, target: Dtype, rounding: str, out_of_range: str | None) -> Array:
    finite = np.isfinite(values)
    if not finite.all():
        raise _refuse(values, ~finite, target)
    whole = WHOLE[rounding](values)
    least, most = int_range(target)
    # Both bounds are whole powers of two, or zero, and so are exact as floats; `most` itself need not be.
    below, above = whole < float(least), whole >= float(most + 1)
    wide = np.int64 if least < 0 else np.uint64
    if not (below | above).any():
        return whole.astype(wide).astype(target)
    if out_of_range is None:
        raise _refuse(values, below | above, target)
    if out_of_range == "wrap":
        rest = np.fmod(whole, 2.0**64)  # exact, and more bits than any type has
        size = np.abs(rest).astype(np.uint64)
        return _wrapped(np.where(rest < 0, np.uint64(0) - size, size), target)
    clamped = np.where(below | above, 0.0, whole).astype(wide)
    clamped[below], clamped[above] = least, most
    return clamped.astype(target)


# ── to floats: results are float64, and may be beyond the type wanted


def _float_to_ieee(values: Array, target: Dtype) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(target)


def _to_float(values: Array, target: Dtype, rounding: str) -> Array:
    """Each value rounded to a number of `target`, or to infinity beyond the largest, as float64."""
    wide = values.astype(np.float64)
    rest = _rest(values, wide)
    finite = np.isfinite(wide)
    numbers = np.where(finite, wide, 1.0)
    low, high, odd = _neighbours(numbers, rest, target)
    chosen = np.where(_goes_up(numbers, rest, low, high, odd, rounding), high, low)
    chosen = np.where(chosen == 0, np.copysign(0.0, numbers), chosen)
    result: Array = np.where(finite, chosen, wide)
    return result


def _rest(values: Array, wide: Array) -> Array:
    """What float64 lost of integers of 64 bits."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8:
        return np.zeros_like(wide)
    # Each half of the integer is exact as float64, and so is each difference: neighbours differ in their last bits only.
    half = values >> values.dtype.type(32)
    last = (values & values.dtype.type(2**32 - 1)).astype(np.float64)
    rest: Array = (half.astype(np.float64) * 2.0**32 - wide) + last
    return rest


def _neighbours(wide: Array, rest: Array, target: Dtype) -> tuple[Array, Array, Array]:
    """The numbers of `target` just below (or at) and above (or at) `wide + rest`, and whether the lower one is odd.

    Beyond the largest comes one more, by the same distance, and then infinity.
    """
    info = ml_dtypes.finfo(target)  # type: ignore[no-untyped-call]
    most, least = target.type(info.max), target.type(info.min)
    top, bottom = float(most), float(least)
    with np.errstate(over="ignore", under="ignore"):
        near = np.clip(wide, bottom, top).astype(target)
        exact = near.astype(np.float64)
        above = (exact > wide) | ((exact == wide) & (rest < 0))
        below = (exact < wide) | ((exact == wide) & (rest > 0))
        low = np.where(above, np.nextafter(near, np.full_like(near, least)).astype(np.float64), exact)
        high = np.where(below, np.nextafter(near, np.full_like(near, most)).astype(np.float64), exact)
        odd = (near.view(f"u{target.itemsize}") & 1).astype(np.bool_) ^ above
    beyond = top + (top - float(np.nextafter(most, least)))
    under = bottom - (float(np.nextafter(least, most)) - bottom) if bottom < 0 else bottom / 2
    high[wide > top], low[wide < bottom] = beyond, under
    odd[wide < bottom] ^= True
    low[wide >= beyond] = high[wide >= beyond] = np.inf
    low[wide <= under] = high[wide <= under] = -np.inf
    return low, high, odd


def _goes_up(wide: Array, rest: Array, low: Array, high: Array, odd: Array, rounding: str) -> Array:
    """Whether a value between two neighbours is rounded to the higher one."""
    positive = wide > 0
    if rounding == "towards-positive":
        return np.ones_like(positive)
    if rounding in ("towards-zero", "towards-negative"):
        return ~positive if rounding == "towards-zero" else np.zeros_like(positive)
    with np.errstate(invalid="ignore"):
        nearer_to_high = (
            (wide - low) - (high - wide) + 2 * rest
        )  # each step keeps the sign: `rest` counts where the others are equal
    tie = odd if rounding == "nearest-even" else positive
    result: Array = (nearer_to_high > 0) | ((nearer_to_high == 0) & tie)
    return result


def _within(values: Array, found: Array, target: Dtype, out_of_range: str | None) -> Array:
    """Rounded values as numbers of `target`: what is beyond them is infinite where that is one and may be, or the largest."""
    source = native(values)
    nan, infinite = np.isnan(source), np.isinf(source)
    special = np.array([np.nan, np.inf], np.float32).astype(target)
    has_nan, has_infinity = bool(np.isnan(special[0])), bool(np.isinf(special[1]))
    if (nan.any() and not has_nan) or (infinite.any() and not has_infinity):
        raise _refuse(values, infinite if has_nan else nan | infinite if not has_infinity else nan, target)
    info = ml_dtypes.finfo(target)  # type: ignore[no-untyped-call]
    top, bottom = float(info.max), float(info.min)
    wide = found.astype(np.float64)
    beyond = ((wide > top) | (wide < bottom)) & ~infinite
    if not beyond.any():
        return found.astype(target)
    if out_of_range is None:
        raise _refuse(values, beyond, target)
    if has_infinity:
        return np.where(beyond, np.copysign(np.inf, wide), wide).astype(target)
    return np.where(beyond, np.clip(wide, bottom, top), wide).astype(target)
