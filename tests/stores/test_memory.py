from __future__ import annotations

import pickle
from typing import Any

import pytest

from zarrant.errors import CapabilityError, DataTypeError, VersionChangedError
from zarrant.storage import Calls, capabilities
from zarrant.stores.memory import MemoryStore
from zarrant.testkit import StoreSuite, content


class TestMemory(StoreSuite):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


def test_can_do() -> None:
    can = capabilities(MemoryStore())
    assert can.sync_calls == Calls(get=True, put=True, put_if=True, splice=True, erase=True, erase_if=True, list=True)
    assert can.one_process


def test_a_dict_stays_in_step() -> None:
    data = {"a": b"1"}
    store = MemoryStore(data)
    assert content(store.get("a")) == b"1"
    store.put("b", [b"2", b"3"])
    assert data == {"a": b"1", "b": b"23"}
    store.erase("a")
    assert data == {"b": b"23"}


def test_changes_of_the_dict_are_noticed() -> None:
    data: dict[str, bytes] = {}
    store = MemoryStore(data)
    version = store.put("a", [b"one", b"two"])
    data["a"] = bytes(bytearray(b"onetwo"))
    with pytest.raises(VersionChangedError):
        store.put_if("a", [b"3"], version)
    del data["a"]
    with pytest.raises(VersionChangedError):
        store.erase_if("a", version)
    assert store.get("a") is None


def test_stores_on_one_dict_are_one() -> None:
    data: dict[str, bytes] = {}
    first, second = MemoryStore(data), MemoryStore(data)
    version = first.put("a", [b"1"])
    assert second.get("a").version == version
    second.put_if("a", [b"2"], version)
    assert first == second
    assert hash(first) == hash(second)
    assert first != MemoryStore({})


def test_a_value_that_is_not_bytes() -> None:
    data: Any = {"a": bytearray(b"1")}
    with pytest.raises(DataTypeError) as caught:
        MemoryStore(data).get("a")
    assert (caught.value.key, caught.value.got) == ("a", "bytearray")


def test_named_stores_are_found_again() -> None:
    store = MemoryStore.named("test_named")
    store.put("a", [b"1"])
    assert MemoryStore.named("test_named") is store
    assert MemoryStore.named("test_other") != store
    assert store.url == "memory://test_named"


def test_it_cannot_be_pickled() -> None:
    with pytest.raises(CapabilityError, match="one process"):
        pickle.dumps(MemoryStore())


def test_it_says_what_it_is() -> None:
    store = MemoryStore({"a": b""})
    assert repr(store) == f"MemoryStore({store.url!r}, 1 objects)"
    assert "threads of this process" in store.guard
