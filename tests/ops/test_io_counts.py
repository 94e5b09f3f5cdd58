"""Which requests reach the store: whole writes read nothing, partial ones the index and what they cover partly, reads write not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.storage import Buffer, ByteRange, capabilities
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import READS, WRITES, Call, Recording

S = np.s_
INDEX = 16 * 16 + 4
"""Bytes of the index of a shard of 16 subchunks: a pair of 8 bytes for each, and a checksum."""


class ReadsRaise:
    """A store on which every read is a failure of the test; all else is that of the store inside."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def get(self, key: str) -> Any:
        raise AssertionError(f"read {key}")

    def get_within(self, key: str, limit: int) -> Any:
        raise AssertionError(f"read {key}")

    def get_ranges(self, key: str, ranges: Any, if_version: Any = None) -> Any:
        raise AssertionError(f"read {ranges} of {key}")

    def update_box(self, key: str, update: Any, condition: Any) -> Any:
        raise AssertionError(f"read {key}")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._hold if name == "lock" else found

    @contextmanager
    def _hold(self, keys: Any) -> Any:
        with self._store.lock(keys) as locked:
            yield ReadsRaise(locked)


def over(a: Any, store: Any) -> Any:
    """The same array on another store."""
    return type(a)(type(a._context)(store, a.path, a.config, a._context.guarded), a.metadata)


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemoryStore() if request.param == "memory" else FilesystemStore(tmp_path)


def make(store: Any, shards: Any = (8, 8), **options: Any) -> Any:
    """An array of 10 x 12 whose right and lower chunks (or shards) reach beyond its edge."""
    options = {"chunks": (2, 2) if shards else (8, 8), "compressors": None, "fill_value": 0, **options}
    return zarrant.create_array(store, shape=(10, 12), dtype="uint16", shards=shards, **options)


def data(shape: tuple[int, ...] = (10, 12)) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 1000, shape).astype("uint16")


WHOLE: list[Callable[[Any], object]] = [
    lambda a: a.store_chunk((0, 0), data((8, 8))),
    lambda a: a.store_chunk((1, 1), data((2, 4))),
    lambda a: a.store_chunk((1, 1), data((8, 8))),
    lambda a: a.store_chunk((0, 1), 0),
    lambda a: a.store_chunks(S[0:2, 0:2], data()),
    lambda a: a.store_chunks(S[0:2, 0:2], data((16, 16))),
    lambda a: a.store_encoded_chunk((0, 0), b"as they are"),
    lambda a: a.store_encoded_chunks([(0, 0), (1, 1)], [b"one", b"two"]),
    lambda a: a.erase_chunk((0, 0)),
    lambda a: a.erase_chunks(S[:, 0:1]),
]
MASK = np.ones((10, 12), bool)
EDGE = np.zeros((10, 12), bool)
EDGE[8:, 8:] = True
COVERING: dict[str, Callable[[Any], object]] = {
    "subset": lambda a: a.store_array_subset(S[:, :], data()),
    "subset of an edge chunk": lambda a: a.store_array_subset(S[8:10, 8:12], data((2, 4))),
    "subset of a chunk": lambda a: a.store_chunk_subset((1, 1), S[0:2, 0:4], data((2, 4))),
    "subset into the padding": lambda a: a.store_chunk_subset((1, 1), S[0:8, 0:8], data((8, 8))),
    "everything": lambda a: put(a, S[...], data()),
    "slices of an edge chunk": lambda a: put(a, S[8:, 8:], 5),
    "steps of one": lambda a: put(a, S[::1, 8:12:1], 5),
    "negative steps": lambda a: put(a, S[::-1, ::-1], data()),
    "negative steps at the edge": lambda a: put(a, S[9:7:-1, :7:-1], 5),
    "oindex": lambda a: put(a.oindex, (np.arange(10)[::-1], np.arange(8, 12)), 5),
    "oindex, twice the same": lambda a: put(a.oindex, ([8, 9, 8], [8, 9, 10, 11]), 5),
    "oindex of a mask": lambda a: put(a.oindex, (np.arange(10) >= 8, slice(8, None)), 5),
    "vindex": lambda a: put(a.vindex, (np.repeat([8, 9], 4), np.tile([11, 8, 10, 9], 2)), 5),
    "vindex of all": lambda a: put(a.vindex, tuple(np.indices((10, 12)).reshape(2, -1)), 5),
    "mask": lambda a: put(a, MASK, data().ravel()),
    "mask of an edge chunk": lambda a: put(a, EDGE, 5),
    "vindex of a mask": lambda a: put(a.vindex, EDGE, 5),
    "blocks": lambda a: put(a.blocks, S[:, :], data()),
    "blocks at the edge": lambda a: put(a.blocks, S[1, 1], 5),
    "a row of blocks": lambda a: put(a.blocks, S[-1], 5),
    "one index array": lambda a: put(a, S[:, [8, 9, 10, 11]], 5),
}


def put(a: Any, selection: Any, values: Any) -> None:
    a[selection] = values


