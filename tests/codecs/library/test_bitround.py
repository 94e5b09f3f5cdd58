"""bitround: bit for bit what numcodecs makes of floats; integers from their first bit; what is not a number stays what it is."""

from __future__ import annotations

from typing import Any

import numcodecs
import numpy as np
import pytest

import zarrant
from zarrant.codecs.library.bitround import MANTISSA, BitRound
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import MetadataError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToArraySuite


class TestBitRound(ArrayToArraySuite):
    @pytest.fixture(params=[7, 64])
    def codec(self, request):
        return BitRound(request.param)


class TestBitRoundOfFloats(ArrayToArraySuite):
    dtype = "bfloat16"

    @pytest.fixture
    def codec(self):
        return BitRound(6)


def rounded(values: Any, keepbits: int, dtype: Any) -> Any:
    data_type = from_numpy(dtype)
    array = np.asarray(values, data_type.numpy)
    return BitRound(keepbits).encode(array, ArraySpec(array.shape, data_type, data_type.default_fill()))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("keepbits", [1, 3, 9])
def test_floats_are_those_of_numcodecs(dtype, keepbits) -> None:
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2 ** (8 * np.dtype(dtype).itemsize), 20_000, np.uint64, endpoint=False)
    values = bits.astype(f"u{np.dtype(dtype).itemsize}").view(dtype)
    values = np.concatenate([values[~np.isnan(values)], np.array([0, -0.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max], dtype)])
    expected = numcodecs.BitRound(keepbits).encode(values).view(dtype)
    assert rounded(values, keepbits, dtype).tobytes() == expected.tobytes()


def test_any_nan_stays() -> None:
    values = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert rounded(values, 3, "float32").tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (1, 1), (10, 10), (11, 12), (100, 96), (123, 128), (200, 192), (208, 192), (209, 224)],
)
def test_integers(value, expected) -> None:
    """The table of the sample data of the specification."""
    assert rounded([value], 3, "uint8").tolist() == [expected]
    assert rounded([255], 3, "uint8").tolist() == [224]


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64"])
@pytest.mark.parametrize("keepbits", [1, 2, 5])
def test_integers_one_by_one(dtype, keepbits) -> None:
    info = np.iinfo(dtype)
    values = np.unique(np.random.default_rng(1).integers(info.min, info.max, 500, dtype, endpoint=True) >> np.dtype(dtype).type(2))
    values = np.concatenate([values, np.array([info.min, info.max], dtype)])
    width = info.bits

    def one(value: int) -> int:
        bits = value % 2**width
        drop = bits.bit_length() - keepbits
        if drop <= 0:
            return value
        quotient, rest = divmod(bits, 1 << drop)
        half = 1 << (drop - 1)
        quotient += rest > half or (rest == half and quotient % 2 == 1)
        found = quotient << drop
        found = found if found < 2**width else (2**width - 1) >> drop << drop
        return found - 2**width if info.min < 0 and found >= 2 ** (width - 1) else found

    assert rounded(values, keepbits, dtype).tolist() == [one(int(value)) for value in values]


def test_no_time_stays_no_time() -> None:
    times = np.array(["NaT", "1970-01-01T00:17:03"], "M8[s]")
    assert rounded(times, 3, times.dtype).astype("i8").tolist() == [np.iinfo("i8").min, 1024]


@pytest.mark.parametrize("name", sorted(MANTISSA))
def test_parts_of_complex_numbers_round_like_floats(name) -> None:
    data_type = from_numpy(name)
    word = np.dtype(f"u{data_type.word}")
    bits = np.random.default_rng(3).integers(0, 2 ** (8 * word.itemsize - 4), 64, np.uint64).astype(word)
    out = BitRound(3).encode(bits.view(data_type.numpy), ArraySpec((64,), data_type, data_type.default_fill())).view(word)
    assert (out & word.type((1 << (MANTISSA[name] - 3)) - 1)).max() == 0
    assert np.abs(out.astype(float) - bits.astype(float)).max() <= 1 << (MANTISSA[name] - 4)


def test_the_fill_value_is_rounded_for_what_follows() -> None:
    data_type = from_numpy("float32")
    after = BitRound(3).resolve(ArraySpec((4,), data_type, data_type.fill_from_python(0.1)))
    assert after.fill.scalar == 0.1015625


@pytest.mark.parametrize("keepbits", [0, -1, 1.0, True, "3", None, 65])
def test_wrong_bits(keepbits) -> None:
    with pytest.raises(MetadataError) as caught:
        BitRound.from_json(Named("bitround", {"keepbits": keepbits}), "$.codecs[0]")
    assert caught.value.path == "$.codecs[0].configuration.keepbits"


@pytest.mark.parametrize("dtype", ["bool", "V3", "S4", "int4"])
def test_types_that_are_no_such_numbers(dtype) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrant.create_array({}, shape=4, chunks=4, dtype=dtype, filters=[BitRound(3)])
    assert caught.value.path == "$.codecs[0]"
    assert caught.value.codec == "bitround"
