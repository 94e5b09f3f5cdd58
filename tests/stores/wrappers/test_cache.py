from __future__ import annotations

import asyncio
import mmap
import os
import random
import signal
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.children import lasting

import zarrant
from children import ended
from zarrant.errors import OptionError, VersionChangedError
from zarrant.storage import ByteRange
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Cache, Metrics
from zarrant.testkit import CoroutineStore, content, together

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)


def cached(data: dict[str, bytes] | None = None, **options: Any) -> tuple[Cache, Metrics]:
    inside = Metrics(MemoryStore(data))
    return Cache(inside, **options), inside


def test_bytes_are_read_once() -> None:
    store, inside = cached({"a": bytes(range(100))})
    for _ in range(3):
        assert content(store.get("a")) == bytes(range(100))
        assert content(store.get_ranges("a", [ByteRange(5, 3), ByteRange.suffix(2)])) == bytes([5, 6, 7, 98, 99])
    counts = inside.snapshot()
    assert (counts.requests["get"], counts.requests.get("get_ranges", 0), counts.bytes_read) == (1, 0, 100)
    assert (store.hits, store.misses) == (5, 1)


def test_only_the_ranges_that_are_not_kept_are_read() -> None:
    store, inside = cached({"a": bytes(range(100))})
    store.get_ranges("a", [ByteRange.suffix(10)])
    inside.reset()
    blob = store.get_ranges("a", [ByteRange(90, 10), ByteRange(3, 4), ByteRange(90)])
    assert [list(part) for part in blob.data] == [[*range(90, 100)], [3, 4, 5, 6], [*range(90, 100)]]  # type: ignore[union-attr]
    counts = inside.snapshot()
    assert (counts.requests, counts.bytes_read) == ({"get_ranges": 1}, 4)


def test_another_writer_is_seen_at_once() -> None:
    data = {"a": b"old", "b": b"old"}
    store, _ = cached(data)
    store.get("a"), store.get_ranges("b", [ByteRange(0, 2)])
    MemoryStore(data).put("a", [b"new"])
    MemoryStore(data).put("b", [b"new!"])
    assert content(store.get("a")) == b"new"
    assert content(store.get_ranges("b", [ByteRange(0, 2), ByteRange(3, 1)])) == b"ne!"
    MemoryStore(data).erase("a")
    assert store.get("a") is None
    assert store.get_ranges("a", [ByteRange(0, 1)]) is None


def test_a_version_that_is_gone_is_refused() -> None:
    data = {"a": b"old"}
    store, _ = cached(data)
    version = store.get("a").version  # type: ignore[union-attr]
    assert content(store.get_ranges("a", [ByteRange(1)], version)) == b"ld"
    MemoryStore(data).put("a", [b"new"])
    for _ in range(2):
        with pytest.raises(VersionChangedError):
            store.get_ranges("a", [ByteRange(1)], version)
    store.get("a")
    with pytest.raises(VersionChangedError):
        store.get_ranges("a", [ByteRange(1)], version)


def test_within_an_age_the_store_is_not_asked_but_own_writes_are_seen() -> None:
    data = {"a": b"1", "b/c": b"1"}
    store, inside = cached(data, max_age=3600.0)
    store.get("a"), store.get("b/c")
    inside.reset()
    assert content(store.get("a")) == b"1"
    assert inside.snapshot().requests == {}
    MemoryStore(data).put("a", [b"2"])
    assert content(store.get("a")) == b"1"
    store.put("a", [b"3"])
    assert content(store.get("a")) == b"3"
    store.only_while(zarrant.requests.OnlyWhile("a", store.version("a"))).erase_prefix("b/")
    assert store.get("b/c") is None
    MemoryStore(data).put("a", [b"4"])
    version = store.get("a").version  # type: ignore[union-attr]
    with pytest.raises(VersionChangedError):
        store.put_if("a", [b"5"], version)
    assert content(store.get("a")) == b"4"  # so the next try can succeed


def test_what_was_read_before_an_own_write_is_not_kept_after_it() -> None:
    """A slow reader must not put back what a writer of the same process has replaced."""
    reading, written = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def get(self, key: str) -> Any:
            blob = super().get(key)
            if threading.current_thread().name == "reader":
                reading.set()
                written.wait(30)
            return blob

    store = Cache(Slow({"a": b"old"}), max_age=3600.0)
    reader = threading.Thread(target=store.get, args=("a",), name="reader")
    reader.start()
    reading.wait(30)
    store.put("a", [b"new"])
    written.set()
    reader.join()
    assert content(store.get("a")) == b"new"


def test_it_keeps_no_more_than_it_may() -> None:
    data = {f"k{i}": bytes(1000) for i in range(100)}
    store, inside = cached({**data, "large": bytes(20_000)}, max_bytes=20_000)
    for key in data:
        store.get(key)
        store.get("k0")
        assert store.nbytes <= 20_000
    inside.reset()
    store.get("k0")  # used all the time
    assert inside.snapshot().bytes_read == 0
    store.get("k1")
    assert inside.snapshot().bytes_read == 1000
    store.get("large"), store.get("large")
    assert inside.snapshot().bytes_read == 41_000
    store.clear()
    assert store.nbytes == 0


def test_a_view_of_a_larger_buffer_is_not_kept_alive() -> None:
    class Wide(MemoryStore):
        def get_ranges(self, key: str, ranges: Any, if_version: Any = None) -> Any:
            blob = super().get_ranges(key, ranges, if_version)
            return blob and blob._replace(data=tuple(memoryview(bytes(100_000))[: len(part)] for part in blob.data))

    store = Cache(Wide({"a": bytes(10)}))
    store.get_ranges("a", [ByteRange(0, 5)])
    kept = store._entries.kept["a"].parts[0, 5]
    assert len(kept.obj) == 5


