"""Every kind of store that an event loop can use, by name; each is new, and empty.

Blocking calls of a store that is made here fail on a thread that runs an event loop: what would block for a while on a slow disk
or network is found out though it takes microseconds here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from servers import Server
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Cache, Fault, Faults, Latency, Logging, Metrics, Prefix, Recording
from zarrant.stores.wrappers.each_call import Call, EachCall
from zarrant.testkit import CoroutineStore, FaultySyscalls

T = TypeVar("T")
Made = tuple[Any, dict[str, Any]]
"""A store, and the keywords with which it is opened."""


class BlockingCall(BaseException):
    """A blocking call on the thread of an event loop; no `except Exception` makes something else of it."""


def expect_no_loop(what: object) -> None:
    """BlockingCall in a thread that runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BlockingCall(f"{what} on the thread of the event loop")


class OffLoop(EachCall):
    """Blocking calls fail on the thread of an event loop."""

    def _perform(self, call: Call, act: Callable[[], T]) -> T:
        expect_no_loop(call)
        return act()


def _step(name: str) -> Callable[..., Any]:
    def call(self: Syscalls, *args: Any) -> Any:
        expect_no_loop(name)
        return getattr(super(OffLoopCalls, self), name)(*args)

    return call


class OffLoopCalls(Syscalls):
    """File calls fail on the thread of an event loop."""


for _name in FaultySyscalls.STEPS:
    setattr(OffLoopCalls, _name, _step(_name))

WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "prefix": lambda store: Prefix(store, "some/where"),
    "logging": Logging,
    "metrics": Metrics,
    "cache": Cache,
    "latency": lambda store: Latency(store, 0.001, jitter=0.001, seed=1),
    "faults": lambda store: Faults(store, Fault("error", at=1 << 60)),
    "recording": Recording,
}


def _files(path: Path) -> Made:
    return FilesystemStore(path / "a", syscalls=OffLoopCalls()), {}


def _obstore(path: Path) -> Made:
    return pytest.importorskip("obstore.store").MemoryStore(), {}


def _fsspec(path: Path) -> Made:
    from zarrant.stores.fsspec_store import FsspecStore

    memory = pytest.importorskip("fsspec").filesystem("memory")
    return OffLoop(FsspecStore(memory, f"/zarrant/{uuid.uuid4().hex}")), {"synchronizer": None}


def _fsspec_async(path: Path) -> Made:
    from zarrant.stores.fsspec_store import FsspecStore

    wrapper = pytest.importorskip("fsspec.implementations.asyn_wrapper").AsyncFileSystemWrapper
    memory = wrapper(pytest.importorskip("fsspec").filesystem("memory"), asynchronous=True)
    return FsspecStore(memory, f"/zarrant/{uuid.uuid4().hex}"), {"synchronizer": None}


def _zarr(path: Path) -> Made:
    return pytest.importorskip("zarr").storage.MemoryStore(), {"synchronizer": None}


MAKERS: dict[str, Callable[[Path], Made]] = {
    "files": _files,
    "memory": lambda path: (OffLoop(MemoryStore()), {}),
    "coroutines": lambda path: (OffLoop(CoroutineStore()), {}),
    "obstore memory": _obstore,
    "fsspec": _fsspec,
    "fsspec async": _fsspec_async,
    "zarr-python": _zarr,
}
SERVERS = ("gofakes3", "moto")
WRAPPED = {f"{name} of {inside}": (wrap, inside) for name, wrap in WRAPPERS.items() for inside in ("files", "coroutines")}
STORES = (*MAKERS, *SERVERS, *WRAPPED)


def make_store(name: str, request: pytest.FixtureRequest, path: Path) -> Made:
    """A new store of a kind; the test is skipped where what it needs is not installed."""
    if name in WRAPPED:
        wrap, inside = WRAPPED[name]
        store, where = MAKERS[inside](path)
        return wrap(store), where
    if name in SERVERS:
        server: Server = request.getfixturevalue(name)
        return server.make_store(prefix=uuid.uuid4().hex), {}
    return MAKERS[name](path)


def may_block(store: Any) -> Any:
    """The same without the check of threads."""
    if isinstance(store, FilesystemStore):
        return FilesystemStore(store.root)
    return store.store if isinstance(store, OffLoop) else store
