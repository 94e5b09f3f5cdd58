from __future__ import annotations

import gzip
import itertools
from contextlib import nullcontext

import numpy as np
import pytest

from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, Numcodecs, Zstd
from zarrant.codecs.library.blosc import BLOSC_COMPRESSORS, BLOSC_SHUFFLES
from zarrant.codecs.library.numcodecs_adapter import CODECS as NUMCODECS
from zarrant.codecs.protocols import BytesSpec
from zarrant.errors import ChunkError, MetadataError, UnknownExtensionError
from zarrant.metadata.v3 import Named
from zarrant.testkit import BytesToBytesSuite

DATA = (np.arange(3000, dtype="int32") // 7).reshape(50, 60)
CODECS = [
    *(Zstd(level, checksum) for level, checksum in itertools.product((-5, 0, 1, 9), (False, True))),
    *(Gzip(level) for level in (0, 1, 9)),
    *(Blosc(cname, 5, shuffle) for cname, shuffle in itertools.product(BLOSC_COMPRESSORS, BLOSC_SHUFFLES) if cname != "snappy"),
    Crc32c(),
    *(Numcodecs(f"numcodecs.{name}") for name in NUMCODECS if name not in ("shuffle", "fletcher32", "jenkins_lookup3")),
]


class TestCompiled(BytesToBytesSuite):
    @pytest.fixture(
        params=[Zstd(3, True), Gzip(1), Crc32c(), Blosc("lz4", 5, "shuffle", 4), Blosc("zstd", 1, "noshuffle", 1)], ids=str
    )
    def codec(self, request):
        return request.param


class TestNumcodecs(BytesToBytesSuite):
    @pytest.fixture(params=["bz2", "zlib", "lz4", "crc32", "adler32", "fletcher32", "lzma"])
    def codec(self, request):
        return Numcodecs(f"numcodecs.{request.param}")


@pytest.mark.parametrize("step", CODECS, ids=str)
def test_round_trips_and_documents(step, codec) -> None:
    c = codec([Bytes(), step], DATA.shape)
    encoded = c.encode(DATA)
    assert np.array_equal(c.decode(encoded), DATA)
    bound = c.chain.bytes_to_bytes[0]
    again = type(bound).from_json(Named.parse(bound.to_json(), "$"), "$")
    assert again == bound
    assert hash(again) == hash(bound)
    assert bytes(bound.decode(bound.encode(b"abc" * 100), 300)) == b"abc" * 100


@pytest.mark.parametrize(
    "steps", [[Zstd(), Crc32c()], [Crc32c(), Gzip(1)], [Blosc(), Zstd(), Crc32c()], [Crc32c(), Crc32c()]], ids=str
)
def test_the_compiled_and_the_general_path_agree(steps, codec) -> None:
    fast, slow = codec([Bytes("big"), *steps], DATA.shape), codec([Bytes("big"), Numcodecs("numcodecs.zlib"), *steps], DATA.shape)
    assert fast.prepared.program is not None
    assert slow.prepared.program is None
    encoded = DATA.astype(">i4").tobytes()
    for step in fast.chain.bytes_to_bytes:
        encoded = bytes(step.encode(encoded))
    assert np.array_equal(fast.decode(encoded), DATA)
    assert np.array_equal(slow.decode(slow.encode(DATA)), DATA)
    data = fast.encode(DATA)
    for step in reversed(fast.chain.bytes_to_bytes):
        data = bytes(step.decode(data, 1 << 20))
    assert data == DATA.astype(">i4").tobytes()


def test_bytes_of_others(codec) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    raw = DATA.tobytes()
    for step, encoded in [
        (Gzip(), gzip.compress(raw)),
        (Zstd(), numcodecs.Zstd(3).encode(raw)),
        (Blosc(), numcodecs.Blosc("lz4").encode(raw)),
        (Crc32c(), numcodecs.CRC32C(location="end").encode(raw)),
    ]:
        assert np.array_equal(codec([Bytes(), step], DATA.shape).decode(bytes(encoded)), DATA)


@pytest.mark.parametrize("step", [Zstd(checksum=True), Gzip(), Crc32c(), Numcodecs("numcodecs.bz2")], ids=str)
def test_damage_is_a_chunk_error_that_names_the_codec(step, codec) -> None:
    c = codec([Bytes(), step], DATA.shape)
    good = c.encode(DATA)
    middle = len(good) // 2
    for bad in (b"", good[:-1], good[:middle], good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1 :], b"\0" * 40):
        with pytest.raises(ChunkError) as caught:
            c.decode(bad)
        assert caught.value.codec in (step.name, "bytes")


