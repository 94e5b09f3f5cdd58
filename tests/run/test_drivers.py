from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant import requests
from zarrant.errors import (
    CapabilityError,
    ConflictError,
    LockTimeout,
    NodeExistsError,
    PartialFailure,
    StoreError,
    VersionChangedError,
    ZarrantError,
)
from zarrant.requests import ANY, Op, ReadRequest, WriteRequest
from zarrant.run import asynchronous
from zarrant.run.asynchronous import perform_async
from zarrant.run.blocking import MAX_LOOP_THREADS, ExecutionContext, perform
from zarrant.run.pool import Pool
from zarrant.storage import Blob, ByteRange
from zarrant.stores.local.objects import FileObjects
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import WriteOnly
from zarrant.testkit import FaultySyscalls, together

SOAK = bool(os.environ.get("ZARRANT_SOAK"))


class Slow:
    """A store whose methods are coroutines that take their time; counts how many calls are under way."""

    url = "test://slow"

    def __init__(self, delay: float = 0.0005) -> None:
        self.inner, self.delay = MemoryStore(), delay
        self.now = self.most = 0

    async def _wait(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.delay * random.random())
        finally:
            self.now -= 1

    async def get_async(self, key: str) -> Blob | None:
        await self._wait()
        return self.inner.get(key)

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Any = None) -> Blob | None:
        await self._wait()
        return self.inner.get_ranges(key, ranges, if_version)

    async def put_async(self, key: str, parts: Sequence[Any]) -> Any:
        await self._wait()
        return self.inner.put(key, parts)

    async def put_if_async(self, key: str, parts: Sequence[Any], if_version: Any) -> Any:
        await self._wait()
        return self.inner.put_if(key, parts, if_version)

    async def erase_async(self, key: str) -> None:
        await self._wait()
        self.inner.erase(key)

    async def erase_if_async(self, key: str, if_version: Any) -> None:
        await self._wait()
        self.inner.erase_if(key, if_version)

    async def erase_prefix_async(self, prefix: str) -> None:
        await self._wait()
        self.inner.erase_prefix(prefix)

    async def list_prefix_async(self, prefix: str) -> list[str]:
        await self._wait()
        return list(self.inner.list_prefix(prefix))

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        await self._wait()
        return self.inner.list_dir(prefix)


def context(store: Any, threads: int = 2) -> ExecutionContext:
    return ExecutionContext(store, Pool(threads, 1 << 20), threads)


