"""No public coroutine keeps the event loop from answering, on any kind of store.

Each runs beside a watchdog (`event_loops.watchdog`) that notes a stall of 50 ms, and on stores whose blocking calls fail on the
loop's thread. Chunks of 8 MiB show what encodes, hashes or copies there: that takes 10 to 100 ms.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import os
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import zarrant
from event_loops.calls import Program, public_coroutines
from event_loops.stores import STORES, WRAPPED, BlockingCall, OffLoop, OffLoopCalls, make_store
from event_loops.watchdog import STALL_S, Watchdog
from zarrant.stores.foreign import hash_of
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.zip_store import ZipStore
from zarrant.testkit import CoroutineStore

SOAK = bool(os.environ.get("ZARRANT_SOAK"))
NO_LOCKS = {"AsyncArray.lock", "AsyncGroup.lock"}
NO_SYNC = {"AsyncArray.sync", "AsyncGroup.sync"}
BIG = ("files", "coroutines", "gofakes3", "zarr-python", "fsspec async")
"""Stores for large chunks, unless it is a soak run: one for each way in which an event loop uses a store."""

SLOW = ("moto", *(name for name in WRAPPED if name.endswith("of files")))


async def watched(program: Program) -> tuple[Watchdog, list[str]]:
    """Run a program beside a watchdog; also the names of its calls."""
    names: list[str] = []

    async with Watchdog() as dog:

        def note(name: str) -> None:
            dog.doing = name
            names.append(name)

        await program.run(note)
    return dog, names


def expect_no_stall(run: Callable[[], Watchdog]) -> None:
    """No stall in one of two runs: what blocks does so in each."""
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of `synchronizer=None`
            stalls = run().stalls
        if not stalls:
            return
    pytest.fail("\n".join(map(str, stalls)))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.soak) if name in SLOW else name for name in STORES])
def test_no_coroutine_blocks_the_loop(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made = iter(range(2))

    def make() -> Program:
        store, where = make_store(name, request, tmp_path / str(next(made)))
        return Program(store, 16, **where)

    expect_no_stall(lambda: asyncio.run(watched(make()))[0])


@pytest.mark.parametrize("name", [name if name in BIG else pytest.param(name, marks=pytest.mark.soak) for name in STORES])
def test_large_chunks_do_not_block_the_loop(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made = iter(range(2))

    def make() -> Program:
        store, where = make_store(name, request, tmp_path / str(next(made)))
        return Program(store, 2048, **where)

    expect_no_stall(lambda: asyncio.run(watched(make()))[0])


@pytest.mark.parametrize(
    ("name", "refused"),
    [("files", set()), ("memory", NO_SYNC), ("coroutines", NO_SYNC | NO_LOCKS)],
)
def test_every_public_coroutine_is_watched(name: str, refused: set[str], request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store, where = make_store(name, request, tmp_path)
    program = Program(store, 8, **where)
    _, names = asyncio.run(watched(program))
    assert public_coroutines() <= set(names)
    assert program.skipped == refused


# ── what stores compute ──────────────────────────────────────────────────────────────────────────────────────────────


def archive(entries: int, nbytes: int, method: int) -> bytes:
    """A zip archive of so many empty entries, and one of so many zeros."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method, compresslevel=1) as made:
        for i in range(entries):
            made.writestr(zipfile.ZipInfo(f"c/{i}"), b"")
        made.writestr("big", bytes(nbytes))
    return data.getvalue()


@pytest.mark.parametrize(("entries", "nbytes"), [(20_000, 1), (1, 128 << 20)], ids=["directory", "inflated"])
def test_archives_of_an_async_store_are_read_in_a_thread(entries: int, nbytes: int) -> None:
    source = CoroutineStore({"a.zip": archive(entries, nbytes, zipfile.ZIP_DEFLATED)})

    async def main() -> Watchdog:
        async with Watchdog() as dog:
            blob = await ZipStore(source, key="a.zip").get_async("big")
        assert blob is not None and blob.size == nbytes
        return dog

    expect_no_stall(lambda: asyncio.run(main()))


def hashing_store(name: str) -> Any:
    """A store whose versions are hashes."""
    if name == "zarr-python":
        memory = pytest.importorskip("zarr").storage.MemoryStore()
        return importlib.import_module("zarrant.stores.zarr_store").from_zarr(memory)
    fsspec = pytest.importorskip("fsspec.implementations.asyn_wrapper")
    memory = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem

    class Unmarked(memory):  # type: ignore[misc]
        """Files in memory of which nothing is told but their size."""

        protocol = "memory"
        store: ClassVar[dict[str, Any]] = {}

        def info(self, path: str, **options: Any) -> dict[str, Any]:
            return {**super().info(path, **options), "created": None}

    store_of = importlib.import_module("zarrant.stores.fsspec_store").FsspecStore
    return store_of(fsspec.AsyncFileSystemWrapper(Unmarked(), asynchronous=True), "/a")


@pytest.mark.parametrize("name", ["zarr-python", "fsspec"])
def test_objects_are_hashed_in_a_thread(name: str) -> None:
    store = hashing_store(name)
    value = bytes(128 << 20)

    async def main() -> Watchdog:
        version = await store.put_async("big", [value])  # zarr-python copies it on the loop
        async with Watchdog() as dog:
            blob = await store.get_async("big")
        assert blob.version == version == hash_of(value)
        return dog

    expect_no_stall(lambda: asyncio.run(main()))


# ── the watchdog bites ───────────────────────────────────────────────────────────────────────────────────────────────


class Blocking(CoroutineStore):
    """A coroutine that blocks: what a careless store would do."""

    def __init__(self, block: Callable[[], None]) -> None:
        super().__init__()
        self.block = block

    async def get_async(self, key: str) -> Any:
        self.block()
        return await super().get_async(key)


def compute() -> None:
    """Use 0.15 seconds of CPU."""
    end = time.thread_time() + 0.15
    while time.thread_time() < end:
        sum(range(1000))


@pytest.mark.parametrize("block", [compute, lambda: time.sleep(0.15)], ids=["computes", "waits"])
def test_a_store_that_blocks_is_seen(block: Callable[[], None]) -> None:
    async def main() -> Watchdog:
        program = Program(Blocking(block))
        async with Watchdog() as dog:
            dog.doing = "an open"
            with pytest.raises(zarrant.errors.NodeNotFoundError):
                await zarrant.open_async(program.store, mode="r")
        return dog

    stalls = asyncio.run(main()).stalls
    assert stalls and all(stall.doing == "an open" for stall in stalls)
    assert max(stall.seconds for stall in stalls) >= STALL_S
    assert any("get_async" in stall.stack for stall in stalls)


def test_a_blocking_call_on_the_loop_is_seen(tmp_path: Path) -> None:
    for store in (OffLoop(MemoryStore()), FilesystemStore(tmp_path, syscalls=OffLoopCalls())):
        assert store.get("a") is None

        async def main(store: Any = store) -> None:
            store.get("a")

        with pytest.raises(BlockingCall, match="event loop"):
            asyncio.run(main())
