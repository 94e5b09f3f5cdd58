"""What a store replies is looked at before it is used."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import ChunkError, LimitError, StoreError
from zarrant.requests import OnlyWhile
from zarrant.run.store_calls import store_while
from zarrant.storage import NOTHING, as_store
from zarrant.stores.wrappers import Cache, Fault, Faults, Logging, ReadOnly, Recording
from zarrant.testkit import CoroutineStore


class Short(zarrant.MemoryStore):
    """Gives less than it is asked for: the first byte of a range, or a range too few."""

    def __init__(self) -> None:
        super().__init__()
        self.how = "honest"

    def get_ranges(self, key: str, ranges: Any, if_version: Any = None) -> Any:
        blob = super().get_ranges(key, ranges, if_version)
        if self.how == "honest" or blob is None or not key.startswith("c"):
            return blob
        if self.how == "fewer ranges":
            return blob._replace(data=blob.data[1:])
        return blob._replace(data=tuple(view[:1] for view in blob.data))


class Plain:
    """Without splice: kept ranges are read back."""

    def __init__(self, store: Short) -> None:
        self.store, self.url = store, store.url
        for name in ("get", "get_ranges", "put", "put_if", "erase", "erase_if", "erase_prefix", "list_prefix", "list_dir"):
            setattr(self, name, getattr(store, name))


class Async:
    """The same, as coroutines."""

    def __init__(self, store: Short) -> None:
        self.store, self.url = store, store.url
        for name in ("get", "get_ranges", "put", "put_if", "erase", "erase_if", "erase_prefix", "list_prefix", "list_dir"):
            setattr(self, f"{name}_async", self._coroutine(name))

    def _coroutine(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            found = getattr(self.store, name)(*args)
            return list(found) if name == "list_prefix" else found

        return call


@pytest.mark.parametrize("how", ["shorter", "fewer ranges"])
@pytest.mark.parametrize("wrap", [lambda store: store, Plain, Async], ids=["memory", "no splice", "async"])
def test_short_replies_change_nothing(wrap: Any, how: str) -> None:
    inner = Short()
    a = zarrant.create_array(inner, shape=(64,), dtype="int32", chunks=(4,), shards=(64,), compressors=None)
    a[...] = np.arange(64, dtype="int32")
    before = inner.get("c/0").data[0].tobytes()
    inner.how = how
    store = wrap(inner)

    async def work() -> None:
        b = await zarrant.open_array_async(store, mode="r+")
        with pytest.raises(StoreError, match="than it was asked for"):
            await b.getitem(slice(3, 9))
        with pytest.raises(StoreError, match="than it was asked for"):
            await b.setitem(slice(4, 8), 7)

    if wrap is Async:
        asyncio.run(work())
    else:
        b = zarrant.open_array(store, mode="r+")
        with pytest.raises(StoreError, match="than it was asked for"):
            b[3:9]
        with pytest.raises(StoreError, match="than it was asked for"):
            b[4:8] = 7
    inner.how = "honest"
    assert inner.get("c/0").data[0].tobytes() == before


def within(blob: Any, limit: int) -> Any:
    if blob is not None and blob.size > limit:
        raise LimitError("a stored object that is too large", field="stored bytes", got=blob.size, limit=limit)
    return blob


class Telling(zarrant.MemoryStore):
    """Knows the size of an object before it reads it, and tells what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def get(self, key: str) -> Any:
        self.read.append(key)
        return super().get(key)

    def get_within(self, key: str, limit: int) -> Any:
        return within(super().get(key), limit)


@pytest.mark.parametrize("wrap", [lambda store: store, Plain, Async, ReadOnly, Recording], ids=lambda wrap: wrap.__name__)
@pytest.mark.parametrize("inner", [zarrant.MemoryStore, Telling])
def test_whole_objects_have_a_limit_on_every_store(inner: Any, wrap: Any) -> None:
    store = inner()
    a = zarrant.create_array(store, shape=(8,), dtype="int32", chunks=(4,))
    a[...] = 5
    store.put("c/0", [bytes(1 << 17)])
    if isinstance(store, Telling):
        store.read.clear()
    view = wrap(store)

    async def work() -> None:
        b = await zarrant.open_array_async(view, mode="r")
        assert (await b.getitem(slice(4, 8))).tolist() == [5] * 4
        with pytest.raises(ChunkError, match="too large") as caught:
            await b.getitem(slice(0, 1))
        assert (caught.value.key, caught.value.chunk) == ("c/0", (0,))

    asyncio.run(work())
    if isinstance(store, Telling) and wrap not in (Plain, Async):
        assert store.read == []


@pytest.mark.parametrize("wrap", [lambda store: store, Async], ids=["memory", "async"])
def test_a_body_that_ends_too_early_is_the_fault_of_the_store(wrap: Any) -> None:
    """Not of the data: it can be read again."""
    inner = CoroutineStore()
    zarrant.create_array(inner, data=np.arange(64, dtype="int32"), chunks=(64,))
    store = Faults(inner, Fault("truncated", at=0, forever=True, key="c/0"))
    with pytest.raises(StoreError, match=r"expected .* bytes; got .* bytes") as caught:
        if wrap is Async:
            asyncio.run(get_all(store))
        else:
            zarrant.open_array(store, mode="r")[...]
    assert caught.value.key == "c/0"


async def get_all(store: Any) -> Any:
    return await (await zarrant.open_array_async(store, mode="r")).getitem(...)


@pytest.mark.parametrize("method", ["list_dir", "list_prefix", "erase_prefix", "version"])
def test_an_error_that_is_not_ours_gets_a_type_and_a_key(method: str) -> None:
    store = Faults(CoroutineStore(), Fault("error", at=0, forever=True, methods=(method,), error=ConnectionResetError))
    group = zarrant.create_group(store.store, name="g")
    group.create_array("a", data=np.arange(4), chunks=(2,))
    calls: dict[str, Any] = {
        "list_dir": lambda: list(zarrant.open_group(store, name="g", mode="r")),
        "list_prefix": lambda: zarrant.open_array(store, name="g/a", mode="r").nchunks_initialized(),
        "erase_prefix": lambda: zarrant.open_group(store, name="g", mode="r+").__delitem__("a"),
        "version": lambda: store_while(OnlyWhile("a", None), as_store(Recording(store)), NOTHING),
    }
    with pytest.raises(StoreError, match="ConnectionResetError") as caught:
        calls[method]()
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert caught.value.key is not None


class TellingCoroutines(CoroutineStore):
    """Knows the size of an object before it reads it, for coroutines too."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    async def get_async(self, key: str) -> Any:
        self.read.append(key)
        return await super().get_async(key)

    def get_within(self, key: str, limit: int) -> Any:
        return within(self.get(key), limit)

    async def get_within_async(self, key: str, limit: int) -> Any:
        return self.get_within(key, limit)


@pytest.mark.parametrize("wrap", [lambda store: store, ReadOnly, Recording, Logging, Cache], ids=lambda wrap: wrap.__name__)
def test_what_is_too_large_is_not_read_by_coroutines_either(wrap: Any) -> None:
    store = TellingCoroutines()
    zarrant.create_array(store, shape=(8,), dtype="int32", chunks=(4,))[...] = 5
    store.put("c/0", [bytes(1 << 17)])
    view = wrap(store)

    async def work() -> None:
        b = await zarrant.open_array_async(view, mode="r")
        for _ in range(2):
            assert (await b.getitem(slice(4, 8))).tolist() == [5] * 4
        with pytest.raises(ChunkError, match="too large"):
            await b.getitem(slice(0, 1))

    asyncio.run(work())
    assert store.read == []
