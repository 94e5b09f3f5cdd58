"""Many objects at once that must last: what is done in which order, and what becomes of the others where one fails."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import LockTimeout, PartialFailure, StoreError
from zarrant.stores.local import batch_put
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import content, together

KEYS = [f"c/{i}" for i in range(5)]
OLD, NEW = b"old", b"the new value"


class Layer(Syscalls):
    """Lists what it is asked to do with data and names, and fails where it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.names: dict[int, str] = {}
        self.fail: tuple[str, str] | None = None

    def _called(self, call: str, path: str) -> None:
        name = os.path.basename(path).removesuffix(".__new.__lock")
        self.calls.append((call, name))
        if self.fail == (call, name):
            raise OSError(errno.EIO, "made up", path)

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        fd = super().open(path, flags, mode)
        self.names[fd] = path
        return fd

    def write(self, fd: int, views: Any, offset: int) -> int:
        self._called("write", self.names[fd])
        return super().write(fd, views, offset)

    def begin_sync(self, fd: int) -> None:
        self._called("begin", self.names[fd])
        super().begin_sync(fd)

    def sync(self, fd: int) -> None:
        self._called("sync", self.names[fd])
        super().sync(fd)

    def rename(self, source: str, target: str) -> None:
        self._called("rename", target)
        super().rename(source, target)


@pytest.fixture
def syscalls() -> Layer:
    return Layer()


@pytest.fixture
def store(tmp_path: Path, syscalls: Layer) -> FilesystemStore:
    made = FilesystemStore(tmp_path, durability="fsync", syscalls=syscalls)
    made.put("c/0", [OLD])
    made.put("c/3", [OLD])
    syscalls.calls.clear()
    return made


def put_new(store: Any, keys: list[str] = KEYS) -> list[Any]:
    found: list[Any] = store.put_all([(key, [NEW[:4], NEW[4:]]) for key in keys])
    return found


def files(store: FilesystemStore) -> set[str]:
    return {name for _, _, names in os.walk(store.root) for name in names}


def test_all_data_then_all_names_then_the_directory(store: FilesystemStore, syscalls: Layer) -> None:
    outcomes = put_new(store, KEYS[::-1])
    names = "01234"
    written = [(call, name) for name in names for call in ("write", "begin")]
    assert syscalls.calls == [*written, *(("sync", name) for name in names), *(("rename", name) for name in names), ("sync", "c")]
    assert [store.get(key).version for key in KEYS[::-1]] == outcomes
    assert {content(store.get(key)) for key in KEYS} == {NEW}
    assert files(store) == set(names)


@pytest.mark.parametrize("call", ["write", "begin", "sync", "rename"])
@pytest.mark.parametrize("name", "03")
def test_one_that_fails_is_one_that_fails(store: FilesystemStore, syscalls: Layer, call: str, name: str) -> None:
    syscalls.fail = (call, name)
    outcomes = put_new(store)
    failed = [key for key, outcome in zip(KEYS, outcomes, strict=True) if isinstance(outcome, Exception)]
    assert failed == ([] if call == "begin" else [f"c/{name}"])  # that one is a hint, no promise
    for key, outcome in zip(KEYS, outcomes, strict=True):
        assert content(store.get(key)) == (OLD if key in failed else NEW)
        if key in failed:
            assert isinstance(outcome, StoreError)
            assert outcome.key == key
            assert "made up" in str(outcome)
    assert files(store) == set("01234")


def test_where_the_names_may_not_last_all_have_failed(store: FilesystemStore, syscalls: Layer) -> None:
    syscalls.fail = ("sync", "c")
    assert [type(outcome) for outcome in put_new(store)] == [StoreError] * 5


def test_a_store_that_cannot_be_asked_whether_it_syncs(tmp_path: Path, syscalls: Layer) -> None:
    syscalls.fail = ("sync", tmp_path.name)
    with pytest.raises(StoreError, match="made up"):
        put_new(FilesystemStore(tmp_path, durability="fsync", syscalls=syscalls))
    assert list(tmp_path.iterdir()) == []


