from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zarrant.storage import ByteRange, Calls, Capabilities, capabilities
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Call, ReadOnly, Recording, WriteOnly
from zarrant.testkit import StoreSuite, content


class TestRecordingSuite(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Any:
        return Recording(FilesystemStore(tmp_path))


class Coroutines:
    """A store whose methods are coroutines; it cannot list."""

    url = "test://coroutines"

    async def get_async(self, key: str) -> None:
        return None

    async def get_ranges_async(self, key: str, ranges: Any, if_version: object = None) -> None:
        return None

    async def put_async(self, key: str, parts: Any) -> int:
        return len(parts)


def test_read_only() -> None:
    store = MemoryStore({"a/b": b"abc"})
    view = ReadOnly(store)
    assert capabilities(view) == Capabilities(Calls(get=True, list=True), version=True, list_stored=True, one_process=True)
    assert content(view.get("a/b")) == b"abc"
    assert content(view.get_ranges("a/b", [ByteRange(1)])) == b"bc"
    assert list(view.list_prefix("")) == ["a/b"]
    assert [name for name in ("put", "erase", "erase_prefix", "put_if", "splice", "lock") if hasattr(view, name)] == []


def test_write_only() -> None:
    data: dict[str, bytes] = {}
    view = WriteOnly(MemoryStore(data))
    assert capabilities(view) == Capabilities(Calls(put=True, erase=True), one_process=True)
    view.put("a", [b"1"])
    view.put("b/c", [b"2"])
    view.put("b/d", [b"2"])
    view.erase("a")
    assert data == {"b/c": b"2", "b/d": b"2"}
    view.erase_prefix("b/")
    assert data == {}
    assert [name for name in ("get", "get_ranges", "list_dir", "put_if", "lock") if hasattr(view, name)] == []


def test_views_tell_where_and_compare(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    assert ReadOnly(store).url == store.url
    assert WriteOnly(store).guard == store.guard
    assert ReadOnly(store).guard == "read only"
    assert ReadOnly(store) == ReadOnly(FilesystemStore(tmp_path))
    assert ReadOnly(store) != WriteOnly(store)
    assert len({ReadOnly(store), ReadOnly(store)}) == 1
    for view in (ReadOnly(store), WriteOnly(store), Recording(store)):
        copy = pickle.loads(pickle.dumps(view))
        assert copy == view
        assert capabilities(copy) == capabilities(view)
    assert repr(ReadOnly(store)) == f"ReadOnly({store!r})"


def one_by_one(store: object) -> Capabilities:
    """What a store can do, but for what is done for many objects at once, where no call could be recorded for each."""
    lost = ("get_all", "get_into", "get_decoded", "puts_first", "updates_boxes", "list_stored", "strided_parts")
    return replace(capabilities(store), **dict.fromkeys(lost, False))


@pytest.mark.parametrize("inner", [MemoryStore(), ReadOnly(MemoryStore()), WriteOnly(MemoryStore()), Coroutines()])
def test_recording_can_do_what_the_store_can(inner: object) -> None:
    assert capabilities(Recording(inner)) == one_by_one(inner)


def test_recording_lists_calls(tmp_path: Path) -> None:
    store = Recording(FilesystemStore(tmp_path))
    assert capabilities(store) == one_by_one(store.store)
    version = store.put("a", [b"12", bytearray(b"3")])
    store.get_ranges("a", (ByteRange(0, 1), ByteRange.suffix(1)))
    store.splice("a", parts=[ByteRange(0, 2), b"4567"], if_version=version)
    with store.lock(["a", "b"]) as locked:
        locked.get("a")
        locked.put("b", [b""])
    store.erase("a")
    store.list_dir("")
    assert store.calls == [
        Call("put", "a", None, 3),
        Call("get_ranges", "a", (ByteRange(0, 1), ByteRange(-1, None))),
        Call("splice", "a", (ByteRange(0, 2),), 4),
        Call("lock", "a"),
        Call("lock", "b"),
        Call("get", "a"),
        Call("put", "b"),
        Call("erase", "a"),
        Call("list_dir", ""),
    ]


def test_recording_of_coroutines() -> None:
    store = Recording(Coroutines())
    assert capabilities(store).async_calls == capabilities(Coroutines()).async_calls == Calls(get=True, put=True)
    assert asyncio.run(store.put_async("a", [b"123"])) == 1
    assert asyncio.run(store.get_async("b")) is None
    assert store.calls == [Call("put", "a", None, 3), Call("get", "b")]