@pytest.mark.parametrize("shards", [None, (8, 8)])
@pytest.mark.parametrize("call", WHOLE)
def test_whole_writes_never_read(store: Any, shards: Any, call: Callable[[Any], object]) -> None:
    for filled in (False, True):
        a = make(store, shards, overwrite=filled)
        if filled:
            a[...] = data()
        call(over(a, ReadsRaise(a.store)))
        recording = Recording(a.store)
        call(over(a, recording))
        assert recording.calls
        assert {made.method for made in recording.calls} <= {"lock", "put", "erase"}


@pytest.mark.parametrize("shards", [None, (8, 8)])
@pytest.mark.parametrize("name", COVERING)
def test_covered_chunks_are_never_read(store: Any, shards: Any, name: str) -> None:
    a = make(store, shards)
    a[...] = data()
    COVERING[name](over(a, ReadsRaise(store)))
    expected = zarrant.create_array({}, shape=(10, 12), dtype="uint16", chunks=(10, 12))
    expected[...] = data()
    if name not in ("subset into the padding", "subset of a chunk", "blocks", "blocks at the edge", "a row of blocks"):
        COVERING[name](expected)
        assert np.array_equal(a[...], expected[...])
    recording = Recording(store)
    COVERING[name](over(a, recording))
    assert {made.method for made in recording.calls} <= {"lock", "put", "erase"}


def test_covering_only_part_of_the_padding_reads(store: Any) -> None:
    """The check of the checks: a chunk with one element left out is read."""
    a = make(store, None)
    a[...] = data()
    for call in (
        lambda b: put(b, S[8:, 8:11], 5),
        lambda b: put(b, S[::2, :], 5),
        lambda b: put(b.oindex, ([8], [8, 9, 10, 11]), 5),
    ):
        with pytest.raises(Exception, match=r"read|chunk\(s\) failed"):
            call(over(a, ReadsRaise(store)))


def reads(calls: list[Call]) -> list[tuple[str, str, Any]]:
    return [(made.method, made.key, made.ranges) for made in calls if made.method in READS]