class Drivers:
    """Every way to perform an operation on the same objects."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.slow = Slow(0)
        self.memory = self.slow.inner

    def __call__(self, op: Op[Any]) -> Any:
        if self.kind == "blocking":
            return perform(op, context(self.memory))
        return asyncio.run(perform_async(op, context(self.memory if self.kind == "in a thread" else self.slow)))


@pytest.fixture(params=["blocking", "in a thread", "native async"])
def run(request: pytest.FixtureRequest) -> Drivers:
    return Drivers(request.param)


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fetch_gives_one_outcome_each(run: Drivers) -> None:
    version = run.memory.put("a", [b"abcdef"])
    wants = [
        ReadRequest("a"),
        ReadRequest("b"),
        ReadRequest("a", (ByteRange(1, 2), ByteRange.suffix(1))),
        ReadRequest("a", (ByteRange(5, 9),)),
        ReadRequest("a", None, "stale"),
        ReadRequest("a", None, version),
        ReadRequest("a", (ByteRange(0, 1),), "stale"),
        ReadRequest("b", None, version),
        ReadRequest("../x"),
    ]
    whole, absent, ranges, beyond, stale, same, stale_range, gone, bad = run(requests.fetch(wants))
    assert bytes(whole.data[0]) == b"abcdef"
    assert (whole.version, whole.size) == (version, 6)
    assert absent is None
    assert [bytes(data) for data in ranges.data] == [b"bc", b"f"]
    assert bytes(same.data[0]) == b"abcdef"
    assert isinstance(beyond, StoreError)
    assert beyond.key == "a"
    assert [type(error) for error in (stale, stale_range, gone)] == [VersionChangedError] * 3
    assert isinstance(bad, Exception)


def test_put_gives_one_outcome_each(run: Drivers) -> None:
    version = run.memory.put("a", [b"0123456789"])
    other = run.memory.put("b", [b"b"])
    items = [
        WriteRequest("a", [b"<", ByteRange(2, 3), b">"], version),
        WriteRequest("b", [b"lost"], "stale"),
        WriteRequest("c", [b"1", memoryview(b"2")]),
        WriteRequest("d", None),
        WriteRequest("e", [b"new"], None),
        WriteRequest("f", [ByteRange(0, 1)], "stale"),
        WriteRequest("/bad", [b""]),
    ]
    a, b, c, d, e, f, bad = run(requests.put(items))
    assert [a, c, d, e] == [*(run.memory.get(key).version for key in "ac"), None, run.memory.get("e").version]  # type: ignore[union-attr]
    assert isinstance(b, VersionChangedError)
    assert isinstance(f, VersionChangedError)
    assert isinstance(bad, Exception)
    assert {key: bytes(run.memory.get(key).data[0]) for key in "abce"} == {"a": b"<234>", "b": b"b", "c": b"12", "e": b"new"}  # type: ignore[union-attr]
    assert run(
        requests.put(
            [WriteRequest("b", None, "stale"), WriteRequest("b", None, other), WriteRequest("a", [ByteRange(1, 3), b"!"], ANY)]
        )
    )[1:] == [
        None,
        run.memory.get("a").version,  # type: ignore[union-attr]
    ]
    assert run.memory.get("b") is None
    assert bytes(run.memory.get("a").data[0]) == b"234!"  # type: ignore[union-attr]


def test_listing_and_erasing(run: Drivers) -> None:
    for key in ("a/b", "a/c/d", "e"):
        run.memory.put(key, [b""])
    assert run(requests.list_dir("")) == (["e"], ["a/"])
    assert run(requests.list_prefix("a/")) == ["a/b", "a/c/d"]
    run(requests.erase_prefix("a/"))
    assert run(requests.list_prefix("")) == ["e"]


def test_side_by_side_in_order_and_each_with_its_outcome(run: Drivers) -> None:
    def one(i: int) -> Op[int]:
        yield from requests.put_one(f"k/{i}", [b"%d" % i])
        if i % 5 == 3:
            raise ValueError(i)
        blob = yield from requests.fetch_one(f"k/{i}")
        assert blob is not None
        return int(bytes(blob.data[0]))

    outcomes = run(requests.gather_outcomes((one(i) for i in range(40)), 10))
    assert [outcome if isinstance(outcome, int) else -outcome.args[0] for outcome in outcomes] == [
        -i if i % 5 == 3 else i for i in range(40)
    ]
    with pytest.raises(ValueError, match="3"):
        run(requests.gather((one(i) for i in range(6)), 10))


def test_nothing_side_by_side(run: Drivers) -> None:
    assert run(requests.gather(iter(()), 1)) == []


def test_operations_that_cannot_be_made_fail_the_group(run: Drivers) -> None:
    """An error of the iterator of operations is nobody's outcome: it must not end as a shorter list."""

    def one(i: int) -> Op[int]:
        yield from requests.pause(0.001)
        return i

    def ops() -> Iterator[Op[int]]:
        for i in range(10):
            yield one(i)
        raise RuntimeError("no more memory")

    for _ in range(10):
        with pytest.raises((RuntimeError, BaseExceptionGroup)):
            run(requests.gather(ops(), 1))


def test_errors_are_thrown_into_the_operation(run: Drivers) -> None:
    def op() -> Op[str]:
        try:
            yield from requests.erase_prefix("no slash")
        except Exception as error:
            return type(error).__name__
        return "nothing was raised"

    assert run(op()) == "OptionError"


