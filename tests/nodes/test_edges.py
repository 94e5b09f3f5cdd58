"""Whole writes of chunks that reach over the edge: without a read, and never over what others have appended there."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import together

LAYOUTS: list[dict[str, Any]] = [{"chunks": (8,)}, {"chunks": (2,), "shards": (8,)}]
KINDS = ["memory", "files", "no locks"]


class Layer(Syscalls):
    """Waits, where it is asked to, before a document takes its place."""

    def __init__(self) -> None:
        self.arrived, self.go = threading.Event(), threading.Event()
        self.go.set()

    def rename(self, source: str, target: str) -> None:
        if target.endswith("zarr.json") and not self.go.is_set():
            self.arrived.set()
            assert self.go.wait(20)
        super().rename(source, target)


class Memory(zarrant.MemoryStore):
    """The same for a store in memory, with a log of what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.reads: list[str] = []

    def get(self, key: str) -> Any:
        self.reads.append(key)
        return super().get(key)

    def get_ranges(self, key: str, ranges: Any, if_version: Any = None) -> Any:
        if ranges:
            self.reads.append(key)
        return super().get_ranges(key, ranges, if_version)

    def put_if(self, key: str, parts: Any, if_version: Any) -> Any:
        if key == "zarr.json" and not self.go.is_set():
            self.arrived.set()
            assert self.go.wait(20)
        return super().put_if(key, parts, if_version)


def place(kind: str, path: Path) -> tuple[Any, Any]:
    """A store, and what makes it wait."""
    if kind == "memory":
        store = Memory()
        return store, store
    syscalls = Layer()
    return zarrant.FilesystemStore(path, locking="none" if kind == "no locks" else "auto", syscalls=syscalls), syscalls


def array(store: Any, layout: dict[str, Any], shape: Any = (2,)) -> Any:
    return zarrant.create_array(store, shape=shape, dtype="int32", fill_value=0, **layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["chunks", "shards"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_appended_since_stays(tmp_path: Path, kind: str, layout: dict[str, Any]) -> None:
    store, _ = place(kind, tmp_path)
    stale = array(store, layout)
    stale[...] = 1
    zarrant.open_array(store, mode="r+").append(np.array([5, 6, 7], "int32"))
    stale[...] = 9
    assert zarrant.open_array(store)[...].tolist() == [9, 9, 5, 6, 7]
    stale.store_array_subsets([(np.s_[0:1], 3), (np.s_[1:2], 4), (np.s_[0:2], 8)])
    assert zarrant.open_array(store)[...].tolist() == [8, 8, 5, 6, 7]
    stale.oindex[[1, 0]] = [2, 1]
    assert zarrant.open_array(store)[...].tolist() == [1, 2, 5, 6, 7]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["chunks", "shards"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_being_appended_stays(tmp_path: Path, kind: str, layout: dict[str, Any]) -> None:
    """The appender has stored its data and is about to say so in the document."""
    store, gate = place(kind, tmp_path)
    a = array(store, layout)
    a[...] = 1
    gate.go.clear()
    appender = threading.Thread(target=zarrant.open_array(store, mode="r+").append, args=(np.array([5, 6, 7], "int32"),))
    appender.start()
    assert gate.arrived.wait(20)
    fresh = zarrant.open_array(store, mode="r+")
    assert fresh.shape == (2,)
    fresh[...] = 9
    a[...] = 8
    gate.go.set()
    appender.join(20)
    assert zarrant.open_array(store)[...].tolist() == [8, 8, 5, 6, 7]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["chunks", "shards"])
def test_while_the_shape_stands_no_chunk_is_read(layout: dict[str, Any]) -> None:
    store = Memory()
    a = array(store, layout, (13,))
    a[...] = 1
    store.reads.clear()
    b = zarrant.open_array(store, mode="r+")
    store.reads.clear()
    for value in range(5):
        b[...] = value
        b[8:] = value + 1
    assert set(store.reads) <= {"zarr.json"}  # which is looked at again after a while
    b.attrs["changed"] = True
    store.reads.clear()
    b[...] = 8
    assert set(store.reads) <= {"zarr.json"}  # which is looked at again after a while
    zarrant.open_array(store, mode="r+").attrs["changed"] = False
    store.reads.clear()
    b[...] = 9
    assert store.reads == ["zarr.json"]
    assert b[...].tolist() == [9] * 13


def test_a_chunk_that_does_not_decode_is_written_anew() -> None:
    store = Memory()
    stale = array(store, {"chunks": (8,), "compressors": [zarrant.codecs.Zstd()]})
    zarrant.open_array(store, mode="r+").append(np.array([5], "int32"))
    stale.store_encoded_chunk((0,), b"torn")
    stale[...] = 9
    assert zarrant.open_array(store)[...].tolist() == [9, 9, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_appenders_and_whole_writers_at_once(tmp_path: Path, kind: str) -> None:
    store, _ = place(kind, tmp_path)
    first = array(store, {"chunks": (4,), "shards": (16,)}, (3,))
    stop = threading.Event()

    def append(worker: int) -> None:
        mine = zarrant.open_array(store, mode="r+")
        for number in range(15):
            mine.append(np.array([100 * worker + number], "int32"))

    def overwrite() -> None:
        value = 0
        while not stop.is_set():
            value -= 1
            first[...] = value
            zarrant.open_array(store, mode="r+")[0:3] = value

    writers = [threading.Thread(target=overwrite) for _ in range(2)]
    for thread in writers:
        thread.start()
    try:
        together(*(lambda worker=worker: append(worker) for worker in range(1, 4)))  # type: ignore[misc]
    finally:
        stop.set()
        for thread in writers:
            thread.join(20)
    found = zarrant.open_array(store)[3:].tolist()
    assert sorted(found) == sorted(100 * worker + number for worker in range(1, 4) for number in range(15))


def test_coroutines_too() -> None:

    store = Memory()
    array(store, LAYOUTS[0])

    async def work() -> None:
        stale = await zarrant.open_array_async(store, mode="r+")
        other = await zarrant.open_array_async(store, mode="r+")
        await other.append(np.array([5, 6], "int32"))
        await stale.setitem(..., 9)

    asyncio.run(work())
    assert zarrant.open_array(store)[...].tolist() == [9, 9, 5, 6]
