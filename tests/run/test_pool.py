from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import zarrant
from children import ended
from zarrant.run import asynchronous, pool
from zarrant.run.pool import Budget, Pool, available_cpus, available_memory, shared_pool
from zarrant.run.threads import Threads
from zarrant.stores.wrappers import Latency
from zarrant.testkit import CoroutineStore

NESTED = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [4, 4],
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd", "configuration": {"level": 1}}],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "index_location": "end",
    },
}


def all_given_back(pool: Pool) -> None:
    """Helpers give back what they took a moment after the group has ended."""
    end = time.monotonic() + 10
    while pool.budget.used:
        assert time.monotonic() < end, f"{pool.budget.used} bytes of the pool are still taken"
        time.sleep(0.001)


def quickly(action: Any, seconds: float = 60) -> Any:
    """The result of an action, or a failure where it hangs."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(action()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "hangs"
    return result[0]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_results_are_in_order(threads: int) -> None:
    pool = Pool(threads, 1000)
    seen = []

    def run(i: int) -> int:
        seen.append(threading.get_ident())
        time.sleep(0.001 * (i % 3))
        if i == 7:
            raise KeyError(i)
        return i * i

    results = pool.run_all(range(30), run, 1, threads)
    assert isinstance(results.pop(7), KeyError)
    assert results == [i * i for i in range(30) if i != 7]
    assert len(set(seen)) <= threads
    all_given_back(pool)


def test_the_thread_that_waits_for_the_last_operation_helps_with_what_it_has_opened() -> None:
    """Else one of two threads does nothing while the other one reads or writes the last shard."""
    pool, met = Pool(2, 1000), threading.Barrier(2)
    mine, helping, idle = threading.get_ident(), threading.Event(), threading.Event()

    def part(i: int) -> bool:
        met.wait(20)  # both threads are here, or it is broken
        return True

    def run(i: int) -> list[bool]:
        if threading.get_ident() == mine:
            helping.wait(20)
            idle.set()
            return []
        helping.set()
        idle.wait(20)
        time.sleep(0.05)  # the other thread is at its end meanwhile
        return pool.run_all(range(4), part, 1, 2)

    assert sorted(pool.run_all(range(2), run, 1, 2)) == [[], [True] * 4]
    all_given_back(pool)


def test_threads_take_operations_of_their_own_before_parts_of_one() -> None:
    """So that shards are stored side by side: only one thread can store one."""
    pool, met = Pool(2, 1000), threading.Barrier(2)

    def run(i: int) -> set[int]:
        met.wait(20)  # both are in operations of the outer group, or it is broken
        threads = set(pool.run_all(range(4), lambda part: time.sleep(0.002) or threading.get_ident(), 1, 2))
        met.wait(20)
        return threads

    assert [len(threads) for threads in pool.run_all(range(6), run, 1, 2)] == [1] * 6


def test_nobody_helps_with_groups_of_others() -> None:
    pool = Pool(2, 1000)

    def outer(i: int) -> int:
        if threading.get_ident() == mine:
            return i
        stranger = threading.Thread(target=lambda: done.extend(pool.run_all(range(3), strange, 1, 2)))
        stranger.start()
        stranger.join(20)
        return i

    def strange(i: int) -> int:
        assert threading.get_ident() != mine
        time.sleep(0.01)
        return i

    mine, done = threading.get_ident(), list[int]()
    assert pool.run_all(range(2), lambda i: (time.sleep(0.01), outer(i))[1], 1, 2) == [0, 1]
    assert done == [0, 1, 2]


def test_operations_are_taken_when_they_can_run_not_before() -> None:
    pool = Pool(2, 1000)
    taken, finished, ahead = [], [], []

    def ops() -> Iterator[int]:
        for i in range(50):
            taken.append(i)
            ahead.append(len(taken) - len(finished))
            yield i

    def run(i: int) -> None:
        time.sleep(0.0005)
        finished.append(i)

    pool.run_all(ops(), run, 1, 2)
    assert max(ahead) <= 3
    assert pool.run_all(iter(()), run, 1, 2) == []


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("memory", [1, 10**9])
def test_groups_within_groups_do_not_wait_for_each_other(threads: int, memory: int) -> None:
    pool = Pool(threads, memory)

    def run(depth: int) -> int:
        if depth == 0:
            return 1
        return sum(pool.run_all([depth - 1] * 4, run, 100, threads))

    assert quickly(lambda: run(5)) == 4**5
    all_given_back(pool)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_nested_shards_of_many_callers(threads: int) -> None:
    a = zarrant.create_array(
        {}, shape=(64, 64), chunks=(8, 8), shards=(32, 32), dtype="int32", serializer=NESTED, compressors=None,
        config={"concurrency": threads, "memory_limit": "64 KiB"},
    )  # fmt: skip

    def write() -> bool:
        workers = [threading.Thread(target=a.__setitem__, args=(np.s_[i::5, :], i + 1)) for i in range(5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return bool((a[...] == (np.arange(64)[:, None] % 5) + 1).all())

    assert quickly(write)


def test_helpers_join_only_while_the_budget_lasts() -> None:
    pool = Pool(8, 300)
    now, most, lock = [0], [0], threading.Lock()

    def run(_: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1

    pool.run_all(range(60), run, 100, 8)
    assert 1 <= most[0] <= 3
    most[0] = 0
    pool.run_all(range(20), run, 1000, 8)
    assert most[0] == 1, "who starts a group needs no permission, the others do"
    most[0] = 0
    pool.run_all(range(20), run, 1, 1)
    assert most[0] == 1
    all_given_back(pool)


def test_budget() -> None:
    budget = Budget(10)
    assert budget.try_take(6)
    assert not budget.try_take(5)
    budget.take(50)
    assert not budget.try_take(1)
    budget.give(50)
    assert budget.try_take(4)
    assert budget.used == 10


def test_memory_of_a_large_write_is_bounded_by_its_batches() -> None:
    import tracemalloc

    a = zarrant.create_array(
        {}, shape=(64, 1 << 17), chunks=(1, 1 << 17), dtype="float64", compressors=zarrant.codecs.Gzip(1),
        config={"concurrency": 4, "memory_limit": "4 MiB"},
    )  # fmt: skip
    row = np.zeros(1 << 17) + np.arange(1 << 17) % 3
    data = np.broadcast_to(row, a.shape)
    a[...] = data
    tracemalloc.start()
    a[...] = data
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20, "64 MiB were written"


class Stop(BaseException):
    pass


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, Stop])
def test_what_is_no_exception_ends_the_group_at_once(threads: int, error: type[BaseException]) -> None:
    pool = Pool(threads, 1000)
    ran = []

    def run(i: int) -> None:
        ran.append(i)
        if i == 5:
            raise error
        time.sleep(0.001)

    with pytest.raises(error):
        pool.run_all(range(1000), run, 1, threads)
    assert len(ran) < 100
    all_given_back(pool)
    assert pool.run_all(range(4), lambda i: i, 1, threads) == [0, 1, 2, 3]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_broken_iterator_is_never_a_shorter_result(threads: int) -> None:
    pool = Pool(threads, 1000)

    def ops() -> Iterator[int]:
        yield from range(9)
        raise MemoryError("no more")

    for _ in range(20):
        with pytest.raises(MemoryError):
            pool.run_all(ops(), lambda i: time.sleep(0.0005), 1, threads)
    all_given_back(pool)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that interrupt")
def test_interrupts_at_any_moment_leave_array_and_locks_whole(tmp_path: Any) -> None:
    a = zarrant.create_array(
        tmp_path, shape=(64, 64), chunks=(8, 8), shards=(32, 32), dtype="int16", config={"concurrency": 2, "lock_timeout": 5.0}
    )
    a[...] = 1
    start = time.perf_counter()
    a[1:, 1:] = 1
    usual = time.perf_counter() - start
    before = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    interrupted = 0
    try:
        for value in range(2, 42):
            try:  # the timer fires once, so that whatever it interrupts, the clean-up too, is caught here
                try:
                    signal.setitimer(signal.ITIMER_REAL, usual * ((value * 7) % 40 + 1) / 40)
                    a[1:, 1:] = value
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            got = a[...]
            for block in (got[1:32, 1:32], got[1:32, 32:], got[32:, 1:32], got[32:, 32:]):
                assert len(np.unique(block)) == 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 5
    a[...] = 99
    assert (a[...] == 99).all()
    assert [path.name for path in tmp_path.rglob("*") if "__lock" in path.name] == []


# ── other processes ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_the_pool_works(tmp_path: Any) -> None:
    a = zarrant.create_array(
        tmp_path, shape=(40, 64, 64), chunks=(1, 16, 16), shards=(1, 64, 64), dtype="int32", config={"concurrency": 4}
    )
    done = threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            a[20:, 3:60, 5:] = 5

    busy = [threading.Thread(target=keep_busy) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        for i in range(12):
            time.sleep(0.01)
            child = os.fork()
            if child == 0:  # pragma: no cover - the child
                status = 1
                try:
                    signal.alarm(50)
                    a[i, 1:60, :] = i + 1
                    status = 0 if (a[i, 1:60] == i + 1).all() else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(ended(child)) == 0
    finally:
        done.set()
        for thread in busy:
            thread.join()
    assert (a[:12, 1:60] == np.arange(1, 13)[:, None, None]).all()
    assert (a[20:, 3:60, 5:] == 5).all()


def child_writes(pickled: bytes, i: int) -> int:
    array = pickle.loads(pickled)
    array[i * 3 : i * 3 + 3] = i + 1
    return int(array[i * 3])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_arrays_travel_to_processes_of_every_kind(method: str, tmp_path: Any) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method}")
    a = zarrant.create_array(tmp_path, shape=(12,), chunks=(12,), dtype="int32", config={"concurrency": 2})
    a[...] = -1
    source = str(__import__("pathlib").Path(__file__).parent)
    sys.path.insert(0, source)
    context = multiprocessing.get_context(method)
    code = pickle.dumps(a)
    try:
        processes = [context.Process(target=_run_child, args=(code, i)) for i in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    finally:
        sys.path.remove(source)
    assert a[...].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]


def _run_child(code: bytes, i: int) -> None:
    assert child_writes(code, i) == i + 1


def test_shared_pools_are_shared() -> None:
    assert shared_pool(2, 100) is shared_pool(2, 100)
    assert shared_pool(2, 100) is not shared_pool(3, 100)


def test_available() -> None:
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)
    assert available_memory() > 1 << 20


def no_threads(monkeypatch: pytest.MonkeyPatch, after: int = 0) -> list[int]:
    """The system gives so many threads and no more; how many were asked for."""
    asked: list[int] = []
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        asked.append(1)
        if len(asked) > after:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return asked


@pytest.mark.parametrize("given", [0, 1, 2])
def test_where_no_thread_can_be_started_the_caller_works(given: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(4, 1000)
    with monkeypatch.context() as patch:
        asked = no_threads(patch, given)
        for _ in range(2):
            assert pool.run_all(range(20), lambda i: i * i, 1, 4) == [i * i for i in range(20)]
        assert len(asked) > given
        assert pool._started == given
    assert pool.run_all(range(20), lambda i: time.sleep(0.01) or i, 1, 4) == list(range(20))
    assert pool._started == 3  # there are threads again
    all_given_back(pool)


def test_an_executor_without_threads_works_in_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("mine")

    with Threads(4, "test") as executor:
        with monkeypatch.context() as patch:
            no_threads(patch)
            assert executor.submit(threading.get_ident).result(0) == threading.get_ident()
            assert isinstance(executor.submit(fail).exception(0), KeyError)
        later = executor.submit(threading.get_ident).result(10)  # what is in the queue is not done again
        assert later != threading.get_ident()
        with pytest.raises(RuntimeError, match="schedule"):
            executor.shutdown()
            executor.submit(fail)


def test_an_executor_with_few_threads_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with Threads(4, "test") as executor, monkeypatch.context() as patch:
        no_threads(patch, 1)
        gate, count = threading.Event(), []
        first = executor.submit(gate.wait, 10)
        while not executor._begun:
            time.sleep(0.001)
        others = [executor.submit(lambda i=i: count.append(i) or threading.get_ident()) for i in range(3)]
        assert not any(other.done() for other in others)
        gate.set()
        assert first.result(10)
        assert threading.get_ident() not in {other.result(10) for other in others}
        assert count == [0, 1, 2]


def test_operations_without_threads(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = zarrant.create_array(tmp_path, shape=(64,), chunks=(4,), dtype="i4", config={"concurrency": 8, "memory_limit": 7 << 20})

    async def work() -> None:
        b = await zarrant.open_array_async(tmp_path, mode="r+")
        await asyncio.gather(*(b.store_array_subset(np.s_[i : i + 8], i) for i in range(0, 64, 8)))
        async with b.lock(np.s_[:8]) as locked:
            await locked.store_array_subset(np.s_[:8], 100)
        await b.sync()

    asynchronous._executors.clear()
    with monkeypatch.context() as patch:
        no_threads(patch)
        a[...] = 3
        assert (a[...] == 3).all()
        a.update(np.s_[1:63], lambda values: values + 1)
        assert a[...].sum() == 3 * 64 + 62
        asyncio.run(work())
    asynchronous._executors.clear()
    assert a[:8].tolist() == [100] * 8
    assert a[8:].tolist() == [i // 8 * 8 for i in range(8, 64)]


# ── whole operations wait for memory ─────────────────────────────────────────────────────────────────────────────────


def test_who_is_admitted_first_goes_first_and_nobody_passes_the_limit() -> None:
    budget, most, order = Budget(100), [0], list[int]()

    def use(number: int) -> None:
        share: list[int] = []
        budget.admit(40, share)
        most[0] = max(most[0], budget.used)
        order.append(number)
        time.sleep(0.01)
        budget.give_share(share)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (sorted(order), most[0], budget.used) == (list(range(12)), 80, 0)


def test_more_than_the_limit_is_admitted_alone() -> None:
    budget, first, second = Budget(10), list[int](), list[int]()
    budget.admit(100, first)
    waiter = threading.Thread(target=budget.admit, args=(100, second))
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive() and budget.used == 100
    budget.give_share(first)
    waiter.join(20)
    assert budget.used == 100 and second == [100]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_function_of_an_update_does_not_wait_for_the_bytes_of_the_update(
    tmp_path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """What it reads and writes through other handles needs bytes too, and the update has them until the function returns."""
    monkeypatch.setattr("zarrant.run.pool.STALL_S", 60)
    config = {"concurrency": concurrency, "memory_limit": 11 << 20}
    a, b = (zarrant.create_array(tmp_path / name, data=np.ones(1 << 22, "i4"), chunks=(1 << 20,), config=config) for name in "ab")

    def add(values):
        b[: 1 << 20] = 2 * b[: 1 << 20]
        return values + 1

    a.update(np.s_[: 1 << 20], add)
    assert (a[: 1 << 20] == 2).all() and (b[: 1 << 20] == 2).all()
    a.update(np.s_[1 : (1 << 22) - 1], lambda values: values + b[5])
    assert a[[0, 1, -2, -1]].tolist() == [2, 4, 3, 1]


def test_nobody_waits_longer_than_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the bytes may wait for a lock that the waiter's program has taken."""
    monkeypatch.setattr("zarrant.run.pool.STALL_S", 0.1)
    budget = Budget(10)
    budget.take(10)
    share: list[int] = []
    budget.admit(10, share)
    assert budget.used == 20


