"""Casting of numbers, against a search through every number of the type wanted with exact fractions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from fractions import Fraction
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from zarrant.codecs.library.casting import ROUNDING, cast_numbers
from zarrant.codecs.library.elementwise import native

FLOATS = (
    *("float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "bfloat16", "float16"),
)


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


class Reference:
    """Every finite number of a float type, as fractions in order, with the bits of each."""

    def __init__(self, name: str) -> None:
        dtype = dtype_of(name)
        width = ml_dtypes.finfo(dtype).bits
        with np.errstate(invalid="ignore"):
            values = np.arange(2**width, dtype=f"u{dtype.itemsize}").view(dtype).astype(np.float64)
        self.odd = {Fraction(float(value)): bits % 2 for bits, value in enumerate(values) if np.isfinite(value)}
        grid = self.grid = sorted(self.odd)
        self.beyond = grid[-1] + (grid[-1] - grid[-2])
        self.under = grid[0] - (grid[1] - grid[0]) if grid[0] < 0 else grid[0] / 2
        self.odd |= {self.beyond: 1 - self.odd[grid[-1]], self.under: 1 - self.odd[grid[0]]}
        self.extended = [self.under, *grid, self.beyond]

    def cast(self, x: Fraction, rounding: str) -> Fraction | None:
        """The rounded number, None where it is beyond the type."""
        grid, odd, under, beyond = self.extended, self.odd, self.under, self.beyond
        if x <= under or x >= beyond:
            return None
        low, high = grid[bisect_right(grid, x) - 1], grid[bisect_left(grid, x)]
        middle = (low + high) / 2
        chosen = {
            "towards-zero": low if x > 0 else high,
            "towards-positive": high,
            "towards-negative": low,
            "nearest-away": high if x > middle or (x == middle and x > 0) else low,
            "nearest-even": high if x > middle or (x == middle and odd[low]) else low,
        }[rounding]
        return None if chosen in (under, beyond) else chosen


reference_of = cache(Reference)


@cache
def samples(name: str) -> np.ndarray:
    """Numbers of a type, halfway between them, and next to that."""
    grid = np.array([float(value) for value in reference_of(name).grid])
    grid = grid[:: max(1, len(grid) // 150)]
    middles = np.concatenate(
        [(grid[1:] + grid[:-1]) / 2, grid[-1:] + (grid[-1:] - grid[-2:-1]) / 2, grid * 1.0625, -grid, [0.0, 1e-300]]
    )
    values = np.concatenate([grid, middles, np.nextafter(middles, np.inf), np.nextafter(middles, -np.inf), [1e300, -1e300]])
    return values[np.isfinite(values)]


@pytest.mark.parametrize("rounding", ROUNDING)
@pytest.mark.parametrize("name", FLOATS)
def test_float64_to_small_floats(name, rounding) -> None:
    reference, target = reference_of(name), dtype_of(name)
    values = samples(name)
    expected = [reference.cast(Fraction(float(value)), rounding) for value in values]
    inside = np.array([value is not None for value in expected])
    found = cast_numbers(values[inside], target, rounding, None)
    assert [Fraction(float(value)) for value in found] == [value for value in expected if value is not None]
    if not name.endswith("fnuz"):
        assert np.signbit(found.astype(float)).tolist() == np.signbit(values[inside]).tolist()
    clamped = cast_numbers(values, target, rounding, "clamp").astype(float)
    info = ml_dtypes.finfo(target)
    special = np.isinf(np.array(np.inf, np.float32).astype(target))
    high, low = (np.inf, -np.inf) if special else (float(info.max), float(info.min))
    assert clamped[~inside].tolist() == [high if value > 1 else low for value in values[~inside]]
    for value in values[~inside][::7]:
        with pytest.raises(ValueError, match="not among the numbers"):
            cast_numbers(np.array([value]), target, rounding, None)


@pytest.mark.parametrize("rounding", ROUNDING)
@pytest.mark.parametrize("target", ["float16", "bfloat16", "float32", "float64"])
def test_large_integers_are_rounded_once(target, rounding) -> None:
    bits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[target]
    top = 15 if target == "float16" else 63
    for low in (0, 1, 2, 3):
        base = (2 ** (bits - 1) + low) << (top - bits)
        step = 1 << (top - bits)
        for value in (base, base + step // 2, base + step // 2 - 1, base + step // 2 + 1, base + 1, base + step - 1):
            quotient, rest = divmod(value, step)
            up = {
                "towards-zero": False,
                "towards-negative": False,
                "towards-positive": rest > 0,
                "nearest-away": 2 * rest >= step,
                "nearest-even": 2 * rest > step or (2 * rest == step and quotient % 2 == 1),
            }[rounding]
            found = cast_numbers(np.array([value], np.uint64), dtype_of(target), rounding, None)
            assert int(float(found[0])) == (quotient + up) * step


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("nearest-even", [0, 2, 2, 0, -2, -2, 3]),
        ("nearest-away", [1, 2, 3, -1, -2, -3, 3]),
        ("towards-zero", [0, 1, 2, 0, -1, -2, 2]),
        ("towards-positive", [1, 2, 3, 0, -1, -2, 3]),
        ("towards-negative", [0, 1, 2, -1, -2, -3, 2]),
    ],
)
@pytest.mark.parametrize("target", ["int8", "int64", "int4"])
def test_floats_to_integers(target, rounding, expected) -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.75])
    assert native(cast_numbers(values, dtype_of(target), rounding, None)).tolist() == expected


@pytest.mark.parametrize("source", ["float32", "float64", "int64", "int32"])
@pytest.mark.parametrize("target", ["int2", "uint2", "int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_out_of_range(source, target) -> None:
    info = ml_dtypes.iinfo(dtype_of(target))
    values = np.array([0, 128, -129, 2**15, 2**15 + 1, -(2**15) - 1, 5, -5, 2**31 - 128], source)
    whole = [int(value) for value in values]
    wrapped = [(value - info.min) % 2**info.bits + info.min for value in whole]
    assert native(cast_numbers(values, dtype_of(target), "nearest-even", "wrap")).tolist() == wrapped
    clamped = [min(max(value, info.min), info.max) for value in whole]
    assert native(cast_numbers(values, dtype_of(target), "nearest-even", "clamp")).tolist() == clamped
    if clamped != whole:
        with pytest.raises(ValueError, match="not among the numbers"):
            cast_numbers(values, dtype_of(target), "nearest-even", None)


@pytest.mark.parametrize("value", [2.0**63, 2.0**64, -(2.0**63) - 2048, 1e300])
def test_beyond_64_bits(value) -> None:
    assert cast_numbers(np.array([value]), np.dtype("i8"), "nearest-even", "clamp")[0] == (2**63 - 1 if value > 0 else -(2**63))
    wrapped = (int(value) + 2**63) % 2**64 - 2**63
    assert int(cast_numbers(np.array([value]), np.dtype("i8"), "nearest-even", "wrap")[0]) == wrapped


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_never_guessed(value) -> None:
    for target in ("int8", "float4_e2m1fn"):
        for rule in (None, "clamp"):
            with pytest.raises(ValueError, match="not among the numbers"):
                cast_numbers(np.array([value]), dtype_of(target), "nearest-even", rule)
    assert np.array_equal(cast_numbers(np.array([value]), np.dtype("f2"), "towards-zero", None), [value], equal_nan=True)
