"""Updates of one chunk by many threads and tasks at once are stored as few writes; nobody's error is another's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant import requests
from zarrant.errors import ChunkError, LockTimeout
from zarrant.locking.local import wait_cancelled
from zarrant.ops.group_commit import commit_together
from zarrant.requests import CommitGroup, GroupCommit, Op
from zarrant.run import group_commit
from zarrant.run.blocking import ExecutionContext, perform
from zarrant.run.pool import shared_pool
from zarrant.testkit import FaultySyscalls, together


@pytest.fixture(params=["memory", "files"])
def store(request: Any, tmp_path: Path) -> Any:
    return zarrant.MemoryStore() if request.param == "memory" else zarrant.FilesystemStore(tmp_path)


def shard(store: Any, **options: Any) -> Any:
    return zarrant.create_array(store, shape=(64,), dtype="uint32", chunks=(4,), shards=(64,), fill_value=0, **options)


def count_writes(store: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the objects written from now on."""
    written: list[str] = []
    for cls in {type(store), zarrant.MemoryStore, *_held_kinds()}:
        for name in ("put", "put_if", "splice"):
            if name in vars(cls) or any(name in vars(base) for base in cls.__mro__):
                monkeypatch.setattr(cls, name, _noting(getattr(cls, name), written), raising=False)
    return written


def most_writes(store: Any) -> int:
    """One of all who waited; on files the first reads before it waits, and its change may be stored on its own."""
    return 1 if isinstance(store, zarrant.MemoryStore) else 2


def _held_kinds() -> list[type]:
    from zarrant.stores.local.locked import LockedFiles

    return [LockedFiles]


def _noting(method: Callable[..., Any], written: list[str]) -> Callable[..., Any]:
    def call(self: Any, key: str, *args: Any) -> Any:
        written.append(key)
        return method(self, key, *args)

    return call


def blocked(a: Any, store: Any, work: Callable[[], None], meanwhile: Callable[[], None]) -> None:
    """Run `work` in threads of its own making while the object is held; let go once `meanwhile` is through."""
    with a.lock(np.s_[0:64]):
        thread = threading.Thread(target=work)
        thread.start()
        meanwhile()
    thread.join(30)
    assert not thread.is_alive()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def waiting() -> int:
    return sum(len(queue) for queue in group_commit.commit_queues._waiting.values())


