"""Who waits for a lock that he has himself is told so at once; who waits for another's lock still waits."""

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
from zarrant.errors import LockTimeout, NodeNotFoundError, PartialFailure, ReentrantLockError
from zarrant.testkit import together

S = np.s_
LOCK_TIMEOUT_S = 20.0
"""Seconds for which a lock is waited for: no test here may last as long."""


@pytest.fixture(params=["memory", "directory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return zarrant.MemoryStore() if request.param == "memory" else tmp_path / "a"


def make(place: Any, **options: Any) -> Any:
    options = {"shape": (16,), "chunks": (4,), "dtype": "i4", "fill_value": 0, **options}
    a = zarrant.create_array(place, **options)
    a = a.with_config(lock_timeout=LOCK_TIMEOUT_S)
    a[...] = 1
    return a


AGAIN: dict[str, Callable[[Any], Any]] = {
    "an element": lambda a: a.__setitem__(0, 5),
    "elements of several chunks": lambda a: a.__setitem__(slice(2, 10), 5),
    "a chunk": lambda a: a.store_chunk((0,), 5),
    "an update": lambda a: a.update(S[0:4], lambda x: x),
    "an update of several chunks": lambda a: a.update(S[0:16], lambda x: x),
    "a lock": lambda a: a.lock(S[0:4]).__enter__(),
    "an encoder": lambda a: a.partial_encoder((0,)).__enter__(),
    "erasing": lambda a: a.erase_chunk((0,)),
}


def refused(act: Callable[[], Any]) -> ReentrantLockError:
    start = time.monotonic()
    with pytest.raises((ReentrantLockError, PartialFailure)) as caught:
        act()
    assert time.monotonic() - start < LOCK_TIMEOUT_S / 4
    error = caught.value
    if isinstance(error, PartialFailure):
        error = next(each for each in error.exceptions if isinstance(each, ReentrantLockError))
    assert isinstance(error, ReentrantLockError)
    assert "through `locked`" in str(error)
    assert not error.retryable
    return error


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("shards", [None, (8,)])
def test_inside_a_lock(place: Any, again: str, shards: Any) -> None:
    a = make(place, shards=shards)
    with a.lock(S[0:4]) as held:
        refused(lambda: AGAIN[again](a))
        held[0:4] = 7
        a[12] = 8  # another object
    assert a[0:4].tolist() == [7] * 4
    a[0] = 9
    assert (int(a[0]), int(a[12])) == (9, 8)


@pytest.mark.parametrize("again", AGAIN)
def test_inside_an_encoder(place: Any, again: str) -> None:
    a = make(place)
    with a.partial_encoder((0,)) as encoder:
        encoder.store(S[0:2], 7)
        refused(lambda: AGAIN[again](a))
    assert a[0:4].tolist() == [7, 7, 1, 1]


@pytest.mark.parametrize("again", AGAIN)
def test_inside_a_function_given_to_update(place: Any, again: str) -> None:
    a = make(place)

    def change(values: Any) -> Any:
        refused(lambda: AGAIN[again](a))
        return values + 1

    a.update(S[0:4], change)
    assert a[0:4].tolist() == [2] * 4


def test_inside_a_lock_taken_again_through_the_handle_that_has_it(place: Any) -> None:
    a = make(place)
    with a.lock(S[0:8]) as held, held.lock(S[0:4]) as inner:
        refused(lambda: held.__setitem__(0, 3))
        inner[0] = 4
        held[4] = 5
    assert a[0:5].tolist() == [4, 1, 1, 1, 5]


def test_the_key_and_the_store_are_named(place: Any) -> None:
    a = make(place)
    with a.lock(S[0:4]):
        error = refused(lambda: a.__setitem__(0, 5))
    assert error.key is not None
    assert error.key.endswith("c/0")
    assert error.store is not None


def test_under_another_name_of_the_directory(tmp_path: Path) -> None:
    """Threads queue by path; who finds his own lock file in the way compares inodes."""
    a = make(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for locking in ("os", "lockfile"):
        b = zarrant.open_array(tmp_path / "b", config={"lock_timeout": LOCK_TIMEOUT_S, "locking": locking})
        c = zarrant.open_array(tmp_path / "a", config={"lock_timeout": LOCK_TIMEOUT_S, "locking": locking})
        with c.lock(S[0:4]):
            refused(lambda b=b: b.__setitem__(0, 5))  # type: ignore[misc]
    a[0] = 6


def test_while_another_thread_waits_for_the_same_object(place: Any) -> None:
    """The other thread leads those who wait; following it would be waiting for oneself."""
    a = make(place)
    with a.lock(S[0:4]) as held:
        others = [threading.Thread(target=a.__setitem__, args=(i, 5)) for i in range(3)]
        for other in others:
            other.start()
        time.sleep(0.1)
        refused(lambda: a.__setitem__(3, 6))
        held[3] = 7
    for other in others:
        other.join(60)
    assert a[0:4].tolist() == [5, 5, 5, 7]


def test_other_threads_wait_as_ever(tmp_path: Path) -> None:
    a = make(tmp_path)
    impatient = a.with_config(lock_timeout=0.05)
    with a.lock(S[0:4]):
        for act in AGAIN.values():
            with pytest.raises((LockTimeout, PartialFailure)):
                together(lambda act=act: act(impatient))  # type: ignore[misc]
    together(*[lambda: a.update(S[0:16], lambda x: x + 1)] * 6)
    assert set(a[0:4].tolist()) == {7}


def test_a_thread_that_takes_over_the_number_of_another_is_not_taken_for_it(place: Any) -> None:
    a = make(place)
    for _ in range(20):
        together(lambda: a.update(S[0:16], lambda x: x + 1))
    assert set(a[...].tolist()) == {21}


def test_the_same_key_twice_in_one_call_is_no_waiting(tmp_path: Path) -> None:
    store = zarrant.FilesystemStore(tmp_path, durability="fsync", lock_timeout=LOCK_TIMEOUT_S)
    outcomes = store.put_all([("k", [b"1"]), ("k", [b"2"]), ("l", [b"3"])])
    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    with store.lock(["k"]):
        outcomes = store.put_all([("k", [b"4"]), ("m", [b"5"])])
    assert [isinstance(outcome, ReentrantLockError) for outcome in outcomes] == [True, False]


# ── tasks of an event loop ───────────────────────────────────────────────────────────────────────────────────────────


async def refused_async(act: Callable[[], Any]) -> None:
    start = time.monotonic()
    with pytest.raises((ReentrantLockError, PartialFailure)):
        await act()
    assert time.monotonic() - start < LOCK_TIMEOUT_S / 4


def test_tasks_inside_a_lock_and_an_encoder(place: Any) -> None:
    make(place)

    async def main() -> None:
        a = (await zarrant.open_array_async(place, mode="r+")).with_config(lock_timeout=LOCK_TIMEOUT_S)
        again = (
            lambda: a.setitem(0, 5),
            lambda: a.setitem(slice(0, 16), 5),
            lambda: a.update(S[0:4], lambda x: x),
            lambda: a.store_chunk((0,), 5),
            lambda: a.lock(S[0:4]).__aenter__(),
            lambda: a.partial_encoder((0,)).__aenter__(),
        )
        async with a.lock(S[0:4]) as held:
            for act in again:
                await refused_async(act)
            await held.setitem(0, 7)
            await a.setitem(12, 8)
        async with a.partial_encoder((0,)) as encoder:
            for act in again:
                await refused_async(act)
            await encoder.store(S[1:2], 9)
        assert (await a.getitem(slice(0, 2))).tolist() == [7, 9]

    asyncio.run(main())


def test_other_tasks_wait_as_ever(place: Any) -> None:
    make(place)

    async def main() -> None:
        a = (await zarrant.open_array_async(place, mode="r+")).with_config(lock_timeout=LOCK_TIMEOUT_S)
        async with a.lock(S[0:4]) as held:
            tasks = [asyncio.create_task(a.update(S[0:4], lambda x: x + 1)) for _ in range(5)]
            await asyncio.sleep(0.05)
            await held.setitem(slice(0, 4), 10)
        await asyncio.gather(*tasks)
        assert (await a.getitem(slice(0, 4))).tolist() == [15] * 4

    asyncio.run(main())


@pytest.mark.parametrize("waiters", [10, 40, 100])
def test_those_who_wait_for_a_lock_never_starve_the_task_that_has_it(tmp_path: Path, waiters: int) -> None:
    """They fill all threads of the event loops: the owner, and tasks it starts inside of the block, have threads of their own."""
    make(tmp_path / "a")
    make(tmp_path / "b")

    async def main() -> None:
        a = (await zarrant.open_array_async(tmp_path / "a", mode="r+")).with_config(lock_timeout=60)
        b = await zarrant.open_array_async(tmp_path / "b", mode="r+")
        ready = asyncio.Event()

        async def wait() -> None:
            await ready.wait()
            await a.update(S[0:4], lambda x: x + 1)

        tasks = [asyncio.create_task(wait()) for _ in range(waiters)]
        async with a.lock(S[0:4]) as held:
            ready.set()
            await asyncio.sleep(0.2)
            start = time.monotonic()
            await b.setitem(0, 1)
            await a.getitem(0)
            await asyncio.gather(*(b.setitem(i, i) for i in range(8)))
            await held.setitem(slice(0, 4), 0)
            assert time.monotonic() - start < 10
        await asyncio.gather(*tasks)
        assert (await a.getitem(slice(0, 4))).tolist() == [waiters] * 4
        assert (await b.getitem(slice(0, 8))).tolist() == list(range(8))

    asyncio.run(main())


def test_a_task_that_outlives_the_block_goes_on(tmp_path: Path) -> None:
    make(tmp_path / "a")

    async def main() -> None:
        a = await zarrant.open_array_async(tmp_path / "a", mode="r+")

        async def later() -> None:
            await asyncio.sleep(0.1)
            await a.setitem(8, 3)

        async with a.lock(S[0:4]):
            task = asyncio.create_task(later())
            await a.getitem(0)
        await task
        assert int(await a.getitem(8)) == 3

    asyncio.run(main())


CHANGES: dict[str, Callable[[Any], Any]] = {
    "attributes": lambda a: a.attrs.update(seen=1),
    "the metadata": lambda a: a.store_metadata(),
    "the shape, back and forth": lambda a: (a.resize((40,)), a.resize((16,))),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shards", [None, (8,)])
@pytest.mark.parametrize("subset", [S[0:4], S[1:3], S[14:16]])
def test_a_function_given_to_update_may_change_the_metadata(place: Any, shards: Any, change: str, subset: Any) -> None:
    """The new values are stored on condition that the array is the same, which it is; the function is not called again."""
    a, calls = make(place, shards=shards), []

    def function(values: Any) -> Any:
        calls.append(1)
        CHANGES[change](a)
        return values + 1

    a.update(subset, function)
    assert calls == [1]
    assert a[subset].tolist() == [2] * (subset.stop - subset.start)
    assert int(a[...].sum()) == 16 + subset.stop - subset.start


@pytest.mark.parametrize("shards", [None, (8,)])
@pytest.mark.parametrize("subset", [S[0:4], S[0:3], S[8:16]])
def test_a_function_given_to_update_may_append_to_other_chunks(place: Any, shards: Any, subset: Any) -> None:
    a, calls = make(place, shards=shards), []

    def function(values: Any) -> Any:
        calls.append(a.append([9, 9]))
        return values + 1

    a.update(subset, function)
    chunk = 4 if shards is None else 8
    assert len(calls) == len({i // chunk for i in range(subset.start, subset.stop)})
    expected = np.ones(16, "i4")
    expected[subset] = 2
    assert zarrant.open_array(place)[...].tolist() == [*expected.tolist(), *[9] * 2 * len(calls)]


def test_a_function_given_to_update_by_a_stale_handle_may_change_attributes(place: Any) -> None:
    a, calls = make(place), []
    zarrant.open_array(place).append([9, 9])

    def function(values: Any) -> Any:
        calls.append(1)
        a.attrs["calls"] = len(calls)
        return values + 1

    a.update(S[12:16], function)
    assert len(calls) <= 2  # once more after it was heard of the append
    assert zarrant.open_array(place)[12:].tolist() == [2] * 4 + [9, 9]


def test_a_function_given_to_update_that_replaces_the_array(place: Any) -> None:
    a = make(place)

    def function(values: Any) -> Any:
        # Its own chunk is locked: the metadata is erased as by another program.
        if isinstance(place, Path):
            (place / "zarr.json").unlink()
        else:
            place.erase("zarr.json")
        return values + 1

    with pytest.raises(NodeNotFoundError):
        a.update(S[0:4], function)
    a.store_metadata()
    assert a[0:4].tolist() == [1] * 4