def test_locked_runs_inside(run: Drivers) -> None:
    def inner() -> Op[str]:
        yield from requests.put_one("a", [b"1"])
        return "done"

    assert run(requests.locked(("a", "b"), inner())) == "done"
    with pytest.raises(ZeroDivisionError):
        run(requests.locked(("a",), fails()))
    assert run(requests.locked(("a",), inner())) == "done"


@pytest.mark.parametrize("concurrency", [1, 4])
def test_one_call_syncs_each_directory_once(tmp_path: Any, concurrency: int) -> None:
    """Acknowledged together: the data of each object, then each directory, and the new ones above, from the bottom up."""
    syscalls = FaultySyscalls()
    store = zarrant.FilesystemStore(tmp_path, durability="fsync", syscalls=syscalls)
    options = {"durability": "fsync", "concurrency": concurrency}
    a = zarrant.create_array(store, shape=(8, 8), chunks=(1, 2), dtype="uint8", compressors=None, config=options)

    def syncs(work: Callable[[], object]) -> int:
        syscalls.calls.clear()
        work()
        return syscalls.calls.count("sync")

    def fill() -> None:
        a[...] = np.arange(1, 65, dtype="uint8").reshape(8, 8)

    assert syncs(fill) == 32 + 8 + 1 + 1  # objects, c/0 to c/7, c, the root
    assert syncs(fill) == 32 + 8
    assert syncs(lambda: a.store_array_subset(np.s_[:2, 1:7], 5)) == 8 + 2  # four of them updates
    assert syncs(lambda: a.erase_chunks(np.s_[:, :])) == 8
    assert syncs(lambda: a[...]) == 0
    assert not a[...].any()


def test_what_cannot_be_synced_fails_the_call(tmp_path: Any) -> None:
    def fault(index: int, name: str) -> None:
        if failing and name == "sync" and "rename" in syscalls.calls:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    failing, syscalls = False, FaultySyscalls(fault)
    store = zarrant.FilesystemStore(tmp_path, durability="fsync", syscalls=syscalls)
    options = {"durability": "fsync", "concurrency": 1}
    a = zarrant.create_array(store, name="a", shape=8, chunks=8, dtype="uint8", fill_value=0, config=options)
    b = zarrant.create_array(store, name="b", shape=8, chunks=4, dtype="uint8", fill_value=0, config=options)
    a[...] = b[...] = 1
    failing = True
    for array in (a, b):
        syscalls.calls.clear()
        with pytest.raises(ZarrantError) as caught:
            array[...] = 2
        assert "Input/output" in str(caught.value)
    failing = False
    a[...] = b[...] = 3
    assert (a[...] == 3).all() and (b[...] == 3).all()


def fails() -> Op[None]:
    yield from requests.pause(0)
    raise ZeroDivisionError


def test_operations_are_closed_however_they_end(run: Drivers) -> None:
    closed = []

    def op(error: bool) -> Op[None]:
        try:
            yield from requests.pause(0)
            if error:
                raise KeyError("x")
        finally:
            closed.append(error)

    run(op(False))
    with pytest.raises(KeyError):
        run(op(True))
    assert closed == [False, True]


def test_a_store_that_cannot_is_a_capability_error() -> None:
    store = WriteOnly(MemoryStore())
    (outcome,) = perform(requests.fetch([ReadRequest("a")]), context(store))
    assert isinstance(outcome, CapabilityError)
    with pytest.raises(CapabilityError):
        perform(requests.list_dir(""), context(store))


def test_foreign_errors_become_store_errors_with_their_cause(run: Drivers) -> None:
    def broken(*_: Any) -> Any:
        raise ConnectionResetError("gone")

    async def broken_async(*_: Any) -> Any:
        raise ConnectionResetError("gone")

    run.memory.get = broken  # type: ignore[method-assign]
    run.slow.get_async = broken_async  # type: ignore[method-assign]
    (outcome,) = run(requests.fetch([ReadRequest("a")]))
    assert isinstance(outcome, StoreError)
    assert isinstance(outcome.__cause__, ConnectionResetError)
    assert outcome.key == "a"