@pytest.mark.parametrize("step", [Zstd(), Gzip(), Blosc(), Numcodecs("numcodecs.bz2")], ids=str)
def test_chunks_of_another_size_are_refused(step, codec) -> None:
    for shape in ((49, 60), (51, 60), (500, 600)):
        encoded = codec([Bytes(), step], shape).encode(np.ones(shape, "int32"))
        with pytest.raises(ChunkError):
            codec([Bytes(), step], DATA.shape).decode(encoded)


def test_checksums_may_be_ignored(codec) -> None:
    encoded = codec([Bytes(), Crc32c()], DATA.shape).encode(DATA)
    broken = encoded[:-1] + bytes([encoded[-1] ^ 1])
    assert np.array_equal(codec([Bytes(), Crc32c()], DATA.shape, validate_checksums=False).decode(broken), DATA)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: Zstd.from_json(Named("zstd", {"level": 23}), "$"), "$.configuration.level"),
        (lambda: Zstd.from_json(Named("zstd", {"level": 1, "checksum": 1}), "$"), "$.configuration.checksum"),
        (lambda: Gzip.from_json(Named("gzip", {"level": 10}), "$"), "$.configuration.level"),
        (lambda: Gzip.from_json(Named("gzip", {"level": 1, "x": 1}), "$"), "$.configuration.x"),
        (lambda: Crc32c.from_json(Named("crc32c", {"x": 1}), "$"), "$.configuration.x"),
        (
            lambda: Blosc.from_json(Named("blosc", {"cname": "zip", "clevel": 1, "shuffle": "noshuffle"}), "$"),
            "$.configuration.cname",
        ),
        (lambda: Blosc.from_json(Named("blosc", {"cname": "lz4", "clevel": 1, "shuffle": "shuffle"}), "$"), "$.configuration"),
        (lambda: Blosc.from_json(Named("blosc", {"cname": "lz4", "clevel": 1}), "$"), "$.configuration"),
    ],
)
def test_wrong_documents(make, path) -> None:
    with pytest.raises(MetadataError) as caught:
        make()
    assert caught.value.path == path


def test_wrong_codecs_of_numcodecs() -> None:
    with pytest.raises(UnknownExtensionError):
        Numcodecs("numcodecs.delta")
    with pytest.raises(MetadataError):
        Numcodecs("numcodecs.bz2", {"speed": 3})


@pytest.mark.parametrize("typesize", [0, -1, 2**40, "x", None, 4, True, 1.5])
def test_the_type_size_is_ignored_without_a_shuffle(typesize, codec) -> None:
    """ "Required unless `shuffle` is "noshuffle", in which case the value is ignored." """
    configuration = {"cname": "lz4", "clevel": 1, "shuffle": "noshuffle", "typesize": typesize, "blocksize": 0}
    c = codec([Bytes(), Blosc.from_json(Named("blosc", configuration), "$")], DATA.shape)
    assert np.array_equal(c.decode(c.encode(DATA)), DATA)
    with pytest.raises(MetadataError) if typesize != 4 else nullcontext():
        Blosc.from_json(Named("blosc", configuration | {"shuffle": "shuffle"}), "$")


@pytest.mark.parametrize(("itemsize", "shuffle", "typesize"), [(1, "bitshuffle", 1), (4, "shuffle", 4), (300, "shuffle", 1)])
def test_blosc_decides_what_is_left_open(itemsize, shuffle, typesize) -> None:
    bound = Blosc(shuffle=None).for_spec(BytesSpec(None, itemsize))
    assert (bound.shuffle, bound.typesize) == (shuffle, typesize)
    assert Blosc(shuffle="noshuffle", typesize=2).for_spec(BytesSpec(None, itemsize)) == Blosc(shuffle="noshuffle", typesize=2)
