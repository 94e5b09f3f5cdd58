from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from children import ended
from zarrant.errors import LockTimeout, StoreError
from zarrant.locking.created_locks import CreatedLock
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import FaultySyscalls, StoreSuite, content, together


class NoLocks(Syscalls):
    """A file system without locks."""

    def lock(self, fd: int) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def unlock(self, fd: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


class TestStore(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Any:
        yield FilesystemStore(tmp_path, locking="lockfile", syscalls=NoLocks())
        assert [path for path in tmp_path.rglob("*") if ".__" in path.name] == []


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "k.__lock")


def take(path: str, syscalls: Syscalls | None = None, wait: float = 0.0) -> CreatedLock:
    return CreatedLock.take(syscalls or NoLocks(), path, time.monotonic() + wait)


def test_take_and_release(path: str) -> None:
    lock = take(path)
    lock.check()
    text = Path(path).read_text()
    assert re.fullmatch(
        rf"zarrant lockfile: host {re.escape(socket.gethostname())}, process {os.getpid()}, since \d{{4}}-\S+Z\n", text
    )
    with pytest.raises(LockTimeout) as caught:
        together(lambda: take(path, wait=0.02))
    assert caught.value.path == path
    assert text.strip().removeprefix("zarrant lockfile: ") in str(caught.value)
    assert "If that process is gone, remove the file" in str(caught.value)
    lock.release()
    assert not os.path.exists(path)
    with pytest.raises(StoreError, match=r"not have the lock|not locked"):
        lock.check()


def test_the_next_one_gets_it_when_it_is_given_back(path: str) -> None:
    lock = take(path)
    together(lambda: (time.sleep(0.05), lock.release()), lambda: take(path, wait=10).release())
    assert not os.path.exists(path)


@pytest.mark.parametrize("left", [b"", b"\xff\0\n", b"x" * 5000])
def test_nothing_is_taken_over(path: str, left: bytes) -> None:
    Path(path).write_bytes(left)
    with pytest.raises(LockTimeout, match="remove the file") as caught:
        take(path)
    assert len(str(caught.value)) < 2000
    assert Path(path).read_bytes() == left


def test_a_file_that_was_removed_by_hand_is_not_held(path: str) -> None:
    lock = take(path)
    os.unlink(path)
    with pytest.raises(StoreError, match="removed or replaced"):
        lock.check()
    other = take(path)
    lock.release()
    other.check()  # it is still there
    other.release()


def test_an_owner_that_cannot_be_written_locks_nothing(path: str) -> None:
    def fault(index: int, name: str) -> None:
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space"):
        take(path, FaultySyscalls(fault))
    assert not os.path.exists(path)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_forked_child_holds_nothing(path: str) -> None:
    lock = take(path)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            lock.release()
            status = 0 if lock.fd == -1 and os.path.exists(path) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(ended(child)) == 0
    lock.check()
    lock.release()


INCREMENT = """
import sys
from zarrant.stores.local.store import FilesystemStore
store = FilesystemStore(sys.argv[1], locking="lockfile", lock_timeout=100)
for _ in range(int(sys.argv[2])):
    with store.lock(["n", "d/m"]) as held:
        for key in ("n", "d/m"):
            blob = held.get(key)
            held.put(key, [b"%d" % (int(bytes(blob.data[0]) if blob else b"0") + 1)])
"""


def test_processes_exclude_each_other(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", INCREMENT, tmp_path, "60"]) for _ in range(4)]
    assert [process.wait(100) for process in processes] == [0] * 4
    store = FilesystemStore(tmp_path)
    assert [content(store.get(key)) for key in ("n", "d/m")] == [b"240"] * 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["d", "m", "n"]


def test_a_killed_owner_blocks_until_its_file_is_removed(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path, locking="lockfile", lock_timeout=0.05)
    store.put("k", [b"old"])
    child = os.fork()
    if child == 0:
        try:
            with store.lock(["k"]) as locked:
                locked.put("k", [b"new"])
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    for call in (lambda: store.put("k", [b"x"]), lambda: store.erase("k"), lambda: store.lock(["k"]).__enter__()):
        with pytest.raises(LockTimeout, match=f"process {child}, since") as caught:
            call()
        assert (caught.value.key, caught.value.path) == ("k", f"{tmp_path}/k.__lock")
    assert content(store.get("k")) == b"new"
    os.unlink(tmp_path / "k.__lock")
    store.put("k", [b"x"])
    assert os.listdir(tmp_path) == ["k"]


def test_the_other_mode_waits_and_says_why(tmp_path: Path) -> None:
    first = FilesystemStore(tmp_path, locking="lockfile", lock_timeout=0.05)
    second = FilesystemStore(tmp_path, locking="os", lock_timeout=0.05)
    # Threads of one process queue by path, so another spelling of it.
    (tmp_path / "link").symlink_to(".")
    stranger = FilesystemStore(tmp_path / "link", locking="os", lock_timeout=0.05)
    with first.lock(["k"]) as locked:
        with pytest.raises(LockTimeout, match="locking='lockfile'"):
            together(lambda: stranger.put("k", [b"stranger"]))
        locked.put("k", [b"1"])
    stranger.put("k", [b"2"])
    other = FilesystemStore(tmp_path / "link", locking="lockfile", lock_timeout=0.05)
    with second.lock(["k"]), pytest.raises(LockTimeout):
        together(lambda: other.put("k", [b"3"]))
    assert content(second.get("k")) == b"2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k", "link"]


def test_the_guard_is_named(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path, locking="lockfile")
    assert "lock files (<key>.__lock)" in store.guard
    assert "locking='lockfile'" in repr(store)