def test_threads_that_wait_for_one_chunk_share_a_write(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a = shard(store)
    a[...] = 7
    written = count_writes(store, monkeypatch)

    def write(worker: int) -> None:
        a[3 * worker : 3 * worker + 3] = worker + 100

    def everyone() -> None:
        together(*(lambda worker=worker: write(worker) for worker in range(16)))  # type: ignore[misc]

    blocked(a, store, everyone, lambda: wait_until(lambda: waiting() == 16))
    expected = np.full(64, 7, "uint32")
    expected[:48] = np.repeat(np.arange(16), 3) + 100
    assert a[...].tolist() == expected.tolist()
    assert 1 <= len(written) <= most_writes(store), "sixteen updates"
    assert waiting() == 0


def test_tasks_that_wait_for_one_chunk_share_a_write(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a = shard(store)
    written = count_writes(store, monkeypatch)

    async def everyone() -> None:
        b = await zarrant.open_array_async(store, mode="r+")
        await asyncio.gather(*(b.store_array_subset(np.s_[i : i + 1], i + 1) for i in range(12)))

    blocked(a, store, lambda: asyncio.run(everyone()), lambda: wait_until(lambda: waiting() == 12))
    assert a[:12].tolist() == list(range(1, 13))
    assert 1 <= len(written) <= most_writes(store)


def test_later_ones_are_on_top(store: Any) -> None:
    a = shard(store)
    order: list[threading.Thread] = []

    def one_after_the_other() -> None:
        for number in range(5):
            thread = threading.Thread(target=a.store_array_subset, args=(np.s_[number : number + 8], number + 1))
            order.append(thread)
            thread.start()
            if number < 4:
                wait_until(lambda number=number: waiting() == number + 1)  # type: ignore[misc]

    blocked(a, store, one_after_the_other, lambda: wait_until(lambda: waiting() == 5))
    for thread in order:
        thread.join(20)
    assert a[:13].tolist() == [1, 2, 3, 4, *[5] * 8, 0]


def test_handles_with_other_codecs_options_are_apart(store: Any) -> None:
    """They are not merged, and nothing is lost."""
    a = shard(store)
    b = zarrant.open_array(store, mode="r+").with_config(subchunk_order="morton")

    def both() -> None:
        together(lambda: a.store_array_subset(np.s_[0:3], 1), lambda: b.store_array_subset(np.s_[3:6], 2))

    blocked(a, store, both, lambda: wait_until(lambda: waiting() == 2))
    assert a[:8].tolist() == [1, 1, 1, 2, 2, 2, 0, 0]


def test_a_torn_subchunk_is_the_error_of_those_who_need_it(store: Any) -> None:
    a = shard(store, compressors=[zarrant.codecs.Crc32c()])
    a[...] = np.arange(64, dtype="uint32")
    data = bytearray(bytes(a.retrieve_encoded_chunk((0,))))
    data[5] ^= 0xFF  # the first subchunk
    a.store_encoded_chunk((0,), bytes(data))
    errors: dict[int, Exception] = {}

    def write(worker: int) -> None:
        try:
            a[4 * worker : 4 * worker + 2] = 500 + worker
        except ChunkError as error:
            errors[worker] = error

    def everyone() -> None:
        together(*(lambda worker=worker: write(worker) for worker in range(4)))  # type: ignore[misc]

    blocked(a, store, everyone, lambda: wait_until(lambda: waiting() == 4))
    assert list(errors) == [0]
    assert a[4:16].tolist() == [501, 501, 6, 7, 502, 502, 10, 11, 503, 503, 14, 15]


def test_whoever_waits_too_long_gives_up_alone(tmp_path: Path) -> None:
    a = shard(zarrant.FilesystemStore(tmp_path, lock_timeout=30))
    hasty = zarrant.open_array(zarrant.FilesystemStore(tmp_path, lock_timeout=0.2), mode="r+")
    start = time.monotonic()
    with a.lock(np.s_[0:64]):
        threads = [threading.Thread(target=a.store_array_subset, args=(np.s_[i : i + 1], 1)) for i in range(2)]
        for thread in threads:
            thread.start()
        errors: list[Exception] = []

        def try_it(i: int) -> None:
            with pytest.raises(LockTimeout) as caught:
                hasty[i : i + 1] = 1
            errors.append(caught.value)

        together(*(lambda i=i: try_it(i) for i in range(4, 7)))  # type: ignore[misc]
    for thread in threads:
        thread.join(20)
    assert len(errors) == 3
    assert time.monotonic() - start < 5, "the second and third do not wait another time each"
    assert a[:8].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert waiting() == 0


def test_an_interrupted_leader_leaves_its_followers_a_leader() -> None:
    """The leader is interrupted after it has taken all items: each of the others is done, once or again."""
    done: list[int] = []
    first_took, go = threading.Event(), threading.Event()

    def request(number: int, interrupted: bool) -> GroupCommit:
        def lead(group: CommitGroup) -> Op[None]:
            if interrupted:
                go.wait(20)
                group.take()
                first_took.set()
                raise KeyboardInterrupt
            done.extend(group.take())
            for taken in range(len(group.items)):
                group.resolve(taken, None)
            return
            yield

        return GroupCommit("k", "kind", number, lead)

    def perform(op: Op[None]) -> None:
        for _ in op:
            raise AssertionError

    place = object()

    def leader() -> None:
        with pytest.raises(KeyboardInterrupt):
            group_commit.join_commit(request(0, True), place, perform)

    def followers() -> None:
        wait_until(lambda: waiting() == 1)
        together(*(lambda n=n: group_commit.join_commit(request(n, False), place, perform) for n in (1, 2, 3)))  # type: ignore[misc]

    def starter() -> None:
        wait_until(lambda: waiting() == 4)
        go.set()

    together(leader, followers, starter)
    assert sorted(done) == [1, 2, 3]
    assert waiting() == 0


def test_a_cancelled_task_takes_its_entry_back(store: Any) -> None:
    a = shard(store)

    async def main() -> None:
        b = await zarrant.open_array_async(store, mode="r+")
        tasks = [asyncio.create_task(b.store_array_subset(np.s_[i : i + 1], 1)) for i in range(3)]
        while waiting() < 3:
            await asyncio.sleep(0.002)
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        release.set()
        await asyncio.gather(tasks[0], tasks[2])

    release = threading.Event()
    runner = threading.Thread(target=lambda: asyncio.run(main()))
    with a.lock(np.s_[0:64]):
        runner.start()
        assert release.wait(20)
    runner.join(20)
    assert sorted(a[:3].tolist()) == [0, 1, 1]
    assert wait_cancelled.get() is None
    assert waiting() == 0


def test_who_is_acted_for_is_told_when_it_is_on_disk(tmp_path: Path) -> None:
    """The leader's own call may write more, and sync the directories of all of it at its end."""
    syscalls = FaultySyscalls()
    store = zarrant.FilesystemStore(tmp_path, durability="fsync", syscalls=syscalls)
    store.put("c/0", [b"x"])
    arrived, let = threading.Event(), threading.Event()
    done: list[int] = []

    def lead(take: Callable[[], Any]) -> Op[None]:
        yield requests.Pause(0)
        arrived.set()
        assert let.wait(20)
        for value in take():
            yield from requests.put_one(f"c/{value}", [b"x"])

    def call(store: Any, value: int) -> None:
        perform(commit_together("c", "test", value, lead), ExecutionContext(store, shared_pool(1, 1 << 20), 1))
        done.append(syscalls.calls.count("sync"))

    with store.write_batch() as inside:
        threads = [threading.Thread(target=call, args=(inside, 1)), threading.Thread(target=call, args=(store, 2))]
        for count, thread in enumerate(threads, 1):
            thread.start()
            assert arrived.wait(20)
            wait_until(lambda count=count: waiting() == count)
        syscalls.calls.clear()
        let.set()
        for thread in threads:
            thread.join(20)
        assert len(done) == 2 and min(done) >= 3, "data of both, and their directory"
    syscalls.calls.clear()
    with store.write_batch() as inside:
        call(inside, 3)
        assert done[2] == 1, "alone, it waits for the end"
    assert syscalls.calls.count("sync") == 2
