"""Stored objects that are malformed, by tables: the exact class of the error, the key, and the field, path or codec it names.

Each table is a product of places and of what may be wrong there: documents (members missing, of a wrong kind, out of range, of
an unknown name; text that is no JSON), shard indexes (each entry, at both ends), and encoded chunks (cut off, too long, of
another codec). Nothing that is stored changes when it is read, and nothing stays open.
"""

from __future__ import annotations

import copy
import gzip
import json
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numcodecs
import numpy as np
import pytest

import zarrant
from zarrant.codecs import Blosc, Crc32c, Gzip, Numcodecs, Zstd
from zarrant.errors import ChunkError, LimitError, MetadataError, UnknownExtensionError, ZarrantError
from zarrant.kernels.checksum import crc32c

Tally = Callable[[str, int], None]
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
CRC = {"name": "crc32c"}
DOCUMENT: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [16, 16],
    "data_type": "uint16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 8]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "sharding_indexed", "configuration": {
        "chunk_shape": [4, 4], "codecs": [LITTLE], "index_codecs": [LITTLE, CRC], "index_location": "end",
    }}],
    "attributes": {"a": [1, {"b": 2.5}]},
}  # fmt: skip


class Case(NamedTuple):
    """A document of which the value at `at` is replaced (DROP: left out), and the error it ends with."""

    at: tuple[str | int, ...]
    value: Any
    path: str
    kind: type[ZarrantError] = MetadataError
    field: str | None = None

    def __str__(self) -> str:
        shown = "left out" if self.value is DROP else json.dumps(self.value)
        return f"{'.'.join(map(str, self.at))} {shown if len(shown) < 60 else shown[:60] + '...'}".replace("[", "(").replace(
            "]", ")"
        )

    def document(self) -> dict[str, Any]:
        document = copy.deepcopy(DOCUMENT)
        parent: Any = document
        for key in self.at[:-1]:
            parent = parent[key]
        if self.value is DROP:
            del parent[self.at[-1]]
        else:
            parent[self.at[-1]] = self.value
        return document


DROP = object()
BLOSC = {"cname": "zstd", "clevel": 5, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}
SCALARS: tuple[Any, ...] = (None, True, 3, 1.5)


def path_of(at: tuple[str | int, ...]) -> str:
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at)


def wrong(at: tuple[str | int, ...], values: tuple[Any, ...], path: str | None = None) -> list[Case]:
    return [Case(at, value, path or path_of(at)) for value in values]


def named(at: tuple[str | int, ...], unknown: str = "") -> list[Case]:
    """What may be wrong with the name of an extension, wherever one stands."""
    path = path_of(at)
    return [
        *wrong(at, (*SCALARS, [], "")),
        Case(at, {}, path),
        Case(at, {"configuration": {}}, path),
        *(Case(at, {"name": name}, f"{path}.name") for name in (*SCALARS, "", [], {})),
        Case(at, {"name": "x", "extra": 1}, f"{path}.extra"),
        *(Case(at, {"name": "x", "configuration": value}, f"{path}.configuration") for value in (*SCALARS, "x", [])),
        *(Case(at, {"name": "x", "must_understand": value}, f"{path}.must_understand") for value in (None, 1, "no", [])),
        *(Case(at, value, path + unknown, UnknownExtensionError) for value in ("mystery", {"name": "mystery"})),
    ]