def test_threads_share_it() -> None:
    data = {f"k{i}": bytes([i]) * 100 for i in range(20)}
    store, _ = cached(data, max_bytes=3000)

    def work() -> None:
        dice = random.Random()
        for _ in range(300):
            i = dice.randrange(20)
            assert set(content(store.get_ranges(f"k{i}", [ByteRange(dice.randrange(50), 20)])) or b"") == {i}
            if dice.random() < 0.1:
                store.put(f"k{i}", [bytes([i]) * 100])

    together(*[work] * 4)
    assert store.nbytes == sum(
        view.nbytes + 200 for kept in store._entries.kept.values() for view in kept.parts.values()
    )  # nothing was lost count of


def test_a_child_process_begins_empty(tmp_path: Path) -> None:
    store = Cache(FilesystemStore(tmp_path))
    store.put("a", [b"1"])
    store.get("a")
    with store._entries.lock:  # as another thread may have it
        pid = os.fork()
        if pid == 0:
            os._exit(0 if content(store.get("a")) == b"1" and store.misses == 1 else 1)
        assert ended(pid) == 0


def test_coroutines() -> None:
    inside = Metrics(CoroutineStore({"a": bytes(range(10))}))
    store = Cache(inside)

    async def use() -> None:
        for _ in range(3):
            assert content(await store.get_async("a")) == bytes(range(10))
            assert content(await store.get_ranges_async("a", [ByteRange(1, 2)])) == b"\1\2"
        assert inside.snapshot().bytes_read == 10
        await store.put_async("a", [b"new"])
        assert content(await store.get_async("a")) == b"new"

    asyncio.run(use())


def test_an_array_reads_indexes_and_subchunks_once(tmp_path: Path) -> None:
    inside = Metrics(FilesystemStore(tmp_path))
    store = Cache(inside)
    values = np.random.default_rng(1).integers(0, 1000, (64, 64), "u2")
    a = zarrant.create_array(store, shape=(64, 64), shards=(64, 64), chunks=(8, 8), dtype="u2", data=values)
    assert np.array_equal(a[0:8, 0:8], values[0:8, 0:8])
    inside.reset()
    assert np.array_equal(a[0:8, 0:8], values[0:8, 0:8])
    assert inside.snapshot().bytes_read == 0
    zarrant.open_array(FilesystemStore(tmp_path), mode="r+")[0:8, 0:8] = 7
    assert (a[0:8, 0:8] == 7).all()


@pytest.mark.parametrize("options", [{"max_bytes": -1}, {"max_age": float("nan")}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        Cache(MemoryStore(), **options)
    assert caught.value.field == next(iter(options))


# ── linearizable, beside writers in other processes ──────────────────────────────────────────────────────────────────

WRITERS, OBJECTS, LARGE = 8, 4, 3000


def write_numbers(path: Path, started: Any, done: Any, seed: int) -> None:
    """Replace objects by larger and larger numbers; note each in shared memory before it is stored, and after."""
    store, dice = FilesystemStore(path), random.Random(seed)
    while True:
        i = dice.randrange(OBJECTS)
        with store.lock([f"k{i}"]) as held:
            number = started[i] + 1
            started[i] = number
            held.put(f"k{i}", [struct.pack("<Q", number) * dice.randrange(1, LARGE)])
            done[i] = number


def number_of(data: bytes) -> int:
    (number,) = set(struct.unpack(f"<{len(data) // 8}Q", data))
    return int(number)


READS: list[Callable[[Cache, str], bytes | None]] = [
    lambda store, key: content(store.get(key)),
    lambda store, key: content(store.get_ranges(key, [ByteRange(0, 8)])),
    lambda store, key: content(store.get_ranges(key, [ByteRange.suffix(8), ByteRange(0, 8)])),
]


def test_a_read_is_never_older_than_what_was_acknowledged_before_it(tmp_path: Path) -> None:
    """8 processes write, and threads read through one cache: each read gives a value that was current during the read."""
    store = Cache(FilesystemStore(tmp_path))
    shared = np.frombuffer(mmap.mmap(-1, 16 * OBJECTS), "u8")
    started, done = shared[:OBJECTS], shared[OBJECTS:]
    for i in range(OBJECTS):
        store.put(f"k{i}", [struct.pack("<Q", 0)])
    writers = []
    for seed in range(WRITERS):
        pid = os.fork()
        if pid == 0:
            try:
                write_numbers(tmp_path, started, done, seed)
            finally:
                os._exit(1)
        writers.append(pid)
    counts = [0, 0, 0]

    def enough() -> bool:
        return int(done.sum()) > 50 and sum(counts) > 200 and store.hits > 0

    goes_on = lasting(60 if SOAK else 2, enough)

    def read(which: int) -> None:
        dice, last = random.Random(which), [0] * OBJECTS
        while goes_on():
            i = dice.randrange(OBJECTS)
            for _ in range(dice.randrange(1, 6)):
                low = max(int(done[i]), last[i])
                last[i] = number_of(READS[dice.randrange(3)](store, f"k{i}") or b"")
                assert low <= last[i] <= int(started[i])
                counts[which] += 1

    try:
        together(*[lambda which=which: read(which) for which in range(3)])
    finally:
        for pid in writers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    print(f"{int(done.sum())} writes, {sum(counts)} reads, {store.hits} of them from the cache")
    assert enough()
