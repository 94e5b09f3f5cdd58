from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import hypothesis
import numcodecs
import numpy as np
import pytest
from hypothesis import strategies as st

import zarrant
from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, Numcodecs, Transpose, Zstd
from zarrant.errors import ChunkError, DataTypeError, MetadataError, OptionError, ZarrantError
from zarrant.geometry.layouts import auto_chunks, divisors
from zarrant.metadata.v3 import ArrayMetadata, dump
from zarrant.nodes.array_metadata import ArrayDescription


def codecs(**options):
    document = ArrayDescription(**{"shape": (8, 6), "dtype": "int16", "chunks": (4, 3), **options}).metadata()
    return [codec.to_json() for codec in document.codecs]


@pytest.mark.parametrize(
    ("shape", "chunks", "expected"),
    [
        ((8,), -1, (8,)),
        ((8, 9), -1, (8, 9)),
        ((8, 9), (-1, 3), (8, 3)),
        ((8, 9), [4, -1], (4, 9)),
        ((0, 9), -1, (1, 9)),
        ((), (), ()),
        ((), -1, ()),
    ],
)
def test_minus_one_is_a_whole_dimension(shape: Any, chunks: Any, expected: tuple[int, ...]) -> None:
    assert zarrant.create_array({}, shape=shape, dtype="int8", chunks=chunks).chunks == expected


@pytest.mark.parametrize("chunks", [-2, (-1, -2), (-1,), (-1, -1, -1), (-1, 0), (-1.0, 3), "-1"])
def test_what_is_no_chunk_shape_either(chunks: Any) -> None:
    with pytest.raises(ZarrantError):
        zarrant.create_array({}, shape=(8, 9), dtype="int8", chunks=chunks)


def test_defaults() -> None:
    document = ArrayDescription((8, 6), "int16").metadata()
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
    assert codecs(compressors=numcodecs.GZip(2))[-1] == Gzip(2).to_json()
    blosc = codecs(compressors=numcodecs.Blosc("lz4", 3, numcodecs.Blosc.BITSHUFFLE))[-1]["configuration"]
    assert blosc == {"typesize": 2, "cname": "lz4", "clevel": 3, "shuffle": "bitshuffle", "blocksize": 0}
    assert codecs(compressors=Blosc())[-1]["configuration"]["typesize"] == 2
    assert codecs(compressors=numcodecs.BZ2(3))[-1]["name"] == "numcodecs.bz2"
    assert codecs(compressors=["crc32c"])[-1] in ("crc32c", {"name": "crc32c"})
    assert [codec["name"] for codec in codecs(compressors=[Numcodecs("numcodecs.lzma"), Crc32c()])][1] == "numcodecs.lzma"
    assert codecs(serializer=Bytes("big"))[0]["configuration"] == {"endian": "big"}
    assert codecs(filters=Transpose((1, 0)))[0] == codecs(order="F")[0] == Transpose((1, 0)).to_json()
    zarr = pytest.importorskip("zarr")
    assert codecs(compressors=zarr.codecs.ZstdCodec(level=3))[-1]["configuration"]["level"] == 3


def test_what_a_blosc_object_leaves_open_is_decided_by_the_data_type() -> None:
    zarr = pytest.importorskip("zarr")
    decided = {"uint8": ("bitshuffle", 1), "uint16": ("shuffle", 2), "float64": ("shuffle", 8)}
    for dtype, expected in decided.items():
        for given in (zarr.codecs.BloscCodec(), numcodecs.Blosc(shuffle=-1), {"name": "blosc", "configuration": {"cname": "lz4"}}):
            place: dict[str, bytes] = {}
            a = zarrant.create_array(place, shape=(8,), dtype=dtype, compressors=given)
            configuration = a.metadata.codecs[-1].configuration
            assert (configuration["shuffle"], configuration["typesize"]) == expected
    for given in (zarr.codecs.BloscCodec(typesize=4, shuffle="noshuffle"), zarr.codecs.BloscCodec(shuffle="bitshuffle")):
        assert codecs(compressors=given)[-1]["configuration"]["shuffle"] == given.to_dict()["configuration"]["shuffle"]
    for configuration in ({"cnam": "lz4"}, {"id": "pickle"}, {"cname": "lzo"}, {"typesize": 0}):
        with pytest.raises(MetadataError):
            codecs(compressors={"name": "blosc", "configuration": configuration})


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


