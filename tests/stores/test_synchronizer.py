from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zarrant.errors import CapabilityError, LockLostError, LockTimeout, OptionError, StoreError, VersionChangedError
from zarrant.locking.local import KeyQueues
from zarrant.storage import Calls, Capabilities, as_store, capabilities
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.locked import under_locks_of
from zarrant.stores.memory import MemoryStore
from zarrant.stores.synchronizer import CheckBeforeWrite, Synchronized, check_before_write
from zarrant.stores.wrappers import ReadOnly, WriteOnly
from zarrant.testkit import FaultySyscalls, StoreSuite, content, together


class Service:
    """A lock service: what many processes would share."""

    def __init__(self) -> None:
        self.queues = KeyQueues()
        self.log: list[tuple[str, ...]] = []

    @contextmanager
    def lock(self, keys: Sequence[str], timeout: float) -> Iterator[None]:
        with self.queues.lock(keys, time.monotonic() + timeout):
            self.log.append(tuple(keys))
            yield

    def __repr__(self) -> str:
        return "Service()"


class Plain:
    """A store that can neither lock nor compare and swap, as a mapper of another library."""

    url = "test://plain"

    def __init__(self) -> None:
        self.inner = MemoryStore()
        for name in ("get", "get_ranges", "put", "erase", "erase_prefix", "list_prefix", "list_dir"):
            setattr(self, name, getattr(self.inner, name))


class TestSynchronizedMemory(StoreSuite):
    @pytest.fixture
    def store(self) -> Synchronized:
        return Synchronized(MemoryStore(), Service(), 60)


