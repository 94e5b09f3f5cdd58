"""One look at the metadata serves the chunks of one write, and no other write."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import zarrant
from servers import Proxy, Server, start_proxy
from zarrant.errors import MetadataChangedError, NodeNotFoundError
from zarrant.run.looks import Looks
from zarrant.storage import OnlyWhile


@pytest.fixture
def proxy(moto: Server) -> Iterator[Proxy]:
    with start_proxy(moto) as proxy:
        yield proxy


def heads(proxy: Proxy) -> int:
    found = sum(request.method == "HEAD" for request in proxy.requests)
    proxy.requests.clear()
    return found


def test_a_look_serves_the_chunks_of_one_write(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.run.looks.LOOK_S", 60.0)
    options = proxy.server.storage_options
    array = zarrant.create_array(proxy.server.fresh_url(), shape=(24,), dtype="int8", chunks=2, storage_options=options)
    array[:2] = 1
    heads(proxy)
    array[...] = np.arange(24)
    assert heads(proxy) == 1
    array[...] = np.arange(24)[::-1]
    assert heads(proxy) == 1
    assert array[...].tolist() == list(range(24))[::-1]


async def _write_async(url: str, options: object) -> None:
    array = await zarrant.open_array_async(url, mode="r+", storage_options=options)
    await array.setitem(slice(None), np.arange(24))


def test_a_look_serves_the_tasks_of_one_write(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.run.looks.LOOK_S", 60.0)
    url, options = proxy.server.fresh_url(), proxy.server.storage_options
    zarrant.create_array(url, shape=(24,), dtype="int8", chunks=2, storage_options=options)[:2] = 1
    asyncio.run(_write_async(url, options))
    heads(proxy)
    asyncio.run(_write_async(url, options))
    assert heads(proxy) == 1


def test_what_was_removed_before_a_write_is_heard_by_it(moto: Server) -> None:
    options = moto.storage_options
    array = zarrant.create_array(moto.fresh_url(), shape=(24,), dtype="int8", chunks=2, storage_options=options)
    array[...] = 1
    before = array.store.get(array.chunk_key((0,))).data
    array.store.erase(f"{array.path}/zarr.json")
    with pytest.raises(NodeNotFoundError):
        array[:2] = 2
    assert array.store.get(array.chunk_key((0,))).data == before


def test_a_look_ends() -> None:
    condition, taken = OnlyWhile("zarr.json", 1), []
    looks = Looks()
    for _ in range(3):
        looks.take(condition, lambda: taken.append(1))
    assert taken == [1]
    looks.begun[condition] -= 1
    looks.take(condition, lambda: taken.append(2))
    looks.take(condition._replace(unlocked=True), lambda: taken.append(3))
    looks.take(condition._replace(unlocked=True), lambda: taken.append(3))
    assert taken == [1, 2, 3, 3]


def test_a_look_that_fails_serves_nobody() -> None:
    looks, condition = Looks(), OnlyWhile("zarr.json", 1)

    def look() -> None:
        condition.check(None)

    for _ in range(2):
        with pytest.raises(MetadataChangedError):
            looks.take(condition, look)


def test_a_look_that_has_begun_is_waited_for_and_serves() -> None:
    looks, condition, taken = Looks(), OnlyWhile("zarr.json", 1), []
    go_on = threading.Event()

    def look() -> None:
        assert go_on.wait(10)
        taken.append(1)

    for _ in range(2):
        looks.begin(condition, look)
    threading.Timer(0.02, go_on.set).start()
    looks.take(condition, lambda: taken.append(2))
    looks.begin(condition, lambda: taken.append(3))
    assert taken == [1]


def test_a_look_that_began_too_long_ago_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.run.looks.LOOK_S", 0.0)
    looks, condition, taken = Looks(), OnlyWhile("zarr.json", 1), []
    looks.begin(condition, lambda: taken.append(1))
    looks.take(condition, lambda: taken.append(2))
    assert taken == [1, 2]


def test_without_a_thread_the_look_is_made_by_who_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    looks, condition, taken = Looks(), OnlyWhile("zarr.json", 1), []
    looks.begin(condition, lambda: taken.append(1))
    looks.take(condition, lambda: taken.append(2))
    assert taken == [2]


def test_threads_that_begin_and_take_at_once_look_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.run.looks.LOOK_S", 60.0)
    condition = OnlyWhile("zarr.json", 1)
    for _ in range(50):
        looks, taken = Looks(), list[int]()

        def write(looks: Looks = looks, taken: list[int] = taken) -> None:
            looks.begin(condition, lambda: taken.append(1))
            looks.take(condition, lambda: taken.append(2))

        with ThreadPoolExecutor(8) as threads:
            for each in [threads.submit(write) for _ in range(8)]:
                each.result()
        assert taken == [1]


def test_a_look_that_has_begun_and_fails_serves_nobody() -> None:
    looks, condition = Looks(), OnlyWhile("zarr.json", 1)
    looks.begin(condition, lambda: condition.check(None))
    for _ in range(2):
        with pytest.raises(MetadataChangedError):
            looks.take(condition, lambda: condition.check(None))


@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "async"])
def test_the_look_goes_beside_the_encoding_and_ends_before_anything_is_stored(proxy: Proxy, awaited: bool) -> None:
    """So what was removed before the write began is not stored to."""
    url, options = proxy.server.fresh_url(), proxy.server.storage_options
    array = zarrant.create_array(url, shape=(24,), dtype="int8", chunks=24, storage_options=options)
    array[...] = 1
    heads(proxy)
    if awaited:
        asyncio.run(_write_async(url, options))
    else:
        array[...] = 2
    methods = [request.method for request in proxy.requests]
    assert methods[-2:] == ["HEAD", "PUT"]
    array.store.erase(f"{array.path}/zarr.json")
    proxy.requests.clear()
    with pytest.raises(NodeNotFoundError):
        array[...] = 3
    assert "PUT" not in [request.method for request in proxy.requests]


def test_what_fails_to_encode_leaves_no_task_behind(proxy: Proxy) -> None:
    url, options = proxy.server.fresh_url(), proxy.server.storage_options
    narrow = {"name": "numcodecs.astype", "configuration": {"encode_dtype": "|i1", "decode_dtype": "<i4"}}
    zarrant.create_array(url, shape=(2,), dtype="int32", chunks=2, filters=[narrow], storage_options=options)

    async def write() -> set[Any]:
        array = await zarrant.open_array_async(url, mode="r+", storage_options=options)
        with pytest.raises(zarrant.errors.ZarrantError):
            await array.setitem(slice(None), np.array([1, 1000]))
        return asyncio.all_tasks() - {asyncio.current_task()}

    proxy.requests.clear()
    assert not asyncio.run(write())
    assert "PUT" not in [request.method for request in proxy.requests if "probe" not in request.path]
