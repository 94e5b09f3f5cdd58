"""A store on a directory inside of a hold: what `FilesystemStore.hold` gives.

In: the store, and the locks that are held, by path. Out: the same tree, in which the held keys are written under those locks.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from zarrant.locking.file_locks import FileLock
from zarrant.locking.local import KeyQueues, locked_again
from zarrant.storage import Version
from zarrant.stores.local.durability import Group
from zarrant.stores.local.objects import FileTree
from zarrant.stores.local.temp_files import MakeDraft

if TYPE_CHECKING:
    from zarrant.stores.local.file_reuse import FileReuse


class HeldFiles(FileTree):
    """The store inside a hold: writes of the held keys go through the locks that are held, all else through the store.

    It can be held again, for some of its keys: that keeps threads that share the hold apart.
    """

    def __init__(self, store: Any, locks: Mapping[str, FileLock | None]) -> None:
        self.root, self.url, self.files = store.root, store.url, store.files
        self.durability, self.ledger, self.group = store.durability, store.ledger, store.group
        self.direct = store.direct
        self.links = store.links
        self._store = store
        self._locks = locks
        self._turns = KeyQueues()

    @property
    def _outside(self) -> Any:
        """The store outside, on the same condition: it makes directories, and writes keys that are not held."""
        return self._store if self.condition is None else self._store.only_while(self.condition)

    @contextmanager
    def hold(self, keys: Sequence[str]) -> Iterator[HeldFiles]:
        """See `storage.Hold`; only keys that are locked already."""
        paths = {self._path(key): key for key in sorted(set(keys))}
        with locked_again(self._turns, paths, self._locks, time.monotonic() + self.lock_timeout, self.url):
            yield HeldFiles(self._store, {path: self._locks[path] for path in paths})

    @property
    def reuse(self) -> FileReuse | None:
        """See `FilesystemStore.reuse`."""
        reuse: FileReuse | None = self._store.reuse
        return reuse

    @property
    def lock_timeout(self) -> float:
        """See `FilesystemStore`."""
        return float(self._store.lock_timeout)

    @property
    def guard(self) -> str:
        """See `FilesystemStore.guard`."""
        return str(self._store.guard)

    def is_callers(self, key: str) -> bool:
        """See `FilesystemStore.is_callers`; of the locks of this hold, its own queue tells."""
        path = self._path(key)
        return self._turns.is_callers(path) if path in self._locks else bool(self._store.is_callers(key))

    def steady(self, key: str, version: Version) -> bool:
        """See `FilesystemStore.steady`."""
        return bool(self._store.steady(key, version))

    @contextmanager
    def _slot(self, path: str, patience: float | None = None) -> Iterator[MakeDraft]:
        if path not in self._locks:
            with self._outside._slot(path, patience) as make_draft:
                yield make_draft
            return
        lock = self._locks[path]
        with self._turns.hold((path,), time.monotonic() + (self.lock_timeout if patience is None else patience)):
            if lock is None:
                yield lambda fd: self._outside._unlocked_draft(path)
            else:
                lock.check()
                yield lambda fd: self._store._locked_draft(path, lock, fd)

    def _is_locked(self, path: str) -> bool:
        return bool(self._store._is_locked(path))

    def _doubtful(self) -> bool:
        return bool(self._store._doubtful())

    @contextmanager
    def _within(self, group: Group) -> Iterator[Self]:
        with self._store._within(group) as store:
            inside = copy.copy(self)
            inside._store, inside.group = store, group
            yield inside
