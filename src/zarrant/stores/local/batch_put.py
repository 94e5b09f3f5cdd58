"""Many whole objects stored with one call.

In: a tree of files, and pairs of a key and the parts of its new object. Out: for each its version or its error.

With `durability="fsync"` the data of all objects are synced together, and then all temp files are renamed. Every temp file is
written, and the system is asked to begin with its sync, before the first sync is waited for. So one commit of the file system's
journal serves all of them: 64 objects on ext4 take 3 commits, and 61 where each file is synced before the next is written. All
objects are locked meanwhile, in sorted order. A thread that has locked some objects does not wait for one that is locked by
another thread: that object is stored afterwards, by itself.

With `durability="rename"` the small objects of a directory in memory are stored by one compiled call (`put_at_once`), and threads
do so side by side. What is left, one thread at a time stores, one object after the other, while other threads encode. Two threads
that write small files at once from Python lose more time to switching the interpreter than they save: 512 chunks of 4 KiB on tmpfs
took 106 µs each, and take 68 µs in turn. If a file takes long, the other threads do not wait for it (`TURN_TIMEOUT_S`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, NamedTuple, Protocol

from zarrant.errors import LockTimeout, ReentrantLockError, ZarrantError
from zarrant.locking.local import ForkSafeLock, remake_after_fork
from zarrant.storage import Buffer, Part, Version
from zarrant.stores.local.descriptors import free_descriptors, is_out_of_descriptors
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.local.temp_files import FileVersion, OpenTempFile, TempFile, annotate_errors, stamp, stat_or_none
from zarrant.stores.local.unsynced import KEPT, Mark

BUSY_LOCK_TIMEOUT_S = 0.002
"""Seconds to wait for a lock while the thread has others: about as long as one small update keeps it."""

MAX_OBJECTS, MAX_OBJECTS_IN_FLIGHT = 64, 256
"""Objects written at once, by one thread and by all together: each needs two descriptors, and many systems give 1,024.