class TestSynchronizedFiles(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Synchronized:
        return Synchronized(FilesystemStore(tmp_path), Service(), 60)


def test_a_plain_store_is_safe_under_a_synchronizer() -> None:
    store = Synchronized(Plain(), Service(), 60)
    assert capabilities(store) == Capabilities(
        Calls(get=True, put=True, put_if=True, erase=True, erase_if=True, list=True, lock=True), with_options=True
    )

    def increment() -> None:
        for _ in range(50):
            with store.lock(["b", "a"]) as locked:
                value = int(content(locked.get("a")) or b"0")
                time.sleep(0)
                locked.put("a", [b"%d" % (value + 1)])
                locked.put("b", [b"x"])

    together(*[increment] * 4)
    assert content(store.get("a")) == b"200"
    version = store.get("a").version
    store.put_if("a", [b"1"], version)
    for call in (lambda: store.put_if("a", [b"2"], version), lambda: store.erase_if("a", version)):
        with pytest.raises(VersionChangedError):
            call()
    store.erase_if("a", store.get("a").version)
    assert store.get("a") is None


def test_reads_are_those_of_the_store(tmp_path: Path) -> None:
    files = FilesystemStore(tmp_path)
    lost = {"is_unchanged", "is_locked_by_caller", "only_while", "put_all", "puts_first", "strided_parts", "updates_boxes"}
    assert set(capabilities(Synchronized(files, Service(), 60)).names) == set(capabilities(files).names) - lost


def test_every_write_takes_it_and_no_read() -> None:
    service = Service()
    store = Synchronized(MemoryStore(), service, 60)
    store.put("a", [b"1"])
    store.erase("b")
    store.get("a")
    store.get_ranges("a", [])
    list(store.list_prefix(""))
    with store.lock(["d", "c", "d"]) as locked:
        locked.put("c", [b"1"])
        locked.erase("d")
        locked.put("other", [b"1"])
        with locked.lock(["c"]) as inside:
            inside.put("c", [b"2"])
    assert service.log == [("a",), ("b",), ("c", "d"), ("other",)]


def test_writes_of_a_group_take_it_too(tmp_path: Path) -> None:
    service, syscalls = Service(), FaultySyscalls()
    store = Synchronized(FilesystemStore(tmp_path, syscalls=syscalls, durability="fsync"), service, 0.05)
    store.put("a", [b"1"])
    syscalls.calls.clear()
    with store.write_batch() as inside:
        inside.put("b", [b"1"])
        inside.put("c", [b"1"])
        with inside.lock(["d"]) as locked:
            locked.put("d", [b"1"])
            with pytest.raises(LockTimeout):
                together(lambda: store.put("d", [b"2"]))
        inside.commit()
        assert syscalls.calls.count("sync") == 4  # three of data, one of the directory
    assert service.log == [("a",), ("b",), ("c",), ("d",)]
    with store.lock(["d", "e"]) as locked, locked.write_batch() as inside:
        inside.put("d", [b"2"])
        with inside.lock(["e"]) as again:
            again.put("e", [b"1"])
        inside.put("f", [b"1"])
    with pytest.raises(StoreError, match="not locked any more"):
        inside.put("d", [b"3"])
    assert service.log[4:] == [("d", "e"), ("f",)]
    assert syscalls.calls.count("sync") == 9  # three of data, the directory once for the held keys and once for the other
    assert (content(store.get("d")), content(store.get("e")), content(store.get("f"))) == (b"2", b"1", b"1")
    plain = Synchronized(Plain(), service, 60)
    with plain.write_batch() as same, plain.lock(["a"]) as locked, locked.write_batch() as also:
        assert (same, also) == (plain, locked)


def test_others_wait_and_time_out() -> None:
    store = Synchronized(MemoryStore(), Service(), 0.05)
    with store.lock(["a"]):
        for call in (lambda: store.put("a", [b"1"]), lambda: store.lock(["a", "b"]).__enter__()):
            with pytest.raises(LockTimeout) as caught:
                together(call)
            assert (caught.value.key, caught.value.store) == ("a", store.url)
        store.put("b", [b"1"])
    store.put("a", [b"1"])


def test_errors_of_a_synchronizer() -> None:
    class Broken:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def lock(self, keys: Sequence[str], timeout: float) -> Any:
            raise self.error

    memory = MemoryStore()
    with pytest.raises(LockTimeout, match="was not granted") as caught:
        Synchronized(memory, Broken(TimeoutError("busy")), 1).put("a", [b"1"])
    assert isinstance(caught.value.__cause__, TimeoutError)
    with pytest.raises(ConnectionError):
        Synchronized(memory, Broken(ConnectionError("gone")), 1).put("a", [b"1"])
    assert memory.get("a") is None


def test_what_ended_writes_no_more() -> None:
    store = Synchronized(Plain(), Service(), 60)
    with store.lock(["a"]) as locked:
        locked.put("a", [b"1"])
    with pytest.raises(StoreError, match="not locked any more"):
        locked.put("a", [b"2"])
    with pytest.raises(OptionError), locked.lock(["b"]):
        pass
    with pytest.raises(CapabilityError):
        pickle.dumps(locked)


def test_it_says_what_guards(tmp_path: Path) -> None:
    files = FilesystemStore(tmp_path, durability="fsync")
    store = Synchronized(files, Service(), 60)
    assert store.guard == f"synchronizer Service(), and {files.guard}"
    assert (store.url, store.durability) == (files.url, "fsync")
    assert Synchronized(Plain(), Service(), 60).guard == "synchronizer Service()"
    assert store.with_options(locking="none", lock_timeout=5).store.locking == "none"
    assert store.with_options(locking="none", lock_timeout=5).timeout == 5
    store.put("a", [b"1"])
    store.sync()


def test_what_is_no_synchronizer() -> None:
    for wrong in (3, "redis", object(), threading.Lock()):
        with pytest.raises(OptionError) as caught:
            Synchronized(MemoryStore(), wrong, 60)
        assert caught.value.field == "synchronizer"

    class Async:
        async def get_async(self, key: str) -> None: ...

        async def put_async(self, key: str, parts: Any) -> None: ...

    with pytest.raises(CapabilityError, match="async only"):
        Synchronized(Async(), Service(), 60)


def test_a_last_look_sees_what_came_in_between() -> None:
    store = check_before_write(Plain())
    assert isinstance(store, CheckBeforeWrite)
    version = store.put_if("a", [b"1"], None)
    with pytest.raises(VersionChangedError) as caught:
        store.put_if("a", [b"2"], None)
    assert caught.value.key == "a"
    newer = store.put_if("a", [b"3"], version)
    with pytest.raises(VersionChangedError):
        store.erase_if("a", version)
    store.erase_if("a", newer)
    assert store.get("a") is None


def test_a_last_look_is_for_stores_that_need_and_allow_one(tmp_path: Path) -> None:
    for store in (MemoryStore(), FilesystemStore(tmp_path), ReadOnly(Plain()), WriteOnly(Plain())):
        assert check_before_write(store) is store


# ── locks that can end by themselves ───────────────────────────────────────────────────────────────────────────────────


class Leases(Service):
    """A lock service whose locks end when they are told to: those of `ended` keys."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: set[str] = set()
        self.checks = 0

    @contextmanager
    def lock(self, keys: Sequence[str], timeout: float) -> Iterator[Any]:
        with super().lock(keys, timeout):
            yield Lease(self, set(keys))


class Lease:
    def __init__(self, service: Leases, keys: set[str]) -> None:
        self.service, self.keys = service, keys

    def check(self) -> None:
        self.service.checks += 1
        if self.keys & self.service.ended:
            raise LockLostError("ended")


WRITES = {
    "put": lambda store: store.put("a", [b"2"]),
    "erase": lambda store: store.erase("a"),
    "put_if": lambda store: store.put_if("a", [b"2"], store.get("a").version),
    "erase_if": lambda store: store.erase_if("a", store.get("a").version),
}


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
def test_nothing_is_written_under_a_lock_that_ended(plain: bool, write: Callable[[Any], Any]) -> None:
    service = Leases()
    store = Synchronized(Plain() if plain else MemoryStore(), service, 1)
    store.put("a", [b"1"])
    with store.lock(["a", "k"]) as locked:
        service.ended.add("k")
        with pytest.raises(LockLostError):
            write(locked)
    assert content(store.get("a")) == b"1"
    service.ended.clear()
    with store.lock(["a"]) as locked:
        write(locked)
    after = store.get("a")
    assert after is None or content(after) == b"2"


def test_locks_inside_of_locks_check_both() -> None:
    service = Leases()
    store = as_store(Synchronized(Plain(), service, 1))
    with store.lock(["zarr.json"]) as outer:
        inside = under_locks_of(outer, store)
        with pytest.raises(LockLostError, match="may have replaced"), inside.lock(["c/0"]) as inner:
            inner.put("c/0", [b"1"])
            service.ended.add("zarr.json")
            for call in (lambda: inner.put("c/0", [b"2"]), lambda: outer.put("other", [b"2"])):
                with pytest.raises(LockLostError, match=r"^ended"):
                    call()
        with pytest.raises(LockLostError):
            outer.put("zarr.json", [b"2"])
    assert (content(store.get("c/0")), store.get("other")) == (b"1", None)


def test_a_version_sees_what_came_after_the_check() -> None:
    """The owner of the lock was paused right before its write, and another one has stored something meanwhile."""
    service = Leases()
    memory = MemoryStore()
    other = memory.put_if

    def late(key: str, parts: Any, version: Any) -> Any:
        if not service.ended:
            service.ended.add(key)
            other("a", [b"others"], memory.get("a").version)
        return other(key, parts, version)

    memory.put_if = late  # type: ignore[method-assign]
    other("a", [b"1"], None)
    with Synchronized(memory, service, 1).lock(["a"]) as locked, pytest.raises(LockLostError):
        locked.put("a", [b"2"])
    assert content(memory.get("a")) == b"others"


def test_a_lock_that_ends_during_a_write_is_said() -> None:
    service = Leases()
    plain = Plain()
    put = plain.inner.put

    def late(key: str, parts: Any) -> Any:
        service.ended.add(key)
        return put(key, parts)

    plain.put = late  # type: ignore[attr-defined]
    with pytest.raises(LockLostError, match="may have replaced"):
        Synchronized(plain, service, 1).put("a", [b"2"])
    with pytest.raises(LockLostError, match="may have replaced"), Synchronized(plain, service, 1).lock(["b"]) as locked:
        locked.put("b", [b"2"])


def test_what_writes_without_the_lock_does_not_stop_it() -> None:
    service = Leases()
    memory = MemoryStore()
    other = memory.put_if

    def late(key: str, parts: Any, version: Any) -> Any:
        memory.put(key, [b"others"])
        return other(key, parts, version)

    memory.put_if = late  # type: ignore[method-assign]
    Synchronized(memory, service, 1).put("a", [b"2"])
    assert content(memory.get("a")) == b"2"
    with pytest.raises(CapabilityError), Synchronized(memory, service, 1).lock(["a"]) as locked:
        pickle.dumps(locked)


def test_the_time_out_is_an_option_over_every_store() -> None:
    store = Synchronized(Plain(), Service(), 60)
    assert capabilities(store).with_options
    assert store.with_options(lock_timeout=5).timeout == 5
