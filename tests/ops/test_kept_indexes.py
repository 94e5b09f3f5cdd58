"""Indexes of shards that a handle keeps: a read is one request, and never of an index that is out of date."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

import zarrant
from servers import Proxy, Server, start_proxy
from zarrant.codecs import Crc32c
from zarrant.errors import ChunkError, ChunkMissingError
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.local.temp_files import LASTING_AFTER_NS
from zarrant.stores.object_store import ObjectStore
from zarrant.stores.objects.versions import ObjectVersion
from zarrant.testkit import together

DATA = np.arange(1, 257, dtype="int32").reshape(16, 16)


@pytest.fixture
def proxy(moto: Server) -> Iterator[Proxy]:
    with start_proxy(moto) as proxy:
        yield proxy


@pytest.fixture
def array(proxy: Proxy) -> Any:
    url = proxy.server.fresh_url()
    zarrant.create_array(url, data=DATA, chunks=(4, 4), shards=(16, 16), storage_options=proxy.server.storage_options)
    return zarrant.open_array(url, mode="r+", storage_options=proxy.server.storage_options)


@pytest.fixture
def asked(proxy: Proxy) -> Callable[[], list[str]]:
    def take() -> list[str]:
        methods = [request.method for request in proxy.requests]
        proxy.requests.clear()
        return methods

    return take


def test_the_index_is_read_once(array: Any, asked: Callable[[], list[str]]) -> None:
    asked()
    assert (array[0:4, 0:4] == DATA[0:4, 0:4]).all()
    assert asked() == ["GET", "GET"]
    assert (array[4:8, 4:8] == DATA[4:8, 4:8]).all()
    assert asked() == ["GET"]
    assert (array[5, 5], array[0:4, 4:12].shape) == (DATA[5, 5], (4, 8))
    assert asked() == ["GET", "GET"]


def test_a_replaced_shard_is_read_with_its_own_index(array: Any, asked: Callable[[], list[str]]) -> None:
    other = zarrant.open_array(array.url, mode="r+", storage_options=array.store._options)
    assert array[0, 0] == 1
    for value in (7, 8, 9):
        other[0:16, 0:16] = np.random.default_rng(value).integers(0, 1 << 20, (16, 16))  # of other sizes
        other[0:4, 0:4] = value
        asked()
        assert (array[0:4, 0:4] == value).all()
        assert asked() == ["GET", "GET", "GET"]  # the data of the old one is refused
        assert (array[0:4, 0:4] == value).all()
        assert asked() == ["GET"]


def test_what_is_not_stored_in_a_shard_is_asked_for(array: Any, asked: Callable[[], list[str]]) -> None:
    other = zarrant.open_array(array.url, mode="r+", storage_options=array.store._options)
    other[0:4, 0:4] = 0
    assert array[0, 0] == 0
    asked()
    assert array[1, 1] == 0
    assert asked() == ["HEAD"]
    other[0:4, 0:4] = 5
    assert array[1, 1] == 5


def test_a_shard_that_was_erased(array: Any) -> None:
    other = zarrant.open_array(array.url, mode="r+", storage_options=array.store._options)
    strict = array.with_config(missing_chunks="error")
    assert array[0, 0] == strict[0, 0] == 1
    other.erase_chunk((0, 0))
    assert array[0, 0] == 0
    with pytest.raises(ChunkMissingError):
        strict[4, 4]


def test_a_whole_shard_is_one_request(array: Any, asked: Callable[[], list[str]]) -> None:
    asked()
    assert (array[...] == DATA).all()
    assert asked() == ["GET"]


def test_only_what_has_the_same_bytes_for_good_is_kept() -> None:
    tagged, weak, dated = ObjectVersion("a"), ObjectVersion('W/"a"'), ObjectVersion.of({"last_modified": 1, "size": 2})
    assert (tagged.lasting, weak.lasting, dated.lasting) == (True, False, False)


class Files(Syscalls):
    """Files of a file system of this machine, by a clock that is set."""

    def __init__(self) -> None:
        self.ahead = 0

    def kind(self, device: int) -> str:
        return "disk"

    def now(self) -> int:
        return super().now() + self.ahead


def test_the_index_of_a_file_is_kept_once_a_write_in_place_would_show(tmp_path: Path) -> None:
    files = Files()
    array = zarrant.create_array(FilesystemStore(tmp_path, syscalls=files), data=DATA, chunks=(4, 4), shards=(16, 16))
    assert array[0, 0] == 1
    assert array._array.indexes._kept == {}  # just written: the same inode, size and mtime may get other bytes
    files.ahead = 2 * LASTING_AFTER_NS
    assert array[0, 0] == 1
    assert list(array._array.indexes._kept) == ["c/0/0"]
    assert (array[4:8, 4:12] == DATA[4:8, 4:12]).all()
    array[...] = DATA[::-1]
    assert (array[0:4, 0:4] == DATA[::-1][0:4, 0:4]).all()
    path, shard = tmp_path / "c/0/0", (tmp_path / "c/0/0").read_bytes()
    zarrant.create_array(tmp_path / "other", data=DATA + 7, chunks=(4, 4), shards=(16, 16))
    assert (array[0:4, 0:4] == DATA[::-1][0:4, 0:4]).all()
    with path.open("r+b") as file:  # another program writes into the file
        file.write((tmp_path / "other/c/0/0").read_bytes())
        file.truncate()
    assert array[0, 0] == 8
    path.write_bytes(shard)
    assert (array[...] == DATA[::-1]).all()


def test_the_index_of_a_file_of_another_machine_is_not_kept(tmp_path: Path) -> None:
    files = Syscalls()
    files.kind = lambda device: ""  # type: ignore[method-assign]
    array = zarrant.create_array(FilesystemStore(tmp_path, syscalls=files), data=DATA, chunks=(4, 4), shards=(16, 16))
    os.utime(tmp_path / "c/0/0", ns=(1, 1))
    assert array[0, 0] == 1
    assert array._array.indexes._kept == {}


class HeldBack:
    """An object store in memory, whose replies with indexes are held back after they were made; it notes what is asked for."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.asked: list[Any] = []
        self.made, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def get(self, path: str, *, options: Any = None) -> Any:
        found = self.inner.get(path, options=options)
        self._note(path, options)
        if isinstance((options or {}).get("range"), dict):
            self.made.set()
            assert self.go_on.wait(20)
        return found

    async def get_async(self, path: str, *, options: Any = None) -> Any:
        found = await self.inner.get_async(path, options=options)
        self._note(path, options)
        while not self.go_on.is_set():
            self.made.set()
            await asyncio.sleep(0.001)
        return found

    def _note(self, path: str, options: Any) -> None:
        if "/c/" in f"/{path}":
            self.asked.append((options or {}).get("range"))

    def indexes(self) -> int:
        """How often an index was asked for."""
        return sum(isinstance(wanted, dict) for wanted in self.asked)


