"""scale_offset: arithmetic in the type of the array, and an error where that has no result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import ScaleOffset
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import ChunkError, MetadataError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToArraySuite


class TestScaleOffset(ArrayToArraySuite):
    @pytest.fixture(params=[ScaleOffset(), ScaleOffset(offset=-7), ScaleOffset(scale=-3), ScaleOffset(offset=1, scale=2)], ids=str)
    def codec(self, request):
        return request.param


class TestScaleOffsetOfFloats(ArrayToArraySuite):
    dtype = "float32"

    @pytest.fixture(params=[ScaleOffset(offset=5, scale=0.5), ScaleOffset("0x40000000", -4)], ids=str)
    def codec(self, request):
        return request.param


def spec_of(name: str, n: int) -> ArraySpec:
    data_type = from_numpy(name)
    return ArraySpec((n,), data_type, data_type.default_fill())


@pytest.mark.parametrize("name", ["int2", "uint4", "int8", "uint8", "int16", "uint32", "int64", "uint64"])
def test_integers_are_exact_or_refused(name) -> None:
    spec = spec_of(name, 1)
    bits = int(name.lstrip("uint"))
    least, most = (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for offset in {0, 1, most, least}:
        for scale in {1, most, least, -1} - {0}:
            if not (least <= scale <= most):
                continue
            codec = ScaleOffset(offset, scale)
            for x in {least, least + 1, 0, 1, most - 1, most}:
                array = np.array([x]).astype(spec.data_type.numpy)
                moved, result = x - offset, (x - offset) * scale
                if least <= moved <= most and least <= result <= most:
                    encoded = codec.encode(array, spec)
                    assert int(encoded[0]) == result
                    assert int(codec.decode(encoded, spec)[0]) == x
                else:
                    with pytest.raises(ValueError, match="is not in"):
                        codec.encode(array, spec)
                quotient, rest = divmod(x, scale)
                if rest == 0 and least <= quotient <= most and least <= quotient + offset <= most:
                    assert int(codec.decode(array, spec)[0]) == quotient + offset
                else:
                    with pytest.raises(ValueError, match=r"is not in|cannot be divided"):
                        codec.decode(array, spec)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "float8_e5m2"])
def test_floats_do_not_become_infinite(name) -> None:
    spec = spec_of(name, 3)
    largest = np.array([0, 1, float(np.array([np.inf]).max())]).astype(spec.data_type.numpy)
    assert np.isinf(ScaleOffset(scale=2).encode(largest, spec)[2])  # what is infinite stays
    top = np.nextafter(largest[2:], np.zeros(1, largest.dtype))
    with pytest.raises(ValueError, match="does not have"):
        ScaleOffset(scale=2).encode(top, spec_of(name, 1))
    with pytest.raises(ValueError, match="does not have"):
        ScaleOffset(scale=0.5).decode(top, spec_of(name, 1))


def test_floats_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(0, 100, 1000).astype("float32")
    spec = spec_of("float32", 1000)
    codec = ScaleOffset(offset=0.1, scale=3.3)
    encoded = (values - np.float32(0.1)) * np.float32(3.3)
    assert codec.encode(values, spec).tobytes() == encoded.tobytes()
    assert codec.decode(encoded, spec).tobytes() == (encoded / np.float32(3.3) + np.float32(0.1)).tobytes()


@pytest.mark.parametrize("options", [{"chunks": 6}, {"chunks": 3, "shards": 6}], ids=["chunks", "shards"])
@pytest.mark.parametrize("compressors", [None, "auto"])
def test_partial_updates_around_a_fill_value(options, compressors) -> None:
    objects: dict = {}
    options = {**options, "filters": [ScaleOffset(offset=1000)], "compressors": compressors}
    array = zarrant.create_array(objects, shape=14, dtype="uint16", fill_value=1007, **options)
    expected = np.full(14, 1007, "uint16")
    array[2:9] = expected[2:9] = np.arange(1000, 1007)
    array[11] = expected[11] = 1255
    assert zarrant.open_array(objects)[...].tolist() == expected.tolist()
    with pytest.raises(ChunkError) as caught:
        array[0] = 999
    assert caught.value.codec == "scale_offset"


@pytest.mark.parametrize(
    ("configuration", "member"),
    [({"offset": None}, "offset"), ({"scale": [1]}, "scale"), ({"offset": True}, "offset"), ({"add": 1}, "add")],
)
def test_wrong_configurations(configuration, member) -> None:
    with pytest.raises(MetadataError) as caught:
        ScaleOffset.from_json(Named("scale_offset", configuration), "$.codecs[0]")
    assert caught.value.path == f"$.codecs[0].configuration.{member}"


@pytest.mark.parametrize(
    ("dtype", "codec", "where"),
    [
        ("bool", ScaleOffset(), "$.codecs[0]"),
        ("complex64", ScaleOffset(), "$.codecs[0]"),
        ("M8[s]", ScaleOffset(), "$.codecs[0]"),
        ("int8", ScaleOffset(offset=128), "$.codecs[0].configuration.offset"),
        ("int8", ScaleOffset(scale=0.5), "$.codecs[0].configuration.scale"),
        ("int8", ScaleOffset(scale=0), "$.codecs[0].configuration.scale"),
        ("float32", ScaleOffset(scale="NaN"), "$.codecs[0].configuration.scale"),
        ("float32", ScaleOffset(offset=np.inf), "$.codecs[0].configuration.offset"),
        ("uint16", ScaleOffset(offset=1000), "$.fill_value"),
    ],
    ids=str,
)
def test_numbers_that_do_not_fit(dtype: Any, codec, where) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrant.create_array({}, shape=3, chunks=3, dtype=dtype, filters=[codec])
    assert caught.value.path == where