# ── the event loop is never blocked ──────────────────────────────────────────────────────────────────────────────────


class Watchdog:
    """Ticks on an event loop and, beside it, in a thread that nothing but the machine can hold up."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.busy: list[float] = []
        self.usual: list[float] = []
        self.done = threading.Event()

    async def __aenter__(self) -> Watchdog:
        self.thread = threading.Thread(target=self._watch_thread, daemon=True)
        self.thread.start()
        self.task = asyncio.create_task(self._watch_loop())
        await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        self.done.set()
        self.thread.join()

    async def _watch_loop(self) -> None:
        while True:
            before, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.002)
            self.late.append(time.perf_counter() - before)
            self.busy.append(time.thread_time() - used)

    def _watch_thread(self) -> None:
        while not self.done.is_set():
            before = time.perf_counter()
            time.sleep(0.002)
            self.usual.append(time.perf_counter() - before)

    def blocked(self) -> float:
        """Seconds of the longest time in which the loop computed, or was late beyond what the machine explains."""
        return max(*self.busy, max(self.late) - 2 * max(self.usual))


def unblocked(main: Callable[[], Coroutine[Any, Any, float]]) -> bool:
    """Whether one of three runs shows no block of 50 ms: what blocks does so in each, a busy machine does not."""
    return any(asyncio.run(main()) < 0.05 for _ in range(3))


LAYOUTS: list[dict[str, Any]] = [
    {"chunks": (256, 256), "compressors": zarrant.codecs.Gzip(6)},
    {"chunks": (32, 32), "shards": (512, 512)},
    {"chunks": (128, 128), "compressors": zarrant.codecs.Numcodecs("numcodecs.bz2")},
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["files", "memory", "native async"])
def test_no_blocking_call_on_the_event_loop(layout: dict[str, Any], kind: str, tmp_path: Any) -> None:
    side = 600 if "numcodecs" in str(layout) else 1600
    data = np.random.default_rng(0).integers(0, 1000, (side, side), "int32")
    selection, rows = np.s_[100:-3:3, 5:-2], np.arange(1, side, 5)

    async def main() -> float:
        store = {"files": tmp_path, "memory": {}, "native async": Slow()}[kind]
        async with Watchdog() as watchdog:
            a = await zarrant.create_array_async(store, shape=data.shape, dtype="int32", overwrite=True, **layout)
            await a.store_array_subset(np.s_[:, :], data)
            await a.setitem(selection, 7)
            await asyncio.gather(*(a.setitem(np.s_[10 * i : 10 * i + 5, 3:9], i) for i in range(20)))
            got = await a.getitem(...)
            picked = await a.getitem((rows, slice(None)), index="orthogonal")
        data[selection] = 7
        for i in range(20):
            data[10 * i : 10 * i + 5, 3:9] = i
        assert np.array_equal(got, data)
        assert np.array_equal(picked, data[rows])
        return watchdog.blocked()

    assert unblocked(main)


def test_large_selections_are_understood_off_the_event_loop() -> None:
    mask = np.zeros((4000, 3000), bool)
    mask[::7, ::3] = True

    async def main() -> float:
        a = await zarrant.create_array_async({}, shape=mask.shape, dtype="uint8", chunks=(1000, 1000))
        async with Watchdog() as watchdog:
            await a.setitem(mask, 3)
            got = await a.getitem(mask)
        assert got.shape == (mask.sum(),)
        assert (got == 3).all()
        return watchdog.blocked()

    assert unblocked(main)


def test_waiting_for_a_lock_does_not_block_the_event_loop(tmp_path: Any) -> None:
    store = zarrant.FilesystemStore(tmp_path)
    zarrant.create_array(store, shape=(8,), chunks=(8,), dtype="int8")
    held, leave = threading.Event(), threading.Event()

    def lock() -> None:
        with store.lock(["c/0"]):
            held.set()
            leave.wait(30)

    async def main() -> float:
        a = await zarrant.open_array_async(store)
        async with Watchdog() as watchdog:
            tasks = [asyncio.create_task(a.setitem(i, i + 1)) for i in range(8)]
            await asyncio.sleep(0.3)
            assert not any(task.done() for task in tasks)
            leave.set()
            await asyncio.gather(*tasks)
        assert (await a.getitem(...)).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
        return watchdog.blocked()

    owner = threading.Thread(target=lock)
    owner.start()
    held.wait(10)
    try:
        assert asyncio.run(main()) < 0.05
    finally:
        leave.set()
        owner.join()


def test_a_blocking_call_would_be_seen() -> None:
    async def main(block: Any) -> float:
        async with Watchdog() as watchdog:
            block()
            await asyncio.sleep(0.01)
        return watchdog.blocked()

    def compute() -> None:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass

    assert asyncio.run(main(compute)) >= 0.05
    assert max(asyncio.run(main(lambda: time.sleep(0.5))) for _ in range(2)) >= 0.05


# ── cancellation ─────────────────────────────────────────────────────────────────────────────────────────────────────


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
@pytest.mark.parametrize("kind", ["files", "memory", "native async"])
def test_a_cancelled_operation_leaves_objects_whole_and_locks_free(kind: str, tmp_path: Any) -> None:
    dice = random.Random(kind)
    rounds = 300 if SOAK else 40

    async def main() -> None:
        store = {"files": zarrant.FilesystemStore(tmp_path, lock_timeout=5.0), "memory": {}, "native async": Slow()}[kind]
        a = await zarrant.create_array_async(
            store, shape=(64, 64), dtype="int32", chunks=(4, 4), shards=(32, 32), config={"concurrency": 3}
        )
        await a.setitem(..., 1)
        start = time.perf_counter()
        await a.setitem(np.s_[1:63, 1:63], 1)
        usual = time.perf_counter() - start
        before = None
        for value in range(2, rounds + 2):
            task = asyncio.create_task(a.setitem(np.s_[1:63, 1:63], value))
            await asyncio.sleep(dice.random() * usual)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            got = await a.getitem(...)
            for shard in (np.s_[1:32, 1:32], np.s_[1:32, 32:63], np.s_[32:63, 1:32], np.s_[32:63, 32:63]):
                assert len(np.unique(got[shard])) == 1, "each stored object is old or new"
            await asyncio.wait_for(a.setitem(np.s_[0, ::40], value), 4)
            if value == 12:
                before = descriptors()
        assert before is not None
        assert descriptors() <= before + 1

    asyncio.run(main())
    if kind == "files":
        assert [path for path in tmp_path.rglob("*") if "__lock" in path.name] == []


def test_a_cancelled_operation_does_not_wait_for_a_lock(tmp_path: Any) -> None:
    store = zarrant.FilesystemStore(tmp_path, lock_timeout=20.0)
    a = zarrant.create_array(store, shape=(8,), chunks=(8,), dtype="int8")
    a[...] = 1

    async def main() -> float:
        b = await zarrant.open_array_async(store)
        task = asyncio.create_task(b.setitem(3, 9))
        await asyncio.sleep(0.1)
        start = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.perf_counter() - start

    with store.lock(["c/0"]):
        waited = asyncio.run(main())
    assert waited < 3
    a[0] = 2
    assert a[...].tolist() == [2, 1, 1, 1, 1, 1, 1, 1]


def test_a_deadline_stops_a_long_write(tmp_path: Any) -> None:
    async def main() -> None:
        a = await zarrant.create_array_async(
            tmp_path, shape=(4096, 1024), dtype="float64", chunks=(64, 64), compressors=zarrant.codecs.Numcodecs("numcodecs.lzma")
        )
        data = np.random.default_rng(1).random(a.shape)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await a.setitem(..., data)
        assert await a.nchunks_initialized() < 512  # of 1024

    asyncio.run(main())


def test_lock_timeout_names_the_key_and_may_be_retried(tmp_path: Any) -> None:
    store = zarrant.FilesystemStore(tmp_path)
    a = zarrant.create_array(store, shape=(8,), chunks=(8,), dtype="int8").with_config(lock_timeout=0.1)
    with store.lock(["c/0"]), pytest.raises((LockTimeout, PartialFailure)) as caught:
        together(lambda: a.__setitem__(2, 1))
    assert caught.value.retryable
    assert "c/0" in str(caught.value)
    a[2] = 1
    assert a[2] == 1


# ── stores that are asynchronous themselves ──────────────────────────────────────────────────────────────────────────


def test_a_native_async_store_serves_everything() -> None:
    async def main() -> None:
        store = Slow()
        group = await zarrant.create_group_async(store, attributes={"a": 1})
        array = await group.create_array("x/y", shape=(40, 30), dtype="uint16", chunks=(4, 5), shards=(16, 15), fill_value=3)
        model = np.full((40, 30), 3, np.uint16)
        dice = np.random.default_rng(3)
        for _ in range(15):
            (a, b), (c, d) = np.sort(dice.integers(0, 41, 2)), np.sort(dice.integers(0, 31, 2))
            value = dice.integers(0, 9, (b - a, d - c), "uint16")
            await array.setitem(np.s_[a:b, c:d], value)
            model[a:b, c:d] = value
            assert np.array_equal(await array.getitem(np.s_[::-3, 2:]), model[::-3, 2:])
        await asyncio.gather(*(array.setitem((i, slice(None)), i) for i in range(40)))
        model[...] = np.arange(40)[:, None]
        assert np.array_equal(await array.retrieve_array_subset(np.s_[:, :]), model)
        await array.store_chunk((0, 0), np.ones((16, 15), "uint16"))
        assert (await array.retrieve_chunk((0, 0)) == 1).all()
        await array.erase_chunks(np.s_[0:1, 0:2])
        assert await array.retrieve_chunk_if_exists((0, 1)) is None
        await asyncio.gather(*(array.update_attributes({str(i): i}) for i in range(6)))
        await array.refresh()
        assert set(array.attrs) == {str(i) for i in range(6)}
        assert list(await group.members()) == ["x"]
        assert "y (40, 30) uint16" in await group.tree()
        with pytest.raises(NodeExistsError):
            await group.create_array("x/y", shape=(1,), dtype="int8")
        await group.delitem("x")
        assert not await group.contains("x")
        with pytest.raises(CapabilityError, match="async"):
            zarrant.open_array(store)

    asyncio.run(main())


@pytest.mark.parametrize("concurrency", [1, 4])
def test_requests_to_an_async_store_are_bounded(concurrency: int) -> None:
    """Also where one mini-batch holds thousands of tiny chunks."""

    async def main() -> int:
        store = Slow(0.0001)
        a = await zarrant.create_array_async(store, shape=(300,), dtype="int8", chunks=(1,), config={"concurrency": concurrency})
        await a.setitem(..., np.arange(300) % 100 + 1)
        assert (await a.getitem(...)).sum() == (np.arange(300) % 100 + 1).sum()
        await a.erase_chunks(np.s_[0:300])
        return store.most

    assert asyncio.run(main()) <= concurrency


def test_requests_to_an_async_store_are_bounded_in_bytes() -> None:
    """A chunk costs twice its bytes: 8 MiB of memory are those of four at once."""

    async def main() -> int:
        store = Slow(0.001)
        config = {"memory_limit": "8 MiB"}
        a = await zarrant.create_array_async(store, shape=(24, 1 << 20), dtype="u1", chunks=(1, 1 << 20), config=config)
        await a.setitem(..., 1)
        assert (await a.getitem(...)).all()
        return store.most

    assert 2 <= asyncio.run(main()) <= 4


def test_requests_to_an_async_store_wait_for_each_other_less_than_for_it() -> None:
    """Their number does not depend on that of the CPUs: nothing here computes while they are under way."""

    async def main() -> int:
        store = Slow(0.01)
        a = await zarrant.create_array_async(store, shape=(300,), dtype="int8", chunks=(1,), fill_value=1)
        await a.setitem(..., 2)
        return store.most

    assert asyncio.run(main()) == 32


def test_compare_and_swap_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.ops.guard.LAST_PAUSE_S", 0.0)
    store = MemoryStore()
    a = zarrant.create_array(store, shape=(4,), chunks=(4,), dtype="int8")
    a[...] = 1

    def always_late(*_: Any) -> Any:
        raise VersionChangedError("the object was replaced")

    store.put_if = store.splice = always_late  # type: ignore[method-assign]
    with pytest.raises(ConflictError) as caught:
        a[0] = 2
    assert caught.value.retryable
    assert caught.value.key == "c/0"


# ── steps that are brief are taken on the event loop ─────────────────────────────────────────────────────────────────


class Counting(ThreadPoolExecutor):
    """Threads that count how often they are asked."""

    hops = 0

    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.hops += 1
        return super().submit(work, *args, **kwargs)


@pytest.mark.parametrize(
    ("layout", "call", "most"),
    [
        ({"chunks": (8, 8), "shards": (32, 32)}, lambda a: a.setitem(np.s_[3:6, 3:6], 7), 4),
        ({"chunks": (8, 8), "shards": (32, 32)}, lambda a: a.setitem(np.s_[:32, :32], 7), 1),
        ({"chunks": (8, 8), "shards": (32, 32)}, lambda a: a.getitem(np.s_[3:60, 3:60]), 0),
        ({"chunks": (32, 32)}, lambda a: a.setitem(np.s_[3:6, 3:6], 7), 3),
        ({"chunks": (32, 32)}, lambda a: a.setitem(np.s_[:32, :32], 7), 1),
        ({"chunks": (32, 32)}, lambda a: a.store_chunk((0, 0), np.ones((32, 32), "u1")), 1),
        ({"chunks": (32, 32)}, lambda a: a.getitem(np.s_[3:6, 3:6]), 0),
        ({"chunks": (32, 32)}, lambda a: a.getitem(np.s_[3:60, 3:60]), 0),
    ],
)
def test_few_steps_of_an_operation_take_a_thread(
    layout: dict[str, Any], call: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only plans, and what ends an operation, is done on the event loop: each hop costs more than it."""

    async def main() -> int:
        a = await zarrant.create_array_async(Slow(0), shape=(64, 64), dtype="uint8", **layout)
        await a.setitem(..., 3)
        with Counting(4) as threads:
            monkeypatch.setattr(asynchronous, "_executor", lambda _: threads)
            await call(a)
        monkeypatch.undo()
        return threads.hops

    # Where the machine stands still for a moment, what was looked at is too old, and is looked at again.
    assert most in [asyncio.run(main()) for _ in range(3)]