def test_nobody_waits_with_others_in_hand(store: FilesystemStore, syscalls: Layer) -> None:
    other = FilesystemStore(store.root)
    order = []
    with other.lock(["c/1"]) as locked:
        done = threading.Thread(target=lambda: order.append(put_new(store)))
        done.start()
        deadline = time.monotonic() + 20
        while ("rename", "4") not in syscalls.calls and time.monotonic() < deadline:
            time.sleep(0.001)
        assert ("rename", "4") in syscalls.calls
        with other.with_options(lock_timeout=10).lock(["c/0", "c/2", "c/3", "c/4"]):
            pass  # they are free again
        assert ("rename", "1") not in syscalls.calls
        locked.put("c/1", [b"theirs"])
    done.join(20)
    assert not any(isinstance(outcome, Exception) for outcome in order[0])
    assert {content(store.get(key)) for key in KEYS} == {NEW}


def test_a_lock_that_nobody_gives_back(store: FilesystemStore) -> None:
    outcomes: list[Any] = []
    with FilesystemStore(store.root).lock(["c/1"]):
        together(lambda: outcomes.extend(put_new(store.with_options(lock_timeout=0.05))))
    assert [isinstance(outcome, LockTimeout) for outcome in outcomes] == [False, True, False, False, False]
    assert outcomes[1].key == "c/1"
    assert [content(store.get(key)) for key in KEYS if store.get(key) is not None] == [NEW] * 4


def test_many_in_every_order_at_once(store: FilesystemStore) -> None:
    """Two that take the same locks in different orders would wait for each other for ever."""
    dice = np.random.default_rng(0)
    orders = [list(dice.permutation(KEYS)) for _ in range(4)]
    stores = [FilesystemStore(store.root, durability="fsync", lock_timeout=20) for _ in orders]

    def work(number: int) -> None:
        for _ in range(20):
            found = put_new(stores[number], [str(key) for key in orders[number]])
            assert not any(isinstance(outcome, Exception) for outcome in found), found

    together(*(lambda number=number: work(number) for number in range(len(orders))))
    assert files(store) == set("01234")


def test_one_key_twice(store: FilesystemStore) -> None:
    outcomes = store.put_all([("c/0", [b"first"]), ("c/0", [b"second"])])
    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    assert content(store.get("c/0")) == b"second"


def test_bad_keys_are_refused_by_themselves(store: FilesystemStore) -> None:
    outcomes = put_new(store, ["c/0", "../x", "c/1"])
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]


@pytest.mark.parametrize("options", [{"locking": "none"}, {"locking": "lockfile"}, {"durability": "rename"}], ids=str)
def test_under_other_options(store: FilesystemStore, options: dict[str, Any]) -> None:
    assert not any(isinstance(outcome, Exception) for outcome in put_new(store.with_options(**options)))
    assert {content(store.get(key)) for key in KEYS} == {NEW}
    assert files(store) == set("01234")


def test_inside_a_hold(store: FilesystemStore) -> None:
    with store.lock(KEYS[:3]) as locked:
        assert not any(isinstance(outcome, Exception) for outcome in put_new(locked))
    assert {content(store.get(key)) for key in KEYS} == {NEW}


