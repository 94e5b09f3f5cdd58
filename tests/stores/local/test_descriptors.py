from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import StoreError
from zarrant.stores.local import descriptors, syscalls
from zarrant.stores.local.descriptors import free_descriptors, require_descriptors
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import FaultySyscalls, together

pytestmark = pytest.mark.usefixtures("nothing_written")


@contextmanager
def left(count: int) -> Iterator[None]:
    """So many descriptors are left to this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is on numbers: those below the highest in use that are free are taken.
    filling = []
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    while (fd := os.open("/", os.O_RDONLY)) <= highest:
        filling.append(fd)
    os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest, *filling, fd - 1) + 1 + count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for each in filling:
            os.close(each)


def test_free_descriptors_are_counted() -> None:
    with left(50):
        assert 47 <= free_descriptors() <= 50
        opened = [os.open("/", os.O_RDONLY) for _ in range(20)]
        assert 27 <= free_descriptors() <= 30
        for fd in opened:
            os.close(fd)
    with left(0):
        assert free_descriptors() == 0


def test_what_needs_more_than_there_are_is_refused() -> None:
    with left(100):
        require_descriptors(80, "there")
        require_descriptors(descriptors.MIN_COUNTED - 1, "there")
        with pytest.raises(StoreError) as caught:
            require_descriptors(90, "there")
    error = caught.value
    assert (error.errno, error.store, error.expected) == (errno.EMFILE, "there", "106 open files")
    assert "ulimit" in str(error)


def write(array: Any) -> None:
    array[...] = 1


def write_and_update(array: Any) -> None:
    array[...] = np.zeros(array.shape, "int64")
    array.update(np.s_[1 : array.shape[0] - 1], lambda values: values + 1)
    array[0] = array[-1] = 1


def by_chunk(array: Any) -> None:
    together(*[lambda n=n: array.store_chunk((n,), np.ones(16, "int64")) for n in range(64)])


def by_partial_encoder(array: Any) -> None:
    with array.partial_encoder((0,)) as encoder:
        encoder.store(np.s_[:16], 1)
    array[16:] = 1


def under_a_lock(array: Any) -> None:
    with array.lock(np.s_[:32]) as locked:
        locked[:32] = 1
    array[32:] = 1


def erased_and_appended(array: Any) -> None:
    array[...] = 2
    array.resize((0,))
    array.append(np.ones(64 * 16, "int64"))


CALLS = (write, write_and_update, by_chunk, by_partial_encoder, under_a_lock, erased_and_appended)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("durability", ["rename", "fsync"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_with_few_descriptors_work_is_done_in_smaller_steps(call: Callable[[Any], None], durability: str, tmp_path: Path) -> None:
    group = zarrant.create_group(tmp_path, config={"concurrency": 8, "durability": durability})
    array = group.create_array("a", shape=(64 * 16,), chunks=(16,), dtype="int64", fill_value=0)
    with left(12):
        call(array)
        assert (array[...] == 1).all()
        assert len(list(array.store.list_prefix("a/c/"))) == 64
        array.sync()
        assert list(group) == ["a"]
    assert [path for path in tmp_path.rglob("*") if "__" in path.name] == []


@pytest.mark.parametrize("locking", ["os", "lockfile"])
def test_more_locks_than_descriptors_are_refused_before_any_is_taken(locking: str, tmp_path: Path) -> None:
    array = zarrant.create_array(tmp_path, shape=(2000,), chunks=(1,), dtype="int8", config={"locking": locking})
    with left(1000):
        with pytest.raises(StoreError, match="too many objects to lock") as caught, array.lock(np.s_[:]):
            raise AssertionError("taken")
        assert (caught.value.errno, caught.value.expected) == (errno.EMFILE, "2016 open files")
        with array.lock(np.s_[:900]) as locked:
            locked[:900] = 1
    assert [path.name for path in tmp_path.rglob("*__lock")] == []
    assert int(array[...].sum()) == 900


def test_an_open_waits_for_a_descriptor_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilesystemStore(tmp_path)
    store.put("k", [b"value"])
    kept = []

    def close_one(seconds: float) -> None:
        if kept:
            os.close(kept.pop())

    monkeypatch.setattr(syscalls.time, "sleep", close_one)
    with left(3):
        kept += [os.open("/", os.O_RDONLY) for _ in range(3)]
        assert store.get("k") is not None
        assert len(kept) == 2
        assert Syscalls().scan(str(tmp_path)) == [("k", "file")]
        kept.append(os.open("/", os.O_RDONLY))
        waited: list[float] = []
        monkeypatch.setattr(syscalls.time, "sleep", waited.append)
        with pytest.raises(StoreError) as caught:
            store.get("k")
        assert (caught.value.errno, caught.value.key) == (errno.EMFILE, "k")
        assert len(syscalls.PAUSES_S) <= len(waited) <= 2 * (descriptors.MAX_TRIES + 1) * len(syscalls.PAUSES_S)
    for fd in kept:
        os.close(fd)


@pytest.mark.parametrize("step", ["unlock", "unlink", "close", "stat", "fstat", "link"])
def test_what_was_published_is_not_published_again(tmp_path: Path, step: str) -> None:
    """Where no descriptor is left after the rename, an update would else be made twice."""
    a = zarrant.create_array(zarrant.FilesystemStore(tmp_path), shape=(4,), chunks=(4,), dtype="int8")
    a[...] = 1

    class NoneLeft(FaultySyscalls):
        """After the rename, the call of this name finds no descriptor; once."""

        renamed = False

        def rename(self, source: str, target: str) -> None:
            super().rename(source, target)
            self.renamed = True

    def fault(index: int, name: str) -> None:
        if faulty.renamed and name == step:
            faulty.renamed = False
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a file")

    faulty = NoneLeft(fault)
    b = zarrant.open_array(zarrant.FilesystemStore(tmp_path, syscalls=faulty), mode="r+")
    with suppress(StoreError):
        b.update(np.s_[0:4], lambda part: part + 1)
    assert a[...].tolist() == [2] * 4
