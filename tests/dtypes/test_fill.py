"""Fill values of fixed-size types keep every bit, in JSON, as Python scalars and as bytes."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.dtypes.base import FixedFill
from zarrant.dtypes.fixed import FixedType, data_types, parse_data_type, raw
from zarrant.errors import DataTypeError, MetadataError

ALL = (*data_types, raw(1), raw(3), raw(16, "raw_bytes"))
FLOATS = [row for row in data_types if row.kind == "float"]
FLOAT_IDS = [row.name for row in FLOATS]


def bits(fill: bytes) -> int:
    return int.from_bytes(fill, "little" if np.little_endian else "big")


def element(pattern: int, size: int) -> bytes:
    return pattern.to_bytes(size, "little" if np.little_endian else "big")


def refused(data_type: FixedType, value: Any, path: str = "$.fill_value") -> MetadataError:
    with pytest.raises(MetadataError) as caught:
        data_type.fill_from_json(value)
    assert caught.value.path == path
    assert caught.value.expected is not None
    return caught.value


# ── fill values, all types


@given(st.data())
def test_any_bits_go_through_json(data: st.DataObject) -> None:
    """Bytes to JSON and back: NaN payloads, signs of zero, subnormals, everything."""
    data_type = data.draw(st.sampled_from(ALL))
    fill = data.draw(st.binary(min_size=data_type.itemsize, max_size=data_type.itemsize))
    if data_type.kind == "bool":
        fill = bytes([fill[0] & 1])
    value = data_type.fill_to_json(fill)
    assert data_type.fill_from_json(value).data == fill
    assert FixedFill(data_type, fill).scalar.tobytes() == fill
    assert data_type.fill_from_python(FixedFill(data_type, fill).scalar).data == fill


@pytest.mark.parametrize("data_type", ALL, ids=str)
def test_default(data_type: FixedType) -> None:
    fill = data_type.default_fill().data
    assert fill == bytes(data_type.itemsize) == data_type.fill_from_python(None).data
    assert FixedFill(data_type, fill).scalar.dtype == data_type.numpy
    refused(data_type, None)


@pytest.mark.parametrize("data_type", ALL, ids=str)
def test_one_element_only(data_type: FixedType) -> None:
    for fill in (b"", bytes(data_type.itemsize + 1)):
        with pytest.raises(DataTypeError):
            FixedFill(data_type, fill)
    with pytest.raises(DataTypeError) as caught:
        data_type.fill_from_python([1, 2])
    assert caught.value.field == "fill_value"


# ── fill values, each kind


def test_bool() -> None:
    data_type = parse_data_type("bool")
    assert data_type.fill_from_json(True).data == b"\x01"
    assert data_type.fill_from_json(False).data == b"\x00"
    assert data_type.fill_to_json(b"\x01") is True
    for value in (0, 1, 1.0, "true", [True], {}):
        refused(data_type, value)
    assert data_type.fill_from_python(np.True_).data == b"\x01"
    assert data_type.fill_from_python(0).data == b"\x00"
    assert data_type.fill_from_python(np.uint8(1)).data == b"\x01"
    for value in (2, -1, 0.0, "x", np.ma.masked):
        with pytest.raises(DataTypeError):
            data_type.fill_from_python(value)
    with pytest.raises(DataTypeError):
        data_type.fill_to_json(b"\x02")


@pytest.mark.parametrize("name", [row.name for row in data_types if row.kind in ("int", "uint")])
def test_integers(name: str) -> None:
    data_type = parse_data_type(name)
    info = np.iinfo(data_type.numpy)
    low, high = int(info.min), int(info.max)
    for value in (low, high, 0, 1, high // 3):
        fill = data_type.fill_from_json(value).data
        assert fill == np.array(value, data_type.numpy).tobytes()
        assert data_type.fill_to_json(fill) == value
        assert type(data_type.fill_to_json(fill)) is int
        assert data_type.fill_from_python(value).data == fill
        assert data_type.fill_from_python(data_type.numpy.newbyteorder().type(value)).data == fill
    assert data_type.fill_from_python(True).data == data_type.fill_from_json(1).data
    for wrong in (low - 1, high + 1, 1.0, True, "1", "0x01", [1], 10**50):
        refused(data_type, wrong)
    for integral in (1.0, np.float32(1)):
        assert data_type.fill_from_python(integral).data == data_type.fill_from_json(1).data
    masked = np.ma.masked_array(1, mask=True)
    for wrong in (low - 1, high + 1, 1.5, float("nan"), float("inf"), "1", 1j, 10**50, np.datetime64("2020"), object(), masked):
        with pytest.raises(DataTypeError):
            data_type.fill_from_python(wrong)


@pytest.mark.parametrize(
    ("name", "value", "pattern"),
    [
        ("float32", "NaN", 0x7FC00000),
        ("float32", "Infinity", 0x7F800000),
        ("float32", "-Infinity", 0xFF800000),
        ("float32", "0x7fc00000", 0x7FC00000),
        ("float32", "0x7FC00001", 0x7FC00001),
        ("float32", "0x7f800001", 0x7F800001),
        ("float32", "0xffc00000", 0xFFC00000),
        ("float32", "0x80000000", 0x80000000),
        ("float32", -0.0, 0x80000000),
        ("float32", 1, 0x3F800000),
        ("float32", 0.1, 0x3DCCCCCD),
        ("float32", 1e-50, 0),
        ("float64", "NaN", 0x7FF8000000000000),
        ("float64", "0x7ff8000000000001", 0x7FF8000000000001),
        ("float64", 2**53 + 1, 0x4340000000000000),
        ("float16", "NaN", 0x7E00),
        ("float16", "0x7c01", 0x7C01),
        ("float16", 65519.9, 0x7BFF),
        ("float16", 0.1, 0x2E66),
        ("bfloat16", "NaN", 0x7FC0),
        ("bfloat16", "-Infinity", 0xFF80),
        ("bfloat16", "0x7fc1", 0x7FC1),
        ("bfloat16", 0.1, 0x3DCD),
        ("bfloat16", 1 + 2**-8, 0x3F80),
        ("bfloat16", 1 + 2**-8 + 2**-40, 0x3F81),  # rounding twice, by way of float32, would give 0x3f80
        ("bfloat16", 1 + 3 * 2**-8 - 2**-40, 0x3F81),  # and here 0x3f82
        ("bfloat16", -(1 + 2**-8 + 2**-40), 0xBF81),
    ],
)
def test_floats(name: str, value: Any, pattern: int) -> None:
    data_type = parse_data_type(name)
    fill = data_type.fill_from_json(value).data
    assert f"{bits(fill):#x}" == f"{pattern:#x}"
    if not isinstance(value, str):
        assert data_type.fill_from_python(value).data == fill


@pytest.mark.parametrize("data_type", FLOATS, ids=FLOAT_IDS)
def test_float_forms_that_are_refused(data_type: FixedType) -> None:
    digits = 2 * data_type.itemsize
    words = ("nan", "+Infinity", "inf", "", "1.0", "-NaN", "NaN ", "-0.0")
    hexes = ("0x", "0x" + "0" * (digits - 1), "0x" + "0" * (digits + 1), "0X" + "0" * digits, "0x" + "g" * digits)
    for value in (
        *words,
        *hexes,
        "0x" + "0" * digits + "\n",
        True,
        [],
        [1.0],
        {},
        1e300 if digits < 16 else 10**309,
        -(10**400),
    ):
        refused(data_type, value)


def test_float_overflow_starts_where_rounding_would_be_infinite() -> None:
    refused(parse_data_type("float16"), 65520)
    refused(parse_data_type("float32"), 3.4028235677973366e38)
    parse_data_type("float32").fill_from_json(3.402823567797336e38)
    top = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    parse_data_type("bfloat16").fill_from_json(top * (1 + 2**-9 - 2**-30))
    refused(parse_data_type("bfloat16"), top * (1 + 2**-8))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_every_16_bit_float(name: str) -> None:
    """All 65536: JSON keeps the bits, numbers are short, and rounding by way of float32 (as others do) reads the same."""
    data_type = parse_data_type(name)
    for pattern in range(1 << 16):
        fill = element(pattern, 2)
        value = data_type.fill_to_json(fill)
        assert data_type.fill_from_json(value).data == fill
        if isinstance(value, float):
            assert float(f"{value:.6g}") == value
            assert np.float32(value).astype(data_type.numpy).tobytes() == fill
        else:
            assert value in ("NaN", "Infinity", "-Infinity") or bits(fill) == int(value, 16)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_bfloat16_is_the_nearest(value: float) -> None:
    data_type = parse_data_type("bfloat16")
    try:
        fill = data_type.fill_from_json(value).data
    except MetadataError:
        assert abs(value) > float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
        return
    got = float(FixedFill(data_type, fill).scalar)
    for step in (-1, 1):
        pattern = bits(fill) + step
        if 0 <= pattern < 1 << 16:
            other = float(FixedFill(data_type, element(pattern, 2)).scalar)
            if math.isfinite(other):
                assert abs(other - value) >= abs(got - value)
                if abs(other - value) == abs(got - value) and other != got:
                    assert bits(fill) % 2 == 0
    assert math.copysign(1, got) == math.copysign(1, value)


@given(st.integers(0, 2**32 - 1))
def test_float32_numbers_are_as_short_as_numpys(pattern: int) -> None:
    data_type = parse_data_type("float32")
    value = data_type.fill_to_json(element(pattern, 4))
    if isinstance(value, float):
        shown = np.uint32(pattern).view(np.float32)
        assert len(repr(value)) <= len(repr(float(shown)))
        assert value == float(str(shown)) or np.float32(value) == shown


def test_only_the_canonical_nan_is_a_word() -> None:
    data_type = parse_data_type("float32")
    patterns = {0x7FC00000: "NaN", 0xFFC00000: "0xffc00000", 0x7FC00001: "0x7fc00001", 0x7F800001: "0x7f800001"}
    for pattern, value in patterns.items():
        assert data_type.fill_to_json(element(pattern, 4)) == value
    assert math.copysign(1, data_type.fill_to_json(element(0x80000000, 4))) == -1
    assert repr(data_type.fill_to_json(element(0x3DCCCCCD, 4))) == "0.1"


@pytest.mark.parametrize("data_type", FLOATS, ids=FLOAT_IDS)
def test_floats_from_python(data_type: FixedType) -> None:
    one = data_type.fill_from_json(1).data
    sources: tuple[Any, ...] = (
        1,
        1.0,
        True,
        np.int8(1),
        np.uint64(1),
        np.float16(1),
        np.float64(1),
        np.array(1),
        ml_dtypes.bfloat16(1),
    )
    for value in (*sources, np.float32(1).astype(">f4"), np.longdouble(1)):
        assert data_type.fill_from_python(value).data == one, repr(value)
    assert data_type.fill_from_python(float("nan")).data == data_type.fill_from_json("NaN").data
    assert data_type.fill_from_python(float("-inf")).data == data_type.fill_from_json("-Infinity").data
    assert data_type.fill_from_python(-0.0).data == data_type.fill_from_json(-0.0).data
    for word in ("NaN", "Infinity", "-Infinity"):
        assert data_type.fill_from_python(word).data == data_type.fill_from_json(word).data
    too_large = (1e300, np.float64(1e300)) if data_type.itemsize < 8 else ()
    refused_values = (1j, np.complex64(1), "1", "nan", np.ma.masked, b"x", np.void(b"abcd"), [1.0], {}, object(), 10**400)
    for wrong in (*too_large, *refused_values, np.timedelta64(1, "s")):
        with pytest.raises(DataTypeError):
            data_type.fill_from_python(wrong)


def test_nan_payloads_from_python() -> None:
    signalling = np.array(0x7F800001, "u4").view("f4")
    data_type = parse_data_type("float32")
    assert bits(data_type.fill_from_python(signalling).data) == 0x7F800001
    assert bits(data_type.fill_from_python(signalling.astype(">f4")).data) == 0x7F800001
    wide = np.array(0x7FF8000020000000, "u8").view("f8")
    assert bits(data_type.fill_from_python(wide).data) == 0x7FC00001


def test_complex() -> None:
    for name, part in (("complex64", "float32"), ("complex128", "float64")):
        data_type, half = parse_data_type(name), parse_data_type(part)
        hexed = "0x7fc00001" if part == "float32" else "0x7ff8000000000001"
        for value in ([1, 2], [0.1, -0.0], ["NaN", "-Infinity"], [hexed, 0.5]):
            fill = data_type.fill_from_json(value).data
            assert fill == half.fill_from_json(value[0]).data + half.fill_from_json(value[1]).data
            assert repr(data_type.fill_to_json(fill)) == repr([float(v) if isinstance(v, int) else v for v in value])
        for wrong in (1, 1.0, "NaN", [], [1], [1, 2, 3], {"re": 1}):
            refused(data_type, wrong)
        refused(data_type, [1, "x"], "$.fill_value[1]")
        refused(data_type, [True, 1], "$.fill_value[0]")
        assert data_type.fill_from_python(1 - 2j).data == data_type.fill_from_json([1, -2]).data
        assert data_type.fill_from_python(np.complex64(1 - 2j)).data == data_type.fill_from_json([1, -2]).data
        for real in (3, True, 3.0, np.float16(3)):
            assert data_type.fill_from_python(real).data == data_type.fill_from_json([int(real), 0]).data
        for value in ("1", [1, 2], np.void(b"abcdefgh"), 10**400):
            with pytest.raises(DataTypeError):
                data_type.fill_from_python(value)
    with pytest.raises(DataTypeError):
        parse_data_type("complex64").fill_from_python(complex(0, 1e300))


def test_raw() -> None:
    for data_type in (raw(3), raw(3, "raw_bytes")):
        for value in ([1, 2, 255], "AQL/"):
            assert data_type.fill_from_json(value).data == b"\x01\x02\xff"
        for wrong in (
            [1, 2],
            [1, 2, 3, 4],
            [1, 2, 256],
            [1, 2, -1],
            [1, 2, True],
            [1, 2, 3.0],
            "AQI=",
            "!!!!",
            "AQL/\n",
            "é",
            5,
            {},
        ):
            refused(data_type, wrong)
        for same in (b"abc", bytearray(b"abc"), memoryview(b"abc"), np.void(b"abc")):
            assert data_type.fill_from_python(same).data == b"abc"
        for wrong in (b"ab", "abc", 0, [1, 2, 3], np.void(b"abcd")):
            with pytest.raises(DataTypeError):
                data_type.fill_from_python(wrong)


def test_the_path_is_the_callers() -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type("complex64").fill_from_json([0, None], "$.codecs[0].configuration.value")
    assert caught.value.path == "$.codecs[0].configuration.value[1]"
