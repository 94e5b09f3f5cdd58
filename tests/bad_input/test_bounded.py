"""Stored objects far larger than what they can stand for: holes of terabytes, streams that grow, outer codecs of shards."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

import zarrant
from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, Numcodecs, ShardingIndexed, Zstd
from zarrant.codecs.chain import chain_of
from zarrant.codecs.protocols import ArraySpec, BytesSpec, CodecOptions
from zarrant.dtypes import from_numpy
from zarrant.errors import ChunkError, DataTypeError, LimitError
from zarrant.limits import LIMITS
from zarrant.tools.check import check

S = np.s_
HOLES = 2 << 40
"""Bytes of a file that takes none: reading it whole asks for more memory than any machine has."""
VALUES = np.arange(1, 17, dtype="uint8")
UINT8 = from_numpy("uint8")


def inner(*codecs: Any) -> ShardingIndexed:
    return ShardingIndexed((4,), chain_of([Bytes(None), *codecs]), chain_of([Bytes("little"), Crc32c()]))


CHAINS: dict[str, dict[str, Any]] = {
    "bytes": {"compressors": None},
    "crc32c": {"compressors": Crc32c()},
    "zstd": {"compressors": Zstd()},
    "gzip": {"compressors": Gzip()},
    "blosc": {"compressors": Blosc()},
    "numcodecs": {"compressors": Numcodecs("numcodecs.bz2")},
    "gzip after shards": {"serializer": inner(), "compressors": Gzip()},
    "numcodecs after shards": {"serializer": inner(), "compressors": Numcodecs("numcodecs.zlib")},
}


def made(path: Path, chain: str) -> Any:
    a = zarrant.create_array(path, shape=(16,), chunks=(8,), dtype="uint8", fill_value=0, **CHAINS[chain])
    a[...] = VALUES
    return a


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("size", [200_000, HOLES])
def test_a_chunk_that_is_too_large_is_not_read(chain: str, size: int, tmp_path: Path, refused: Any) -> None:
    a = made(tmp_path / "a", chain)
    os.truncate(tmp_path / "a/c/0", size)
    calls: list[Callable[[], object]] = [
        lambda: a[0:2],
        lambda: a[...],
        lambda: a.retrieve_chunk((0,)),
        lambda: a.retrieve_chunk_subset((0,), S[0:1]),
        lambda: a.__setitem__(1, 9),
        lambda: a.update(S[0:2], lambda old: old + 1),
    ]
    for call in calls:
        with refused({}, ChunkError, "too large", "c/0", key="c/0", got=f"{size} bytes"):
            call()
    assert a[8:].tolist() == VALUES[8:].tolist()
    assert [finding.chunk for finding in check(tmp_path / "a", deep=True).findings] == [(0,)]
    a[0:8] = VALUES[:8]  # a whole chunk is replaced unread
    assert a[...].tolist() == VALUES.tolist()


def test_what_is_taken_as_it_is_has_a_limit_too(tmp_path: Path, refused: Any) -> None:
    a = made(tmp_path / "a", "zstd")
    os.truncate(tmp_path / "a/c/0", 1 << 20)
    assert len(a.retrieve_encoded_chunk((0,))) == 1 << 20
    os.truncate(tmp_path / "a/c/0", HOLES)
    with refused({}, LimitError, "too large", key="c/0", field="stored bytes", got=HOLES):
        a.retrieve_encoded_chunk((0,))


@pytest.mark.parametrize("codec", [None, Zstd(), Numcodecs("numcodecs.zlib")], ids=str)
def test_a_subchunk_that_is_too_large_costs_itself(codec: Any, tmp_path: Path, refused: Any) -> None:
    a = zarrant.create_array(tmp_path / "a", shape=(8,), chunks=(4,), shards=(8,), dtype="uint8", compressors=codec)
    a[...] = VALUES[:8]
    file = tmp_path / "a/c/0"
    data = file.read_bytes()
    entries = struct.unpack_from("<4Q", data, len(data) - 36)
    index = struct.pack("<4Q", *entries[:2], len(data), HOLES)
    os.truncate(file, len(data) + HOLES)
    with file.open("ab") as opened:
        opened.write(index + struct.pack("<I", zarrant.kernels.crc32c(index)))
    for call in (lambda: a[4:5], lambda: a[...], lambda: a.__setitem__(5, 9)):
        with refused({}, ChunkError, "subchunk 1", key="c/0", field="index[1]", got=f"{HOLES} bytes"):
            call()
    assert a[:4].tolist() == VALUES[:4].tolist()
    findings = check(tmp_path / "a", deep=True).findings
    assert any("subchunk" in str(finding) for finding in findings)


def test_metadata_full_of_holes(tmp_path: Path, refused: Any) -> None:
    made(tmp_path / "a", "zstd")
    zarrant.create_group(tmp_path / "g")
    for name in ("a", "g"):
        os.truncate(tmp_path / name / "zarr.json", HOLES)
        for mode in ("r", "r+", "a"):
            with refused({}, LimitError, "zarr.json", path="$", field="document", got=HOLES, limit=16 << 20):
                zarrant.open(tmp_path / name, mode=mode)
    a = zarrant.create_array(tmp_path / "a", shape=(4,), dtype="uint8", overwrite=True)
    assert a[...].tolist() == [0] * 4


def test_handles_that_meet_such_metadata_later(tmp_path: Path, refused: Any) -> None:
    a = made(tmp_path / "a", "zstd")
    os.truncate(tmp_path / "a/zarr.json", HOLES)
    for call in (
        lambda: a.attrs.update(x=1),
        a.refresh,
        lambda: a.append(VALUES),
        lambda: a.resize((20,)),
    ):
        with refused({}, LimitError, "zarr.json", got=HOLES):
            call()


def test_v2_metadata_full_of_holes(tmp_path: Path, refused: Any) -> None:
    (tmp_path / ".zgroup").touch()
    os.truncate(tmp_path / ".zgroup", HOLES)
    for name in (".zgroup", ".zattrs"):
        with refused({}, LimitError, name, got=HOLES):
            zarrant.open(tmp_path, mode="r")
        (tmp_path / ".zgroup").write_bytes(b'{"zarr_format": 2}')
        (tmp_path / ".zattrs").touch()
        os.truncate(tmp_path / ".zattrs", HOLES)


# ── outer codecs of shards

BIG = 256 << 20


def blosc_bomb() -> bytes:
    return bytes(numcodecs.Blosc(cname="zstd").encode(np.zeros(BIG, "uint8")))


BOMBS: dict[str, tuple[Any, Callable[[], bytes]]] = {
    "gzip": (Gzip(), lambda: gzip.compress(bytes(BIG), 9)),
    "zstd": (Zstd(), lambda: bytes(numcodecs.Zstd(level=1).encode(bytes(BIG)))),
    "blosc": (Blosc(), blosc_bomb),
    "numcodecs.zlib": (Numcodecs("numcodecs.zlib"), lambda: zlib.compress(bytes(BIG), 9)),
    "numcodecs.bz2": (Numcodecs("numcodecs.bz2"), lambda: bz2.compress(bytes(BIG))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_after_a_shard_is_bounded_by_the_shard(name: str, tmp_path: Path, decode_elsewhere: Any) -> None:
    codec, make = BOMBS[name]
    # Shards so large that the bomb is small enough to be looked at: 1 MiB, of which 256 MiB would be made.
    a = zarrant.create_array(
        tmp_path / "a", shape=(2 << 20,), chunks=(1 << 20,), dtype="uint8", serializer=inner_of(1 << 18), compressors=codec
    )
    a[...] = 1
    (tmp_path / "a/c/0").write_bytes(make())
    (tmp_path / "a/c/1").write_bytes(b"broken")
    told = decode_elsewhere(tmp_path / "a", (0,), (1,))
    assert told["codec"] == name
    assert "large" in told["text"] or "beyond" in told["text"]
    assert told["MiB"] < 48, told


def inner_of(size: int) -> ShardingIndexed:
    return ShardingIndexed((size,), chain_of([Bytes(None)]), chain_of([Bytes("little"), Crc32c()]))


def test_shards_of_more_than_two_gibibytes_have_no_codecs_after_them(place: Any, refused: Any) -> None:
    options = {"shape": (1 << 32,), "chunks": (1 << 32,), "dtype": "uint8", "serializer": inner_of(1 << 20)}
    with refused(place, LimitError, "shard too large", got=1 << 32, limit=1 << 31):
        zarrant.create_array(place, compressors=Gzip(), **options)
    zarrant.create_array(place, compressors=None, **options)[0:2] = 3
    assert zarrant.open_array(place)[0:4].tolist() == [3, 3, 0, 0]


@pytest.mark.parametrize("dead_limit", [0.0, 0.5, 1.0])
def test_no_number_of_updates_makes_a_shard_that_is_refused(dead_limit: float) -> None:
    """Dead bytes stay in a shard up to `dead_limit`; under outer codecs they count against the limit of reading."""
    dice = np.random.default_rng(1)
    values = dice.integers(0, 256, 4096).astype("uint8")
    a = zarrant.create_array(
        {}, shape=(4096,), chunks=(4096,), dtype="uint8", serializer=inner_of(2048), compressors=Gzip(),
        config={"dead_limit": dead_limit},
    )  # fmt: skip
    a[...] = values
    for step in range(120):  # 240 KiB of dead bytes; a shard has 4 KiB
        values[:2000] = dice.integers(0, 256, 2000)
        a[:2000] = values[:2000]
        assert step % 20 or np.array_equal(a[...], values)
    assert np.array_equal(a[...], values)


class Growing:
    """A codec of another package that makes four bytes of one."""

    name, kind = "growing", "bytes_to_bytes"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}

    def resolve(self, spec: Any) -> BytesSpec:
        return BytesSpec(None)

    def encode(self, data: Any) -> bytes:
        return bytes(data) * 40

    def decode(self, data: Any, limit: int) -> bytes:
        return bytes(data)[: len(data) // 40]


def test_what_a_codec_makes_is_refused_where_it_would_be_in_reading() -> None:
    spec = ArraySpec((1 << 16,), UINT8, UINT8.default_fill())
    prepared: Any = chain_of([Bytes(None), Growing()]).prepare(spec, CodecOptions())
    with pytest.raises(LimitError, match="growing makes too much"):
        prepared.encode_row(np.ones(1 << 16, "uint8"))
    small: Any = chain_of([Bytes(None), Growing()]).prepare(ArraySpec((64,), UINT8, UINT8.default_fill()), CodecOptions())
    assert small.decode_row(small.encode_row(np.ones(64, "uint8"))).tolist() == [1] * 64


def test_a_small_document_of_a_large_array_stays_small(place: Any) -> None:
    """Nothing is allocated for what a document only says."""
    zarrant.create_array(place, shape=(2**62,), chunks=(2**20,), dtype="uint8")
    a = zarrant.open_array(place)
    assert json.loads(bytes(a.store.get("zarr.json").data[0]))["shape"] == [2**62]
    assert a[2**61 : 2**61 + 3].tolist() == [0, 0, 0]


# ── elements of which one is larger than anything that is stored


LARGE = 4 * (LIMITS.element // 4) + 4
V2 = {"zarr_format": 2, "shape": [1], "chunks": [1], "compressor": None, "fill_value": None, "order": "C", "filters": None}
V3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [1],
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
    "chunk_key_encoding": {"name": "default"},
    "codecs": [{"name": "bytes"}],
    "fill_value": "",
}


def of_length(name: str) -> dict[str, Any]:
    return {"name": name, "configuration": {"length_bytes": LARGE}}


LARGE_ELEMENTS: dict[str, dict[str, Any]] = {
    "V2 raw": {**V2, "dtype": f"|V{LARGE}"},
    "V2 bytes": {**V2, "dtype": f"|S{LARGE}"},
    "V2 text": {**V2, "dtype": f"<U{LARGE // 4}"},
    "V2 fields": {**V2, "dtype": [["a", f"|S{LARGE // 2}"], ["b", f"|S{LARGE // 2}"]]},
    "V3 raw": {**V3, "data_type": f"r{8 * LARGE}", "fill_value": [0]},
    "V3 raw, null": {**V3, "data_type": f"r{8 * LARGE}", "fill_value": None},
    "V3 raw, longest": {**V3, "data_type": "r999999992", "fill_value": None},
    "V3 raw_bytes": {**V3, "data_type": of_length("raw_bytes")},
    "V3 text": {**V3, "data_type": of_length("fixed_length_utf32")},
    "V3 bytes": {**V3, "data_type": of_length("null_terminated_bytes")},
    "V3 fields": {
        **V3,
        "data_type": {"name": "struct", "configuration": {"fields": [{"name": "a", "data_type": of_length("fixed_length_utf32")}]}},
        "fill_value": {"a": ""},
    },
}


@pytest.mark.parametrize("name", LARGE_ELEMENTS)
def test_an_element_that_is_too_large_is_not_made(name: str, tmp_path: Path) -> None:
    document = LARGE_ELEMENTS[name]
    (tmp_path / (".zarray" if name.startswith("V2") else "zarr.json")).write_text(json.dumps(document))
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match="element that is too large") as caught:
            zarrant.open_array(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < LARGE
    finally:
        tracemalloc.stop()
    assert (caught.value.field, caught.value.limit) == ("itemsize", LIMITS.element)


@pytest.mark.parametrize("dtype", [f"S{LARGE}", f"U{LARGE // 4}", f"V{LARGE}", [("a", f"S{LARGE // 2}"), ("b", f"S{LARGE // 2}")]])
def test_nor_is_it_written(dtype: Any, tmp_path: Path) -> None:
    with pytest.raises(DataTypeError, match="element that is too large"):
        zarrant.create_array(tmp_path / "a", shape=1, dtype=dtype)
    assert not (tmp_path / "a").exists()


def test_the_largest_element_is_read_back(tmp_path: Path) -> None:
    value = np.array([b"x" * LIMITS.element])
    zarrant.create_array(tmp_path, data=value)
    assert zarrant.open_array(tmp_path)[...].tobytes() == value.tobytes()
