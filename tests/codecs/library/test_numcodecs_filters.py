"""Filters of numcodecs: the suite of their kind, the bytes of numcodecs, and refusals of what could not be given back."""

from __future__ import annotations

from typing import Any, ClassVar

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import zarrant
from zarrant.codecs import Bytes, ShardingIndexed, Transpose
from zarrant.codecs.chain import chain_of, read_codec
from zarrant.codecs.library.crc32c import NumcodecsCrc32c
from zarrant.codecs.library.numcodecs_filters import AsType, BitRound, Delta, Filter, FixedScaleOffset, PackBits, Quantize
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import ChunkError, DataTypeError, MetadataError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToArraySuite, BytesToBytesSuite


def spec_of(dtype: Any, shape: tuple[int, ...] = (4, 6), fill: Any = None) -> ArraySpec:
    data_type = from_numpy(dtype)
    return ArraySpec(shape, data_type, data_type.fill_from_python(fill))


class TestDelta(ArrayToArraySuite):
    @pytest.fixture(params=[Delta("<i4"), Delta("<i4", "<i2"), Delta("<u4", "<i8"), Delta(">i4", ">i4")], ids=str)
    def codec(self, request: Any) -> Any:
        return request.param


class TestDeltaOfFloats(ArrayToArraySuite):
    dtype = "float64"

    @pytest.fixture(params=[Delta("<f8"), Delta("<f8", "<f4")], ids=str)
    def codec(self, request: Any) -> Any:
        return request.param


class TestFixedScaleOffset(ArrayToArraySuite):
    dtype = "float64"

    @pytest.fixture(params=[(0, 4, None, None), (-10, 8, "<f8", "<u2"), (0.5, 4.0, "<f8", "<i4"), (1, 4, "<f8", "<f4")], ids=str)
    def codec(self, request: Any) -> Any:
        return FixedScaleOffset(*request.param)

    def values(self, shape: tuple[int, ...]) -> Any:
        return super().values(shape) / 4 if self.dtype == "float64" else super().values(shape)


class TestFixedScaleOffsetOfIntegers(TestFixedScaleOffset):
    dtype = "int32"

    @pytest.fixture(params=[(100, 2, "<i4", "<i2"), (1000, 1, None, None)], ids=str)
    def codec(self, request: Any) -> Any:
        return FixedScaleOffset(*request.param)


class TestQuantize(ArrayToArraySuite):
    dtype = "float32"

    @pytest.fixture(params=[Quantize(1), Quantize(2, "<f4", "<f8"), Quantize(3, "<f4", "<f4"), Quantize(2, "<f4", "<f2")], ids=str)
    def codec(self, request: Any) -> Any:
        return request.param


class TestAsType(ArrayToArraySuite):
    @pytest.fixture(
        params=[AsType("|u1"), AsType("<f8", "<i4"), AsType(">i8", ">i4"), AsType("<c8", "<i4"), AsType("|S3")], ids=str
    )
    def codec(self, request: Any) -> Any:
        return request.param


class TestBitRound(ArrayToArraySuite):
    dtype = "float32"

    @pytest.fixture(params=[BitRound(7), BitRound(23)], ids=str)
    def codec(self, request: Any) -> Any:
        return request.param


class TestPackBits(ArrayToArraySuite):
    dtype = "bool"

    @pytest.fixture
    def codec(self) -> Any:
        return PackBits()


class TestNumcodecsCrc32c(BytesToBytesSuite):
    @pytest.fixture(params=["start", "end"])
    def codec(self, request: Any) -> Any:
        return NumcodecsCrc32c(request.param)


# ── the bytes are those of numcodecs

