"""Locks on keys of any blocking store: those of the store, or else queues of this process.

In: keys and a store. Out: a context manager whose value is a store on which those keys are read and written under the lock,
and on which some of them can be locked again. A store without locks of its own gets a first-come, first-served queue for each
key, in which all writers of this process wait. Other processes are kept out by compare-and-swap alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from zarrant.locking.local import KeyQueues, lock_names
from zarrant.storage import Store, Version, as_store, capabilities
from zarrant.stores.locked import LockedStore

QUEUE_TIMEOUT_S = 60.0
"""Seconds to wait for other threads of this process; the default `lock_timeout` of file locks."""

_queues = KeyQueues()


def is_unchanged(key: str, version: Version, store: Store) -> bool:
    """Whether an object is of this version and nobody has locked it; False where that cannot be known.

    Asked in this order: whoever takes the lock afterwards has not begun yet, whoever gave it back before is seen by the version.
    """
    if capabilities(store).is_unchanged:
        return store.is_unchanged(key, version)
    inner = _unlocked(store)
    if capabilities(inner).sync_calls.lock or _queue_name(key, inner) in _queues.locked():
        return False
    return version_of(key, inner) == version


def version_of(key: str, store: Store) -> Version:
    """The version of an object, None where there is none."""
    inner = _unlocked(store)
    if capabilities(inner).version:
        return inner.version(key)
    blob = inner.get_ranges(key, ())
    return None if blob is None else blob.version


def is_locked_by_caller(key: str, store: Store) -> bool:
    """Whether who asks has the lock of a key, through another handle; False where that cannot be known."""
    can = capabilities(store)
    if can.is_locked_by_caller:
        return store.is_locked_by_caller(key)
    return not can.sync_calls.lock and _queues.is_locked_by_caller(_queue_name(key, store))


def commit(store: Store) -> None:
    """What was written in a group so far may be acknowledged."""
    if capabilities(store).batch:
        store.commit()


@contextmanager
def queue_locks(keys: Sequence[str], store: Store, timeout: float = QUEUE_TIMEOUT_S) -> Iterator[Store]:
    """Lock keys of a store that has no `lock`, against the threads of this process."""
    names = {_queue_name(key, store): key for key in keys}
    with (
        lock_names(_queues, names, time.monotonic() + timeout, _address(store)),
        LockedStore(store, store, keys, timeout) as locked,
    ):
        yield as_store(locked)


def _unlocked(store: Store) -> Store:
    """The store that one inside of a lock is a form of."""
    return as_store(store.store) if isinstance(store, LockedStore) else store


def _address(store: Store) -> str:
    """The address of a store, else what tells it from others of this process."""
    return str(getattr(store, "url", id(store)))


def _queue_name(key: str, store: Store) -> str:
    """What names an object in this process: the same below a prefix (`stores.wrappers.prefix`) and beside it."""
    return f"{_address(store).rstrip('/')}/{key}"
