"""packbits: bits in their place, one by one against Python integers; every type, every range of bits."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numcodecs
import numpy as np
import pytest

import zarrant
from zarrant.codecs.library import packbits
from zarrant.codecs.library.packbits import PackBits
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import MetadataError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToBytesSuite


class TestPackBits(ArrayToBytesSuite):
    dtype = "int16"

    @pytest.fixture(params=[PackBits(), PackBits("first_byte"), PackBits("last_byte", 0, 7), PackBits(last_bit=12)], ids=str)
    def codec(self, request):
        return request.param


class TestPackBitsOfBool(ArrayToBytesSuite):
    dtype = "bool"

    @pytest.fixture(params=["none", "first_byte", "last_byte"])
    def codec(self, request):
        return PackBits(request.param)


TYPES = {
    "bool": (1, 1),
    "int2": (1, 2),
    "uint2": (1, 2),
    "int4": (1, 4),
    "uint4": (1, 4),
    "float4_e2m1fn": (1, 4),
    "float6_e2m3fn": (1, 6),
    "float6_e3m2fn": (1, 6),
    "float8_e4m3": (1, 8),
    "bfloat16": (1, 16),
    "float64": (1, 64),
    "complex_float4_e2m1fn": (2, 4),
    "complex_float6_e3m2fn": (2, 6),
    "complex_bfloat16": (2, 16),
    "complex128": (2, 64),
    "complex_float32": (2, 32),
    "int8": (1, 8),
    "uint32": (1, 32),
    "int64": (1, 64),
}


def spec_of(name: Any, n: int) -> ArraySpec:
    data_type = from_numpy(name)
    return ArraySpec((n,), data_type, data_type.default_fill())


@pytest.mark.parametrize("padding", ["none", "first_byte", "last_byte"])
@pytest.mark.parametrize("name", TYPES)
def test_bits_one_by_one(name, padding) -> None:
    components, width = TYPES[name]
    rng = np.random.default_rng(5)
    for n, first, last in (
        (1, 0, width - 1),
        (13, 0, width - 1),
        (13, width // 3, max(width // 3, width - 2)),
        (5, width - 1, width - 1),
    ):
        spec = spec_of(name, n)
        words = [int(word) % 2**width for word in rng.integers(0, 2**64, n * components, np.uint64)]
        values = np.array(words, f"u{spec.data_type.word}").view(spec.data_type.numpy)
        bits = last - first + 1
        total = 0
        for i, word in enumerate(words):
            total |= (word >> first) % 2**bits << (i * bits)
        size = -(-len(words) * bits // 8)
        expected = total.to_bytes(size, "little")
        count = bytes([-len(words) * bits % 8])
        expected = {"none": expected, "first_byte": count + expected, "last_byte": expected + count}[padding]
        codec = PackBits(padding, first, last)
        assert bytes(codec.encode(values, spec)) == expected
        assert codec.resolve(spec).size == len(expected)
        again = codec.decode(expected, spec).view(f"u{spec.data_type.word}").tolist()
        for word, found in zip(words, again, strict=True):
            kept = (word >> first) % 2**bits << first
            if name.startswith("int") and word >> last & 1:
                kept |= 2**width - 2 ** (last + 1)
            assert found == kept


@pytest.mark.parametrize("dtype", ["int16", "M8[s]"])
def test_signs_are_extended(dtype) -> None:
    values = np.array([-3, 5, -8, 7], "int64").astype(dtype)
    codec, spec = PackBits("none", 0, 3), spec_of(values.dtype, 4)
    assert len(codec.encode(values, spec)) == 2
    assert codec.decode(codec.encode(values, spec), spec).tolist() == values.tolist()


def test_blocks_join(monkeypatch) -> None:
    spec = spec_of("uint16", 1001)
    values = np.random.default_rng(0).integers(0, 2**11, 1001).astype("uint16")
    whole = bytes(PackBits("none", 0, 10).encode(values, spec))
    monkeypatch.setattr(packbits, "BLOCK", 16)
    assert bytes(PackBits("none", 0, 10).encode(values, spec)) == whole
    assert np.array_equal(PackBits("none", 0, 10).decode(whole, spec), values)


def test_bools_are_those_of_numpy_and_of_numcodecs_but_for_the_order_of_bits() -> None:
    values = np.random.default_rng(0).integers(0, 2, 21).astype(bool)
    spec = spec_of("bool", 21)
    assert bytes(PackBits().encode(values, spec)) == np.packbits(values, bitorder="little").tobytes()
    theirs = numcodecs.PackBits().encode(values).tobytes()
    assert bytes(PackBits("first_byte").encode(values, spec))[0] == theirs[0]


@pytest.mark.parametrize("codec", [PackBits("first_byte"), PackBits("last_byte")], ids=str)
def test_padding_that_is_not_that_of_the_chunk(codec) -> None:
    spec = spec_of("bool", 5)
    data = bytes(codec.encode(np.ones(5, bool), spec))
    wrong = data.replace(b"\x03", b"\x02")
    assert wrong != data
    with pytest.raises(ValueError, match="padding"):
        codec.decode(wrong, spec)


@pytest.mark.parametrize("options", [{"chunks": 6}, {"chunks": 3, "shards": 6}], ids=["chunks", "shards"])
@pytest.mark.parametrize("compressors", [None, "auto"])
def test_partial_updates(options, compressors) -> None:
    objects: dict = {}
    array = zarrant.create_array(
        objects, shape=14, dtype="int4", fill_value=-3, serializer=PackBits(), compressors=compressors, **options
    )
    expected = np.full(14, -3, "int8")
    array[2:9] = expected[2:9] = np.arange(-4, 3)
    array[11] = expected[11] = 7
    assert zarrant.open_array(objects)[...].astype("int8").tolist() == expected.tolist()
    assert zarrant.open_array(objects)[...].dtype == ml_dtypes.int4


@pytest.mark.parametrize(
    ("configuration", "member"),
    [
        ({"padding_encoding": "start_byte"}, "padding_encoding"),
        ({"padding_encoding": None}, "padding_encoding"),
        ({"first_bit": -1}, "first_bit"),
        ({"first_bit": 1.0}, "first_bit"),
        ({"last_bit": True}, "last_bit"),
        ({"last_bit": 64}, "last_bit"),
        ({"first_bit": 3, "last_bit": 2}, "last_bit"),
    ],
)
def test_wrong_configurations(configuration, member) -> None:
    with pytest.raises(MetadataError) as caught:
        PackBits.from_json(Named("packbits", configuration), "$.codecs[0]")
    assert caught.value.path == f"$.codecs[0].configuration.{member}"


def test_null_is_the_default() -> None:
    assert PackBits.from_json(Named("packbits", {"first_bit": None, "last_bit": None}), "$.codecs[0]") == PackBits()


@pytest.mark.parametrize(
    ("codec", "dtype", "member"),
    [
        (PackBits(last_bit=1), "bool", ".configuration.last_bit"),
        (PackBits(first_bit=4), "uint4", ".configuration.first_bit"),
        (PackBits(last_bit=32), "complex64", ".configuration.last_bit"),
        (PackBits(), "V3", ""),
        (PackBits(), "S3", ""),
    ],
    ids=str,
)
def test_types_that_do_not_fit(codec, dtype, member) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrant.create_array({}, shape=4, chunks=4, dtype=dtype, serializer=codec)
    assert caught.value.path == "$.codecs[0]" + member