def test_what_is_not_small_is_decoded_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hops(size: int, stop: int) -> int:
        a = await zarrant.create_array_async(Slow(0), data=np.ones((size, size), "u1"), chunks=(size, size))
        with Counting(4) as threads:
            monkeypatch.setattr(asynchronous, "_executor", lambda _: threads)
            await a.getitem(np.s_[:stop, :stop])
        monkeypatch.undo()
        return threads.hops

    assert asyncio.run(hops(256, 2)) == 0
    assert asyncio.run(hops(512, 2)) == 1  # its plan is small, the chunk is not
    assert asyncio.run(hops(512, 512)) == 2


# ── exceptions past `except Exception` ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("threads", [1, 4])
def test_an_interrupt_stops_the_operation_and_frees_its_locks(threads: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = zarrant.FilesystemStore(tmp_path, lock_timeout=5.0)
    monkeypatch.setattr(FileObjects, "updates_boxes", False)  # each chunk is locked, read and put
    a = zarrant.create_array(store, shape=(64,), chunks=(4,), dtype="int8", config={"concurrency": threads})
    a[...] = 1
    main = threading.main_thread()

    for at in range(0, 12, 3):
        count = [0]
        put_if = FileObjects.put_if

        def interrupted(self: Any, *args: Any, at: int = at, count: list[int] = count, original: Any = put_if) -> Any:
            if threading.current_thread() is main:
                count[0] += 1
                if count[0] > at:
                    raise KeyboardInterrupt
            return original(self, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FileObjects, "put_if", interrupted)  # inside of a lock, and of the store
            with pytest.raises(KeyboardInterrupt):
                for _ in range(at + 2):
                    a[1::2] = at + 2
        a[1::2] = 50 + at
        assert (a[1::2] == 50 + at).all()
        assert (a[::2] == 1).all()
    assert [path for path in tmp_path.rglob("*") if "__lock" in path.name] == []


def test_thousands_of_operations_leave_no_thread_behind() -> None:
    async def main() -> None:
        a = await zarrant.create_array_async({}, shape=(64,), chunks=(4,), dtype="int8")
        await asyncio.gather(*(a.setitem(i % 64, 1) for i in range(300)))

    before = threading.active_count()
    for _ in range(3):
        asyncio.run(main())
    assert threading.active_count() <= before + MAX_LOOP_THREADS


class Threads(Syscalls):
    """The file calls of the system; `seen` are the threads that opened files."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        self.seen.add(threading.get_ident())
        time.sleep(0.001)
        return super().open(path, flags, mode)


class Far(zarrant.FilesystemStore):
    """A directory on another machine."""

    is_local = False  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "concurrency", "threads"), [(zarrant.FilesystemStore, "auto", 2), (zarrant.FilesystemStore, 5, 5), (Far, "auto", 32)]
)
def test_few_threads_take_turns_with_the_event_loop(kind: Any, concurrency: Any, threads: int, tmp_path: Path) -> None:
    """Reads of files of this machine: each thread more is one more that the loop waits for."""
    zarrant.create_array(tmp_path, data=np.arange(64), chunks=(1,))

    async def read_all() -> set[int]:
        layer = Threads()
        array = await zarrant.open_array_async(kind(tmp_path, syscalls=layer), mode="r", config={"concurrency": concurrency})
        layer.seen.clear()
        found = await asyncio.gather(*(array.getitem(i) for i in range(64)))
        assert found == list(range(64))
        return layer.seen

    seen = asyncio.run(read_all())
    assert 2 <= len(seen) <= threads
    assert len(seen) > 2 or threads == 2


@pytest.mark.parametrize(
    ("layout", "cpus", "threads"),
    [
        ({"chunks": (1 << 20,)}, 16, 2),
        ({"chunks": (2 << 20,)}, 16, 4),
        ({"chunks": (8 << 20,)}, 6, 6),
        ({"chunks": (1 << 18,), "shards": (8 << 20,)}, 16, 2),
        ({"chunks": ([5 << 20, 3 << 20],)}, 16, 2),
    ],
)
def test_large_chunks_are_read_by_a_thread_for_each_cpu(
    layout: dict[str, Any], cpus: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bytes an element: one thread for each MiB that is decoded together, where there are CPUs for them."""
    monkeypatch.setattr("zarrant.nodes.base.available_cpus", lambda: cpus)
    running: list[None] = []
    most = [0]

    class Watched(MemoryStore):
        def get(self, key: str) -> Blob | None:
            self._wait()
            return super().get(key)

        def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Any = None) -> Blob | None:
            self._wait()
            return super().get_ranges(key, ranges, if_version)

        def _wait(self) -> None:
            running.append(None)
            most[0] = max(most[0], len(running))
            time.sleep(0.01)
            running.pop()

    async def main() -> None:
        a = await zarrant.create_array_async(Watched(), shape=(8 << 20,), dtype="u2", **layout)
        await asyncio.gather(*(a.getitem(0) for _ in range(40)))

    asyncio.run(main())
    assert most[0] == threads