@pytest.mark.parametrize("location", ["end", "start"])
def test_partial_writes_of_a_shard(store: Any, location: str) -> None:
    """One subchunk of 8 bytes written whole: the index and nothing else. A part of one: that subchunk too."""
    a = shard_of_16(store, location)
    a[...] = data()
    at = ByteRange(0, INDEX) if location == "start" else ByteRange.suffix(INDEX)
    first = INDEX if location == "start" else 0
    key, expected = a.chunk_key((0, 0)), data()

    def subchunk(i: int, j: int, n: int = 1) -> ByteRange:
        return ByteRange(first + 8 * (4 * i + j), 8 * n)

    cases: list[tuple[Any, tuple[ByteRange, ...]]] = [
        (S[2:4, 2:4], ()),
        (S[0:8, 4:6], ()),
        (S[4:5, 0:2], (subchunk(2, 0),)),
        (S[3:7, 0:2], (subchunk(1, 0), subchunk(3, 0))),
        (S[0:2, 1:7], (subchunk(0, 0), subchunk(0, 3))),
        (S[0:1, 0:8], (subchunk(0, 0, 4),)),
    ]
    for number, (region, partly) in enumerate(cases):
        fresh = shard_of_16(MemoryStore(), location) if number else a
        fresh[...] = data()
        recording = Recording(fresh.store)
        over(fresh, recording)[region] = 5 + number
        expected = data()
        expected[region] = 5 + number
        wanted = [("get_ranges", key, (at,))] + ([("get_ranges", key, partly)] if partly else [])
        assert reads(recording.calls) == wanted, region
        assert np.array_equal(fresh[...], expected)
        stored = [made for made in recording.calls if made.method in WRITES]
        assert [made.method for made in stored] == ["splice"]
        kept = 8 * 16
        assert stored[0].ranges == (ByteRange(first, kept),)
        n = expected[:8, :8][region].size
        touched = {(r // 2, c // 2) for r in range(8)[region[0]] for c in range(8)[region[1]]}
        assert n
        assert stored[0].nbytes == INDEX + 8 * len(touched)


def shard_of_16(store: Any, location: str) -> Any:
    """Shards of 4 x 4 subchunks of 2 x 2 elements of 2 bytes."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    return make(store, None, serializer={
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [2, 2], "codecs": [little], "index_codecs": [little, {"name": "crc32c"}], "index_location": location
        },
    })  # fmt: skip


def test_a_held_shard_is_asked_for_once(tmp_path: Path) -> None:
    """On files a small update of what this process has stored is one read of the index, and one splice, which locks."""
    a = make(FilesystemStore(tmp_path))
    a[...] = data()
    recording = Recording(a.store)
    over(a, recording)[2:4, 2:4] = 9
    assert [made.method for made in recording.calls] == ["get_ranges", "splice"]


def test_an_update_that_finds_nothing(store: Any) -> None:
    for shards in (None, (8, 8)):
        a = make(store, shards, overwrite=True)
        recording = Recording(store)
        over(a, recording)[0, 0] = 9
        assert [made.method for made in recording.calls if made.method in READS] == ["get_ranges" if shards else "get"]
        assert int(a[0, 0]) == 9
        assert int(a[...].sum()) == 9


class Kept:
    """A store of Put and Erase that keeps the very buffers it is given."""

    def __init__(self) -> None:
        self.parts: list[Buffer] = []

    def put(self, key: str, parts: Any) -> None:
        self.parts.extend(parts)

    def erase(self, key: str) -> None: ...

    def erase_prefix(self, prefix: str) -> None: ...


def address(buffer: Any) -> int:
    return np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, np.ndarray])
def test_encoded_chunks_are_not_copied(kind: type, tmp_path: Path) -> None:
    raw = np.arange(4096, dtype="uint32")
    given: Any = raw if kind is np.ndarray else memoryview(raw) if kind is memoryview else kind(raw.tobytes())
    kept = Kept()
    a = over(make({}), kept)
    assert capabilities(kept).get is False
    a.store_encoded_chunk((0, 0), given)
    a.store_encoded_chunks([(0, 1), (1, 1)], [given, given])
    assert {address(part) for part in kept.parts} == {address(given)}
    assert [memoryview(part).nbytes for part in kept.parts] == [raw.nbytes] * 3

    seen: list[tuple[int, int]] = []

    class Watching(Syscalls):
        def write(self, fd: int, views: Any, offset: int) -> int:
            seen.extend((address(view), view.nbytes) for view in views)
            return super().write(fd, views, offset)

    syscalls = Watching()
    b = over(make({}), FilesystemStore(tmp_path, syscalls=syscalls))
    b.store_metadata()
    seen.clear()
    b.store_encoded_chunk((0, 0), given)
    assert seen == [(address(given), raw.nbytes)]
    assert bytes(b.retrieve_encoded_chunk((0, 0))) == raw.tobytes()


READING: list[Callable[[Any], object]] = [
    lambda a: a[...],
    lambda a: a[3, 4],
    lambda a: a.oindex[[1, 9], [0, 11]],
    lambda a: a.vindex[[1, 9], [0, 11]],
    lambda a: a.blocks[1, 1],
    lambda a: a.retrieve_chunk((1, 1)),
    lambda a: a.retrieve_chunk_if_exists((0, 1)),
    lambda a: a.retrieve_chunks(S[:, :]),
    lambda a: a.retrieve_chunk_subset((0, 0), S[1:3, 1:3]),
    lambda a: a.retrieve_array_subset(S[1:9, 3:11]),
    lambda a: a.retrieve_encoded_chunk((0, 0)),
    lambda a: a.retrieve_encoded_chunks(S[:, :]),
    lambda a: a.refresh(),
    lambda a: zarrant.open_array(a.store, mode="r"),
]


@pytest.mark.parametrize("shards", [None, (8, 8)])
@pytest.mark.parametrize("call", READING)
def test_reads_never_write(store: Any, shards: Any, call: Callable[[Any], object]) -> None:
    a = make(store, shards)
    a[0:8, :] = data((8, 12))
    recording = Recording(a.store)
    call(over(a, recording))
    assert recording.calls
    assert {made.method for made in recording.calls} <= set(READS)


def test_reads_of_one_subchunk(store: Any) -> None:
    a = shard_of_16(store, "end")
    a[...] = data()
    recording = Recording(store)
    view = over(a, recording)
    for read in (lambda: view.retrieve_subchunk((1, 2)), lambda: view[2:4, 4:6], lambda: view[3, 4]):
        recording.calls.clear()
        read()
        assert reads(recording.calls) == [
            ("get_ranges", "c/0/0", (ByteRange.suffix(INDEX),)), ("get_ranges", "c/0/0", (ByteRange(8 * 6, 8),))
        ]  # fmt: skip
    assert np.array_equal(a.retrieve_subchunk((1, 2)), data()[2:4, 4:6])


@pytest.mark.parametrize("layout", [{"chunks": (2, 2), "shards": (10, 12)}, {"chunks": (512, 512)}])
def test_near_ranges_are_one_request_by_the_option(layout: dict[str, Any]) -> None:
    store = Recording(zarrant.MemoryStore())
    shape = (10, 12) if "shards" in layout else (512, 512)
    values = np.arange(shape[0] * shape[1], dtype="u2").reshape(shape)
    a = zarrant.create_array(store, data=values, compressors=None, **layout)
    counts = {}
    for gap in ("auto", 0, 2, "64 KiB"):
        handle = a.with_config(coalesce_gap=gap)
        store.calls.clear()
        assert np.array_equal(handle[2:8, 4:6], values[2:8, 4:6])
        counts[gap] = max(len(call.ranges or ()) for call in store.calls)
    assert counts["auto"] == counts[0] == counts[2] > counts["64 KiB"] == 1
