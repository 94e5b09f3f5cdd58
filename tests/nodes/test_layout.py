from __future__ import annotations

import math

import numcodecs
import numpy as np
import pytest

import zarrant
from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, Numcodecs, Transpose, Zstd
from zarrant.errors import ChunkError
from zarrant.nodes.layout import Layout, auto_chunks


def codecs(**options):
    document = Layout(**{"shape": (8, 6), "dtype": "int16", "chunks": (4, 3), **options}).document()
    return [codec.to_json() for codec in document.codecs]


def test_defaults() -> None:
    document = Layout((8, 6), "int16").document()
    assert [codec.name for codec in document.codecs] == ["bytes", "zstd", "crc32c"]
    assert document.chunk_grid.configuration == {"chunk_shape": [8, 6]}
    assert (document.fill_value, document.data_type.name, document.chunk_key_encoding.name) == (0, "int16", "default")
    assert codecs(dtype="int8", compressors=None) == [{"name": "bytes"}] or codecs(dtype="int8", compressors=None) == ["bytes"]


@pytest.mark.parametrize(
    "given",
    [
        Zstd(level=3),
        {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
        numcodecs.Zstd(level=3),
        [Zstd(level=3)],
        (Zstd(level=3),),
    ],
)
def test_codecs_in_every_form(given) -> None:
    assert codecs(compressors=given)[-1] == {"name": "zstd", "configuration": {"level": 3, "checksum": False}}


def test_other_codecs() -> None:
    assert codecs(compressors=numcodecs.GZip(2))[-1] == Gzip(2).to_document().to_json()
    blosc = codecs(compressors=numcodecs.Blosc("lz4", 3, numcodecs.Blosc.BITSHUFFLE))[-1]["configuration"]
    assert blosc == {"typesize": 2, "cname": "lz4", "clevel": 3, "shuffle": "bitshuffle", "blocksize": 0}
    assert codecs(compressors=Blosc())[-1]["configuration"]["typesize"] == 2
    assert codecs(compressors=numcodecs.BZ2(3))[-1]["name"] == "numcodecs.bz2"
    assert codecs(compressors=["crc32c"])[-1] in ("crc32c", {"name": "crc32c"})
    assert [codec["name"] for codec in codecs(compressors=[Numcodecs("numcodecs.lzma"), Crc32c()])][1] == "numcodecs.lzma"
    assert codecs(serializer=Bytes("big"))[0]["configuration"] == {"endian": "big"}
    assert codecs(filters=Transpose((1, 0)))[0] == codecs(order="F")[0] == Transpose((1, 0)).to_document().to_json()
    zarr = pytest.importorskip("zarr")
    assert codecs(compressors=zarr.codecs.ZstdCodec(level=3))[-1]["configuration"]["level"] == 3


def test_shards_hold_the_codecs() -> None:
    (sharding,) = codecs(shards=(8, 6), compressors=Zstd(1), order="F")
    configuration = sharding["configuration"]
    assert configuration["chunk_shape"] == [4, 3]
    assert [codec["name"] for codec in configuration["codecs"]] == ["transpose", "bytes", "zstd"]
    assert [codec if isinstance(codec, str) else codec["name"] for codec in configuration["index_codecs"]] == ["bytes", "crc32c"]
    assert configuration["index_location"] == "end"


@pytest.mark.parametrize("shape", [(), (1,), (0, 5), (10**6,), (1000, 1000, 1000), (10**12,), (1, 1, 7), (5000, 3)])
@pytest.mark.parametrize("itemsize", [1, 2, 16])
def test_auto_chunks(shape, itemsize) -> None:
    chunks = auto_chunks(shape, itemsize)
    assert len(chunks) == len(shape)
    assert all(1 <= chunk <= max(1, extent) for chunk, extent in zip(chunks, shape, strict=True))
    size = math.prod(chunks) * itemsize
    assert size <= 1 << 20
    assert size * 2**3 > min(1 << 20, math.prod(max(1, n) for n in shape) * itemsize) / 2


@pytest.mark.parametrize("shards", [(256, 256), (7, 13), (1, 1), (1009, 1013), (2**20, 3)])
def test_auto_chunks_divide_shards(shards) -> None:
    a = zarrant.create_array({}, shape=(4, 4), dtype="float64", shards=shards)
    assert a.shards == shards
    assert all(shard % chunk == 0 for shard, chunk in zip(shards, a.chunks, strict=True))


def test_shapes_may_be_numbers_and_numpy_numbers() -> None:
    a = zarrant.create_array({}, shape=12, dtype="int8", chunks=np.int32(3), shards=[np.uint8(6)])
    assert (a.shape, a.chunks, a.shards) == ((12,), (3,), (6,))


def test_key_encodings() -> None:
    for given, key in [
        (None, "c/1/2"),
        ("default", "c/1/2"),
        ("v2", "1.2"),
        ({"name": "v2", "separator": "/"}, "1/2"),
        ({"name": "default", "configuration": {"separator": "."}}, "c.1.2"),
    ]:
        assert (
            zarrant.create_array({}, shape=(8, 9), dtype="int8", chunks=(4, 3), chunk_key_encoding=given).chunk_key((1, 2)) == key
        )


def test_the_default_codecs_notice_every_flipped_bit() -> None:
    for shards in (None, (8,)):
        objects: dict[str, bytes] = {}
        a = zarrant.create_array(objects, shape=(8,), dtype="uint32", chunks=(4,), shards=shards)
        a[...] = [3, 1, 4, 1, 5, 9, 2, 6]
        whole = objects["c/0"]
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            objects["c/0"] = bytes(damaged)
            with pytest.raises(ChunkError):
                a[...]
