"""Exclusion between processes and machines: one lock file next to each object.

In: the path of the lock file and a deadline. Out: a `FileLock`, whose file is empty, at its path and locked by us alone; or
LockTimeout; or OSError (FileNotFoundError: no directory). It ends by `release`: the file is removed. What may not be done:
use the file's name without having locked it, or write into the file.

The protocol is that of TensorStore (tensorstore/kvstore/file), so that both may write the same files. Theirs is written
into the lock file, which is renamed over the object; they do not empty one that is there. Ours stays empty, so that one of us
may be killed at any time: the next of their writers takes the file over, and there is nothing in it that it could publish.

- The lock is on the open file description. POSIX locks are of no use: any close of the file in the process drops them.
- A lock counts only while its inode is the one at the path: a process that renamed or removed the file made the lock void. Every
  waiter compares the two after it got the lock, and after it was refused (a forked child may keep a void lock taken). The inode
  of an open descriptor never changes and belongs to no other file, so it is read once, and each check is one `lstat` of the path.
- A lock file that was there before may contain what a killed writer of TensorStore left. It is emptied, because their next writer
  would publish it. If the file has other names (a snapshot made of hard links), those must not be emptied: it is replaced.
- Every user who may write into the directory may take the lock: a new file gets the permissions that the directory gives to its
  group and to others, which the umask may have withheld. So another user can take over the lock file of a killed writer.
- It is removed only while it is locked, and unlocked before it is closed: a child forked meanwhile shares the lock.

There is no list of waiting processes, so the next owner is found by chance. Two rules make it fair: a process that released a lock
which others want lets them try before it tries again, and a waiter that was overtaken often sleeps for a shorter time.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import time
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol, Self
from weakref import ReferenceType, ref

from zarrant.errors import LockTimeout, StoreError
from zarrant.locking.local import Acquired, Ownership, reentrant, remake_after_fork, wait_cancelled
from zarrant.storage import Buffer

SUFFIX = ".__lock"
CREATED_HEADER = b"zarrant lockfile: "
"""How a lock file of `locking.created_locks` begins. Such a file counts as locked, though the system has no lock on it."""

MIN_PAUSE_S = 50e-6
MAX_PAUSE_S = 4e-3
"""Seconds between two attempts. A refused attempt costs about 4 µs, so 16 waiters at the longest pause use 2 % of a core."""
OVERTAKES_PER_STEP, MAX_SPEEDUP = 4, 4
"""A waiter that was overtaken this many times sleeps half as long between two attempts, after twice as many a third, and at last
a fourth (16 instead of 4 was not fairer). Overtakes are counted, not time, so a lock that is taken for long costs no more attempts.
With 8 writers of one shard of 4 MiB the unluckiest waiter was overtaken 21 to 30 times. Without this, and without the pause of the
process that released the lock, it was 46 to 83 times."""
PERMISSION_GRACE_S = 0.25
"""Seconds to retry a lock file that may not be opened: its maker may have yet to share it (`_share`), which takes 0.01 ms."""
MAX_REMEMBERED_PATHS = 1024
"""Paths remembered whose locks were released while others wanted them. A path that is forgotten costs fairness, no safety."""


class Files(Protocol):
    """The file calls a lock needs: a part of `Syscalls`."""

    def open(self, path: str, flags: int) -> int: ...
    def close(self, fd: int) -> None: ...
    def fstat(self, fd: int) -> os.stat_result: ...
    def stat(self, path: str) -> os.stat_result: ...
    def stat_target(self, path: str) -> os.stat_result: ...
    def chmod(self, fd: int, mode: int) -> None: ...
    def truncate(self, fd: int, size: int) -> None: ...
    def read_full(self, fd: int, view: memoryview, offset: int) -> int: ...
    def write_full(self, fd: int, parts: Sequence[Buffer], offset: int) -> int: ...
    def unlink(self, path: str) -> None: ...
    def lock(self, fd: int) -> bool: ...
    def unlock(self, fd: int) -> None: ...


class _OpenLocks:
    """The locks this process holds or waits for. A forked child has copies of their descriptors and must drop them."""

    def __init__(self) -> None:
        # Every lock takes itself off when it is closed, at the latest when it is lost sight of.
        self.locks: dict[int, ReferenceType[FileLock]] = {}

    def remake(self) -> None:
        for reference in list(self.locks.values()):
            lock = reference()
            if lock is not None:
                lock.abandon()
        self.locks.clear()

    def is_locked_by_caller(self, inode: tuple[int, int]) -> bool:
        """Whether who asks has the lock of a file: under another name, since threads queue for one and the same name."""
        locks = [lock for reference in list(self.locks.values()) if (lock := reference()) is not None]
        return any(lock.locked and lock.inode == inode and lock.ownership.is_locked_by_caller() for lock in locks)

    def give_back(self, start: Acquired) -> None:
        """See `locking.local.give_back`."""
        for reference in list(self.locks.values()):
            lock = reference()
            if lock is not None and lock.ownership.since(start):
                lock.release()


_open_locks = _OpenLocks()
remake_after_fork(_open_locks)


class FileLock:
    """One lock file. `fd` is open while it is locked, and -1 afterwards (also in a forked child).

    `found` tells that the file was there before: another writer was busy, or one was killed.
    """

    FLAGS: ClassVar[int] = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

    fd = -1  # also where an interrupt ended `__init__`

    def __init__(self, files: Files, path: str) -> None:
        self.ownership = Ownership()
        self.locks = True
        self.files = files
        self.path = path
        self.inode = (0, 0)
        self.found = False
        self.created = False
        self.waited = self.locked = False
        self.denied: tuple[float, PermissionError] | None = None
        self.overtaken = 0
        self.since = 0.0

    @classmethod
    def take(cls, files: Files, path: str, deadline: float) -> Self:
        """Wait for the lock until the deadline (of `time.monotonic`; at least one attempt is made)."""
        start = time.monotonic()
        lock = cls(files, path)
        try:
            _yield_to_waiters(path, start, deadline)
            pauses: Iterator[float] | None = None
            while True:
                if lock._try_lock(deadline):
                    lock.since, lock.locked = time.monotonic(), True
                    return lock
                pauses = pauses or _backoff(lock)
                left = deadline - time.monotonic()
                over = wait_cancelled.get()
                if left <= 0 or (over is not None and over()):
                    break
                if not lock.waited:
                    lock._refuse_reentry()
                lock.waited = True
                time.sleep(min(next(pauses), left))
        except BaseException:
            lock._close()
            raise
        lock._close()
        if lock.denied is not None:
            raise lock.denied[1]
        waited = f"{time.monotonic() - start:.3f} s waited"
        raise LockTimeout("another writer kept the lock", path=path, got=waited, hint=lock._timeout_hint())

    def in_place(self) -> bool:
        """Whether what is at the path is the file that is locked."""
        return self._state() is not None

    def check(self) -> None:
        """StoreError where the lock is not ours any more: the last look before something is published under it."""
        if self.fd < 0:
            raise StoreError("this process does not have the lock: it was released, or taken before a fork", path=self.path)
        if not self.in_place():
            raise StoreError(
                "the lock file was removed or replaced by something that did not hold it",
                path=self.path,
                hint=f"Files named *{SUFFIX} must not be removed while there are writers",
            )

    def release(self) -> None:
        """Remove the lock file and give the lock back; nothing to do where that was done."""
        if self.fd < 0:
            return
        if self.waited or self.found or self.overtaken:
            _remember_release(self.path, self.since)
        try:
            if self.in_place():
                self.files.unlink(self.path)
        except OSError:
            # The outcome of the write is known by now and must not change; the next writer takes the file over.
            pass
        finally:
            self._close(quiet=True)

    def __del__(self) -> None:
        # Only where an interrupt came between the grant and its owner: the lock would be kept as long as the process lives.
        if self.fd >= 0:
            self.release()

    def abandon(self) -> None:
        """Forget a lock that belongs to the parent process."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.files.close(fd)

    def _try_lock(self, deadline: float) -> bool:
        """Try once; again at once where the file was replaced meanwhile."""
        while True:
            if self.fd < 0 and not self._try_open():
                return False
            granted = self.files.lock(self.fd)  # safety: lock
            state = self._state()
            if state is not None:
                if not granted:
                    return False
                if self._is_created(state):  # safety: other mode
                    self._close()
                    return False
                if self._empty(state):
                    return True
            self._close()
            self.overtaken += 1
            if time.monotonic() >= deadline:
                return False

    def _refuse_reentry(self) -> None:
        """ReentrantLockError where the file for which we wait is locked by who asks."""
        try:
            state = self.files.stat(self.path)
        except FileNotFoundError:
            return
        if _open_locks.is_locked_by_caller((state.st_dev, state.st_ino)):
            raise reentrant(self.path)

    def _try_open(self) -> bool:
        """Open the file; False where it may not be opened, perhaps only because its maker has yet to share it (`_share`)."""
        try:
            self._open()
        except PermissionError as error:
            self.denied = self.denied or (time.monotonic(), error)
            if time.monotonic() - self.denied[0] > PERMISSION_GRACE_S:
                raise
            return False
        self.denied = None
        return True

    def _open(self) -> None:
        try:
            fd, self.found = self.files.open(self.path, self.FLAGS | os.O_CREAT | os.O_EXCL), False
        except FileExistsError:
            fd, self.found = self.files.open(self.path, self.FLAGS | os.O_CREAT), True
        self._adopt(fd, made=not self.found)

    def _adopt(self, fd: int, made: bool) -> None:
        self.fd = fd
        _open_locks.locks[fd] = ref(self)
        state = self.files.fstat(fd)
        self.inode = (state.st_dev, state.st_ino)
        if made and ~state.st_mode & _SHARED_MODE:
            self._share(state)

    def _share(self, state: os.stat_result) -> None:
        """Let everybody take the file who may write into its directory."""
        missing = shared_permissions(self.files, os.path.dirname(self.path))[0] & ~state.st_mode
        if missing:
            try:
                self.files.chmod(self.fd, stat.S_IMODE(state.st_mode) | missing)  # safety: shared lock file
            except OSError:
                pass  # a file system without permissions: nobody is kept out by them either

    def _state(self) -> os.stat_result | None:
        """The state of what is at the path, None where it is not the file that is open."""
        try:
            there = self.files.stat(self.path)
        except FileNotFoundError:
            return None
        return there if (there.st_dev, there.st_ino) == self.inode else None  # safety: inode

    def _is_created(self, state: os.stat_result) -> bool:
        if not state.st_size or not stat.S_ISREG(state.st_mode):
            return False
        start = memoryview(bytearray(len(CREATED_HEADER)))
        self.files.read_full(self.fd, start, 0)
        self.created = bytes(start) == CREATED_HEADER
        return self.created

    def _empty(self, state: os.stat_result) -> bool:
        """Empty the file, whose state was asked for under its lock; False where it had to be removed instead."""
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "the lock file is not a regular file", self.path)
        if state.st_nlink > 1:  # safety: second name
            self.files.unlink(self.path)
            return False
        if state.st_size:
            self.files.truncate(self.fd, 0)  # safety: truncate
        return True

    def _timeout_hint(self) -> str | None:
        """The hint of the LockTimeout."""
        return "Its owner uses locking='lockfile': all writers of a store must use the same" if self.created else None

    def _close(self, quiet: bool = False) -> None:
        fd = self.fd
        if fd < 0:
            return
        try:
            if self.locks:
                self.files.unlock(fd)
        except OSError:
            pass  # closing unlocks as well
        finally:
            self.fd = -1
            try:
                _open_locks.locks.pop(fd, None)
            finally:
                self._close_file(fd, quiet)

    def _close_file(self, fd: int, quiet: bool) -> None:
        try:
            self.files.close(fd)
        except OSError:
            if not quiet:
                raise


