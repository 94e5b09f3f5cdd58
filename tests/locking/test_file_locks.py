from __future__ import annotations

import errno
import gc
import itertools
import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from children import ended
from zarrant.errors import LockTimeout, StoreError
from zarrant.locking.file_locks import (
    MAX_PAUSE_S,
    MAX_REMEMBERED_PATHS,
    MAX_SPEEDUP,
    OVERTAKES_PER_STEP,
    FileLock,
    _backoff,
    _released,
)
from zarrant.locking.local import wait_cancelled
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import FaultySyscalls, content, together


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "k.__lock")


def take(path: str, syscalls: Syscalls | None = None, wait: float = 0.0) -> FileLock:
    return FileLock.take(syscalls or Syscalls(), path, time.monotonic() + wait)


def test_take_and_release(path: str) -> None:
    lock = take(path)
    assert (lock.found, os.path.getsize(path)) == (False, 0)
    with pytest.raises(LockTimeout) as caught:
        take(path)
    assert caught.value.path == path
    lock.release()
    lock.release()
    assert (lock.fd, os.path.exists(path)) == (-1, False)


def test_check(path: str, tmp_path: Path) -> None:
    lock = take(path)
    lock.check()
    os.rename(path, tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="removed or replaced"):
        lock.check()
    Path(path).touch()
    with pytest.raises(StoreError, match="removed or replaced"):
        lock.check()
    lock.release()
    assert os.path.exists(path)  # it was not ours
    with pytest.raises(StoreError, match=r"not have the lock|not locked"):
        lock.check()


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        take(str(tmp_path / "none" / "k.__lock"))


def test_a_leftover_is_emptied(path: str) -> None:
    Path(path).write_bytes(b"left")
    lock = take(path)
    assert (lock.found, os.path.getsize(path)) == (True, 0)
    lock.release()