def on(inner: HeldBack, values: Any) -> Any:
    """An array with one shard."""
    return zarrant.create_array(ObjectStore(inner), data=values, chunks=(4, 4), shards=(16, 16))


def test_threads_that_read_first_at_the_same_time_ask_for_the_index_once() -> None:
    inner = HeldBack()
    array = on(inner, DATA)
    inner.asked.clear()
    inner.go_on.clear()
    parts = [np.s_[i : i + 4, j : j + 4] for i in (0, 4, 8, 12) for j in (0, 4, 8, 12)]

    def read(part: Any) -> None:
        assert np.array_equal(array[part], DATA[part])

    def release() -> None:
        assert inner.made.wait(20)
        time.sleep(0.05)
        inner.go_on.set()

    together(*[partial(read, part) for part in parts], release)
    assert inner.indexes() == 1
    assert len(inner.asked) == 1 + len(parts)


def test_an_index_of_a_version_that_need_not_last_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a weak ETag, say: an object of the same version may have other bytes, so the condition of a read proves nothing."""
    monkeypatch.setattr(ObjectVersion, "lasting", False)
    inner = HeldBack()
    array = on(inner, DATA)
    inner.asked.clear()
    inner.go_on.clear()

    def read() -> None:
        assert array[5, 5] == DATA[5, 5]

    def release() -> None:
        assert inner.made.wait(20)
        time.sleep(0.05)
        inner.go_on.set()

    together(read, read, release)
    assert inner.indexes() == 2


def test_tasks_that_read_first_at_the_same_time_ask_for_the_index_once() -> None:
    inner = HeldBack()
    on(inner, DATA)
    inner.asked.clear()
    parts = [np.s_[i : i + 4, j : j + 4] for i in (0, 4, 8, 12) for j in (0, 4, 8, 12)]

    async def read() -> None:
        array = await zarrant.open_array_async(ObjectStore(inner))
        inner.go_on.clear()
        early = [asyncio.create_task(array.getitem(part)) for part in parts[:8]]
        while not inner.made.is_set():
            await asyncio.sleep(0.001)
        late = [asyncio.create_task(array.getitem(part)) for part in parts[8:]]
        await asyncio.sleep(0.02)
        inner.go_on.set()
        for part, found in zip(parts, await asyncio.gather(*early, *late), strict=True):
            assert np.array_equal(found, DATA[part])

    asyncio.run(read())
    assert inner.indexes() == 1
    assert len(inner.asked) == 2  # all parts of the shard are near, and are read together


def outcome(read: Callable[[], Any]) -> Any:
    """What a read gives, or the error of it."""
    try:
        return read().tolist()
    except ChunkError as error:
        return type(error), error.key, error.chunk, error.field, error.message


corners = st.tuples(*[st.integers(0, 15)] * 2)
regions = st.tuples(corners, corners).map(lambda c: tuple(slice(min(side), max(side) + 1) for side in zip(*c, strict=True)))


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(regions, min_size=2, max_size=8),
    absent=st.sets(st.tuples(*[st.integers(0, 3)] * 2), max_size=8),
    damage=st.sampled_from(["", "", "index", "data", "no shard"]),
)
def test_reads_at_the_same_time_are_what_each_is_alone(parts: list[Any], absent: set[tuple[int, int]], damage: str) -> None:
    """Threads and tasks that share an index and near ranges get the values, or the error, that they get by themselves."""
    store, values = ObjectStore(MemoryStore()), DATA.copy()
    for i, j in absent:
        values[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = 0
    zarrant.create_array(store, data=values, chunks=(4, 4), shards=(16, 16), compressors=[Crc32c()])
    if damage == "no shard":
        store.erase("c/0/0")
    elif damage and (blob := store.get("c/0/0")) is not None:
        data = bytearray(bytes(blob.data[0]))
        data[-1 if damage == "index" else 0] ^= 1
        store.put("c/0/0", [bytes(data)])
    alone = [outcome(lambda part=part: zarrant.open_array(store)[part]) for part in parts]  # type: ignore[misc]
    array, threads = zarrant.open_array(store), [None] * len(parts)

    def read(number: int) -> None:
        threads[number] = outcome(lambda: array[parts[number]])

    async def read_in_tasks() -> list[Any]:
        array = await zarrant.open_array_async(store)
        return await asyncio.gather(*[array.getitem(part) for part in parts], return_exceptions=True)

    def give(found: Any) -> Any:
        if isinstance(found, BaseException):
            raise found
        return found

    together(*[partial(read, number) for number in range(len(parts))])
    assert threads == alone
    assert [outcome(partial(give, found)) for found in asyncio.run(read_in_tasks())] == alone


@pytest.mark.parametrize("old", [0, 3])
def test_an_index_that_another_has_asked_for_is_not_believed(old: int) -> None:
    """A reader that comes while another waits for the index sees what was written before it came."""
    inner = HeldBack()
    values = DATA.copy()
    values[:4, :4] = old  # with 0 the subchunk is not stored: no data are asked for
    array = on(inner, values)
    writer = zarrant.open_array(ObjectStore(inner), mode="r+")
    writer[8, 8]  # it knows the index, and does not wait for it below
    inner.go_on.clear()
    inner.made.clear()
    found: list[Any] = []

    def first() -> None:
        found.append(int(array[5, 5]))

    def second() -> None:
        assert inner.made.wait(20)
        writer.store_chunk((0, 0), np.full((16, 16), 9, "int32"))
        threading.Timer(0.05, inner.go_on.set).start()
        assert array[1, 1] == 9

    together(first, second)
    assert found[0] in (DATA[5, 5], 9)


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_no_read_is_older_than_what_was_written_before_it(kind: str, gofakes3: Server) -> None:
    """A writer replaces a shard, sparse and full in turn, beside readers that all begin with an empty handle."""
    url, options = gofakes3.fresh_url(), gofakes3.storage_options
    writer = zarrant.create_array(url, shape=(64,), dtype="u4", chunks=(4,), shards=(64,), storage_options=options)
    started, done, stop = [0], [0], threading.Event()

    def write() -> None:
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            started[0] += 1
            values = np.full(64, started[0], "u4")
            values[4 * (started[0] % 16) :: 16] = 0
            writer.store_chunk((0,), values)
            done[0] = started[0]
        stop.set()

    def check(low: int, at: int, found: Any) -> None:
        for number, value in zip(range(at, at + 4), found.tolist(), strict=True):
            possible = range(low, started[0] + 1)
            assert value in possible or any(number >= 4 * (n % 16) and number % 16 == 4 * (n % 16) % 16 for n in possible), (
                low,
                value,
            )

    async def read_in_tasks() -> None:
        async def read(array: Any, at: int) -> None:
            low = done[0]
            check(low, at, await array.getitem(np.s_[at : at + 4]))

        dice = random.Random(1)
        while not stop.is_set():
            array = await zarrant.open_array_async(url, storage_options=options)
            await asyncio.gather(*(read(array, dice.randrange(60)) for _ in range(12)))

    def read_in_threads() -> None:
        while not stop.is_set():
            array = zarrant.open_array(url, storage_options=options)
            together(*[partial(read_a_few, array, seed) for seed in range(6)])

    def read_a_few(array: Any, seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(4):
            at, low = dice.randrange(60), done[0]
            check(low, at, array[at : at + 4])

    together(write, read_in_threads if kind == "threads" else lambda: asyncio.run(read_in_tasks()))
    assert done[0] > 20