_SHARED_MODE, _DIRECTORY_MODE_S = 0o066, 1.0
"""Permissions of group and others to take a lock file; seconds after which those of a directory are looked up again."""

_directories: dict[str, tuple[int, int, float]] = {}


def shared_permissions(files: Files, directory: str) -> tuple[int, int]:
    """(permissions that a lock file needs in a directory, for all who may write there; the device of the directory).

    Of a sticky directory others may not replace or remove what is not theirs.
    """
    bits, device, until = _directories.get(directory, (0, 0, 0.0))
    now = time.monotonic()
    if now >= until:
        state = files.stat_target(directory)
        return remember_permissions(directory, state.st_mode, state.st_dev)
    return bits, device


def remember_permissions(directory: str, mode: int, device: int) -> tuple[int, int]:
    """`shared_permissions` of a directory that was looked at just now."""
    bits = (mode & stat.S_IWGRP and 0o060) | (mode & stat.S_IWOTH and not mode & stat.S_ISVTX and 0o006)
    if len(_directories) >= MAX_REMEMBERED_PATHS:
        _directories.clear()
    _directories[directory] = (bits, device, time.monotonic() + _DIRECTORY_MODE_S)
    return bits, device


def forget_missing(files: Files, directory: str) -> bool:
    """Whether a directory is gone whose permissions are remembered; they no longer are then."""
    if directory not in _directories:
        return False
    try:
        files.stat_target(directory)
    except FileNotFoundError:
        _directories.pop(directory, None)
        return True
    return False


def _backoff(lock: FileLock) -> Iterator[float]:
    """Exponential back-off with jitter, without end; the longest pause is that of a waiter overtaken so often."""
    pause = MIN_PAUSE_S
    while True:
        longest = MAX_PAUSE_S / min(MAX_SPEEDUP, 1 + lock.overtaken // OVERTAKES_PER_STEP)
        pause = min(pause, longest)
        yield pause * random.uniform(0.5, 1.5)
        pause *= 2


_released: dict[str, tuple[float, float]] = {}
"""Path: when this process gave the lock back, and the seconds it lets others try."""


def _remember_release(path: str, since: float) -> None:
    """Others want the lock. A process that had it for long pauses before it tries again, so that all waiters have tried by then."""
    now = time.monotonic()
    if len(_released) >= MAX_REMEMBERED_PATHS:
        _released.clear()
    _released[path] = (now, min(now - since, 1.5 * MAX_PAUSE_S))


def _yield_to_waiters(path: str, now: float, deadline: float) -> None:
    """Pause once if this process released the lock a moment ago, no longer than it had it: it loses at most half its time."""
    when, pause = _released.pop(path, (0.0, 0.0))
    left = min(when + pause, deadline) - now
    if left > 0:
        time.sleep(left)
