"""A process that feeds broken input to the library: `python fuzz.py WHAT SEED COUNT`, under limits of memory and of time.

WHAT "documents": metadata, parsed and bound. "creations": hostile arguments, and attributes given to what they made: what is
acknowledged can be opened, and what is refused has stored nothing. "arrays": stored arrays whose document, shard index or
payload was changed, opened, read and written. Changes know the structure: members are dropped, repeated, moved, given hostile
values; index entries are changed and the checksum made right again; frame headers lie. Prints the cases, how many were
refused, the MiB by which the process grew, and what was raised that is no ZarrantError (nothing).
"""

from __future__ import annotations

import copy
import json
import random
import resource
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import zarrant
from zarrant.codecs import Blosc, Crc32c, Gzip, Zstd
from zarrant.errors import ZarrantError
from zarrant.errors import shown as safely
from zarrant.kernels.checksum import crc32c
from zarrant.metadata import v3
from zarrant.ops.bound_array import BoundArray, OpOptions

MEMORY = 3 << 30
HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 1.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63),
    *(2**64 - 1, 2**64, 10**30, 10**500, "", "x", "NaN", "0x", "0xffff", "\ud800", "\0", "a" * 5000, "zstd", "bytes", "uint8"),
    *([], {}, [[]], [{}], [0], [-1], [1, 1], [2**62, 2**62], [1] * 70, {"name": "bytes"}, {"name": 3}, {"name": "zstd"}),
    *({"must_understand": False}, {"name": "x", "must_understand": False}, {"name": "crc32c", "configuration": {"x": 1}}),
    *({"id": "pickle"}, {"name": "numcodecs.pickle"}, {"name": "numcodecs.crc32", "configuration": {"id": "pickle"}}),
    *({"name": "numcodecs.zlib"}, {"name": "numcodecs.lzma", "configuration": {"filters": [{"id": 3}]}}),
]
GIVEN: list[Any] = [
    *HOSTILE,
    *(np.int64(3), np.float32(2), np.arange(3), np.str_("x"), b"x", {1}, {1: 2}, 1j, object(), (1, "x"), -(10**4300), 10**4299),
    *(["x"] * 70, [[]] * 70, {"a": {"b": {"c": None}}}, lambda stored: stored),
]