def test_an_interrupt_leaves_nothing_behind(store: FilesystemStore, syscalls: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(syscalls, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put_new(store)
    assert files(store) == set("03")
    assert [content(store.get(key)) for key in ("c/0", "c/3")] == [OLD, OLD]


class Counting(Syscalls):
    """Counts the temp files that are open."""

    def __init__(self) -> None:
        self.open_now: set[int] = set()
        self.most = 0

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        fd = super().open(path, flags, mode)
        if ".__new" in path:
            self.open_now.add(fd)
            self.most = max(self.most, len(self.open_now))
        return fd

    def sync(self, fd: int) -> None:
        time.sleep(0.0005)  # others come meanwhile
        super().sync(fd)

    def close(self, fd: int) -> None:
        self.open_now.discard(fd)
        super().close(fd)


def test_threads_share_the_descriptors(tmp_path: Path) -> None:
    syscalls = Counting()
    store = FilesystemStore(tmp_path, durability="fsync", syscalls=syscalls)
    threads = 8
    works = [lambda n=n: put_new(store, [f"{n}/{i}" for i in range(100)]) for n in range(threads)]
    together(*works)
    assert 64 < syscalls.most <= batch_put.MAX_OBJECTS_IN_FLIGHT + threads
    assert all(content(store.get(f"{n}/{i}")) == NEW for n in range(threads) for i in range(100))
    assert batch_put._allowance.left == batch_put.MAX_OBJECTS_IN_FLIGHT


class Slow(Syscalls):
    """Notes which thread writes, and takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.threads: list[int] = []

    def write(self, fd: int, views: Any, offset: int) -> int:
        self.threads.append(threading.get_ident())
        time.sleep(self.seconds)
        return super().write(fd, views, offset)


def by_two_threads(path: Path, seconds: float) -> int:
    """How often the thread that writes changes, where two have 40 objects each."""
    syscalls = Slow(seconds)
    store = FilesystemStore(path, syscalls=syscalls)
    together(*(lambda n=n: put_new(store, [f"{n}/{i}" for i in range(40)]) for n in range(2)))
    assert {content(store.get(f"{n}/{i}")) for n in range(2) for i in range(40)} == {NEW}
    return sum(a != b for a, b in itertools.pairwise(syscalls.threads))


def test_one_thread_at_a_time_stores_small_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_two_threads(tmp_path / "slow", 0.005) > 5  # nobody waits for 0.2 s
    monkeypatch.setattr(batch_put, "TURN_TIMEOUT_S", 60.0)
    assert by_two_threads(tmp_path / "fast", 0.0001) == 1


def test_who_holds_an_object_does_not_wait_for_who_waits_for_it(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    with store.lock(KEYS) as locked:
        other = threading.Thread(target=put_new, args=(store,))
        other.start()
        time.sleep(0.05)
        start = time.monotonic()
        assert not any(isinstance(outcome, Exception) for outcome in put_new(locked))
        assert time.monotonic() - start < 5
    other.join(20)
    assert not other.is_alive()


# Arrays -----------------------------------------------------------------------------------------------------------------


def of_chunks(syscalls: Layer) -> list[str]:
    return [call for call, name in syscalls.calls if name.isdigit()]


@pytest.fixture
def array(tmp_path: Path, syscalls: Layer) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        place = FilesystemStore(tmp_path / "array", durability="fsync", syscalls=syscalls)
        wanted = {"shape": (40,), "dtype": "int32", "fill_value": 0, **options}
        return zarrant.create_array(place, config={"durability": "fsync"}, **wanted)

    return make


@pytest.mark.parametrize("layout", [{"chunks": (4,)}, {"chunks": (2,), "shards": (4,)}], ids=["chunks", "shards"])
def test_chunks_of_one_write_are_synced_together(array: Callable[..., Any], syscalls: Layer, layout: dict[str, Any]) -> None:
    a = array(**layout)
    syscalls.calls.clear()
    a[...] = np.arange(1, 41)
    assert of_chunks(syscalls) == ["write", "begin"] * 10 + ["sync"] * 10 + ["rename"] * 10
    syscalls.calls.clear()
    a[...] = np.arange(40) // 20  # half of it is fill, and erased
    assert of_chunks(syscalls) == ["write", "begin"] * 5 + ["sync"] * 5 + ["rename"] * 5
    assert a[...].tolist() == [i // 20 for i in range(40)]


def test_chunks_that_fail_are_named(array: Callable[..., Any], syscalls: Layer) -> None:
    a = array(chunks=(4,))
    syscalls.fail = ("sync", "3")
    with pytest.raises(PartialFailure) as caught:
        a[...] = 1
    assert list(caught.value.failed) == [(3,)]
    assert (len(caught.value.stored), a[...].sum()) == (9, 36)


def test_memory_bounds_what_is_synced_together(array: Callable[..., Any], syscalls: Layer) -> None:
    a = array(shape=(6 << 20,), dtype="uint8", chunks=(1 << 20,)).with_config(memory_limit=16 << 20, concurrency=1)
    syscalls.calls.clear()
    a[...] = 1  # two chunks are an eighth of it
    assert of_chunks(syscalls) == (["write", "begin"] * 2 + ["sync"] * 2 + ["rename"] * 2) * 3


def test_descriptors_bound_what_is_written_at_once(tmp_path: Path, syscalls: Layer) -> None:
    store = FilesystemStore(tmp_path, durability="fsync", syscalls=syscalls)
    assert len(put_new(store, [f"k/{i}" for i in range(150)])) == 150
    each = (["write", "begin"] * n + ["sync"] * n + ["rename"] * n for n in (64, 64, 22))
    assert of_chunks(syscalls) == [call for calls in each for call in calls]
