"""Holds and encoders of arrays: who waits for whom, what is seen meanwhile, and how they end; threads and event loops."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from children import ended
from zarrant.errors import BoundsError, CapabilityError, LockTimeout, OptionError, StoreError
from zarrant.locking.local import KeyQueues
from zarrant.storage import ByteRange
from zarrant.stores.wrappers import Recording
from zarrant.testkit import together

S = np.s_


@pytest.fixture(params=["memory", "directory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return {} if request.param == "memory" else tmp_path


def sharded(place: Any, **options: Any) -> Any:
    return zarrant.create_array(place, shape=(64,), dtype="int64", chunks=(4,), shards=(32,), compressors=None, **options)


def in_thread(action: Any) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


# update


def test_updates_of_threads_lose_nothing(place: Any) -> None:
    a = sharded(place)

    def work() -> None:
        for _ in range(20):
            a.update(S[20:44], lambda part: part + 1)

    together(*[work] * 4)
    assert a[...].tolist() == [0] * 20 + [80] * 24 + [0] * 20


def test_update_gets_the_part_of_each_object() -> None:
    a = zarrant.create_array({}, data=np.arange(8), chunks=(4,))
    seen: list[Any] = []
    a.update(S[2:7], lambda part: [seen.append(part.tolist()), -part][1])
    assert sorted(seen) == [[2, 3], [4, 5, 6]]
    assert a[...].tolist() == [0, 1, -2, -3, -4, -5, -6, 7]


# lock


def test_many_operations_are_one(place: Any) -> None:
    """Two elements of different objects always change together, whatever the writers do."""
    a = sharded(place)

    def add() -> None:
        for _ in range(15):
            with a.lock(S[30:34]) as locked:
                left, right = int(locked[31]), int(locked[33])
                assert left == right
                locked[31] = left + 1
                locked.update(S[33:34], lambda part: part + 1)

    def whole() -> None:
        for _ in range(15):
            with a.lock(S[0:64]) as locked:
                values = locked[...] + 1
                locked.store_chunks(S[0:2], values)

    together(add, add, whole)
    assert a[...].tolist() == [45 if i in (31, 33) else 15 for i in range(64)]


@pytest.mark.parametrize("write", [
    lambda a: a.store_chunk((0,), 2), lambda a: a.erase_chunk((0,)), lambda a: a.__setitem__(3, 2),
    lambda a: a.update(S[0:2], lambda x: x), lambda a: a.store_encoded_chunk((0,), b"xx"),
])  # fmt: skip
def test_every_other_writer_waits(place: Any, write: Any) -> None:
    a = sharded(place)
    a[...] = 1
    done: list[float] = []
    with a.lock(S[0:4]) as locked:
        thread = in_thread(lambda: done.append([write(a), time.monotonic()][1]))
        time.sleep(0.15)
        assert not done
        locked[0:8] = 7
        assert a[0:8].tolist() == [7] * 8, "readers do not wait"
        end = time.monotonic()
    thread.join(20)
    assert done[0] >= end


def test_other_objects_do_not_wait(place: Any) -> None:
    a = sharded(place)
    with a.lock(S[0:4]):
        a[40] = 1
        a.store_chunk((1,), 2)
    assert a[40] == 2


def test_lock_times_out_and_lets_go_of_everything(place: Any) -> None:
    a = sharded(place)
    b = zarrant.open_array(a.store, mode="r+", config={"lock_timeout": 0.1}) if place else a.with_config(lock_timeout=0.1)
    b = b.with_config(lock_timeout=0.1)
    with a.lock(S[40:41]):
        with pytest.raises(LockTimeout) as caught:
            together(lambda: b.lock(S[0:64]).__enter__())
        assert caught.value.key == "c/1"
        a[0] = 5  # the first object is free again
        with pytest.raises(LockTimeout):
            together(lambda: b.partial_encoder((1,)).__enter__())
    with b.lock(S[0:64]) as locked:
        locked[0:64] = 6
    assert set(a[...].tolist()) == {6}


def test_what_could_wait_for_ever_is_refused(place: Any) -> None:
    a = sharded(place)
    with a.lock(S[0:4]) as locked:
        with pytest.raises(OptionError, match="takes only its keys"):
            locked[40] = 1
        for change in (lambda: locked.append([1]), lambda: locked.resize((8,)), lambda: locked.attrs.update(x=1)):
            with pytest.raises(OptionError, match="takes only its keys") as caught:
                change()
            assert "before the lock or after it" in (caught.value.hint or "")
        with pytest.raises(OptionError), locked.lock(S[40:41]):
            pass
        with pytest.raises(OptionError), locked.partial_encoder((1,)):
            pass
        assert locked[40] == 0
        with locked.lock(S[0:1]) as inner, inner.partial_encoder((0,)) as encoder:
            encoder.store(S[0:1], 3)
    assert a[0] == 3
    with pytest.raises(StoreError, match=r"not have the lock|not locked"):
        locked[0] = 4
    assert a[0] == 3


@pytest.mark.filterwarnings("ignore:synchronizer=None")
def test_odd_holds(place: Any) -> None:
    a = sharded(place)
    with pytest.raises(BoundsError):
        a.lock(S[0:65])
    with a.lock(S[3:3]) as locked:
        assert locked[3] == 0
    with pytest.raises(ZeroDivisionError), a.lock(S[0:64]) as locked:
        locked[0] = 1 // int(a[0])
    a[0] = 1
    b = zarrant.open_array(a.store, mode="r+", synchronizer=None)
    with pytest.raises(CapabilityError, match="synchronizer"), b.lock(S[0:1]):
        pass
    with pytest.raises(CapabilityError), zarrant.open_array(a.store, mode="r").lock(S[0:1]):
        pass
    with b.partial_encoder((0,)) as encoder:
        encoder.store(S[1:2], 2)
    assert a[0:3].tolist() == [1, 2, 0]


def test_threads_share_a_hold(place: Any) -> None:
    a = sharded(place)
    with a.lock(S[0:64]) as locked:

        def work() -> None:
            for _ in range(20):
                locked.update(S[0:64], lambda part: part + 1)

        together(*[work] * 3)
    assert set(a[...].tolist()) == {60}


class Service:
    """A lock service."""

    def __init__(self) -> None:
        self.queues = KeyQueues()

    @contextmanager
    def lock(self, keys: Sequence[str], timeout: float) -> Iterator[None]:
        with self.queues.lock(keys, time.monotonic() + timeout):
            yield


def test_under_a_synchronizer(place: Any) -> None:
    service = Service()
    a = sharded(place, synchronizer=service, config={"lock_timeout": 5})
    b = zarrant.open_array(a.store.store, mode="r+", synchronizer=service, config={"lock_timeout": 0.1})

    def add() -> None:
        for _ in range(10):
            with a.lock(S[30:34]) as locked, locked.lock(S[30:31]) as inner:
                value = int(locked[31])
                with inner.partial_encoder((0,)) as encoder:
                    encoder.store(S[31:32], value + 1)
                locked[33] = value + 1

    together(add, add)
    assert a[30:34].tolist() == [0, 20, 0, 20]
    with a.lock(S[0:1]):
        for write in (lambda: b.store_chunk((0,), 1), lambda: b.update(S[0:1], lambda x: x + 1)):
            with pytest.raises(LockTimeout):
                together(write)


def test_durable_holds(tmp_path: Path) -> None:
    a = sharded(tmp_path, config={"durability": "fsync"})
    with a.lock(S[0:64]) as locked, locked.partial_encoder((1,)) as encoder:
        locked[0] = 1
        encoder.store(S[0:1], 2)
    assert (a[0], a[32]) == (1, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_own_the_hold(tmp_path: Path) -> None:
    a = sharded(tmp_path)
    a[0:32] = 1
    with a.partial_encoder((0,)) as encoder:
        encoder.store(S[0:4], 2)
        child = os.fork()
        if child == 0:
            try:
                encoder.flush()
            except StoreError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(ended(child)) == 7
        assert a[0] == 1
    assert a[0] == 2


# encoders


def test_readers_see_the_old_object_until_the_end(place: Any) -> None:
    a = sharded(place)
    a[0:32] = 1
    decoder = a.partial_decoder((0,))
    with a.partial_encoder((0,)) as encoder:
        for i in range(8):
            encoder.store(S[i * 4 : i * 4 + 2], i)
        assert encoder.nbytes_pending > 0
        assert set(a[0:32].tolist()) == set(decoder.retrieve(S[0:32]).tolist()) == {1}
        encoder.flush()
        assert decoder.retrieve(S[0:8]).tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
        encoder.store(S[0:1], 9)
        assert a[0] == 0
    assert a[0:4].tolist() == [9, 0, 1, 1]
    with pytest.raises(OptionError, match="not open"):
        encoder.store(S[0:1], 1)
    with encoder, pytest.raises(OptionError, match="already"), encoder:
        pass


def test_an_exception_publishes_nothing(place: Any) -> None:
    a = sharded(place)
    a[0:32] = 1
    before = bytes(a.retrieve_encoded_chunk((0,)))
    with pytest.raises(ZeroDivisionError), a.partial_encoder((0,)) as encoder:
        encoder.store(S[0:32], 2)
        encoder.erase()
        encoder.store(S[0:1], 1 // 0)
    assert bytes(a.retrieve_encoded_chunk((0,))) == before
    with encoder:
        encoder.store(S[1:2], 3)
    assert a[0:3].tolist() == [1, 3, 1]


def test_one_lock_one_index_one_splice(tmp_path: Path) -> None:
    store = Recording(zarrant.FilesystemStore(tmp_path))
    a = sharded(store)
    a[0:32] = np.arange(32)
    store.calls.clear()
    with a.partial_encoder((0,)) as encoder:
        for i in range(32):
            encoder.store(S[i : i + 1], -i)
    assert [call.method for call in store.calls if call.method != "lock"] == ["put"], "nothing of the old object is needed"
    store.calls.clear()
    with a.partial_encoder((0,)) as encoder:
        for i in range(4, 8):
            encoder.store(S[i : i + 1], i)
        encoder.store(S[1:2], 1)
    calls = [call for call in store.calls if call.method != "lock"]
    assert [call.method for call in calls] == ["get_ranges", "get_ranges", "splice"]
    assert calls[0].ranges == (ByteRange.suffix(8 * 16 + 4),)
    assert sum(part.length for part in calls[1].ranges) == 32
    assert sum(part.length for part in calls[2].ranges) == 8 * 32
    assert a[0:8].tolist() == [0, 1, -2, -3, 4, 5, 6, 7]


def test_memory_limit_flushes_and_keeps_the_lock(place: Any) -> None:
    a = sharded(place).with_config(memory_limit=200)
    b = a.with_config(lock_timeout=0.05)
    with a.partial_encoder((0,)) as encoder:
        for i in range(32):
            encoder.store(S[i : i + 1], i)
            assert encoder.nbytes_pending <= 100
        assert a[0:16].tolist() == list(range(16))
        with pytest.raises(LockTimeout):
            together(lambda: b.partial_encoder((0,)).__enter__())
    assert a[0:32].tolist() == list(range(32))


def test_threads_share_an_encoder(place: Any) -> None:
    a = sharded(place)
    with a.partial_encoder((1,)) as encoder:

        def work(worker: int) -> None:
            for i in range(worker, 32, 4):
                encoder.store(S[i : i + 1], i)

        together(*[lambda worker=worker: work(worker) for worker in range(4)])
    assert a[32:].tolist() == list(range(32))


# event loops


def test_from_an_event_loop(place: Any) -> None:
    async def main() -> None:
        sharded(place)
        a = await zarrant.open_array_async(place, mode="r+")

        async def add() -> None:
            for _ in range(5):
                async with a.lock(S[30:34]) as locked:
                    value = await locked.getitem(31)
                    await locked.setitem(31, value + 1)
                    await locked.update(S[33:34], lambda part: part + 1)

        await asyncio.gather(add(), add(), add(), a.update(S[0:64], lambda part: part + 1))
        assert (await a.getitem(S[30:34])).tolist() == [1, 16, 1, 16]
        async with a.partial_encoder((0,)) as encoder:
            await asyncio.gather(*(encoder.store(S[i : i + 1], 100 + i) for i in range(32)))
            assert await a.getitem(31) == 16
            await encoder.flush()
            assert await a.getitem(31) == 131
            await encoder.erase()
            await encoder.store(S[0:1], 1)
        assert (await a.getitem(S[0:3])).tolist() == [1, 0, 0]
        with pytest.raises(ZeroDivisionError):
            async with encoder:
                await encoder.store(S[0:1], 1 // 0)
        with pytest.raises(OptionError):
            await encoder.store(S[0:1], 1)

    asyncio.run(main())


def test_many_coroutines_wait_for_one_that_works(place: Any) -> None:
    """More than there are worker threads: the owner must find one all the same."""

    async def main() -> None:
        sharded(place)
        a = await zarrant.open_array_async(place, mode="r+")

        async def add(i: int) -> None:
            if i % 2:
                await a.update(S[0:1], lambda part: part + 1)
            else:
                async with a.lock(S[0:1]) as locked:
                    await asyncio.sleep(0.001)
                    await locked.setitem(0, 1 + await locked.getitem(0))

        started = time.monotonic()
        async with a.lock(S[0:1]) as locked:
            waiting = [asyncio.create_task(add(i)) for i in range(80)]
            await asyncio.sleep(0.1)
            await locked.setitem(0, 1)
            assert time.monotonic() - started < 10
        await asyncio.gather(*waiting)
        assert await a.getitem(0) == 81

    asyncio.run(main())


def test_a_cancelled_wait_holds_nothing(place: Any) -> None:
    async def main() -> None:
        sharded(place)
        a = await zarrant.open_array_async(place, mode="r+")

        async def hold_both() -> None:
            async with a.lock(S[0:64]):
                raise AssertionError("it is held by others")

        async with a.lock(S[40:41]):
            task = asyncio.create_task(hold_both())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await a.setitem(0, 1)
        started = time.monotonic()
        async with a.lock(S[0:64]) as locked:
            await locked.setitem(S[0:64], 2)
        assert time.monotonic() - started < 10

    asyncio.run(main())


class Remote:
    """A store of coroutines that compares and swaps."""

    url = "test://remote"

    def __init__(self) -> None:
        self.inner = zarrant.MemoryStore()

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("_async") or name == "lock_async":
            raise AttributeError(name)
        method = getattr(self.inner, name.removesuffix("_async"))

        async def call(*args: Any) -> Any:
            await asyncio.sleep(0)
            return method(*args)

        return call


def test_on_a_store_that_only_compares_and_swaps() -> None:
    async def main() -> None:
        store = Remote()
        a = await zarrant.create_array_async(store, shape=(8,), dtype="int32", chunks=(2,), shards=(8,))
        await asyncio.gather(*(a.update(S[0:8], lambda part: part + 1) for _ in range(8)))
        async with a.partial_encoder((0,)) as encoder:
            await encoder.store(S[0:1], -1)
            await a.setitem(1, -2)
        assert (await a.getitem(S[0:3])).tolist() == [-1, -2, 8]
        with pytest.raises(CapabilityError, match="keep other writers out"):
            async with a.lock(S[0:1]):
                pass
        with pytest.raises(CapabilityError, match="async only"), zarrant.Array(a._context, a.metadata).lock(S[0:1]):
            pass

    asyncio.run(main())


def test_reprs() -> None:
    a = sharded({})
    assert "chunk=(1,)" in repr(a.partial_encoder((1,)))
    with a.lock(S[0:1]) as locked:
        assert locked.guard == a.guard
        assert "Array" in repr(locked)