TWINS: list[tuple[str, Filter, Any]] = [
    *((dtype, Delta(dtype), numcodecs.Delta(dtype)) for dtype in ("<i4", "|u1", "<u8", "<f4", "<c8")),
    ("<i8", Delta("<i8", "<f8"), numcodecs.Delta("<i8", "<f8")),
    ("<f8", FixedScaleOffset(3, 10, "<f8", "<i8"), numcodecs.FixedScaleOffset(3, 10, "<f8", "<i8")),
    ("<i2", FixedScaleOffset(0, 0.5, "<i2", "<f4"), numcodecs.FixedScaleOffset(0, 0.5, "<i2", "<f4")),
    ("<f4", FixedScaleOffset(0.5, 3, "<f4"), numcodecs.FixedScaleOffset(0.5, 3, "<f4")),
    *((dtype, Quantize(2, dtype), numcodecs.Quantize(2, dtype)) for dtype in ("<f4", "<f8")),
    ("<f8", Quantize(0, "<f8", "<f4"), numcodecs.Quantize(0, "<f8", "<f4")),
    ("<f8", Quantize(-2, "<f8"), numcodecs.Quantize(-2, "<f8")),
    ("<f8", AsType("<i4", "<f8"), numcodecs.AsType("<i4", "<f8")),
    ("<i8", AsType("<f4", "<i8"), numcodecs.AsType("<f4", "<i8")),
    *(("<f4", BitRound(bits), numcodecs.BitRound(bits)) for bits in (0, 1, 11, 23)),
    ("<f2", BitRound(3), numcodecs.BitRound(3)),
    ("<f8", BitRound(30), numcodecs.BitRound(30)),
    ("|b1", PackBits(), numcodecs.PackBits()),
]


@pytest.mark.parametrize(("dtype", "ours", "theirs"), TWINS, ids=lambda value: str(value) if isinstance(value, Filter) else None)
@given(data=st.data())
def test_bytes(dtype: str, ours: Filter, theirs: Any, data: Any) -> None:
    shape = data.draw(arrays.array_shapes(max_dims=2, max_side=9))
    chunk = data.draw(arrays.arrays(dtype, shape))
    spec = spec_of(dtype, shape)
    try:
        encoded = ours.encode(chunk, spec)
    except DataTypeError:
        with np.errstate(all="ignore"):
            back = theirs.decode(theirs.encode(chunk)).view(dtype).reshape(shape)
        assert not np.array_equal(back, chunk, equal_nan=True), "refused, but numcodecs gives it back"
        return
    with np.errstate(all="ignore"):
        assert encoded.tobytes() == theirs.encode(chunk).tobytes()
        decoded = ours.decode(encoded, spec)
        assert decoded.tobytes() == theirs.decode(encoded.copy()).view(dtype).tobytes()


def test_a_stored_array_is_looked_at_as_the_type_of_the_configuration() -> None:
    times = np.array(["2024-01-01", "2024-01-03", "NaT", "2023-05-05"], "M8[D]")
    a = zarrant.create_array({}, data=times, chunks=(3,), filters=[numcodecs.Delta("<i8"), numcodecs.Delta("<u8")])
    assert np.array_equal(a[...], times, equal_nan=True)
    assert [codec.name for codec in a.metadata.codecs][:2] == ["numcodecs.delta"] * 2


# ── what could not be given back is refused