GRID = ("chunk_grid", "configuration", "chunk_shape")
SHARDING = ("codecs", 0, "configuration")
DOCUMENTS: list[Case] = [
    *(Case((name,), DROP, "$") for name in DOCUMENT if name != "attributes"),
    *wrong(("zarr_format",), (None, True, 2, 4, 3.0, "3", [3], {})),
    *wrong(("node_type",), (*SCALARS, "", "Array", "dataset", [], {})),
    *wrong(("shape",), (*SCALARS, "16", {})),
    *(case for i in (0, 1) for case in wrong(("shape", i), (None, True, -1, 1.5, 16.0, "16", [16], 2**63))),
    Case(("shape",), [1] * 63, "$.shape", LimitError, "rank"),
    *named(("data_type",)),
    *named(("chunk_grid",), ".name"),
    *named(("chunk_key_encoding",), ".name"),
    *named(("codecs", 0)),
    *wrong(("attributes",), (*SCALARS, "x", [])),
    *wrong(("dimension_names",), (True, 3, 1.5, "x", {}, [], ["x"], ["x", "y", "z"])),
    *(Case(("dimension_names",), ["x", value], "$.dimension_names[1]") for value in (3, True, 1.5, [], {})),
    *(Case(("dimension_names",), [value, "y"], "$.dimension_names[0]") for value in (3, True, 1.5, [], {})),
    *wrong(("storage_transformers",), (*SCALARS, "x", {})),
    *(Case(("storage_transformers",), [value], "$.storage_transformers[0]") for value in (*SCALARS, "", [], {})),
    *(Case(("storage_transformers",), [value], "$.storage_transformers[0]", UnknownExtensionError, "storage_transformers")
      for value in ("x", {"name": "x"}, {"name": "x", "must_understand": True})),
    *wrong(("extension",), (*SCALARS, "x", [], {})),
    *wrong(("extension",), ({"must_understand": True}, {"must_understand": 0}, [{"must_understand": False}])),
    *wrong(GRID, (*SCALARS, "8", {})),
    *wrong(GRID, ([], [8], [8, 8, 8])),
    *(case for i in (0, 1) for case in wrong((*GRID, i), (None, True, 0, -8, 8.0, "8", [8], 2**63), path_of(GRID))),
    *(Case((*GRID[:2], name), 1, f"$.chunk_grid.configuration.{name}") for name in ("x", "shape")),
    Case(GRID, DROP, path_of(GRID)),
    *wrong(("chunk_key_encoding", "configuration", "separator"), (*SCALARS, "", "_", "//", [])),
    Case(("chunk_key_encoding", "configuration", "x"), 1, "$.chunk_key_encoding.configuration.x"),
    *wrong(("codecs",), (*SCALARS, "bytes", {})),  # an empty list is read, with a note: see tests/metadata
    Case(("codecs",), [LITTLE] + [CRC] * 16, "$.codecs", LimitError, "codecs"),
    *wrong(("fill_value",), (True, -1, 65536, 1.5, "zero", "NaN", [0], {}, [], 2**64)),
    *wrong((*SHARDING, "chunk_shape"), (*SCALARS, "4", {}, [], [4], [4, 4, 4], [3, 4], [16, 16])),
    *(case for i in (0, 1) for case in wrong((*SHARDING, "chunk_shape", i), (None, True, 0, -4, 4.0, "4", [4], 2**63))),
    *wrong((*SHARDING, "index_location"), (*SCALARS, "", "middle", [])),
    *(case for name in ("codecs", "index_codecs") for case in wrong((*SHARDING, name), (*SCALARS, "bytes", {}, []))),
    *(Case((*SHARDING, name), DROP, "$.codecs[0].configuration") for name in ("chunk_shape", "codecs")),
    Case((*SHARDING, "x"), 1, "$.codecs[0].configuration.x"),
    *named((*SHARDING, "codecs", 0)),
    *named((*SHARDING, "index_codecs", 0)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_fixture(tally: Tally) -> None:
    tally("malformed fixtures", 1)


@pytest.mark.parametrize("case", DOCUMENTS, ids=str)
def test_documents(case: Case, refused: Any) -> None:
    place = {"zarr.json": json.dumps(case.document()).encode()}
    with refused(place, case.kind, case.path, key="zarr.json", path=case.path) as caught:
        zarrant.open_array(place, mode="r")
    if case.field is not None:
        assert caught[0].field == case.field


GOOD = json.dumps(DOCUMENT)
TEXTS: dict[str, tuple[bytes, str, type[ZarrantError], str | None]] = {
    "nothing": (b"", "$", MetadataError, None),
    "zeros": (bytes(100), "$", MetadataError, None),
    "a list": (b"[]", "$", MetadataError, None),
    "a number": (b"3", "$", MetadataError, None),
    "null": (b"null", "$", MetadataError, None),
    "two documents": ((GOOD + GOOD).encode(), "$", MetadataError, None),
    "a trailing comma": (GOOD.replace("]}}, ", "]}},, ", 1).encode(), "$", MetadataError, None),
    "single quotes": (GOOD.replace('"', "'").encode(), "$", MetadataError, None),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), "$", MetadataError, None),
    "UTF-16": (GOOD.encode("utf-16"), "$", MetadataError, None),
    "Latin-1": (GOOD.replace('"a":', '"\xe4":').encode("latin-1"), "$", MetadataError, None),
    "a lone surrogate": (GOOD.replace('"a": [', '"a": ["\\ud800", ').encode(), "$.attributes.a[0]", MetadataError, None),
    "a name that is a lone surrogate": (GOOD.replace('"a":', '"\\udfff":').encode(), "$.attributes", MetadataError, None),
    "a member twice": (GOOD.replace('"zarr_format": 3', '"zarr_format": 3, "zarr_format": 3').encode(),
                       "$.zarr_format", MetadataError, None),
    "an attribute twice": (GOOD.replace('"a": [', '"a": 1, "a": [').encode(), "$.attributes.a", MetadataError, None),
    "a configuration twice": (GOOD.replace('"separator": "/"', '"separator": "/", "separator": "."').encode(),
                              "$.chunk_key_encoding.configuration.separator", MetadataError, None),
    "NaN": (GOOD.replace('"fill_value": 0', '"fill_value": NaN').encode(), "$.fill_value", MetadataError, None),
    "Infinity": (GOOD.replace('"fill_value": 0', '"fill_value": -Infinity').encode(), "$.fill_value", MetadataError, None),
    "beyond float64": (GOOD.replace("2.5", "1e999").encode(), "$.attributes.a[1].b", MetadataError, None),
    "a long integer": (GOOD.replace("2.5", "1" * 5000).encode(), "$", LimitError, "digits"),
    "deep lists": (GOOD.replace("2.5", "[" * 100 + "]" * 100).encode(), "$.attributes.a[1].b" + "[0]" * 60, LimitError, "depth"),
    "very deep lists": (GOOD.replace("2.5", "[" * 10**5 + "]" * 10**5).encode(), "$", LimitError, "depth"),
    "a large document": (GOOD.encode() + b" " * (16 << 20), "$", LimitError, "document"),
    **{f"cut off at {at}": (GOOD.encode()[:at], "$", MetadataError, None) for at in (1, 2, 10, 50, len(GOOD) // 2, len(GOOD) - 1)},
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str, refused: Any) -> None:
    text, path, kind, field = TEXTS[name]
    with refused({"zarr.json": text}, kind, key="zarr.json", path=path, field=field):
        zarrant.open_array({"zarr.json": text}, mode="r")


FILLS: dict[str, tuple[Any, ...]] = {
    "bool": (0, 1, "true", [], "NaN"),
    "int8": (128, -129, 1.5, "1", True),
    "uint64": (-1, 2**64, 0.5, "NaN", False),
    "float32": ("nan", "0x7fc0000000", True, [], "1.0"),
    "float64": ("infinity", "0x12", {}, False),
    "complex64": (1, [1], [1, 2, 3], ["NaN"], [True, 0], "NaN"),
    "r16": (0, [1], [1, 2, 3], [256, 0], [-1, 0], [1.5, 0]),
}


@pytest.mark.parametrize(("dtype", "fill"), [(dtype, fill) for dtype, fills in FILLS.items() for fill in fills])
def test_fill_values(dtype: str, fill: Any, refused: Any) -> None:
    document = {
        **DOCUMENT,
        "data_type": dtype,
        "fill_value": fill,
        "codecs": [LITTLE if dtype not in ("bool", "int8") else "bytes"],
    }
    place = {"zarr.json": json.dumps(document).encode()}
    with refused(place, MetadataError, key="zarr.json") as caught:
        zarrant.open_array(place, mode="r")
    assert caught[0].path == "$.fill_value" or caught[0].path.startswith("$.fill_value[")


CODECS: list[tuple[Any, str]] = [
    *(({"name": "bytes", "configuration": {"endian": endian}}, "endian") for endian in (None, True, 3, "", "middle", ["little"])),
    *(({"name": "bytes", "configuration": {"endian": "little", "x": 1}}, "x"),),
    *(({"name": "zstd", "configuration": {"level": level, "checksum": False}}, "level")
      for level in (None, True, 1.5, "3", 23, -(2**18))),
    *(({"name": "zstd", "configuration": {"level": 3, "checksum": flag}}, "checksum") for flag in (None, 0, 1, "no")),
    *(({"name": "gzip", "configuration": {"level": level}}, "level") for level in (None, True, -1, 10, 1.5, "5")),
    *(({"name": "blosc", "configuration": {**BLOSC, "cname": cname}}, "cname") for cname in (None, 3, "", "gzip")),
    *(({"name": "blosc", "configuration": {**BLOSC, "clevel": level}}, "clevel") for level in (None, True, -1, 10, 1.5)),
    *(({"name": "blosc", "configuration": {**BLOSC, "shuffle": shuffle}}, "shuffle") for shuffle in (None, 1, "bytes")),
    *(({"name": "blosc", "configuration": {**BLOSC, "typesize": size}}, "typesize") for size in (0, -1, "2", 1.5)),
    *(({"name": "blosc", "configuration": {**BLOSC, "blocksize": size}}, "blocksize") for size in (-1, "2", 1.5, None)),
    *(({"name": "transpose", "configuration": {"order": order}}, "order")
      for order in (None, 3, "C", [], [0], [0, 0], [1, 2], [0, 1, 2], [True, 0], [-1, 0], [0.0, 1])),
    *(({"name": "crc32c", "configuration": {"x": 1}}, "x"),),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "member"), CODECS, ids=lambda value: json.dumps(value).replace("[", "(").replace("]", ")"))
def test_codecs(codec: dict[str, Any], member: str, refused: Any) -> None:
    where = {"bytes": 0, "transpose": 0}.get(codec["name"], 1)
    chain = {"bytes": [codec], "transpose": [codec, LITTLE]}.get(codec["name"], [LITTLE, codec])
    place = {"zarr.json": json.dumps({**DOCUMENT, "codecs": chain}).encode()}
    path = f"$.codecs[{where}].configuration.{member}"
    with refused(place, MetadataError, path, key="zarr.json") as caught:
        zarrant.open_array(place, mode="r")
    assert caught[0].path == path or caught[0].path.startswith(f"{path}[")


# ── shard indexes ────────────────────────────────────────────────────────────────────────────────────────────────────

MISSING = 2**64 - 1
ENTRIES: dict[str, tuple[int | None, int | None]] = {
    "the end beyond the data": (180, 64),
    "an offset beyond the data": (2**20, 32),
    "a length beyond the data": (None, 2**20),
    "an offset of 63 bits": (2**63 - 1, 32),
    "an offset of 64 bits": (2**64 - 2, 32),
    "a length of 64 bits": (None, 2**64 - 2),
    "a sum beyond 64 bits": (2**64 - 16, 32),
    "an offset missing": (MISSING, 32),
    "a length missing": (None, MISSING),
}


def sharded(location: str) -> tuple[dict[str, bytes], Any]:
    document = copy.deepcopy(DOCUMENT)
    document["codecs"][0]["configuration"]["index_location"] = location
    place = {"zarr.json": json.dumps(document).encode()}
    a = zarrant.open_array(place, mode="r+")
    a[...] = np.arange(256, dtype="uint16").reshape(16, 16) + 1
    return place, a


def with_entry(data: bytes, location: str, entry: int, offset: int | None, length: int | None) -> bytes:
    """A shard of four subchunks, one entry of its index replaced, the checksum right."""
    size = 4 * 16 + 4
    index = bytearray(data[:size] if location == "start" else data[-size:])
    old = struct.unpack_from("<QQ", index, 16 * entry)
    struct.pack_into("<QQ", index, 16 * entry, old[0] if offset is None else offset, old[1] if length is None else length)
    struct.pack_into("<I", index, size - 4, int(crc32c(bytes(index[:-4]))))
    return bytes(index) + data[size:] if location == "start" else data[:-size] + bytes(index)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("entry", range(4))
@pytest.mark.parametrize("name", ENTRIES)
def test_index_entries(name: str, entry: int, location: str, refused: Any) -> None:
    place, a = sharded(location)
    place["c/0/1"] = with_entry(place["c/0/1"], location, entry, *ENTRIES[name])
    with refused(place, ChunkError, "c/0/1", key="c/0/1", chunk=(0, 1), codec="sharding_indexed", field=f"index[{entry}]"):
        a.retrieve_chunk((0, 1))
    assert a[:, :8].all()


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("byte", [0, 7, 8, 15, 31, 48, 63, 64, 67])
def test_index_checksums(byte: int, location: str, refused: Any) -> None:
    place, a = sharded(location)
    data = bytearray(place["c/0/1"])
    data[byte if location == "start" else len(data) - 68 + byte] ^= 0x10
    place["c/0/1"] = bytes(data)
    with refused(place, ChunkError, "CRC-32C", key="c/0/1", chunk=(0, 1), codec="crc32c"):
        a.retrieve_chunk((0, 1))
    assert a[:, :8].all()


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 67])
def test_shards_smaller_than_their_index(size: int, location: str, refused: Any) -> None:
    place, a = sharded(location)
    place["c/0/1"] = place["c/0/1"][:size]
    with refused(place, ChunkError, "smaller than its index", key="c/0/1", chunk=(0, 1), codec="sharding_indexed"):
        a.retrieve_chunk((0, 1))