@pytest.mark.parametrize(
    ("shards", "itemsize"),
    [((99_991,), 8), ((14_831, 5), 2), ((1, 1021, 1021), 2), ((509, 512), 2), ((65_537,), 2), ((10_007, 3), 2), ((4096, 4099), 1)],
)
def test_sides_without_divisors_do_not_make_tiny_chunks(shards: tuple[int, ...], itemsize: int) -> None:
    chunks = divisors(shards, itemsize)
    assert all(shard % chunk == 0 for shard, chunk in zip(shards, chunks, strict=True))
    assert math.prod(chunks) * itemsize >= 8192


@hypothesis.given(st.lists(st.integers(1, 3000), min_size=1, max_size=3), st.sampled_from([1, 2, 8]))
def test_chunks_of_shards_divide_them_and_are_never_tiny(shards: list[int], itemsize: int) -> None:
    chunks = divisors(tuple(shards), itemsize)
    assert all(shard % chunk == 0 for shard, chunk in zip(shards, chunks, strict=True))
    assert math.prod(chunks) * itemsize >= min(8192, math.prod(shards) * itemsize)


@pytest.mark.parametrize(
    ("options", "chunks", "shards"),
    [
        ({"shape": (10_000, 512, 512), "chunks": (1, 256, 256), "dtype": "u2"}, (1, 256, 256), (256, 256, 256)),
        ({"shape": (2048, 2048, 2048), "chunks": (64, 64, 64), "dtype": "u1"}, (64, 64, 64), (512, 256, 256)),
        ({"shape": (0, 100), "chunks": (1, 100), "dtype": "f8"}, (1, 100), (4096, 100)),
        ({"shape": (8,), "chunks": (2,), "dtype": "u1"}, (2,), (8,)),
        ({"shape": (7,), "chunks": (2,), "dtype": "u1"}, (2,), (8,)),
        ({"shape": (8,), "chunks": (8,), "dtype": "u1"}, (8,), None),
        ({"shape": (), "dtype": "u1"}, (), None),
        ({"shape": (3000, 3000), "chunks": (3000, 3000), "dtype": "f8"}, (3000, 3000), None),
    ],
)
def test_automatic_shards(options: Any, chunks: Any, shards: Any) -> None:
    array = zarrant.create_array({}, shards="auto", **options)
    assert (array.chunks, array.shards) == (chunks, shards)


@hypothesis.given(st.lists(st.integers(0, 10**6), max_size=4), st.sampled_from(["u1", "f8"]))
def test_automatic_chunks_and_shards_fit_each_other(shape: list[int], dtype: str) -> None:
    array = zarrant.create_array({}, shape=shape, dtype=dtype, shards="auto")
    shards = array.shards or array.chunks
    assert math.prod(array.chunks) * array.dtype.itemsize <= 2**17
    assert math.prod(shards) * array.dtype.itemsize <= 2**25
    assert all(shard % chunk == 0 for shard, chunk in zip(shards, array.chunks, strict=True))


