from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant import kernels
from zarrant.errors import ByteRangeError, LimitError, MetadataChangedError, OptionError, ReentrantLockError
from zarrant.requests import OnlyWhile
from zarrant.run import store_locks
from zarrant.storage import ByteRange, as_store, capabilities
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Prefix, ReadOnly
from zarrant.testkit import BAD_KEYS, BAD_PREFIXES, CoroutineStore


def test_only_what_is_below_is_there() -> None:
    data = {"a/b": b"1", "ab": b"2", "a/c/d": b"3", "b": b"4"}
    store = Prefix(MemoryStore(data), "a/")
    assert list(store.list_prefix("")) == ["b", "c/d"]
    assert store.list_dir("") == (["b"], ["c/"])
    store.erase_prefix("")
    assert data == {"ab": b"2", "b": b"4"}
    assert store.get("b") is None


@pytest.mark.parametrize("key", [key for key in BAD_KEYS if key])
def test_no_key_and_no_prefix_leads_out(key: str) -> None:
    store = Prefix(MemoryStore({"b": b"1"}), "a")
    with pytest.raises(OptionError):
        store.get(key)
    with pytest.raises(OptionError):
        store.only_while(OnlyWhile(key, None))
    if key != "a/":
        with pytest.raises(OptionError):
            Prefix(MemoryStore(), key.rstrip("/") or "/")
    for prefix in BAD_PREFIXES:
        with pytest.raises(OptionError):
            store.erase_prefix(prefix)


def test_locks_conditions_and_batches_are_below(tmp_path: Path) -> None:
    files = FilesystemStore(tmp_path)
    store = Prefix(files, "a")
    files.put("a/zarr.json", [b"{}"])
    with store.lock(["k"]) as held:
        held.put("k", [b"1"])
        with pytest.raises(ReentrantLockError), FilesystemStore(tmp_path).lock(["a/k"]):
            pass
        assert (tmp_path / "a" / "k").read_bytes() == b"1"
    version = store.version("zarr.json")
    with store.write_batch() as batch:
        batch.only_while(OnlyWhile("zarr.json", version)).put("k", [b"2"])
    assert store.is_unchanged("k", store.version("k"))
    store.put("zarr.json", [b"{ }"])
    with pytest.raises(MetadataChangedError) as caught:
        store.only_while(OnlyWhile("zarr.json", version)).put("k", [b"3"])
    assert caught.value.key == "zarr.json"


def test_errors_name_what_the_caller_knows() -> None:
    store = Prefix(Prefix(MemoryStore.named("prefixes"), "a"), "b")
    assert store.url == "memory://prefixes/a/b"
    store.put("b/k", [b"123"])
    with pytest.raises(ByteRangeError) as caught:
        store.get_ranges("b/k", [ByteRange(0, 4)])
    assert (caught.value.key, caught.value.store) == ("b/k", store.url)


def test_an_object_has_one_queue_under_both_its_names() -> None:
    """Threads that know it by different prefixes wait for each other, also where the store has no locks."""
    store = MemoryStore()
    with store_locks.queue_locks(["a/k"], as_store(store)):
        assert not store_locks.is_unchanged("k", 1, as_store(Prefix(store, "a")))
        with pytest.raises(ReentrantLockError), store_locks.queue_locks(["k"], as_store(Prefix(store, "a")), 0.01):
            pass


def test_an_array_below_a_prefix() -> None:
    data: dict[str, bytes] = {}
    a = zarrant.create_array(Prefix(MemoryStore(data), "x/y"), name="a", shape=(4,), chunks=(2,), dtype="u1")
    a[1:3] = 7
    assert set(data) == {"x/y/zarr.json", "x/y/a/zarr.json", "x/y/a/c/0", "x/y/a/c/1"}
    assert np.array_equal(zarrant.open_array(MemoryStore(data), name="x/y/a", mode="r")[...], [0, 7, 7, 0])


@pytest.mark.parametrize(
    "store", [MemoryStore(), CoroutineStore(), FilesystemStore("/nowhere"), ReadOnly(FilesystemStore("/nowhere"))]
)
def test_it_can_do_all_that_the_store_can(store: Any) -> None:
    assert capabilities(Prefix(Prefix(store, "a"), "b")) == capabilities(store)


def test_calls_for_many_objects_and_for_parts_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their keys and conditions are those of the store inside, and what comes back is known to the caller."""
    used: list[tuple[str, Any, bool]] = []

    def watched(name: str) -> Any:
        real = getattr(FilesystemStore, name)

        def call(store: FilesystemStore, keys: Any, *rest: Any) -> Any:
            found = real(store, keys, *rest)
            used.append((name, keys, found is None))
            return found

        return call

    for name in ("get_all", "get_decoded", "get_into", "update_box", "list_stored"):
        monkeypatch.setattr(FilesystemStore, name, watched(name))
    values = np.arange(640_000, dtype="i4").reshape(800, 800)
    inside, store = FilesystemStore(tmp_path), Prefix(FilesystemStore(tmp_path), "x/y")
    a = zarrant.create_array(store, name="a", data=values, chunks=(200, 400))
    seen = []
    for array in (a, zarrant.open_array(inside, name="x/y/a")):
        used.clear()
        array[1, 1:3] = -1
        assert np.array_equal(array[1], [800, -1, -1, *range(803, 1600)])
        assert np.array_equal(array[2:], values[2:])
        seen.append(list(used))
    assert seen[0] == seen[1]
    kinds = {"update_box", "get_decoded"} if kernels.update_file is not None else {"get_all"}
    assert kinds <= {name for name, _, refused in used if not refused}
    blobs = store.get_all(["a/c/0/0", "a/c/9/9"], 3)
    assert isinstance(blobs[0], LimitError)
    assert (blobs[0].key, blobs[0].store, blobs[1]) == ("a/c/0/0", store.url, None)
    assert sorted(store.list_stored("a/c/0/", 9) or ()) == ["a/c/0/0", "a/c/0/1"]
    assert store.list_stored("a/c/", 1) is None


def test_coroutines() -> None:
    store: Any = Prefix(CoroutineStore(), "a")

    async def use() -> Any:
        await store.put_async("b/c", [b"1"])
        return await store.list_prefix_async(""), await store.list_dir_async(""), await store.get_async("b/c")

    keys, found, blob = asyncio.run(use())
    assert (keys, found, bytes(blob.data[0])) == (["b/c"], ([], ["b/"]), b"1")