def inode(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def test_a_file_that_was_replaced_is_not_the_lock(path: str, tmp_path: Path) -> None:
    """The one who waited may only be given the file that is at the path when it is given."""
    steps: list[str] = []

    def fault(index: int, name: str) -> None:
        if name == "lock":
            steps.append(name)
            if len(steps) <= 4:  # between open and lock, somebody publishes what was opened, or removes it
                os.rename(path, tmp_path / f"published {len(steps)}") if len(steps) % 2 else os.unlink(path)
                if len(steps) >= 3:  # and the next writer is there already
                    Path(path).touch()

    lock = take(path, FaultySyscalls(fault), wait=10)
    assert len(steps) == 5
    assert inode(os.fstat(lock.fd)) == inode(os.lstat(path))
    assert lock.overtaken == 4
    lock.release()


def test_the_lock_of_another_file_excludes_nobody(path: str, tmp_path: Path) -> None:
    """What was published may stay locked as long as its writer likes, and what took its place is locked by another."""
    others: list[int] = []

    def fault(index: int, name: str) -> None:
        if name == "lock" and not others:
            os.rename(path, tmp_path / "published")
            others.append(os.open(path, os.O_RDWR | os.O_CREAT))
            assert Syscalls().lock(others[0])

    with pytest.raises(LockTimeout):
        take(path, FaultySyscalls(fault), wait=0.05)
    os.close(others[0])
    take(path).release()


def test_a_void_lock_that_stays_taken_is_left(path: str, tmp_path: Path) -> None:
    """A waiter must not wait for ever for a file that is no longer the lock file, though its lock is kept by someone."""
    stranger = os.open(path, os.O_RDWR | os.O_CREAT)
    assert Syscalls().lock(stranger)
    waits: list[int] = []

    def fault(index: int, name: str) -> None:
        if name == "lock":
            waits.append(index)
            if len(waits) == 3:
                os.rename(path, tmp_path / "published")

    lock = take(path, FaultySyscalls(fault), wait=10)
    assert lock.in_place()
    lock.release()
    os.close(stranger)


def test_the_lock_is_taken_when_its_owner_ends(path: str) -> None:
    owner = os.fork()
    if owner == 0:
        try:
            kept = take(path)
            Path(path).with_name("ready").touch()
            time.sleep(60)
            kept.release()
        finally:
            os._exit(1)
    while not Path(path).with_name("ready").exists():
        time.sleep(0.001)
    with pytest.raises(LockTimeout):
        take(path, wait=0.05)
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    lock = take(path, wait=10)
    assert lock.found
    lock.release()


def test_a_lock_that_was_lost_sight_of_is_given_back(path: str) -> None:
    """An interrupt may come between the grant and its owner."""
    take(path)
    gc.collect()
    take(path).release()


def test_the_lock_is_given_back_also_for_copies_of_the_descriptor(path: str) -> None:
    """As a process that is just being started has them: a waiter that opened the file before must not wait for its end."""
    lock = take(path)
    copy, waiter = os.dup(lock.fd), os.open(path, os.O_RDWR)
    lock.release()
    assert Syscalls().lock(waiter)
    os.close(copy)
    os.close(waiter)


def test_a_wait_that_is_given_up_ends(path: str) -> None:
    """Long before its deadline, with nothing left open; the lock stays with its owner."""
    lock = take(path)
    cancelled = threading.Event()
    timer = threading.Timer(0.1, cancelled.set)
    before = os.listdir("/proc/self/fd")
    start = time.monotonic()
    timer.start()

    def wait() -> None:
        wait_cancelled.set(cancelled.is_set)
        take(path, wait=60)

    with pytest.raises(LockTimeout):
        together(wait)
    timer.join()
    assert 0.09 < time.monotonic() - start < 5
    assert set(os.listdir("/proc/self/fd")) <= set(before)
    lock.check()
    lock.release()


def test_a_failure_while_taking_leaves_no_descriptor(path: str) -> None:
    def fault(index: int, name: str) -> None:
        if name == "fstat":
            raise OSError(errno.EIO, "broken")

    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="broken"):
        take(path, FaultySyscalls(fault))
    assert set(os.listdir("/proc/self/fd")) <= set(before)
    take(path).release()


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def contended(path: str, seconds: float) -> None:
    """Have the lock, as if for so long, after another one wanted it."""
    Path(path).touch()
    lock = take(path)
    lock.since -= seconds
    lock.release()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses made, none of them in fact."""
    found: list[float] = []
    monkeypatch.setattr("zarrant.locking.file_locks.time.sleep", found.append)
    return found


def test_who_had_the_lock_lets_those_who_wait_try_first(path: str, naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("zarrant.locking.file_locks.time.monotonic", lambda: now)
    contended(path, 1.0)
    FileLock.take(Syscalls(), path, now + 10).release()
    assert naps == [pytest.approx(1.5 * MAX_PAUSE_S)]  # as long as the longest that anybody naps
    FileLock.take(Syscalls(), path, now + 10).release()
    assert len(naps) == 1  # nobody was there


def test_a_short_hold_costs_a_short_nap(path: str, naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("zarrant.locking.file_locks.time.monotonic", lambda: now)
    contended(path, 1e-4)
    FileLock.take(Syscalls(), path, now + 10).release()
    assert naps == [pytest.approx(1e-4, rel=0.01)]


def test_an_attempt_without_time_does_not_nap(path: str, naps: list[float]) -> None:
    contended(path, 1.0)
    take(path).release()
    assert naps == []


def test_what_nobody_else_wanted_is_not_waited_for(path: str, naps: list[float]) -> None:
    for _ in range(3):
        take(path, wait=10).release()
    assert naps == []


def test_the_paths_noted_are_bounded(tmp_path: Path) -> None:
    for number in range(MAX_REMEMBERED_PATHS + 10):
        contended(str(tmp_path / f"{number}.__lock"), 0.0)
    assert 0 < len(_released) <= MAX_REMEMBERED_PATHS


@pytest.mark.parametrize(
    ("overtaken", "part"), [(0, 1), (OVERTAKES_PER_STEP - 1, 1), (OVERTAKES_PER_STEP, 2), (1000 * OVERTAKES_PER_STEP, MAX_SPEEDUP)]
)
def test_who_was_overtaken_often_naps_shorter(path: str, overtaken: int, part: int) -> None:
    lock = FileLock(Syscalls(), path)
    lock.overtaken = overtaken
    longest = max(itertools.islice(_backoff(lock), 10, 110))  # each half as long again or as short, by chance
    assert 1.2 * MAX_PAUSE_S / part < longest <= 1.5 * MAX_PAUSE_S / part


# ── fork ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def wait_for(child: int) -> int:
    return os.waitstatus_to_exitcode(ended(child))


def test_a_child_does_not_hold_what_its_parent_holds(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    with store.lock(["k"]) as held:
        held.put("k", [b"parent"])
        child = os.fork()
        if child == 0:
            status = 1
            try:
                held.put("k", [b"child"])
            except StoreError as error:
                status = 2 if "fork" in str(error) else 3
            finally:
                os._exit(status)
        assert wait_for(child) == 2
        held.put("k", [b"parent again"])
    assert content(store.get("k")) == b"parent again"


def test_a_child_that_leaves_the_block_releases_nothing(tmp_path: Path) -> None:
    child = 0
    with FilesystemStore(tmp_path).lock(["k"]):
        child = os.fork()
        if child:
            assert wait_for(child) == 7
            with pytest.raises(LockTimeout):
                take(str(tmp_path / "k.__lock"))
    if child == 0:
        os._exit(7 if (tmp_path / "k.__lock").exists() else 8)
    assert os.listdir(tmp_path) == []


def test_a_child_waits_for_its_parent(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    with store.lock(["k"]) as held:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                store.put("k", [(content(store.get("k")) or b"") + b"too early"])  # content is read before the wait
                status = 0
            finally:
                os._exit(status)
        time.sleep(0.1)
        held.put("k", [b"parent"])
        assert content(store.get("k")) == b"parent"
    assert wait_for(child) == 0
    assert content(store.get("k")) == b"too early"


def test_a_child_does_not_keep_the_lock_of_a_killed_parent(tmp_path: Path) -> None:
    """Children share the lock with their parent: they have to drop their copy, or a killed parent would block all."""
    store = FilesystemStore(tmp_path, lock_timeout=10)
    parent = os.fork()
    if parent == 0:
        try:
            with store.lock(["k"]):
                grandchild = os.fork()
                if grandchild:
                    (tmp_path / "pid.part").write_text(str(grandchild))
                    (tmp_path / "pid.part").rename(tmp_path / "pid")
                time.sleep(60)
        finally:
            os._exit(0)
    while not (tmp_path / "pid").exists():
        time.sleep(0.001)
    time.sleep(0.05)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        store.put("k", [b"1"])
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert content(store.get("k")) == b"1"


def test_a_lock_file_gets_the_permissions_of_its_directory_only(tmp_path: Path) -> None:
    modes = {0o755: 0o600, 0o775: 0o660, 0o777: 0o666, 0o1777: 0o660, 0o700: 0o600}
    before = os.umask(0o077)
    try:
        for directory, expected in modes.items():
            place = tmp_path / f"{directory:o}"
            place.mkdir()
            place.chmod(directory)
            lock = take(str(place / "k.__lock"))
            assert stat.S_IMODE((place / "k.__lock").stat().st_mode) == expected, oct(directory)
            lock.release()
    finally:
        os.umask(before)