def test_the_index_of_shards_may_be_at_their_start() -> None:
    array = zarrant.create_array({}, shape=(8,), dtype="u1", chunks=(2,), shards={"shape": (4,), "index_location": "start"})
    assert array.shards == (4,)
    assert array.metadata.codecs[0].configuration["index_location"] == "start"
    array[...] = 3
    assert array[...].tolist() == [3] * 8
    assert zarrant.create_array({}, shape=(8,), dtype="u1", chunks=(2,), shards={"shape": "auto"}).shards == (8,)
    for wrong in (
        {"index_location": "start"},
        {"shape": (4,), "index_locatoin": "end"},
        {"shape": (4,), "index_location": "middle"},
    ):
        with pytest.raises(OptionError):
            zarrant.create_array({}, shape=(8,), dtype="u1", chunks=(2,), shards=wrong)
    for wrong in ({"chunks": "automatic"}, {"shards": "outo"}):
        with pytest.raises(OptionError, match="Did you mean 'auto'"):
            zarrant.create_array({}, **{"shape": (8,), "dtype": "u1", **wrong})
    assert zarrant.create_array({}, shape=(8,), dtype="u1", filters="auto", serializer="auto", compressors="auto").filters == ()


def test_fill_values_as_zarr_python_takes_them() -> None:
    for dtype, fill, expected in [("bool", 0, False), ("bool", True, True), ("uint8", 3.0, 3), ("float32", "-Infinity", -math.inf)]:
        assert zarrant.create_array({}, shape=(2,), dtype=dtype, fill_value=fill).fill_value == expected
    assert math.isnan(zarrant.create_array({}, shape=(2,), dtype="f4", fill_value="NaN").fill_value)
    for dtype, fill in [("bool", 2), ("uint8", 3.5), ("uint8", -1.0), ("float32", 1e300), ("uint8", np.ma.masked), ("float64", 1j)]:
        with pytest.raises(DataTypeError):
            zarrant.create_array({}, shape=(2,), dtype=dtype, fill_value=fill)


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


LAYOUTS = st.fixed_dictionaries(
    {
        "shape": st.sampled_from([(4, 6), [4, 6], (4, 6, 2), 8]),
        "dtype": st.sampled_from(["int16", ">i2", np.dtype("i2"), "float32"]),
    },
    optional={
        "chunks": st.sampled_from(["auto", (2, 3), -1, [[1, 3], [6]]]),
        "shards": st.sampled_from([None, (4, 6), "auto"]),
        "compressors": st.sampled_from([None, "auto", {"name": "zstd", "configuration": {"level": 2}}, Zstd(level=1)]),
        "fill_value": st.sampled_from([None, 0, 1, True, 1.0, -0.0, np.int16(1)]),
        "order": st.sampled_from(["C", "F"]),
        "attributes": st.sampled_from([None, {}, {"a": [1, {"b": 2}]}]),
        "chunk_key_encoding": st.sampled_from([None, "v2"]),
        "dimension_names": st.sampled_from([None, ("x", None)]),
    },
)


@hypothesis.settings(max_examples=200)
@hypothesis.given(st.lists(LAYOUTS, min_size=1, max_size=4))
def test_a_layout_that_is_known_gives_the_same_metadata(layouts: list[dict[str, Any]]) -> None:
    for options in [*layouts, *layouts]:
        description = ArrayDescription(**options)
        found, expected = (outcome(make) for make in (description.metadata, description._v3))
        assert found == expected
        if isinstance(found, ArrayMetadata):
            assert dump(found) == dump(expected)
            found.attributes["other"] = 1
            found.chunk_grid.configuration["chunk_shape"] = [9]  # type: ignore[index]


def outcome(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ZarrantError as error:
        return type(error), str(error)


def test_a_codec_that_is_registered_anew_is_described_anew() -> None:
    class Other(Crc32c):
        pass

    def created() -> Any:
        return zarrant.create_array({}, shape=(4,), dtype="int8", compressors="crc32c").compressors[0]

    assert type(created()) is Crc32c
    zarrant.extensions.codecs.register("crc32c", Other)
    try:
        assert type(created()) is Other
    finally:
        zarrant.extensions.codecs.register("crc32c", "zarrant.codecs.library.crc32c:Crc32c")
    assert type(created()) is Crc32c