def nested(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def places(value: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    found = [] if found is None else found
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        places(value[key], found)
    return found


def changed(document: Any, dice: random.Random) -> bytes:
    """The text of a document in which something is wrong, or maybe not."""
    document = copy.deepcopy(document)
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        spots = places(document)
        if not spots:
            break
        container, key = dice.choice(spots)
        action = dice.randrange(6)
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        elif action == 2:
            other, place = dice.choice(spots)
            container[key] = copy.deepcopy(other[place]) if place in range_of(other) else None
        elif action == 3 and isinstance(container, dict):
            name = dice.choice(["x", "id", "name", "configuration", "must_understand", "shape"])
            container[name] = copy.deepcopy(dice.choice(HOSTILE))
        elif action == 4:
            container[key] = nested(dice.choice([1, 3, 80]), container[key])
        else:
            container[key] = copy.deepcopy(dice.choice(HOSTILE))
    text = json.dumps(document).encode()
    return text if dice.random() < 0.7 else scrambled(text, dice)


def range_of(container: Any) -> Any:
    return range(len(container)) if isinstance(container, list) else container


def scrambled(data: bytes, dice: random.Random) -> bytes:
    """Bytes turned over, cut off, repeated, put in."""
    value = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 8])):
        at = dice.randrange(len(value) + 1)
        action = dice.randrange(5)
        if action == 0 and at < len(value):
            value[at] ^= 1 << dice.randrange(8)
        elif action == 1:
            del value[at : at + dice.choice([1, 4, 1000])]
        elif action == 2:
            value[at:at] = value[at : at + dice.randrange(40)]
        elif action == 3:
            value[at:at] = dice.choice([b"\0", b"\xff" * 8, b'"', b"[" * 100, b"1" * 5000, b"NaN", b"\xef\xbb\xbf"])
        else:
            value[at : at + 4] = dice.choice([b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80"])
    return bytes(value)


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
LAYOUTS: list[dict[str, Any]] = [
    {"chunks": (4, 4), "compressors": [Crc32c()]},
    {"chunks": (8, 8), "compressors": [Zstd()]},
    {"chunks": (8, 8), "compressors": [Blosc()]},
    {"chunks": (8, 8), "compressors": [Gzip()]},
    {"chunks": (4, 4), "shards": (8, 8), "compressors": [Zstd()]},
    {"chunks": (2, 2), "shards": (8, 8), "compressors": None},
    {"chunks": (8, 8), "compressors": None, "serializer": {"name": "sharding_indexed", "configuration": {
        "chunk_shape": [4, 4], "index_location": "start", "index_codecs": [LITTLE], "codecs": [
            {"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 2], "codecs": [LITTLE]}}]}}},
]  # fmt: skip


def samples() -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    made = []
    for layout in LAYOUTS:
        place: dict[str, bytes] = {}
        a = zarrant.create_array(place, shape=(16, 16), dtype="uint16", attributes={"a": [1, {"b": 2.5}]}, **layout)
        a[...] = np.random.default_rng(0).integers(1, 50, (16, 16), "uint16")
        made.append((json.loads(place["zarr.json"]), place))
    return made


def hostile_index(data: bytes, document: Any, dice: random.Random) -> bytes:
    """Entries of the index of a shard changed, its checksum right again."""
    sharding = document["codecs"][0]["configuration"]
    count = 64 // int(np.prod(sharding["chunk_shape"]))
    sealed = len(sharding.get("index_codecs", [1, 2])) == 2
    size = 16 * count + 4 * sealed
    first = sharding.get("index_location") == "start"
    raw = bytearray(data[:size] if first else data[-size:])
    for _ in range(dice.choice([1, 1, 2, 5])):
        at = 8 * dice.randrange(2 * count)
        (old,) = struct.unpack_from("<Q", raw, at)
        value = dice.choice(
            [0, 1, old + 1, old - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 2, len(data), dice.randrange(len(data) + 9)]
        )
        struct.pack_into("<Q", raw, at, value % 2**64)
    if sealed:
        struct.pack_into("<I", raw, 16 * count, int(crc32c(bytes(raw[:-4]))))
    return bytes(raw) + data[size:] if first else data[:-size] + bytes(raw)


class Case:
    """One case after the other; what they raised."""

    def __init__(self, seed: str) -> None:
        self.dice = random.Random(seed)
        self.samples = samples()
        self.refused = 0
        self.wrong: list[str] = []

    def try_(self, call: Callable[[], object], shown: object) -> bool:
        try:
            call()
        except ZarrantError:
            self.refused += 1
            return False
        except BaseException as error:
            self.wrong.append(f"{type(error).__name__}: {error} from {safely(shown)}"[:600])
            return False
        return True

    def document(self) -> None:
        text = changed(self.dice.choice(self.samples)[0], self.dice)

        def parse() -> None:
            found = v3.parse(text)
            if isinstance(found, v3.ArrayMetadata):
                BoundArray.from_metadata("", found, OpOptions())
            v3.parse(v3.dump(found))

        self.try_(parse, text)

    def creation(self) -> None:
        place: dict[str, bytes] = {}
        options: dict[str, Any] = {"shape": (4, 6), "dtype": "int16", "chunks": (2, 3), "attributes": {"kept": 1}}
        for _ in range(self.dice.choice([0, 1, 1, 2])):
            value = self.given()
            name = self.dice.choice(["attributes", "fill_value", "dimension_names", "compressors", "filters", "serializer"])
            codec = {"name": "zstd", "configuration": value}
            options[name] = self.dice.choice([value, [value], [value, value], {"a": value}, codec])
        if not self.try_(lambda: zarrant.create_array(place, **options), options):
            assert place == {}, options
            return
        self.must_open(place, options)
        value = self.given()
        a = zarrant.open_array(place)
        self.try_(lambda: a.update_attributes({"a": value}), value)
        self.must_open(place, value)
        self.try_(lambda: a.resize(self.dice.choice([(4, 6), (9, 1), value])), value)
        self.must_open(place, value)

    def given(self) -> Any:
        value = self.dice.choice(GIVEN)
        return nested(self.dice.choice([0, 0, 0, 1, 60, 61, 62, 63, 64]), value)

    def must_open(self, place: dict[str, bytes], shown: object) -> None:
        """What is acknowledged can be opened, read and written."""
        try:
            a = zarrant.open_array(place, config={"concurrency": 1})
            corner = (slice(0, 1),) * a.ndim
            a[corner] = a[corner]
            a.attrs["again"] = 1
        except Exception as error:
            self.wrong.append(f"not opened: {type(error).__name__}: {error} from {safely(shown)}"[:600])

    def array(self) -> None:
        document, stored = self.dice.choice(self.samples)
        place = dict(stored)
        keys = [key for key in place if key != "zarr.json"]
        kind = self.dice.choice(["document", "payload", "payload", "index", "index"])
        key = self.dice.choice(keys)
        if kind == "document":
            place["zarr.json"] = changed(document, self.dice)
        elif kind == "index" and document["codecs"][0]["name"] == "sharding_indexed":
            place[key] = hostile_index(place[key], document, self.dice)
        else:
            place[key] = scrambled(place[key], self.dice)
        shown = (place["zarr.json"] if kind == "document" else json.dumps(document["codecs"]), key, place[key][:300])
        self.try_(lambda: self.use(place), shown)

    def use(self, place: dict[str, bytes]) -> None:
        a = zarrant.open_array(place, mode="r+", config={"concurrency": 1})
        if a.size > 2**20:
            a[(0,) * a.ndim]
            return
        read = self.try_(lambda: a[...], place["zarr.json"])
        corner = (slice(0, 1),) * a.ndim
        written = self.try_(lambda: a.__setitem__(corner, a.fill_value), place["zarr.json"])
        if read and written and a.size:
            assert a[(0,) * a.ndim] == a.fill_value or a.fill_value != a.fill_value


def main() -> None:
    what, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    case = Case(seed)
    run = {"documents": case.document, "creations": case.creation, "arrays": case.array}[what]
    for _ in range(50):
        run()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        run()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(json.dumps({"cases": count, "refused": case.refused, "grown": grown, "wrong": case.wrong[:10]}))


if __name__ == "__main__":
    main()
