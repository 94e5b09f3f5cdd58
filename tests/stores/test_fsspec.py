"""File systems of fsspec: what every store promises, by both kinds of calls; one writer, and how that is said."""

from __future__ import annotations

import asyncio
import errno
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.stores.hashed import Hashed

import zarrant
from zarrant.errors import (
    CapabilityError,
    LostUpdateError,
    OptionError,
    StoreError,
    StorePermissionError,
    VersionChangedError,
    ZarrantWarning,
)  # fmt: skip
from zarrant.storage import ByteRange, capabilities
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.resolve import resolve_store
from zarrant.stores.synchronizer import CheckBeforeWrite
from zarrant.testkit import AsyncStoreSuite, StoreSuite, blocking, content

fsspec = pytest.importorskip("fsspec")
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper  # noqa: E402
from fsspec.implementations.local import LocalFileSystem  # noqa: E402
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402

from zarrant.stores.fsspec_store import FsspecStore  # noqa: E402

VALUES = np.arange(60, dtype="<i4").reshape(6, 10)


def memory_path() -> str:
    return f"/zarrant/{uuid.uuid4().hex}"


class Files(LocalFileSystem):  # type: ignore[misc]
    """Files of this machine, as a file system of which nothing is known."""

    protocol = "files-of-a-test"

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Without a mark: times of whole seconds."""
        return {**super().info(path, **options), "mtime": 1.0, "created": 1.0}


class TestMemory(StoreSuite):
    @pytest.fixture
    def store(self) -> FsspecStore:
        return FsspecStore(MemoryFileSystem(), memory_path())


class Refusing(MemoryFileSystem):  # type: ignore[misc]
    """As those of services: ranges beyond the end are refused, in words of their own."""

    protocol = "services-of-a-test"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        if start is not None and start >= self.info(path)["size"]:
            raise OSError(errno.EINVAL, "InvalidRange")
        return bytes(super().cat_file(path, start, end, **options))


class TestRefusing(StoreSuite):
    @pytest.fixture
    def store(self) -> FsspecStore:
        return FsspecStore(Refusing(), memory_path())


class TestFiles(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FsspecStore:
        return FsspecStore(LocalFileSystem(), str(tmp_path / "root"))


class TestFilesWithoutVersions(Hashed, StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FsspecStore:
        return FsspecStore(Files(), str(tmp_path / "root"))


class TestCoroutines(AsyncStoreSuite):
    @pytest.fixture
    def async_store(self) -> FsspecStore:
        return FsspecStore(AsyncFileSystem(), memory_path())

    @pytest.fixture
    def store(self, async_store: FsspecStore) -> Iterator[Any]:
        with blocking(async_store) as store:
            yield store


class AsyncFileSystem(AsyncFileSystemWrapper):  # type: ignore[misc]
    """The memory of fsspec as a file system of coroutines."""

    protocol = "memory"

    def __init__(self, **options: Any) -> None:
        options.pop("asynchronous", None)
        super().__init__(MemoryFileSystem(), asynchronous=True)
        self.sync_fs, self.inside = None, self.sync_fs
        del self.sync_fs

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path))


def test_mappers_and_urls(tmp_path: Path) -> None:
    path = memory_path()
    store = resolve_store(fsspec.get_mapper(f"memory:/{path}")).store
    assert isinstance(store, FsspecStore) and store.url == f"memory:/{path}"
    with pytest.warns(ZarrantWarning):
        zarrant.create_array(store, data=VALUES, synchronizer=None)
    with fsspec.open(f"memory:/{path}/zarr.json") as file:
        assert file.read().startswith(b"{")
    local = resolve_store(fsspec.get_mapper(str(tmp_path))).store
    assert isinstance(local, FilesystemStore) and local.root == str(tmp_path)
    chained = resolve_store(f"dir::memory:/{path}", {"dir": {"path": path}}).store
    assert isinstance(chained, FsspecStore)
    kept = {"simplecache": {"same_names": False, "cache_storage": str(tmp_path)}}
    copied = zarrant.open_array(f"simplecache::memory:/{path}", mode="r", storage_options=kept)
    assert np.array_equal(copied[...], VALUES)


def test_a_url_is_connected_to_at_the_first_call() -> None:
    store = resolve_store("ftp://127.0.0.1:9/data", {"timeout": 1}).store
    assert isinstance(store, FsspecStore) and store == pickle.loads(pickle.dumps(store))
    with pytest.raises(StoreError, match="cannot connect") as caught:
        zarrant.open(store, mode="r")
    assert caught.value.store is not None and "ftp://127.0.0.1:9/data" in caught.value.store


def test_one_writer() -> None:
    store = FsspecStore(MemoryFileSystem(), memory_path())
    with pytest.raises(CapabilityError, match="synchronizer=None"):
        zarrant.create_array(store, data=VALUES)
    with pytest.warns(ZarrantWarning):
        array = zarrant.create_array(store, data=VALUES, chunks=(4, 4), synchronizer=None)
    array[1, 1:3] = 7
    array.append(VALUES)
    expected = np.concatenate([VALUES, VALUES])
    expected[1, 1:3] = 7
    again = zarrant.open_array(store, mode="r+")
    assert np.array_equal(again[...], expected)
    assert "one writer" in again.guard and "one writer" in repr(again)
    with pytest.raises(CapabilityError, match="synchronizer=None") as caught:
        again[1, 1] = 5
    assert "lock or put_if" in str(caught.value)


def test_a_lost_update_is_seen() -> None:
    store = CheckBeforeWrite(FsspecStore(MemoryFileSystem(), memory_path()))
    version = store.put("a", [b"1"])
    store.put("a", [b"2"])
    with pytest.raises(VersionChangedError):
        store.put_if("a", [b"3"], version)
    with pytest.warns(ZarrantWarning):
        array = zarrant.create_array(store.store, data=VALUES, synchronizer=None)

    def change(values: Any) -> Any:
        store.put("c/0/0", [bytes(240)])
        return values + 1

    with pytest.raises(LostUpdateError):
        array.update((slice(0, 2), slice(0, 2)), change)


def test_a_synchronizer_makes_it_safe() -> None:
    from zarrant.testkit import together

    class Everything:
        """One lock for all keys."""

        def __init__(self) -> None:
            import threading

            self.mutex = threading.Lock()

        def lock(self, keys: Any, timeout: float) -> Any:
            return self.mutex

    lock = Everything()
    path = memory_path()
    arrays = [
        zarrant.open_array(FsspecStore(MemoryFileSystem(), path), shape=8, dtype="i4", chunks=8, synchronizer=lock)
        for _ in range(2)
    ]

    def count(array: Any) -> None:
        for _ in range(20):
            array.update(slice(0, 8), lambda values: values + 1)

    together(lambda: count(arrays[0]), lambda: count(arrays[1]))
    assert arrays[0][...].tolist() == [40] * 8
    assert "synchronizer" in arrays[0].guard


def test_writes_of_files_are_renamed_into_place(tmp_path: Path) -> None:
    class Failing(LocalFileSystem):  # type: ignore[misc]
        protocol = "failing-files-of-a-test"

        def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
            super().pipe_file(path, value[: len(value) // 2], **options)
            raise OSError("disk is full")

    FsspecStore(LocalFileSystem(), str(tmp_path)).put("a", [b"old value"])
    with pytest.raises(StoreError, match="disk is full") as caught:
        FsspecStore(Failing(), str(tmp_path)).put("a", [b"new value"])
    assert caught.value.key == "a"
    store = FsspecStore(LocalFileSystem(), str(tmp_path))
    assert content(store.get("a")) == b"old value"
    assert list(store.list_prefix("")) == ["a"] and store.list_dir("") == (["a"], [])


def test_errors_are_typed(tmp_path: Path) -> None:
    class Denied(LocalFileSystem):  # type: ignore[misc]
        protocol = "denied-files-of-a-test"

        def cat_file(self, path: str, **options: Any) -> bytes:
            raise PermissionError("no")

    class Short(LocalFileSystem):  # type: ignore[misc]
        protocol = "short-files-of-a-test"

        def cat_file(self, path: str, **options: Any) -> bytes:
            return bytes(super().cat_file(path, **options))[:-1]

    FsspecStore(LocalFileSystem(), str(tmp_path)).put("a", [b"0123456789"])
    with pytest.raises(StorePermissionError) as caught:
        FsspecStore(Denied(), str(tmp_path)).get("a")
    assert (caught.value.key, caught.value.store) == ("a", f"denied-files-of-a-test://{str(tmp_path)[1:]}")
    with pytest.raises(StoreError, match="other bytes than it was asked for"):
        FsspecStore(Short(), str(tmp_path)).get_ranges("a", [ByteRange(0, 5)])
    with pytest.raises(StoreError):
        FsspecStore(Short(), str(tmp_path)).get("a")


def test_schemes_that_nobody_knows() -> None:
    with pytest.raises(OptionError, match="unknown kind of store"):
        resolve_store("nothing://x")
    with pytest.raises(OptionError, match="unknown kind of store"):
        resolve_store("nothing::file:///x")


def test_async() -> None:
    path = memory_path()

    async def write() -> None:
        store = FsspecStore(AsyncFileSystem(), path)
        assert capabilities(store).awaits
        with pytest.warns(ZarrantWarning):
            array = await zarrant.create_array_async(store, data=VALUES, chunks=(4, 4), shards=(8, 12), synchronizer=None)
        await array.setitem((1, slice(1, 3)), 7)

    asyncio.run(write())
    expected = VALUES.copy()
    expected[1, 1:3] = 7
    assert np.array_equal(zarrant.open_array(FsspecStore(MemoryFileSystem(), path), mode="r")[...], expected)


def test_ranges_read_no_more_than_they_must() -> None:
    class Counting(MemoryFileSystem):  # type: ignore[misc]
        read = 0

        def cat_file(self, path: str, *span: Any, **options: Any) -> bytes:
            found = super().cat_file(path, *span, **options)
            Counting.read += len(found)
            return bytes(found)

    store = FsspecStore(Counting(), memory_path())
    store.put("a", [bytes(1_000_000)])
    store.get_ranges("a", [ByteRange(10, 5), ByteRange.suffix(20)])
    assert Counting.read == 25


def test_zarr_python_reads_what_we_write_through_fsspec() -> None:
    zarr = pytest.importorskip("zarr")
    path = memory_path()
    with pytest.warns(ZarrantWarning):
        zarrant.create_array(FsspecStore(MemoryFileSystem(), path), data=VALUES, chunks=(4, 4), synchronizer=None)
    theirs = zarr.open_array(f"memory:/{path}", mode="r+")
    assert np.array_equal(theirs[...], VALUES)
    theirs[:] = VALUES + 1
    assert np.array_equal(zarrant.open_array(fsspec.get_mapper(f"memory:/{path}"), mode="r")[...], VALUES + 1)
