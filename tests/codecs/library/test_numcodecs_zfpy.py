"""numcodecs.zfpy: the bytes of numcodecs, and headers that lie."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs.library.numcodecs_zfpy import Zfpy
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import ChunkError, MetadataError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToBytesSuite

needs_zfpy = pytest.mark.skipif(importlib.util.find_spec("zfpy") is None, reason="needs zfpy")
CODECS = [Zfpy(), Zfpy(5), Zfpy(2, rate=48), Zfpy(2, rate=64), Zfpy(3, precision=60), Zfpy(4, tolerance=1e-6), Zfpy(4, tolerance=0)]


def spec_of(dtype: str, shape: tuple[int, ...]) -> ArraySpec:
    data_type = from_numpy(dtype)
    return ArraySpec(shape, data_type, data_type.default_fill())


@needs_zfpy
class TestZfpy(ArrayToBytesSuite):
    dtype = "float64"

    @pytest.fixture(params=[Zfpy(), Zfpy(5)], ids=str)
    def codec(self, request):
        return request.param


@needs_zfpy
@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 5, 6), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_the_bytes_are_those_of_numcodecs(codec: Zfpy, dtype: str, shape: tuple[int, ...]) -> None:
    import zfpy
    from numcodecs.zfpy import ZFPY

    spec = spec_of(dtype, shape)
    values = np.linspace(0, 1000, int(np.prod(shape))).astype(dtype).reshape(shape)
    if dtype.startswith("int") and codec.mode == 4 and codec.tolerance >= 0:
        return  # zfp has no accuracy of integers
    data = bytes(codec.encode(values, spec))
    if codec.mode != 5:
        assert data == ZFPY(**codec.to_json()["configuration"]).encode(values)
    assert np.array_equal(codec.decode(data, spec), zfpy.decompress_numpy(data))
    assert np.allclose(codec.decode(data, spec), values, atol=100 if dtype.startswith("int") else 1e-4)


@needs_zfpy
@pytest.mark.parametrize("place", ["compressor", "filter"])
def test_arrays_of_v2(place: str, tmp_path: Path) -> None:
    codec = {"id": "zfpy", "mode": 4, "compression_kwargs": {"tolerance": 0.01}, "tolerance": 0.01, "rate": -1, "precision": -1}
    members = (
        {"filters": None, "compressor": codec} if place == "compressor" else {"filters": [codec], "compressor": {"id": "zlib"}}
    )
    document = {"zarr_format": 2, "shape": [6, 5], "chunks": [4, 4], "dtype": "<f4", "fill_value": 0, "order": "C", **members}
    objects: dict[str, Any] = {".zarray": json.dumps(document).encode()}
    a = zarrant.open_array(objects)
    values = np.linspace(0, 1, 30, dtype="f4").reshape(6, 5)
    a[...] = values
    a[1:5, 2:] = values[1:5, 2:]
    assert np.allclose(zarrant.open_array(objects)[...], values, atol=0.02)
    for key, value in objects.items():
        (tmp_path / key).write_bytes(value)
    zarr = pytest.importorskip("zarr", "3.0")
    if place == "filter":
        assert np.array_equal(zarr.open_array(tmp_path, mode="r")[...], a[...])


@needs_zfpy
def test_what_a_header_says_is_compared() -> None:
    spec = spec_of("float32", (4, 6))
    good = bytes(Zfpy().encode(np.ones((4, 6), "f4"), spec))
    others = {
        "another shape": Zfpy().encode(np.ones((6, 4), "f4"), spec_of("float32", (6, 4))),
        "far more elements": good[:4] + (int.from_bytes(good[4:8], "little") | 0xFFFFFFF0).to_bytes(4, "little") + good[8:],
        "another number of dimensions": Zfpy().encode(np.ones(24, "f4"), spec_of("float32", (24,))),
        "another type": Zfpy().encode(np.ones((4, 6), "f8"), spec_of("float64", (4, 6))),
        "another mode": Zfpy(2, rate=8).encode(np.ones((4, 6), "f4"), spec),
        "no header": b"\0" * 32,
        "nothing": b"",
        "too much": good + b"\0" * 8000,
    }
    for what, data in others.items():
        with pytest.raises(ValueError):
            Zfpy().decode(bytes(data), spec)
            raise AssertionError(what)
    for at in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            try:
                assert Zfpy().decode(bytes(bad), spec).shape == (4, 6)
            except ValueError:
                continue


@needs_zfpy
def test_damage_names_the_chunk() -> None:
    objects: dict[str, Any] = {}
    a = zarrant.create_array(objects, shape=8, chunks=4, dtype="float32", serializer=Zfpy(), compressors=None)
    a[...] = np.arange(8)
    objects["c/1"] = bytes(objects["c/1"])[:-1]
    with pytest.raises(ChunkError) as caught:
        a[...]
    assert (caught.value.codec, caught.value.key) == ("numcodecs.zfpy", "c/1")


@pytest.mark.parametrize(
    ("configuration", "where"),
    [
        ({"mode": 1}, ".mode"),
        ({"mode": "reversible"}, ".mode"),
        ({"mode": 2}, ".rate"),
        ({"mode": 2, "rate": 65}, ".rate"),
        ({"mode": 3}, ".precision"),
        ({"mode": 3, "precision": 1.5}, ".precision"),
        ({"mode": 4, "tolerance": "1"}, ".tolerance"),
        ({"mode": 4, "speed": 1}, ".speed"),
    ],
)
def test_wrong_configurations(configuration: dict[str, Any], where: str) -> None:
    with pytest.raises(MetadataError) as caught:
        Zfpy.from_json(Named("numcodecs.zfpy", configuration), "$.codecs[0]")
    assert caught.value.path == "$.codecs[0].configuration" + where
