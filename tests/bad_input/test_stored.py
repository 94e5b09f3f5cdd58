"""Stored bytes that are wrong: corrupt and truncated chunks and shards, hostile indexes, decompression bombs."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numcodecs
import numpy as np
import pytest

import zarrant
from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, Numcodecs, Zstd
from zarrant.errors import ChunkError, MetadataError, PartialFailure, UnknownExtensionError
from zarrant.kernels.checksum import crc32c

S = np.s_
MISSING = 2**64 - 1
CODECS: dict[str, Any] = {
    "bytes": [],
    "crc32c": [Crc32c()],
    "zstd": [Zstd()],
    "gzip": [Gzip()],
    "blosc": [Blosc()],
    "numcodecs.bz2": [Numcodecs("numcodecs.bz2")],
}


def values(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 100, shape).astype("uint16")


def unsharded(compressors: Any) -> tuple[dict[str, bytes], Any]:
    """Two chunks next to each other."""
    place: dict[str, bytes] = {}
    a = zarrant.create_array(place, shape=(16, 32), dtype="uint16", chunks=(16, 16), compressors=compressors)
    a[...] = values(a.shape)
    return place, a


def sharded(place: Any = None, location: str = "end") -> tuple[Any, Any, np.ndarray]:
    """Two shards of four subchunks without compression: subchunk i of a shard is bytes 32 i..32 i + 32 of its data."""
    place = {} if place is None else place
    a = zarrant.create_array(place, shape=(8, 16), dtype="uint16", chunks=(8, 8), compressors=None, serializer={
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [4, 4],
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": location,
        },
    })  # fmt: skip
    data = values(a.shape)
    a[...] = data
    return place, a, data


@pytest.mark.parametrize("name", CODECS)
def test_truncated_chunks(name: str, refused: Any) -> None:
    place, a = unsharded(CODECS[name])
    right, whole = a[:, 16:], place["c/0/0"]
    for size in (0, 1, 3, len(whole) // 2, len(whole) - 1):
        place["c/0/0"] = whole[:size]
        # No bytes are a whole stream of no frames: then it is the last codec that misses its bytes.
        codec = "bytes" if size == 0 and name in ("zstd", "numcodecs.bz2") else name
        for read in (lambda: a[...], lambda: a.retrieve_chunk((0, 0)), lambda: a[3, 4:6], lambda: assign(a, S[0:2, 0:2])):
            with refused(place, ChunkError, "c/0/0", "(0, 0)", codec, str(a.store.url), key="c/0/0", chunk=(0, 0), codec=codec):
                read()
        assert np.array_equal(a[:, 16:], right)
    a.store_chunk((0, 0), 9)
    assert (a[:, :16] == 9).all()


@pytest.mark.parametrize("name", CODECS)
def test_longer_and_changed_chunks(name: str, refused: Any) -> None:
    """Every byte turned over: what a check can notice is a ChunkError, and nothing else is ever raised."""
    place, a = unsharded(CODECS[name])
    whole = place["c/0/0"]
    place["c/0/0"] = whole + whole
    if name != "gzip" and name != "zstd" and name != "numcodecs.bz2":  # two members or frames are one stream, too long here
        with refused(place, ChunkError, key="c/0/0", chunk=(0, 0), codec=name):
            a.retrieve_chunk((0, 0))
    noticed = 0
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        place["c/0/0"] = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        try:
            a.retrieve_chunk((0, 0))
        except ChunkError as error:
            noticed += 1
            assert (error.key, error.chunk, error.codec) == ("c/0/0", (0, 0), name)
    tried = len(range(0, len(whole), max(1, len(whole) // 60)))
    if name in ("crc32c", "numcodecs.bz2"):
        assert noticed == tried
    elif name == "gzip":  # flags, time and system of its header may be anything
        assert noticed >= tried - 8
    else:
        assert noticed or name == "bytes"


def test_several_broken_chunks_are_one_failure(refused: Any) -> None:
    place, a = unsharded([Zstd()])
    place["c/0/0"] = place["c/0/1"] = b"broken"
    with refused(place, PartialFailure, "2 chunk(s) failed", "c/0/0", "c/0/1", "zstd") as caught:
        a[...]
    assert set(caught[0].failed) == {(0, 0), (0, 1)}
    assert {type(error) for error in caught[0].failed.values()} == {ChunkError}
    assert [error.key for error in caught[0].failed.values()] == ["c/0/0", "c/0/1"]


def test_what_could_be_stored_is_named(holds: Any) -> None:
    place, a = unsharded([Zstd()])
    place["c/0/0"] = b"broken"
    with pytest.raises(PartialFailure, match=r"1 chunk\(s\) failed, 1 stored.*c/0/0") as caught:
        a[0:4, 12:20] = 50
    assert list(caught.value.failed) == [(0, 0)]
    assert caught.value.stored == [(0, 1)]
    assert caught.value.__cause__ is caught.value.failed[(0, 0)]
    assert (caught.value.blame, caught.value.retryable) == ("data", False)
    assert place["c/0/0"] == b"broken"
    assert (a[0:4, 16:20] == 50).all()


def index_bytes(entries: list[tuple[int, int]]) -> bytes:
    raw = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return raw + struct.pack("<I", int(crc32c(raw)))


GOOD = [(0, 32), (32, 32), (64, 32), (96, 32)]
HOSTILE: dict[str, tuple[tuple[int, int], str]] = {
    "beyond the end": ((200, 32), "outside of the data"),
    "end beyond the data": ((100, 32), "outside of the data"),
    "into the index": ((128, 32), "outside of the data"),
    "longer than the shard": ((0, 10**6), "outside of the data"),
    "huge length": ((0, 2**64 - 2), "outside of the data"),
    "huge offset": ((2**64 - 2, 32), "outside of the data"),
    "sum beyond 2**64": ((2**64 - 16, 32), "outside of the data"),
    "sign bit": ((2**63, 32), "outside of the data"),
    "length with a sign bit": ((0, 2**63 + 32), "outside of the data"),
    "offset missing": ((MISSING, 32), "both be missing"),
    "length missing": ((32, MISSING), "both be missing"),
    "the same bytes": ((0, 32), "overlaps"),
    "half the same bytes": ((48, 32), "overlaps"),
}


@pytest.mark.parametrize("location", ["end", "start"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_index(name: str, location: str, refused: Any) -> None:
    place, a, data = sharded(location=location)
    (offset, length), reason = HOSTILE[name]
    size = len(index_bytes(GOOD))
    at_start = location == "start"
    shift = size if at_start else 0
    entries = [(o + shift, n) for o, n in GOOD]
    if name == "into the index":
        offset = 0 if at_start else 128
    elif offset < 2**63 - 200:
        offset += shift
    entries[2] = (offset, length)
    raw, index = place["c/0/0"], index_bytes(entries)
    assert raw == (index_bytes([(o + shift, n) for o, n in GOOD]) + raw[size:] if at_start else raw[:-size] + index_bytes(GOOD))
    place["c/0/0"] = index + raw[size:] if at_start else raw[:-size] + index
    for call in (lambda: a[...], lambda: a[4, 0], lambda: a.retrieve_subchunk((1, 0)), lambda: assign(a, S[4, 0])):
        with refused(place, ChunkError, "shard index", reason, "subchunk", "c/0/0", key="c/0/0", chunk=(0, 0)) as caught:
            call()
        assert caught[0].codec == "sharding_indexed"
        assert caught[0].field.startswith("index[")
    assert np.array_equal(a[:, 8:], data[:, 8:])
    assert np.array_equal(a[4:8, 4:8], data[4:8, 4:8])
    assert reason == "overlaps" or np.array_equal(a[0:4, 0:8], data[0:4, 0:8])
    a.store_chunk((0, 0), 3)
    assert (a[:, :8] == 3).all()


def assign(a: Any, selection: Any) -> None:
    a[selection] = 7


@pytest.mark.parametrize("location", ["end", "start"])
def test_broken_shards(location: str, place: Any, refused: Any) -> None:
    _, a, data = sharded(place, location)
    raw = bytes(a.retrieve_encoded_chunk((0, 0)))
    flipped = (raw[:9] + b"\x55" + raw[10:]) if location == "start" else raw[:-9] + b"\x55" + raw[-8:]
    cases: list[tuple[bytes, str]] = [
        (b"", "smaller than its index"),
        (raw[:30], "smaller than its index"),
        (flipped, "CRC-32C"),
        (raw[:-40], "outside of the data" if location == "start" else "CRC-32C"),
    ]
    for broken, reason in cases:
        a.store_encoded_chunk((0, 0), broken)
        for call in (lambda: a[...], lambda: a[7, 7], lambda: assign(a, S[7, 7]), lambda: a.retrieve_chunk((0, 0))):
            with refused(place, ChunkError, "c/0/0", reason, key="c/0/0", chunk=(0, 0)) as caught:
                call()
            assert caught[0].codec in ("sharding_indexed", "crc32c")
        assert np.array_equal(a[:, 8:], data[:, 8:])


def test_intact_subchunks_of_a_broken_shard_stay_readable(place: Any, refused: Any) -> None:
    a = zarrant.create_array(place, shape=(8, 8), dtype="uint16", chunks=(4, 4), shards=(8, 8), compressors=[Crc32c()])
    data = values(a.shape)
    a[...] = data
    raw = bytearray(a.retrieve_encoded_chunk((0, 0)))
    raw[5] ^= 0xFF
    a.store_encoded_chunk((0, 0), raw)
    with refused(place, ChunkError, "c/0/0", key="c/0/0", chunk=(0, 0), codec="crc32c"):
        a[0, 0]
    with refused(place, ChunkError, "c/0/0", key="c/0/0", chunk=(0, 0), codec="crc32c"):
        a[0, 0] = 3
    assert np.array_equal(a[4:, :], data[4:, :])
    assert np.array_equal(a[:4, 4:], data[:4, 4:])
    a[4:6, 4:6] = 1
    a[0:4, 0:4] = 2
    data[4:6, 4:6], data[0:4, 0:4] = 1, 2
    assert np.array_equal(a[...], data)


def blosc_bomb(size: int) -> bytes:
    """A blosc frame that says it holds `size` bytes and is a few bytes long."""
    frame = bytearray(numcodecs.Blosc(cname="zstd").encode(bytes(65536)))
    frame[4:8] = struct.pack("<I", size)
    return bytes(frame)


def zstd_bomb(size: int) -> bytes:
    return bytes(numcodecs.Zstd(level=1).encode(bytes(size)))


def zstd_liar(size: int) -> bytes:
    """A zstd frame whose header promises far more than there is."""
    header = b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + struct.pack("<Q", size)
    return header + struct.pack("<I", (4 << 3) | (1 << 1) | 1)[:3] + b"a"


BIG = 128 << 20
BOMBS: dict[str, tuple[Any, Callable[[], bytes]]] = {
    "zstd": ([Zstd()], lambda: zstd_bomb(BIG)),
    "zstd that lies": ([Zstd()], lambda: zstd_liar(2**62)),
    "gzip": ([Gzip()], lambda: gzip.compress(bytes(BIG), 9)),
    "blosc": ([Blosc()], lambda: blosc_bomb(2**31 - 64)),
    "zstd then crc32c": ([Zstd(), Crc32c()], lambda: sealed(zstd_bomb(BIG))),
    "zstd and numcodecs": ([Zstd(), Numcodecs("numcodecs.crc32")], lambda: adler(zstd_bomb(BIG))),
    "numcodecs.bz2": ([Numcodecs("numcodecs.bz2")], lambda: bz2.compress(bytes(BIG))),
    "numcodecs.zlib": ([Numcodecs("numcodecs.zlib")], lambda: zlib.compress(bytes(BIG), 9)),
    "numcodecs.gzip": ([Numcodecs("numcodecs.gzip")], lambda: gzip.compress(bytes(BIG), 9)),
    "numcodecs.lzma": ([Numcodecs("numcodecs.lzma")], lambda: lzma.compress(bytes(BIG), preset=0)),
    "numcodecs.lz4": ([Numcodecs("numcodecs.lz4")], lambda: struct.pack("<I", 2**31 - 64) + bytes(64)),
    "numcodecs.zstd": ([Numcodecs("numcodecs.zstd")], lambda: zstd_bomb(BIG)),
}


def sealed(data: bytes) -> bytes:
    return data + struct.pack("<I", int(crc32c(data)))


def adler(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data)) + data


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, tmp_path: Any, decode_elsewhere: Any) -> None:
    """A small chunk that decodes to much is refused within little memory."""
    compressors, make = BOMBS[name]
    place = tmp_path / "a.zarr"
    a = zarrant.create_array(place, shape=(16, 32), dtype="uint16", chunks=(16, 16), compressors=compressors)
    a[...] = values(a.shape)
    a.store_encoded_chunk((0, 0), make())
    a.store_encoded_chunk((0, 1), b"broken")  # read first, so that what decoding needs anyway is loaded
    told = decode_elsewhere(place, (0, 0), (0, 1))
    assert (told["key"], told["chunk"]) == ("c/0/0", [0, 0])
    assert told["MiB"] < 64, told


DOCUMENTS: list[tuple[str, Any, type[Exception], str]] = [
    ("codecs", [{"name": "bytes"}, {"name": "mystery"}], UnknownExtensionError, "$.codecs[1]"),
    ("codecs", [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}], MetadataError, "$.codecs"),
    ("data_type", "uint17", UnknownExtensionError, "$.data_type"),
    ("chunk_grid", {"name": "hexagonal"}, UnknownExtensionError, "$.chunk_grid"),
    ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [0, 4]}}, MetadataError, "$.chunk_grid"),
    ("chunk_key_encoding", {"name": "morse"}, UnknownExtensionError, "$.chunk_key_encoding"),
    ("shape", [-1, 4], MetadataError, "$.shape"),
    ("shape", [8.0, 16], MetadataError, "$.shape"),
    ("shape", [True, 16], MetadataError, "$.shape"),
    ("fill_value", 70000, MetadataError, "$.fill_value"),
    ("zarr_format", 4, MetadataError, "$.zarr_format"),
    ("extra", {"must_understand": True}, MetadataError, "$.extra"),
]  # fmt: skip


@pytest.mark.parametrize(("member", "value", "kind", "path"), DOCUMENTS)
def test_documents(member: str, value: Any, kind: Any, path: str, place: Any, refused: Any) -> None:
    _, a, _ = sharded(place)
    document = json.loads(bytes(a.store.get("zarr.json").data[0]))
    a.store.put("zarr.json", [json.dumps({**document, member: value}).encode()])
    for mode in ("r", "r+", "a"):
        with refused(place, kind, path, "zarr.json") as caught:
            zarrant.open_array(place, mode=mode)
        assert caught[0].path.startswith(path)


@pytest.mark.parametrize("inner", [[3, 4], [4], [16, 4], [4, 4, 1]])
def test_subchunks_that_do_not_divide(inner: list[int], place: Any, refused: Any) -> None:
    with refused(place, MetadataError, "divide", "$.codecs[0].configuration.chunk_shape", codec="sharding_indexed"):
        zarrant.create_array(place, shape=(8, 8), dtype="uint16", chunks=(8, 8), compressors=None, serializer={
            "name": "sharding_indexed", "configuration": {"chunk_shape": inner, "codecs": [Bytes().to_json()]}
        })  # fmt: skip