def test_a_cancelled_operation_does_not_wait() -> None:
    budget, share = Budget(10), list[int]()
    budget.take(10)
    budget.admit(10, share, lambda: True)
    assert budget.used == 20


def test_pools_of_one_limit_share_the_bytes() -> None:
    assert shared_pool(2, 100).budget is shared_pool(3, 100).budget
    assert shared_pool(2, 100).budget is not shared_pool(2, 101).budget


@pytest.mark.parametrize("locked", [False, True])
def test_who_has_locked_a_chunk_does_not_wait_for_those_who_wait_for_it(
    tmp_path: Any, locked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that have memory wait for the lock; its owner goes on though no memory is left."""
    monkeypatch.setattr(pool, "STALL_S", 1.0)
    config: Any = {"memory_limit": 1 << 20, "concurrency": 2}
    a = zarrant.create_array(tmp_path, shape=(4, 512, 512), chunks=(1, 512, 512), dtype="u4", compressors=None, config=config)
    a[...] = 1
    begun = time.monotonic()
    with a.lock(np.s_[0]) if locked else nullcontext(a) as mine:
        others = [threading.Thread(target=lambda: a.store_array_subset(np.s_[0, :8, :8], 7)) for _ in range(4)]
        for thread in others:
            thread.start()
        time.sleep(0.05)
        mine[0, 8:16, 8:16] = 5
        a[1, :16] = 4  # through a handle that has no lock: after a stall, if all memory is taken by those who wait
    for thread in others:
        thread.join(30)
    assert time.monotonic() - begun < 25
    assert (a[0, 0, 0], a[0, 9, 9], a[1, 3, 3]) == (7, 5, 4)


def test_many_tasks_stay_within_the_limit_on_a_store_of_coroutines() -> None:
    inner = CoroutineStore()
    config: Any = {"memory_limit": 4 << 20}

    async def all_tasks() -> tuple[int, bool]:
        options: Any = {"shape": (64, 512, 512), "chunks": (1, 512, 512), "dtype": "u2", "compressors": None}
        store = Latency(inner, seconds=0.005)
        array = await zarrant.create_array_async(store, **options, config=config)
        budget, most = shared_pool(1, 4 << 20).budget, [0]
        noted = budget._note

        def note(cost: int, share: list[int] | None) -> None:
            noted(cost, share)
            most[0] = max(most[0], budget.used)

        budget._note = note  # type: ignore[method-assign]
        await asyncio.gather(*(array.store_array_subset(np.s_[n], np.uint16(n)) for n in range(64)))
        found = await asyncio.gather(*(array.retrieve_array_subset(np.s_[n]) for n in range(64)))
        assert budget.used == 0
        return most[0], all((each == n).all() for n, each in enumerate(found))

    most, right = asyncio.run(all_tasks())
    assert right and 0 < most <= 4 << 20
