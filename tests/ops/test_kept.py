"""Reads with the option `cache`: what is kept is never used for another version, and equals what is read without it."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import pickle
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.children import lasting

import zarrant
from children import ended
from zarrant.codecs import Bytes, Crc32c, ShardingIndexed, Transpose, VlenBytes, VlenUtf8, Zstd
from zarrant.codecs.chain import chain_of
from zarrant.errors import ChunkError, ChunkMissingError, PartialFailure
from zarrant.run.decoded_cache import VALUE_OVERHEAD, ProcessCache
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.wrappers import Metrics
from zarrant.testkit import CoroutineStore, together

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
CHECKED = chain_of([Bytes(), Crc32c()])


def sharding(shape: tuple[int, ...], *inner: Any, at: str = "end") -> ShardingIndexed:
    return ShardingIndexed(shape, chain_of(list(inner)), CHECKED, at)


def layouts(elements: Any) -> dict[str, dict[str, Any]]:
    return {
        "chunk": {"chunks": (12, 10)},
        "small chunk": {"chunks": (2, 3), "compressors": [Zstd(1), Crc32c()]},
        "V2": {"chunks": (6, 5), "zarr_format": 2},
        "filtered": {"chunks": (6, 5), "filters": [Transpose((1, 0))], "compressors": Zstd(1)},
        "rectilinear": {"chunks": [[3, 9, 8], [10, 10]]},
        "shard": {"chunks": (3, 5), "shards": (12, 10)},
        "transposed shard": {"chunks": (3, 5), "shards": (12, 10), "filters": Transpose((1, 0))},
        "nested": {"chunks": (8, 8), "serializer": sharding((4, 4), sharding((2, 2), elements, Zstd(1)))},
        "nested, index first": {
            "chunks": (8, 8), "serializer": sharding((8, 8), sharding((8, 8), sharding((2, 2), elements), at="start"), at="start"),
        },
        "compressed shard": {"chunks": (8, 8), "serializer": sharding((4, 4), elements), "compressors": Zstd(1)},
        "uncompressed": {"chunks": (20, 20), "compressors": None},
    }  # fmt: skip


ELEMENTS = {"int16": Bytes(), "string": VlenUtf8(), "bytes": VlenBytes()}
LAYOUTS = layouts(Bytes())


def hits(a: Any) -> int:
    return int(a._context.cache.cache.hits)


@pytest.mark.parametrize(
    ("layout", "dtype"), [(layout, dtype) for layout in LAYOUTS for dtype in ELEMENTS if layout != "V2" or dtype == "int16"]
)
def test_reads_what_is_there_now(layout: str, dtype: str, tmp_path: Path) -> None:
    dice = np.random.default_rng(3)
    a = zarrant.create_array(tmp_path, shape=(20, 20), dtype=dtype, **layouts(ELEMENTS[dtype])[layout])
    kept = zarrant.open_array(tmp_path, mode="r", config={"cache": "1 MiB"})
    values: list[Any] = [0, 1, 2] if dtype == "int16" else ["", "a", "long enough to be elsewhere"]
    values = [value.encode() for value in values] if dtype == "bytes" else values
    before = hits(kept)
    for _ in range(20):
        x, y = dice.integers(0, 20, 2)
        if dice.random() < 0.3:
            a[x : x + 7, y:] = np.full(a[x : x + 7, y:].shape, values[dice.integers(3)], a.dtype)
        selections = [np.s_[x : x + 6, y : y + 6], np.s_[x:, ::3], np.s_[::-2, y]]
        for selection in selections:
            assert np.array_equal(kept[selection], a[selection])
        assert np.array_equal(kept.vindex[[x, 0, x], [y, y, 3]], a.vindex[[x, 0, x], [y, y, 3]])
    assert hits(kept) > before + 5


@pytest.mark.parametrize(
    "dtype", ["bool", "u1", ">u2", "f2", "f8", "c8", "M8[s]", "m8[ms]", "bfloat16", "V3", [("a", "u1"), ("b", ">f4")]], ids=str
)
@pytest.mark.parametrize("shards", [None, (10, 20)], ids=["chunks", "shards"])
def test_elements_of_every_kind_from_several_kept_chunks(dtype: Any, shards: Any, tmp_path: Path) -> None:
    a = zarrant.create_array(tmp_path, shape=(20, 20), dtype=dtype, chunks=(5, 5), shards=shards, config={"cache": "1 MiB"})
    bits = np.random.default_rng(2).integers(0, 2, (20, 20 * a.dtype.itemsize), "u1")
    values = bits.view(a.dtype).reshape(20, 20)
    a[...] = values
    for _ in range(2):
        for item in (np.s_[3:17, 2:9], np.s_[1::3, ::-2]):
            assert a[item].tobytes() == values[item].tobytes()
        rows, columns = [*range(19, 0, -1), 4], list(range(0, 20, 2))
        assert a.oindex[rows, columns].tobytes() == values[np.ix_(rows, columns)].tobytes()


def test_text_of_v2() -> None:
    a = zarrant.create_array({}, shape=(20,), dtype="string", chunks=(7,), zarr_format=2)
    kept = a.with_config(cache="1 MiB")
    for text in ("one", "another one, with more letters"):
        a[3:12] = text
        for _ in range(3):
            assert kept[:].tolist() == a[:].tolist()
    out = np.empty(20, object)
    kept.retrieve_array_subset(np.s_[:], out=out)
    assert out.tolist() == a[:].tolist()


@pytest.mark.parametrize("layout", ["chunk", "shard", "nested"])
def test_bytes_are_read_and_decoded_once(layout: str) -> None:
    store = Metrics(zarrant.MemoryStore())
    values = np.arange(400, dtype="int16").reshape(20, 20)
    kept = zarrant.create_array(store, data=values, config={"cache": "1 MiB"}, **LAYOUTS[layout])
    assert np.array_equal(kept[...], values)
    store.reset()
    for _ in range(3):
        assert np.array_equal(kept[...], values)
        assert np.array_equal(kept[3:7, 5:11], values[3:7, 5:11])
        assert np.array_equal(kept.retrieve_chunk((0, 0))[:8, :8], values[:8, :8])
    assert store.snapshot().bytes_read == 0


def test_what_is_returned_is_the_callers_own() -> None:
    kept = zarrant.create_array({}, data=np.arange(12), chunks=(12,), config={"cache": "1 MiB"})
    for _ in range(3):
        got = kept[:]
        assert got.tolist() == list(range(12))
        got[:] = 7
        chunk = kept.retrieve_chunk((0,))
        assert chunk.tolist() == list(range(12))
        chunk[:] = 8


def test_scalars_and_empty_reads() -> None:
    a = zarrant.create_array({}, shape=(), dtype="int16", chunks=(), config={"cache": 4096})
    a[...] = 3
    assert [int(a[...]) for _ in range(3)] == [3, 3, 3]
    b = zarrant.create_array({}, shape=(0, 4), dtype="int16", chunks=(1, 4), config={"cache": 4096})
    assert b[...].shape == (0, 4)


def test_missing_and_damaged_chunks() -> None:
    objects: dict[str, bytes] = {}
    a = zarrant.create_array(objects, shape=(8,), dtype="int16", chunks=(2,), compressors=[Zstd(1), Crc32c()])
    kept = a.with_config(cache="1 MiB")
    strict = kept.with_config(missing_chunks="error")
    a[:4] = 5
    assert kept[:].tolist() == kept[:].tolist() == [5] * 4 + [0] * 4
    with pytest.raises(PartialFailure):
        strict[:]
    a.erase_chunk((0,))
    assert kept[:].tolist() == [0, 0, 5, 5, 0, 0, 0, 0]
    with pytest.raises(ChunkMissingError, match="c/0"):
        strict[:1]
    assert strict.retrieve_chunk_if_exists((0,)) is None
    objects["c/1"] = objects["c/1"][:-1] + b"?"
    with pytest.raises(ChunkError) as caught:
        kept[1:6]
    assert caught.value.chunk == (1,)


def test_other_metadata_at_the_same_place() -> None:
    objects: dict[str, bytes] = {}
    a = zarrant.create_array(objects, data=np.arange(4, dtype="<i2"), chunks=(4,), compressors=None)
    kept = a.with_config(cache="1 MiB")
    assert kept[:].tolist() == [0, 1, 2, 3]
    objects["zarr.json"] = objects["zarr.json"].replace(b'"int16"', b'"uint16"').replace(b'"little"', b'"big"')
    other = zarrant.open_array(objects, mode="r", config={"cache": "1 MiB"})
    assert other[:].tolist() == [0, 256, 512, 768]
    assert kept[:].tolist() == [0, 1, 2, 3]


def test_places_of_one_name_in_two_stores_are_two() -> None:
    kept = [zarrant.create_array({}, data=np.full(4, i), chunks=(4,), config={"cache": "1 MiB"}) for i in range(20)]
    for _ in range(2):
        assert [int(a[0]) for a in kept] == list(range(20))


@pytest.mark.parametrize("dtype", ["int64", "string"])
def test_the_bound_holds(dtype: str) -> None:
    values = np.arange(4096).reshape(64, 64).astype("int64" if dtype == "int64" else np.dtypes.StringDType())
    for options in ({"chunks": (8, 8)}, {"chunks": (4, 4), "shards": (16, 16)}):
        kept = zarrant.create_array({}, data=values, config={"cache": 40_000}, **options)
        cache, dice = kept._context.cache.cache, random.Random(1)
        for _ in range(200):
            x, y = dice.randrange(60), dice.randrange(60)
            assert np.array_equal(kept[x : x + 5, y : y + 5], values[x : x + 5, y : y + 5])
            held = sum(nbytes for _, nbytes in cache._kept.values())
            assert held == cache.nbytes <= 40_000
            real = sum(kept_.value.nbytes for kept_, _ in cache._kept.values() if isinstance(kept_.value, np.ndarray))
            assert real <= held
        assert cache.nbytes > 20_000
    large = zarrant.create_array({}, data=values, chunks=(64, 64), config={"cache": 20_000})
    assert np.array_equal(large[...], values) and np.array_equal(large[3:9, 60:], values[3:9, 60:])


def test_what_was_unused_for_longest_goes_first() -> None:
    cache = ProcessCache(10 * (100 + VALUE_OVERHEAD))
    for i in range(10):
        cache.keep(i, 1, i, 100)
    assert cache.find(0) is not None
    cache.keep("new", 1, "new", 100)
    assert cache.find(1) is None and cache.find(0) is not None
    cache.keep("large", 1, "large", 6 * 900)
    assert cache.find("large") is None
    cache.keep(0, 2, "other", 200)
    assert cache.find(0) == (2, "other") and cache.nbytes <= cache.max_bytes


def test_handles_of_one_size_share_what_is_kept_and_the_last_frees_it(tmp_path: Path) -> None:
    size = 123_457
    group = zarrant.create_group(tmp_path, config={"cache": size})
    group.create_array("a", data=np.arange(100), chunks=(100,))
    group["a"][:]
    before = hits(group["a"])
    assert group["a"][3] == zarrant.open_array(tmp_path, name="a", config={"cache": size})[3] == 3
    assert hits(group["a"]) == before + 2
    copy = pickle.loads(pickle.dumps(group["a"]))
    assert copy[5] == 5 and hits(copy) == before + 3
    from zarrant.run.decoded_cache import _caches

    assert size in _caches
    del group, copy
    gc.collect()
    assert size not in _caches


def test_without_the_option_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    a = zarrant.create_array({}, data=np.arange(4))
    assert a._context.cache is None
    assert a.with_config(cache="1 MiB").with_config(cache=0)._context.cache is None
    monkeypatch.setenv("ZARRANT_CACHE", "2 MiB")
    assert zarrant.create_array({}, data=np.arange(4)).config.cache == 2 << 20


def test_a_forked_child_starts_with_an_empty_cache(tmp_path: Path) -> None:
    kept = zarrant.create_array(tmp_path, data=np.arange(1000), chunks=(100,), config={"cache": "1 MiB"})
    kept[:]
    cache = kept._context.cache.cache
    cache._lock.acquire()  # as if a thread of this process were at work there
    try:
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            right = cache.nbytes == 0 and kept[:].tolist() == list(range(1000)) and cache.nbytes > 0
            os._exit(0 if right else 1)
    finally:
        cache._lock.release()
    assert ended(pid) == 0
    assert cache.nbytes > 0


@pytest.mark.parametrize("layout", ["chunk", "shard", "nested"])
def test_coroutines(layout: str) -> None:
    store = CoroutineStore()
    values = np.arange(400, dtype="int16").reshape(20, 20)

    async def use() -> None:
        a = await zarrant.create_array_async(store, shape=(20, 20), dtype="int16", **LAYOUTS[layout])
        kept = a.with_config(cache="1 MiB")
        for i in range(4):
            await a.store_array_subset(np.s_[:], values + i)
            tasks = [kept.retrieve_array_subset(np.s_[x : x + 5, x : x + 9]) for x in range(12)]
            for x, got in enumerate(await asyncio.gather(*tasks)):
                assert np.array_equal(got, values[x : x + 5, x : x + 9] + i)
        assert hits(kept) > 10

    asyncio.run(use())


class FarStore(CoroutineStore):
    """A store for whose requests is waited, so that the subchunks of a read are fetched together."""

    requests_in_flight = 8


def test_of_what_is_fetched_together_only_what_is_not_kept_is_read() -> None:
    store = Metrics(FarStore())
    values = np.random.default_rng(1).integers(0, 1000, (2048, 1024), "u2")
    a = zarrant.create_array(store, data=values, chunks=(64, 64), shards=(2048, 1024))
    kept = a.with_config(cache="64 MiB")
    assert np.array_equal(kept[100:1900, 70:900], values[100:1900, 70:900])
    store.reset()
    assert np.array_equal(kept[...], values)
    missing = store.snapshot().bytes_read
    a[130:200, 140:150] = values[130:200, 140:150] = 7
    assert np.array_equal(kept[...], values)
    store.reset()
    assert np.array_equal(kept[...], values)
    assert store.snapshot().bytes_read == 0 < missing < values.nbytes // 2
    small = a.with_config(cache="1 MiB")  # less than what is read
    for _ in range(3):
        assert np.array_equal(small[64:, ::2], values[64:, ::2])
        assert small._context.cache.cache.nbytes <= 1 << 20  # type: ignore[union-attr]


# ── never older than what was acknowledged, beside writers in other processes ────────────────────────────────────────

WRITERS, CHUNKS, SIDE = 4, 4, 64


def write_numbers(path: Path, started: Any, done: Any, seed: int) -> None:
    """Fill chunks with larger and larger numbers; note each in shared memory before it is stored, and after."""
    a, dice = zarrant.open_array(path, mode="r+"), random.Random(seed)
    while True:
        i = dice.randrange(CHUNKS)
        with a.lock(np.s_[i * SIDE : (i + 1) * SIDE]) as held:
            number = started[i] + 1
            started[i] = number
            held[i * SIDE : (i + 1) * SIDE] = number
            done[i] = number


@pytest.mark.parametrize("layout", ["chunks", "shards"])
def test_a_read_is_never_older_than_what_was_acknowledged_before_it(layout: str, tmp_path: Path) -> None:
    """4 processes write, and threads read with one cache: each read gives a value that was current during the read."""
    options: dict[str, Any] = {"chunks": (SIDE,)} if layout == "chunks" else {"chunks": (16,), "shards": (SIDE,)}
    kept = zarrant.create_array(tmp_path, shape=(CHUNKS * SIDE,), dtype="u8", config={"cache": "1 MiB"}, **options)
    shared = np.frombuffer(mmap.mmap(-1, 16 * CHUNKS), "u8")
    started, done = shared[:CHUNKS], shared[CHUNKS:]
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
        return int(done.sum()) > 20 and sum(counts) > 100 and hits(kept) > 0

    goes_on = lasting(60 if SOAK else 1.5, enough)

    def read(which: int) -> None:
        dice, last = random.Random(which), [0] * CHUNKS
        while goes_on():
            i, at = dice.randrange(CHUNKS), dice.randrange(SIDE - 8)
            for _ in range(dice.randrange(1, 6)):
                low = max(int(done[i]), last[i])
                (found,) = set(kept[i * SIDE + at : i * SIDE + at + 8].tolist())
                assert low <= found <= int(started[i])
                last[i] = found
                counts[which] += 1

    readers: list[Callable[[], None]] = [lambda which=which: read(which) for which in range(3)]  # type: ignore[misc]
    try:
        together(*readers)
    finally:
        for pid in writers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    print(f"{int(done.sum())} writes, {sum(counts)} reads, {hits(kept)} found what is kept")
    assert enough()


class OldNames(Syscalls):
    """Files of another machine: what is known of a name may be old until the file is opened."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def kind(self, device: int) -> str:
        return ""

    def stat(self, path: str) -> os.stat_result:
        return self.seen.setdefault(path, super().stat(path)) if path.endswith("c/0") else super().stat(path)


def test_a_version_by_name_is_not_believed_of_another_machine(tmp_path: Path) -> None:
    written = zarrant.create_array(tmp_path, data=np.arange(4), chunks=4)
    reader = zarrant.open_array(FilesystemStore(tmp_path, syscalls=OldNames()), mode="r", config={"cache": 1 << 20})
    for value in (5, 6, 7):
        written[...] = value
        assert reader[...].tolist() == [value] * 4


def test_what_is_kept_of_several_chunks_is_looked_at_together(tmp_path: Path) -> None:
    array = zarrant.create_array(tmp_path, data=np.arange(16).reshape(4, 4), chunks=(2, 2), config={"cache": 1 << 20})
    for _ in range(3):
        assert array[1:4, 1:3].tolist() == [[5, 6], [9, 10], [13, 14]]
    other = zarrant.open_array(tmp_path)
    other[2, 1] = 77
    assert array[1:4, 1:3].tolist() == [[5, 6], [77, 10], [13, 14]]
    other.erase_chunk((1, 1))
    assert array[1:4, 1:3].tolist() == [[5, 6], [77, 0], [13, 0]]
