"""Stores while some of their keys are locked: what the lock of any store but a directory's gives.

In: a store, the form of it in which the locked keys are written, and those keys. Out: `LockedStore`, which writes each key where
it belongs, which can lock some of its keys again (that keeps threads apart which share the lock), and which refuses to write
locked keys once the lock was given back; or `NestedLocks`, the store inside of two locks.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self

from zarrant.errors import CapabilityError, StoreError
from zarrant.locking.local import KeyQueues, lock_again
from zarrant.storage import OnlyWhile, Part, Store, as_store, capabilities
from zarrant.storage.wrapper import Forwarding


class _Lock:
    """What all forms of a locked store share: whether the lock is still taken, and who has locked a key again."""

    __slots__ = ("_made", "ended")

    def __init__(self, queues: KeyQueues | None = None) -> None:
        self.ended, self._made = False, queues

    @property
    def queues(self) -> KeyQueues:
        if self._made is None:  # most locks are not taken again
            self._made = KeyQueues()
        return self._made


class LockedStore(Forwarding):
    """A store while `keys` are locked; these are written through `locked`, the form of the store that its own lock gave.

    `grant`: the locks, where they can end by themselves (`stores.synchronizer.Grant`).
    """

    own = ("lock",)
    lacks = ("async_calls",)  # the lock is of blocking calls

    def __init__(
        self,
        store: object,
        locked: object,
        keys: Iterable[str],
        timeout: float,
        lock: _Lock | None = None,
        grant: object = None,
    ) -> None:
        super().__init__(store)
        self.grant = grant
        self.locked, self.keys, self.timeout = as_store(locked), frozenset(keys), timeout
        self._lock = _Lock() if lock is None else lock

    def _writer(self, method: str, key: str, parts: Sequence[Part] | None = None) -> Store:
        if key in self.keys:
            self._check(key)
            return self.locked
        # Below a prefix may be keys whose locks this store has.
        return self.locked if method == "erase_prefix" else self._inside

    def _check(self, key: str) -> None:
        if self._lock.ended:
            raise StoreError("the keys are not locked any more: the lock was released", key=key)

    def _form(self, store: object, locked: object, lock: _Lock | None = None) -> LockedStore:
        return LockedStore(store, locked, self.keys, self.timeout, lock or self._lock, self.grant)

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[LockedStore]:
        """See `storage.Lock`; only keys that are locked already."""
        for key in self.keys.intersection(keys):
            self._check(key)
        names = {key: key for key in keys}
        with (
            lock_again(self._lock.queues, names, self.keys, time.monotonic() + self.timeout, self.url),
            LockedStore(self.store, self.locked, keys, self.timeout, grant=self.grant) as inside,
        ):
            yield inside

    @contextmanager
    def write_batch(self) -> Iterator[LockedStore]:
        """See `storage.WriteBatch`."""
        with _grouped(self._inside) as store, _grouped(self.locked) as locked:
            if store is self._inside and locked is self.locked:
                yield self
                return
            with self._form(store, locked, _Lock(self._lock.queues)) as inside:
                yield inside

    def commit(self) -> None:
        """See `storage.WriteBatch`."""
        super().commit()
        if self.locked is not self._inside:
            self.locked.commit()

    def only_while(self, condition: OnlyWhile) -> LockedStore:
        """See `storage.Conditional`."""
        store = self._inside.only_while(condition)
        return self._form(store, store if self.locked is self._inside else self.locked.only_while(condition))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.ended = True

    def __reduce__(self) -> tuple[Any, ...]:
        raise CapabilityError("a lock of this process cannot be passed to another one", store=self.url)


class NestedLocks(Forwarding):
    """A store inside of two locks: what belongs to the inner one's keys goes there, all else to the outer one."""

    def __init__(self, outer: object, inner: object, keys: Iterable[str]) -> None:
        super().__init__(outer)
        self.inner, self.keys, self.grant = as_store(inner), frozenset(keys), getattr(inner, "grant", None)

    def _writer(self, method: str, key: str, parts: Sequence[Part] | None = None) -> Store:
        return self.inner if key in self.keys else self._inside

    def _of(self, keys: Sequence[str]) -> Store:
        return self.inner if self.keys.issuperset(keys) else self._inside

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[Any]:
        """See `storage.Lock`."""
        with self._of(keys).lock(keys) as locked:
            yield locked

    @asynccontextmanager
    async def lock_async(self, keys: Sequence[str]) -> AsyncIterator[Any]:
        """See `storage.AsyncLock`."""
        async with self._of(keys).lock_async(keys) as locked:
            yield locked

    @contextmanager
    def write_batch(self) -> Iterator[NestedLocks]:
        """See `storage.WriteBatch`."""
        with _grouped(self._inside) as outer, _grouped(self.inner) as inner:
            yield NestedLocks(outer, inner, self.keys)

    def commit(self) -> None:
        """See `storage.WriteBatch`."""
        super().commit()
        self.inner.commit()

    def only_while(self, condition: OnlyWhile) -> NestedLocks:
        """See `storage.Conditional`."""
        return NestedLocks(self._inside.only_while(condition), self.inner.only_while(condition), self.keys)

    def __repr__(self) -> str:
        return repr(self.store)


@contextmanager
def _grouped(store: Store) -> Iterator[Store]:
    if not capabilities(store).batch:
        yield store
        return
    with store.write_batch() as inside:
        yield as_store(inside)


def under_locks_of(inside: Store, outside: Store) -> Store:
    """The store in which more is locked inside of locks: where those can end by themselves, it checks them too."""
    grant = getattr(inside, "grant", None)
    return outside if grant is None else as_store(outside.under(grant))  # type: ignore[attr-defined] # which only one kind has