Where few are left it is fewer objects: those of a thread may take half of what is left, and none where that is not enough.
"""

MAX_OBJECTS_IN_ONE_CALL = 256
"""Objects that one compiled call stores: some 8 ms, in which nothing interrupts it."""

TURN_TIMEOUT_S = 0.02
"""Seconds that a thread waits until another has stored its objects; it goes on in any case."""

_one_at_a_time = ForkSafeLock()

Item = tuple[str, Sequence[Buffer]]


class BatchTarget(Protocol):
    """What is needed of `stores.local.objects.FileObjects`."""

    files: Syscalls
    url: str
    durability: str

    def put(self, key: str, parts: Sequence[Buffer]) -> Version: ...
    def _path(self, key: str) -> str: ...
    def _paths(self, keys: Sequence[str]) -> list[str]: ...
    def exclusive_path(self, path: str, timeout: float | None = None) -> AbstractContextManager[OpenTempFile]: ...
    def _write_parts(self, fd: int, parts: Sequence[Part], base: Any) -> None: ...
    def _remove_previous(self, path: str) -> None: ...
    def _check(self) -> None: ...
    def put_each_at_once(self, items: Sequence[tuple[str, Sequence[Buffer]]], done: list[FileVersion | None]) -> None: ...
    def _on_published(self, paths: Sequence[str], mark: Mark = ...) -> None: ...


class _Written(NamedTuple):
    """A temp file that is not renamed yet."""

    path: str
    temp: TempFile
    version: FileVersion
    replaces: bool


def put_batch(target: BatchTarget, items: Sequence[Item]) -> list[Version | Exception]:
    """Store the objects; an error is that of one object, and says nothing of the others."""
    outcomes: list[Version | Exception] = []
    while (low := len(outcomes)) < len(items):
        if target.durability == "fsync":
            with _allowance.take(min(MAX_OBJECTS, len(items) - low)) as count:
                outcomes += _Batch(target, items[low : low + count]).store_together()
        else:
            outcomes += _Batch(target, items[low : low + MAX_OBJECTS_IN_ONE_CALL]).store_one_by_one()
    return outcomes


class _Allowance:
    """How many objects all threads may write at once; a thread that would exceed it writes one object after the other."""

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        self.lock, self.left = threading.Lock(), MAX_OBJECTS_IN_FLIGHT

    @contextmanager
    def take(self, wanted: int) -> Iterator[int]:
        with self.lock:
            free = free_descriptors() - 2 * (MAX_OBJECTS_IN_FLIGHT - self.left)  # some of these are open by now, and counted twice
            taken = max(0, min(wanted, self.left, free // 4))
            self.left -= taken
        try:
            yield max(1, taken)
        finally:
            with self.lock:
                self.left += taken


_allowance = _Allowance()


DEFERRED: Any = object()
"""In place of an outcome: this object is stored by itself."""


class _Batch:
    def __init__(self, target: BatchTarget, items: Sequence[Item]) -> None:
        self.target, self.items = target, items
        self.outcomes: list[Version | Exception] = [DEFERRED] * len(items)
        self.written: dict[int, _Written] = {}
        self.stack = ExitStack()

    def store_one_by_one(self) -> list[Version | Exception]:
        self.put_at_once()
        left = [number for number, outcome in enumerate(self.outcomes) if outcome is DEFERRED]
        if not left:
            return self.outcomes
        mine = _one_at_a_time.lock.acquire(timeout=TURN_TIMEOUT_S)
        try:
            self.each(left, self.take_write_lease)
        finally:
            if mine:
                _one_at_a_time.lock.release()
        return self.outcomes

    def put_at_once(self) -> None:
        """Store what can be stored by compiled calls; the others stay deferred, and say what is wrong with them."""
        keys = [key for key, _ in self.items]
        if len(set(keys)) < len(keys):
            return  # of two with one key the later one stays
        paths = self._paths(keys)
        done: list[FileVersion | None] = []
        try:
            with suppress(Exception):
                self.target.put_each_at_once([(path, self.items[number][1]) for number, path in paths], done)
        finally:  # also of an interrupt: what is there by now must be known to the next `sync`
            published: list[str] = []
            for (number, path), version in zip(paths, done, strict=False):
                if version is not None:
                    self.outcomes[number] = version
                    published.append(path)
            if published:
                self.target._on_published(published, KEPT)

    def _paths(self, keys: Sequence[str]) -> list[tuple[int, str]]:
        """(number, path) of each key that may be one."""
        try:
            return list(enumerate(self.target._paths(keys)))
        except ZarrantError:
            paths: list[tuple[int, str]] = []
        for number, key in enumerate(keys):
            with suppress(ZarrantError):
                paths.append((number, self.target._path(key)))
        return paths

    def store_together(self) -> list[Version | Exception]:
        with self.stack:
            self.write_all()
            self.each(list(self.written), self.sync)
            self.each(list(self.written), self.publish)
            self.commit()
        self.each([number for number, outcome in enumerate(self.outcomes) if outcome is DEFERRED], self.take_write_lease)
        return self.outcomes

    def write_all(self) -> None:
        """Write the temp files, as many as there are descriptors for: the others wait until these are given back."""
        for number in sorted(range(len(self.items)), key=lambda number: self.items[number][0]):
            try:
                with annotate_errors("write", self.target.url, self.items[number][0]):
                    self.write(number)
            except Exception as error:
                if is_out_of_descriptors(error):
                    return
                self._fail(number, error)

    def each(self, numbers: Sequence[int], act: Callable[[int], None]) -> None:
        for number in numbers:
            try:
                with annotate_errors("write", self.target.url, self.items[number][0]):
                    act(number)
            except Exception as error:
                self._fail(number, error)

    def _fail(self, number: int, error: Exception) -> None:
        self.outcomes[number] = error
        self.written.pop(number, None)

    def write(self, number: int) -> None:
        key, parts = self.items[number]
        target, path = self.target, self.target._path(key)
        try:
            open_temp_file = self.stack.enter_context(target.exclusive_path(path, BUSY_LOCK_TIMEOUT_S))
        except (LockTimeout, ReentrantLockError):  # the latter: the same key again, or one that the caller has
            return
        target._check()
        temp = open_temp_file(-1)
        for _ in range(2):  # an interrupt can keep one call from doing it; else the other does nothing
            self.stack.callback(temp.release)
        target._write_parts(temp.fd, parts, None)
        old = stat_or_none(target.files, path)
        self.written[number] = _Written(path, temp, stamp(target.files, temp.fd, old), old is not None)
        with suppress(OSError):
            target.files.begin_sync(temp.fd)

    def sync(self, number: int) -> None:
        self.target.files.sync(self.written[number].temp.fd)  # safety: data syncs

    def publish(self, number: int) -> None:
        path, temp, version, replaces = self.written[number]
        temp.publish(path, version)
        if replaces:
            self.target._remove_previous(path)
        self.outcomes[number] = version

    def commit(self) -> None:
        try:
            with annotate_errors("write", self.target.url, None):
                self.target._on_published([each.path for each in self.written.values()])
        except Exception as error:
            for number in list(self.written):
                self._fail(number, error)

    def take_write_lease(self, number: int) -> None:
        self.outcomes[number] = self.target.put(*self.items[number])