# ── encoded chunks ───────────────────────────────────────────────────────────────────────────────────────────────────

CHAINS: dict[str, Any] = {
    "bytes": None,
    "crc32c": [Crc32c()],
    "zstd": [Zstd()],
    "gzip": [Gzip()],
    "blosc": [Blosc()],
    "numcodecs.lz4": [Numcodecs("numcodecs.lz4")],
    "numcodecs.zlib": [Numcodecs("numcodecs.zlib")],
}
PAYLOADS: dict[str, Callable[[bytes], bytes]] = {
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "without its last byte": lambda data: data[:-1],
    "ones": lambda data: b"\xff" * len(data),
    "text": lambda data: b"<html>404 Not Found</html>",
    "of gzip": lambda data: gzip.compress(b"x" * 1000),
    "of zstd": lambda data: bytes(numcodecs.Zstd().encode(b"x" * 1000)),
    "of blosc": lambda data: bytes(numcodecs.Blosc().encode(b"x" * 1000)),
}


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize("chain", CHAINS)
def test_payloads(chain: str, name: str, refused: Any) -> None:
    place: dict[str, bytes] = {}
    a = zarrant.create_array(place, shape=(16, 32), dtype="uint16", chunks=(16, 16), compressors=CHAINS[chain])
    a[...] = np.random.default_rng(0).integers(1, 100, a.shape, "uint16")
    place["c/0/1"] = PAYLOADS[name](place["c/0/1"])
    if chain == "bytes" and len(place["c/0/1"]) == 512:  # any 512 bytes are a chunk
        assert a[...].shape == a.shape
        return
    with refused(place, ChunkError, "c/0/1", key="c/0/1", chunk=(0, 1), codec=chain):
        a.retrieve_chunk((0, 1))
    assert a[:, :16].all()