@pytest.mark.parametrize(
    ("codec", "dtype", "wrong", "right"),
    [
        (Delta("<i4", "|i1"), "<i4", [0, 200], [0, 127, 0]),
        (Delta("<i8", "<f4"), "<i8", [2**24 + 1], [2**24]),
        (FixedScaleOffset(1000, 10, "<f8", "|u1"), "<f8", [1000.5, 1026.0], [1000.5, 1025.5, 0]),
        (FixedScaleOffset(0, 1, "<f8", "<i4"), "<f8", [np.nan], [2**31 - 1]),
        (Quantize(1, "<f2"), "<f2", [np.float16(60000)], [np.float16(12)]),
        (Quantize(1, "<f8", "<f2"), "<f8", [1e6], [1e4]),
        (AsType("|u1", "<i4"), "<i4", [256], [255]),
        (AsType("<i2", "<f8"), "<f8", [np.inf], [-32768.9]),
        (AsType("<f4", "<f8"), "<f8", [1e300], [np.inf, 1e30]),
        (AsType("|S2", "<i4"), "<i4", [100], [99]),
        (BitRound(1), "<f4", [np.finfo("f4").max], [1.0]),
    ],
    ids=str,
)
def test_what_is_lost(codec: Filter, dtype: str, wrong: list[Any], right: list[Any]) -> None:
    spec = spec_of(dtype, (len(wrong),))
    with pytest.raises(DataTypeError, match="cannot store an element") as caught:
        codec.encode(np.array(wrong, dtype), spec)
    assert caught.value.codec == codec.name
    spec = spec_of(dtype, (len(right),))
    assert codec.encode(np.array(right, dtype), spec).shape == spec.shape


def test_nothing_is_stored_of_a_chunk_that_does_not_fit() -> None:
    store: dict[str, bytes] = {}
    a = zarrant.create_array(store, shape=(4,), chunks=(2,), dtype="int32", filters=[AsType("|i1")], fill_value=1000)
    with pytest.raises((DataTypeError, zarrant.errors.PartialFailure), match="cannot store an element"):
        a[0] = 200
    assert not [key for key in store if key.startswith("c/")]
    a[0] = 100  # next to fill, which does not fit either
    assert a[0] == 100


# ── configurations


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("delta", {}, ""),
    ("delta", {"dtype": "nonsense"}, ".dtype"),
    ("delta", {"dtype": "|O"}, ".dtype"),
    ("delta", {"dtype": "<i4", "astype": "<U4"}, ".astype"),
    ("delta", {"dtype": "<i4", "astype": ["<i4"]}, ".astype"),
    ("delta", {"dtype": "<c8", "astype": "<f4"}, ".astype"),
    ("delta", {"dtype": "i4,i4"}, ".dtype"),
    ("delta", {"dtype": "<i4", "id": "pickle"}, ".id"),
    ("fixedscaleoffset", {"offset": 1}, ""),
    ("fixedscaleoffset", {"offset": "1", "scale": 1}, ".offset"),
    ("fixedscaleoffset", {"offset": True, "scale": 1}, ".offset"),
    ("fixedscaleoffset", {"offset": 2**80, "scale": 1}, ".offset"),
    ("fixedscaleoffset", {"offset": 1, "scale": 0}, ".scale"),
    ("fixedscaleoffset", {"offset": 1, "scale": float("nan")}, ".scale"),
    ("fixedscaleoffset", {"offset": 1, "scale": 1, "dtype": "<c8"}, ".dtype"),
    ("quantize", {}, ""),
    ("quantize", {"digits": 1.5}, ".digits"),
    ("quantize", {"digits": 10**9}, ".digits"),
    ("quantize", {"digits": 1, "dtype": "<i4"}, ".dtype"),
    ("astype", {"decode_dtype": "<i4"}, ""),
    ("astype", {"encode_dtype": "<i4", "decode_dtype": "object"}, ".decode_dtype"),
    ("astype", {"encode_dtype": "<f16"}, ".encode_dtype"),
    ("astype", {"encode_dtype": "<f8", "decode_dtype": "<c16"}, ".encode_dtype"),
    ("bitround", {}, ""),
    ("bitround", {"keepbits": -1}, ".keepbits"),
    ("bitround", {"keepbits": "3"}, ".keepbits"),
    ("packbits", {"bits": 1}, ".bits"),
    ("crc32c", {"location": "middle"}, ".location"),
]


@pytest.mark.parametrize(("name", "configuration", "member"), BAD)
def test_every_member_is_checked(name: str, configuration: dict[str, Any], member: str) -> None:
    with pytest.raises(MetadataError) as caught:
        read_codec(Named(f"numcodecs.{name}", configuration), "$.codecs[1]")
    assert caught.value.path == f"$.codecs[1].configuration{member}"


