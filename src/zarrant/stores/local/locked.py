"""A store on a directory while some of its keys are locked: what `FilesystemStore.lock` gives.

In: the store, and the locks, by path. Out: the same store, in which the locked keys are written under those locks.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from zarrant.locking.file_locks import FileLock
from zarrant.locking.local import KeyQueues, lock_again
from zarrant.storage import OnlyWhile, Part, Version
from zarrant.stores.local.durability import SyncBatch
from zarrant.stores.local.objects import FileObjects
from zarrant.stores.local.put_at_once import Done, Updated, put_under_lock, update_under_lock
from zarrant.stores.local.temp_files import OpenTempFile

if TYPE_CHECKING:
    from zarrant.codecs.protocols import BoxUpdate
    from zarrant.stores.local.file_reuse import FileReuse


class LockedFiles(FileObjects):
    """The store inside of a lock: the locked keys are written under these locks, all other keys through the store.

    Some of its keys can be locked again: this keeps threads apart that share the lock.
    """

    def __init__(self, store: Any, locks: Mapping[str, FileLock | None]) -> None:
        self.root, self.url, self.files = store.root, store.url, store.files
        self.durability, self.unsynced_paths, self.group = store.durability, store.unsynced_paths, store.group
        self.direct, self.file_reuse, self.lock_timeout = store.direct, store.file_reuse, store.lock_timeout
        self.links, self._at_once = store.links, store._at_once
        self._store = store
        self._locks = locks
        self._turns = KeyQueues()

    @property
    def _outside(self) -> Any:
        """The store outside, on the same condition: it makes directories, and writes keys that are not locked."""
        return self._store if self.condition is None else self._store.only_while(self.condition)

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[LockedFiles]:
        """See `storage.Lock`; only keys that are locked already."""
        paths = {self._path(key): key for key in sorted(set(keys))}
        with lock_again(self._turns, paths, self._locks, time.monotonic() + self.lock_timeout, self.url):
            yield LockedFiles(self._store, {path: self._locks[path] for path in paths})

    @property
    def reuse(self) -> FileReuse | None:
        """See `FilesystemStore.reuse`."""
        reuse: FileReuse | None = self._store.reuse
        return reuse

    @property
    def guard(self) -> str:
        """See `FilesystemStore.guard`."""
        return str(self._store.guard)

    def is_locked_by_caller(self, key: str) -> bool:
        """See `FilesystemStore.is_locked_by_caller`; for the locks taken here its own queue is asked."""
        path = self._path(key)
        return self._turns.is_locked_by_caller(path) if path in self._locks else bool(self._store.is_locked_by_caller(key))

    def is_unchanged(self, key: str, version: Version) -> bool:
        """See `FilesystemStore.is_unchanged`."""
        return bool(self._store.is_unchanged(key, version))

    @contextmanager
    def exclusive_path(self, path: str, timeout: float | None = None) -> Iterator[OpenTempFile]:
        if path not in self._locks:
            with self._outside.exclusive_path(path, timeout) as open_temp_file:
                yield open_temp_file
            return
        lock = self._locks[path]
        with self._turns.lock((path,), time.monotonic() + (self.lock_timeout if timeout is None else timeout)):
            if lock is None:
                yield lambda fd: self._outside.unlocked_temp_file(path)
            else:
                lock.check()
                yield lambda fd: self._store.locked_temp_file(path, lock, fd)

    def path_of(self, key: str) -> str:
        """For `stores.local`: the path of an object."""
        return self._path(key)

    def _put_at_once(self, path: str, parts: Sequence[Part], if_version: Version) -> Done | None:
        if path not in self._locks:
            done: Done | None = self._outside._put_at_once(path, parts, if_version)
            return done
        lock = self._locks[path]
        return None if lock is None else put_under_lock(self, self._turns, path, parts, if_version, lock)

    def _update_at_once(self, key: str, path: str, update: BoxUpdate, condition: OnlyWhile | None) -> Updated | None:
        lock = self._locks.get(path)  # to update other keys is an error: see `lock`
        return None if lock is None else update_under_lock(self, self._turns, path, update, condition, lock)

    def _is_locked(self, path: str) -> bool:
        return bool(self._store._is_locked(path))

    def renames_show_gaps(self) -> bool:
        return bool(self._store.renames_show_gaps())

    @contextmanager
    def in_batch(self, group: SyncBatch) -> Iterator[Self]:
        with self._store.in_batch(group) as store:
            inside = copy.copy(self)
            inside._store, inside.group = store, group
            yield inside
