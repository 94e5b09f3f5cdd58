from __future__ import annotations

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from zarrant.errors import LockTimeout, OptionError, StoreError, StoreFullError, StorePermissionError, VersionChangedError
from zarrant.storage import ByteRange
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Fault, Faults
from zarrant.testkit import CoroutineStore, content


def faulty(*faults: Fault, data: dict[str, bytes] | None = None, seed: int | None = None) -> Faults:
    return Faults(MemoryStore({"a": b"0123456789"} if data is None else data), *faults, seed=seed)


@pytest.mark.parametrize("error", [StoreError, StorePermissionError, StoreFullError, LockTimeout, ConnectionResetError])
def test_an_error_before_anything_is_done(error: type[Exception]) -> None:
    store = faulty(Fault("error", at=1, methods=("put",), error=error))
    store.put("a", [b"1"])
    with pytest.raises(error, match="injected fault"):
        store.put("a", [b"2"])
    store.put("b", [b"3"])
    assert (content(store.get("a")), content(store.get("b"))) == (b"1", b"3")
    assert [(kind, call.method, call.key) for kind, call in store.happened] == [("error", "put", "a")]


def test_a_lost_reply() -> None:
    store = faulty(Fault("lost reply", at=0))
    with pytest.raises(StoreError) as caught:
        store.put("a", [b"2"])
    assert (caught.value.key, caught.value.store) == ("a", store.url)
    assert content(store.get("a")) == b"2"


def test_once_for_ever_and_by_chance() -> None:
    def outcomes(fault: Fault, seed: int | None = None) -> list[bool]:
        store, found = faulty(fault, seed=seed), []
        for _ in range(40):
            try:
                found.append(store.get("a") is None)
            except StoreError:
                found.append(True)
        return found

    assert [i for i, failed in enumerate(outcomes(Fault("error", at=3))) if failed] == [3]
    assert [i for i, failed in enumerate(outcomes(Fault("error", at=30, forever=True))) if failed] == [*range(30, 40)]
    chance = Fault("error", probability=0.5)
    assert outcomes(chance, 1) == outcomes(chance, 1) != outcomes(chance, 2)
    assert 5 < sum(outcomes(chance, 1)) < 35


def test_of_some_keys_only() -> None:
    store = faulty(Fault("error", probability=1, key=r"c/.*"))
    store.put("a", [b"1"])
    with pytest.raises(StoreError):
        store.put("c/0", [b"1"])


def test_bodies_and_ranges_of_a_wrong_length() -> None:
    always: dict[str, Any] = {"at": 0, "forever": True}
    blob = faulty(Fault("truncated", **always)).get("a")
    assert (content(blob), blob.size if blob else 0) == (b"01234", 10)
    ranges = [ByteRange(0, 2), ByteRange(5, 3)]
    short = faulty(Fault("short ranges", **always)).get_ranges("a", ranges)
    assert [bytes(part) for part in short.data] == [b"01", b"56"]  # type: ignore[union-attr]
    long = faulty(Fault("long ranges", **always)).get_ranges("a", ranges)
    assert [bytes(part) for part in long.data] == [b"01", b"567more"]  # type: ignore[union-attr]


def test_stale_and_mixed_reads() -> None:
    store = faulty(Fault("stale read", at=0), Fault("mixed read", at=1))
    old = store.store.version("a")
    new = store.put("a", [b"new"])
    stale, mixed, right = store.get("a"), store.get("a"), store.get("a")
    assert (content(stale), stale.version if stale else 0) == (b"0123456789", old)
    assert (content(mixed), mixed.version if mixed else 0) == (b"0123456789", new)
    assert (content(right), right.version if right else 0) == (b"new", new)
    store = faulty(Fault("stale read", at=0, forever=True))
    store.put("a", [b"new"])
    store.put("b", [b"new"])
    assert content(store.get_ranges("a", [ByteRange(3, 2)])) == b"34"
    assert store.get("b") is None
    with pytest.raises(VersionChangedError):
        store.get_ranges("a", [ByteRange(0, 1)], store.store.version("a"))


def test_a_listing_that_lags() -> None:
    store = faulty(Fault("lagging list", at=0, forever=True), data={"a": b"1", "b/c": b"1"})
    store.put("d", [b"1"])
    store.erase("a")
    store.erase("b/c")
    assert list(store.list_prefix("")) == ["a", "b/c"]
    assert store.list_dir("") == (["a"], ["b/"])
    assert list(store.store.list_prefix("")) == ["d"]


def test_conditions_that_are_ignored() -> None:
    store = faulty(Fault("ignored condition", at=0, forever=True))
    store.put_if("a", [b"1"], None)
    assert content(store.get("a")) == b"1"
    assert content(store.get_ranges("a", [ByteRange(0)], "no version")) == b"1"
    store.splice("a", [ByteRange(0), b"2"], None)
    assert content(store.get("a")) == b"12"
    store.erase_if("a", None)
    assert store.get("a") is None
    assert [call.method for _, call in store.happened] == ["put_if", "get_ranges", "splice", "erase_if"]


def test_under_a_lock_and_not_to_take_it(tmp_path: Path) -> None:
    store = Faults(FilesystemStore(tmp_path), Fault("error", at=0, methods=("put",)), Fault("error", at=1, methods=("lock",)))
    with store.lock(["a"]) as held, pytest.raises(StoreError):
        held.put("a", [b"1"])
    with pytest.raises(StoreError), store.lock(["a"]):
        pass
    with store.lock(["a"]) as held:
        held.put("a", [b"2"])
    assert os.listdir(tmp_path) == ["a"]


def test_coroutines() -> None:
    store = Faults(
        CoroutineStore({"a": b"1"}), Fault("lost reply", at=0), Fault("stale read", at=0), Fault("ignored condition", at=0)
    )

    async def use() -> None:
        with pytest.raises(StoreError):
            await store.put_async("a", [b"2"])
        assert content(await store.get_async("a")) == b"1"
        await store.put_if_async("a", [b"3"], None)
        assert content(await store.get_async("a")) == b"3"

    asyncio.run(use())


def test_a_copy_begins_anew(tmp_path: Path) -> None:
    store = Faults(FilesystemStore(tmp_path), Fault("error", at=0), seed=1)
    with pytest.raises(StoreError):
        store.get("a")
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert copy.happened == []
    with pytest.raises(StoreError):
        copy.get("a")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"kind": "fire", "at": 0}, "kind"),
        ({"kind": "error"}, "at"),
        ({"kind": "error", "probability": 2}, "at"),
        ({"kind": "short ranges", "at": 0, "methods": ("put",)}, "methods"),
    ],
)
def test_bad_faults(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(OptionError) as caught:
        Fault(**wrong)
    assert caught.value.field == field