@pytest.mark.parametrize(
    ("codec", "dtype", "path"),
    [
        (Delta("<i4"), "int16", "$.codecs[0].configuration"),
        (Delta("<i4"), "string", "$.codecs[0].configuration"),
        (AsType("<i4", "<i8"), "uint8", "$.codecs[0].configuration"),
        (Quantize(1), "int32", "$.codecs[0].configuration.dtype"),
        (BitRound(11), "float16", "$.codecs[0].configuration.keepbits"),
        (BitRound(1), "int32", "$.data_type"),
        (PackBits(), "uint8", "$.data_type"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_array(codec: Filter, dtype: str, path: str) -> None:
    with pytest.raises(MetadataError) as caught:
        chain_of([codec, Bytes()]).bind(spec_of(dtype))
    assert caught.value.path == path


# ── everywhere


class TestEverywhere:
    FILTERS: ClassVar[list[Any]] = [numcodecs.FixedScaleOffset(0, 4, "<f8", "<i4"), numcodecs.Delta("<i4", "<i2")]

    @pytest.fixture(params=["chunks", "in shards", "around shards", "transposed", "V2", "V2, order F"])
    def options(self, request: Any) -> dict[str, Any]:
        shard = ShardingIndexed((2, 4), chain_of([Bytes()]), chain_of([Bytes()]))
        return {
            "chunks": {"filters": self.FILTERS},
            "in shards": {"filters": self.FILTERS, "shards": (4, 8), "chunks": (2, 4)},
            "around shards": {"filters": self.FILTERS, "serializer": shard, "compressors": None},
            "transposed": {"filters": [Transpose((1, 0)), *self.FILTERS]},
            "V2": {"filters": self.FILTERS, "zarr_format": 2},
            "V2, order F": {"filters": self.FILTERS, "zarr_format": 2, "order": "F"},
        }[request.param]

    def test_partial_updates(self, options: dict[str, Any]) -> None:
        store: dict[str, bytes] = {}
        a = zarrant.create_array(store, **{"shape": (10, 20), "chunks": (4, 8), "dtype": "float64", "fill_value": 7, **options})
        values, dice = np.full((10, 20), 7.0), np.random.default_rng(1)
        for box in (np.s_[:, :], np.s_[1:3, 2:9], np.s_[4:8, 8:16], np.s_[::3, 1::2], np.s_[9, 19]):
            values[box] = dice.integers(-400, 400, values[box].shape) / 4
            a[box] = values[box]
            assert np.array_equal(zarrant.open_array(store)[...], values)
        a[0:4, 0:8] = values[0:4, 0:8] = 7
        assert a.retrieve_encoded_chunk((0, 0)) is None
        a.append(np.ones((3, 20)))
        assert np.array_equal(zarrant.open_array(store)[...], np.concatenate((values, np.ones((3, 20)))))


def test_bits_that_do_not_match_the_chunk() -> None:
    a = zarrant.create_array({}, shape=(5,), chunks=(5,), dtype="bool", filters=[PackBits()], compressors=None)
    a[...] = True
    assert a.retrieve_encoded_chunk((0,)) == b"\x03\xf8"
    a.store_encoded_chunk((0,), b"\x00\xf8")
    with pytest.raises(ChunkError, match="0 bits of the last byte mean nothing, expected 3") as caught:
        a[...]
    assert caught.value.codec == "numcodecs.packbits"


def test_a_checksum_before_the_bytes() -> None:
    a = zarrant.create_array({}, shape=(5,), chunks=(5,), dtype="u1", compressors=[NumcodecsCrc32c("start")])
    a[...] = 9
    data = bytearray(a.retrieve_encoded_chunk((0,)))
    assert data[4:] == bytes([9] * 5)
    data[0] ^= 1
    a.store_encoded_chunk((0,), data)
    with pytest.raises(ChunkError, match="crc32c"):
        a[...]
