"""cast_value: scalars that are looked up, fill values that come back, types and rules that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import CastValue, ScaleOffset
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import ChunkError, MetadataError, UnknownExtensionError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToArraySuite


class TestCastValue(ArrayToArraySuite):
    @pytest.fixture(
        params=[
            CastValue("uint8"),
            CastValue("float64", "towards-zero"),
            CastValue("int16", out_of_range="wrap"),
            CastValue("bfloat16"),
        ],
        ids=str,
    )
    def codec(self, request):
        return request.param


class TestCastValueOfFloats(ArrayToArraySuite):
    dtype = "float32"

    @pytest.fixture
    def codec(self):
        return CastValue("uint8", "nearest-away", "clamp", encode=[("NaN", 0)], decode=[(255, "NaN")])


@pytest.mark.parametrize("options", [{"chunks": 6}, {"chunks": 3, "shards": 6}], ids=["chunks", "shards"])
@pytest.mark.parametrize("compressors", [None, "auto"])
def test_missing_values_in_parts(options, compressors) -> None:
    """The example of the specification: floats in steps, with a number for NaN."""
    objects: dict = {}
    filters = [ScaleOffset(offset=-10, scale=0.1), CastValue("uint8", encode=[("NaN", 0)], decode=[(0, "NaN")])]
    options = {**options, "filters": filters, "compressors": compressors}
    array = zarrant.create_array(objects, shape=14, dtype="float64", fill_value=np.nan, **options)
    expected = np.full(14, np.nan)
    array[1:8] = expected[1:8] = np.arange(7) * 10.0
    array[10] = expected[10] = 2540
    array[3] = expected[3] = np.nan
    assert np.allclose(zarrant.open_array(objects)[...], expected, equal_nan=True)


def spec_of(name: str, fill: Any = None) -> ArraySpec:
    data_type = from_numpy(name)
    return ArraySpec((3,), data_type, data_type.fill_from_python(fill))


def test_the_first_of_equal_scalars_counts() -> None:
    codec = CastValue("uint8", encode=[("NaN", 1), (3.5, 9), ("NaN", 2), ("+Infinity", 7)])
    assert codec.encode(np.array([np.nan, 3.5, np.inf]), spec_of("float64")).tolist() == [1, 9, 7]


def test_scalars_come_before_rounding() -> None:
    codec = CastValue("int8", "towards-zero", encode=[(1.5, -1)])
    assert codec.encode(np.array([1.5, 1.25, 0]), spec_of("float64")).tolist() == [-1, 1, 0]


@pytest.mark.parametrize("dtype", ["float64", "int16"])
def test_a_number_that_does_not_fit_is_refused(dtype) -> None:
    array = zarrant.create_array({}, shape=3, chunks=3, dtype=dtype, filters=[CastValue("int8")])
    with pytest.raises(ChunkError) as caught:
        array[...] = [1, 200, 3]
    assert caught.value.codec == "cast_value"
    assert "200" in str(caught.value)


def test_a_stored_number_that_does_not_fit_is_refused() -> None:
    objects: dict = {}
    array = zarrant.create_array(objects, shape=2, chunks=2, dtype="uint8", filters=[CastValue("int16")], compressors=None)
    array[...] = [1, 2]
    objects["c/0"] = np.array([1, 300], "<i2").tobytes()
    with pytest.raises(ChunkError) as caught:
        zarrant.open_array(objects)[...]
    assert caught.value.codec == "cast_value"


@pytest.mark.parametrize(
    ("dtype", "fill", "codec"),
    [
        ("float64", 0.1, CastValue("float32")),
        ("float64", np.nan, CastValue("uint8")),
        ("int16", 300, CastValue("uint8", out_of_range="clamp")),
        ("float64", np.nan, CastValue("uint8", encode=[("NaN", 0)])),
        ("uint8", 255, CastValue("uint16", encode=[(255, 999)])),
    ],
    ids=str,
)
def test_fill_values_that_do_not_come_back(dtype, fill, codec) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrant.create_array({}, shape=3, chunks=3, dtype=dtype, fill_value=fill, filters=[codec])
    assert caught.value.path == "$.fill_value"


@pytest.mark.parametrize(
    ("configuration", "where", "error"),
    [
        ({}, "", MetadataError),
        ({"data_type": "float99"}, ".data_type", UnknownExtensionError),
        ({"data_type": 3}, ".data_type", MetadataError),
        ({"data_type": "int8", "rounding": "up"}, ".rounding", MetadataError),
        ({"data_type": "int8", "rounding": None}, ".rounding", MetadataError),
        ({"data_type": "int8", "out_of_range": "error"}, ".out_of_range", MetadataError),
        ({"data_type": "int8", "out_of_range": None}, ".out_of_range", MetadataError),
        ({"data_type": "int8", "scalar_map": []}, ".scalar_map", MetadataError),
        ({"data_type": "int8", "scalar_map": {"encode": {}}}, ".scalar_map.encode", MetadataError),
        ({"data_type": "int8", "scalar_map": {"encode": [[1]]}}, ".scalar_map.encode[0]", MetadataError),
        ({"data_type": "int8", "scalar_map": {"decode": [[1, 2], [1, None]]}}, ".scalar_map.decode[1][1]", MetadataError),
        ({"data_type": "int8", "scalar_map": {"both": []}}, ".scalar_map", MetadataError),
    ],
)
def test_wrong_configurations(configuration, where, error) -> None:
    with pytest.raises(error) as caught:
        CastValue.from_json(Named("cast_value", configuration), "$.codecs[0]")
    assert caught.value.path.startswith("$.codecs[0].configuration" + where)


@pytest.mark.parametrize(
    ("dtype", "codec", "where"),
    [
        ("bool", CastValue("uint8"), "$.codecs[0]"),
        ("complex64", CastValue("uint8"), "$.codecs[0]"),
        ("int16", CastValue("bool"), "$.codecs[0].configuration.data_type"),
        ("int16", CastValue("M8[s]"), "$.codecs[0].configuration.data_type"),
        ("int16", CastValue("float32", out_of_range="wrap"), "$.codecs[0].configuration.out_of_range"),
        ("int16", CastValue("int8", encode=[("NaN", 0)]), "$.codecs[0].configuration.scalar_map.encode[0][0]"),
        ("int16", CastValue("int8", decode=[(1, 2), (200, 0)]), "$.codecs[0].configuration.scalar_map.decode[1][0]"),
    ],
    ids=str,
)
def test_types_and_scalars_that_do_not_fit(dtype, codec, where) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrant.create_array({}, shape=3, chunks=3, dtype=dtype, filters=[codec])
    assert caught.value.path == where
