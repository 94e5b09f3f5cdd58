"""Stores of zarr-python as ours, and ours as zarr-python's, which pass its own tests of stores."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.stores.hashed import Hashed

import zarrant
from zarrant.errors import CapabilityError, OptionError, StoreError, ZarrantWarning
from zarrant.storage import ByteRange, as_store, capabilities
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.resolve import resolve_store
from zarrant.stores.wrappers import ReadOnly, WriteOnly
from zarrant.stores.zip_store import ZipStore
from zarrant.testkit import AsyncStoreSuite, StoreSuite, blocking, content

zarr = pytest.importorskip("zarr")
from zarr.core.buffer import cpu, default_buffer_prototype  # noqa: E402
from zarr.testing.store import StoreTests  # noqa: E402

from zarrant.stores.zarr_store import BlockingZarrantStore, ZarrantStore, ZarrStore, as_zarr_store  # noqa: E402

VALUES = np.arange(60, dtype="<i4").reshape(6, 10)
PROTOTYPE = default_buffer_prototype()


# ── theirs as ours ───────────────────────────────────────────────────────────────────────────────────────────────────


class TestTheirMemory(Hashed, StoreSuite):
    @pytest.fixture
    def store(self) -> ZarrStore:
        return ZarrStore(zarr.storage.MemoryStore())


class TestTheirFiles(Hashed, StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ZarrStore:
        return ZarrStore(zarr.storage.LocalStore(tmp_path / "root"))


class TestTheirMemoryByCoroutines(Hashed, AsyncStoreSuite):
    @pytest.fixture
    def async_store(self) -> ZarrStore:
        return ZarrStore(zarr.storage.MemoryStore())

    @pytest.fixture
    def store(self, async_store: ZarrStore) -> Iterator[Any]:
        with blocking(async_store) as store:
            yield store


def test_each_of_their_stores_is_opened(tmp_path: Path) -> None:
    zarr.create_array(zarr.storage.LocalStore(tmp_path / "a.zarr"), data=VALUES, chunks=(4, 4))
    archive = zarr.storage.ZipStore(tmp_path / "a.zip", mode="w")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.create_array(archive, data=VALUES, chunks=(4, 4))
    archive.close()
    memory = zarr.storage.MemoryStore()
    zarr.create_array(memory, data=VALUES, chunks=(2, 4), shards=(4, 8))
    logging = zarr.storage.LoggingStore(memory, log_level="ERROR")
    expected = [
        (zarr.storage.LocalStore(tmp_path / "a.zarr"), FilesystemStore),
        (zarr.storage.LocalStore(tmp_path / "a.zarr", read_only=True), ReadOnly),
        (zarr.storage.FsspecStore.from_url(f"file://{tmp_path}/a.zarr"), FilesystemStore),
        (zarr.storage.ZipStore(tmp_path / "a.zip", mode="r"), ReadOnly),
        (memory, ZarrStore),
        (logging, ZarrStore),
    ]
    for store, kind in expected:
        assert type(resolve_store(store).store) is kind
        assert np.array_equal(zarrant.open_array(store, mode="r")[1:5], VALUES[1:5])

        async def read(store: Any) -> Any:
            return await (await zarrant.open_array_async(store, mode="r")).getitem(slice(1, 5))

        assert np.array_equal(asyncio.run(read(store)), VALUES[1:5])


def test_files_keep_their_guard(tmp_path: Path) -> None:
    array = zarrant.create_array(zarr.storage.LocalStore(tmp_path), data=VALUES, chunks=(4, 4))
    array[1, 1] = 5
    assert "lock" in array.guard
    with pytest.raises(CapabilityError):
        zarrant.create_array(zarr.storage.LocalStore(tmp_path, read_only=True), name="b", data=VALUES)


def test_one_writer() -> None:
    store = zarr.storage.MemoryStore()
    with pytest.raises(CapabilityError, match="synchronizer=None"):
        zarrant.create_array(store, data=VALUES)
    with pytest.warns(ZarrantWarning):
        array = zarrant.create_array(store, data=VALUES, chunks=(4, 4), synchronizer=None)
    array[1, 1:3] = 7
    assert zarr.open_array(store)[1, 1:3].tolist() == [7, 7]
    assert "one writer" in repr(zarrant.open_array(store, mode="r+"))


def test_immutable_stores_are_read_by_ranges() -> None:
    inside = zarr.storage.MemoryStore()
    zarr.create_array(inside, data=np.arange(10_000), chunks=(10,), shards=(10_000,))
    read = 0

    class Counting(zarr.storage.WrapperStore):  # type: ignore[misc]
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            nonlocal read
            found = await super().get(key, prototype, byte_range)
            read += 0 if found is None else len(found)
            return found

        async def getsize(self, key: str) -> int:
            return int(await inside.getsize(key))

    array = zarrant.open_array(ZarrStore(Counting(inside), immutable=True), mode="r")
    read = 0
    assert array[50:52].tolist() == [50, 51]
    assert read < 1000 * 16 + 1000
    with pytest.raises(StoreError):
        ZarrStore(inside, immutable=True).get_ranges("zarr.json", [ByteRange(0, 10**9)])


@pytest.mark.parametrize("bad", ["path", Path("path"), "s3://bucket/a", {}])
def test_what_is_no_store_of_ours(bad: object) -> None:
    with pytest.raises(OptionError, match=r"an address, not a store.*resolve_store"):
        as_zarr_store(bad)


@pytest.mark.parametrize("bad", [5, {}, "path", MemoryStore()])
def test_what_is_no_store_of_theirs(bad: object) -> None:
    with pytest.raises(OptionError, match="not a store of zarr-python"):
        ZarrStore(bad)


def test_errors_are_typed() -> None:
    class Failing(zarr.storage.WrapperStore):  # type: ignore[misc]
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            raise RuntimeError("no connection")

    with pytest.raises(StoreError, match="no connection") as caught:
        ZarrStore(Failing(zarr.storage.MemoryStore())).get("a")
    assert caught.value.key == "a" and isinstance(caught.value.__cause__, RuntimeError)


# ── ours as theirs ───────────────────────────────────────────────────────────────────────────────────────────────────


def as_blocking(tests: Any) -> Any:
    """A class of tests whose coroutines run to their end: there is no plugin for them here."""

    def run(test: Any) -> Any:
        @functools.wraps(test)
        def call(*args: Any, **options: Any) -> None:
            asyncio.run(test(*args, **options))

        return call

    found = {name: run(test) for name, test in inspect.getmembers(tests, inspect.iscoroutinefunction) if name.startswith("test")}
    return type(tests.__name__, (tests,), found)


class OurStoreTests(as_blocking(StoreTests)):  # type: ignore[misc]
    """The tests that zarr-python has for stores."""

    store_cls: Any = BlockingZarrantStore
    buffer_cls = cpu.Buffer

    async def set(self, store: Any, key: str, value: Any) -> None:
        store.store.put(key, [value.to_bytes()])

    async def get(self, store: Any, key: str) -> Any:
        return cpu.Buffer.from_bytes(content(store.store.get(key)) or b"")

    @pytest.fixture
    def store(self, open_kwargs: dict[str, Any]) -> Any:
        return asyncio.run(self.store_cls.open(**open_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs: dict[str, Any]) -> Any:
        return self.store_cls(**store_kwargs)

    def test_store_repr(self, store: Any) -> None:
        assert repr(store) == f"BlockingZarrantStore({store.store!r})" and str(store) == store.store.url

    def test_store_supports_writes(self, store: Any) -> None:
        assert store.supports_writes and store.supports_deletes

    def test_store_supports_listing(self, store: Any) -> None:
        assert store.supports_listing


class TestOurFilesAsTheirs(OurStoreTests):
    @pytest.fixture
    def store_kwargs(self, tmp_path: Path) -> dict[str, Any]:
        return {"store": FilesystemStore(tmp_path)}


class TestOurMemoryAsTheirs(OurStoreTests):
    @pytest.fixture
    def store_kwargs(self) -> dict[str, Any]:
        return {"store": MemoryStore()}

    def test_serializable_store(self, store: Any) -> None:
        with pytest.raises(CapabilityError, match="one process"):
            pickle.dumps(store)


def test_zarr_python_writes_through_it(tmp_path: Path) -> None:
    for inside in (FilesystemStore(tmp_path), MemoryStore(), ZarrStore(zarr.storage.MemoryStore())):
        store = as_zarr_store(inside)
        group = zarr.create_group(store)
        array = group.create_array("a", shape=VALUES.shape, dtype="<i4", chunks=(2, 4), shards=(4, 8))
        array[...] = VALUES
        array[1:3, 2:5] = 9
        group.attrs["x"] = 1
        zarr.consolidate_metadata(store)
        expected = VALUES.copy()
        expected[1:3, 2:5] = 9
        assert np.array_equal(array[...], expected)
        ours = zarrant.open_group(inside, mode="r")
        assert np.array_equal(ours["a"][...], expected) and ours.attrs["x"] == 1
        assert list(zarr.open_group(store).array_keys()) == ["a"]


def test_zarr_python_writes_an_archive_through_it(tmp_path: Path) -> None:
    with ZipStore(tmp_path / "a.ozx", "w") as archive:
        array = zarr.create_array(as_zarr_store(archive), shape=VALUES.shape, dtype="<i4", chunks=(3, 5))
        array[...] = VALUES
        array[0, 0] = 5
    expected = VALUES.copy()
    expected[0, 0] = 5
    for store in (zarr.storage.ZipStore(tmp_path / "a.ozx", mode="r"), as_zarr_store(ZipStore(tmp_path / "a.ozx"))):
        assert np.array_equal(zarr.open_array(store, mode="r")[...], expected)


def test_it_comes_back_as_ours() -> None:
    store = MemoryStore()
    assert resolve_store(as_zarr_store(store)).store is store
    assert type(resolve_store(as_zarr_store(store, read_only=True)).store) is ReadOnly


def test_stores_of_coroutines() -> None:
    class Coroutines:
        """The coroutines of a store, and nothing else."""

        url = "test://coroutines"

        def __init__(self) -> None:
            self.inside = MemoryStore()

    for name in ("get", "get_ranges", "put", "put_if", "erase", "erase_if", "erase_prefix", "list_prefix", "list_dir"):

        async def call(self: Any, *args: Any, name: str = name) -> Any:
            found = getattr(self.inside, name)(*args)
            return list(found) if name == "list_prefix" else found

        setattr(Coroutines, f"{name}_async", call)
    store = as_zarr_store(Coroutines())
    assert type(store) is ZarrantStore and not hasattr(store, "get_sync")
    array = zarr.create_array(store, data=VALUES, chunks=(4, 4))
    assert np.array_equal(array[...], VALUES)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (zarr.abc.store.RangeByteRequest(2, 5), b"234"),
        (zarr.abc.store.RangeByteRequest(8, 50), b"89"),
        (zarr.abc.store.RangeByteRequest(20, 50), b""),
        (zarr.abc.store.RangeByteRequest(3, 3), b""),
        (zarr.abc.store.RangeByteRequest(5, 3), b""),
        (zarr.abc.store.OffsetByteRequest(0), b"0123456789"),
        (zarr.abc.store.OffsetByteRequest(7), b"789"),
        (zarr.abc.store.OffsetByteRequest(70), b""),
        (zarr.abc.store.SuffixByteRequest(3), b"789"),
        (zarr.abc.store.SuffixByteRequest(0), b""),
        (zarr.abc.store.SuffixByteRequest(30), b"0123456789"),
    ],
)
def test_byte_requests(request_: Any, expected: bytes) -> None:
    store = as_zarr_store(MemoryStore({"a": b"0123456789"}))
    for found in (asyncio.run(store.get("a", PROTOTYPE, request_)), store.get_sync("a", byte_range=request_)):
        assert found.to_bytes() == expected
    assert asyncio.run(store.get("b", PROTOTYPE, request_)) is None


def test_what_cannot_be_read_or_written() -> None:
    with pytest.raises(CapabilityError):
        as_zarr_store(WriteOnly(MemoryStore()))
    store = as_zarr_store(ReadOnly(MemoryStore({"a": b"1"})))
    assert store.read_only and not store.supports_writes
    with pytest.raises(ValueError, match="read-only"):
        asyncio.run(store.set("a", cpu.Buffer.from_bytes(b"2")))
    assert capabilities(as_store(ZarrStore(store))).put is False
