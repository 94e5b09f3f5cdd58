"""Stores under a guard from outside, or under none: what `synchronizer=` makes of a store.

In: a store, and a `storage.Synchronizer` or None. Out, one of these:

- `Synchronized`, a store whose `lock` and whose every write of an object take the synchronizer, and then what the store itself
  has. Where its locks can end by themselves (`storage.LockCheck`), they are checked right before each write (`Checked`).
- `CheckBeforeWrite`, a store that can be asked to replace one version only, though it cannot compare and swap: the version is
  compared right before the write, so a lost update is seen where it was under way for longer than that moment.

Erasing below a prefix takes no guard: keys that are not there yet cannot be locked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, Self, TypeVar

from zarrant.errors import (
    CapabilityError,
    LockLostError,
    LockTimeout,
    OptionError,
    ReentrantLockError,
    StoreError,
    VersionChangedError,
)  # fmt: skip
from zarrant.storage import (
    Buffer,
    Calls,
    Capabilities,
    LockCheck,
    Part,
    Store,
    Synchronizer,
    Version,
    as_store,
    capabilities,
    expect_version,
)  # fmt: skip
from zarrant.storage.wrapper import Forwarding, ReadsTogether
from zarrant.stores.locked import LockedStore

T = TypeVar("T")

MAX_TRIES = 8
"""Each costs a request or two. An update that loses so many races meets a writer that takes no locks; then it writes as if there
were none."""


class CheckBeforeWrite(Forwarding):
    """A store that cannot compare and swap, with `put_if` and `erase_if` that look before they write."""

    @cached_property
    def capabilities(self) -> Capabilities:
        """Those of the store, and to put and erase on condition where it can read and write."""
        able = capabilities(self.store)
        sync_calls, async_calls = _with_check_before_write(able.sync_calls), _with_check_before_write(able.async_calls)
        return replace(super().capabilities, sync_calls=sync_calls, async_calls=async_calls)

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        blob = self._inside.get(key)
        expect_version(None if blob is None else blob.version, if_version, key=key)
        return self._inside.put(key, parts)

    def erase_if(self, key: str, if_version: Version) -> None:
        """See `storage.EraseIf`."""
        blob = self._inside.get(key)
        expect_version(None if blob is None else blob.version, if_version, key=key)
        self._inside.erase(key)

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.AsyncPutIf`."""
        blob = await self._inside.get_async(key)
        expect_version(None if blob is None else blob.version, if_version, key=key)
        return await self._inside.put_async(key, parts)

    async def erase_if_async(self, key: str, if_version: Version) -> None:
        """See `storage.AsyncEraseIf`."""
        blob = await self._inside.get_async(key)
        expect_version(None if blob is None else blob.version, if_version, key=key)
        await self._inside.erase_async(key)


def _with_check_before_write(calls: Calls) -> Calls:
    return calls._replace(put_if=calls.get and calls.put, erase_if=calls.get and calls.erase)


def check_before_write(store: object) -> object:
    """The store, able to replace one version only where it can read and write."""
    able = capabilities(store)
    return CheckBeforeWrite(store) if able.get and able.put and able.erase and not able.put_if else store


class Grant:
    """Locks that can end by themselves, inside of others or not. `exposed`: something was written that no version guards."""

    def __init__(self, locks: LockCheck, outer: LockCheck | None) -> None:
        self.locks, self.outer, self.exposed = locks, outer, False

    def check(self) -> None:
        """See `storage.LockCheck`."""
        if self.outer is not None:
            self.outer.check()
        self.locks.check()
        self.exposed = False  # what was written before was written under the locks

    def check_afterwards(self) -> None:
        """StoreError that says so where the locks may have ended during a write that nothing else guards."""
        try:
            if self.exposed:
                self.check()  # safety: lease check afterwards
        except LockLostError as error:
            error.message = "the lock ended during a write: it may have replaced what another writer stored meanwhile"
            raise
        except StoreError as error:
            error.message = "whether the lock lasted until the end of a write, which was stored, is not known"
            raise


class Checked(Forwarding):
    """A store under locks that can end by themselves: right before each write they are checked.

    A process may be paused between the check and the write, for longer than the locks last. So where the store can, it compares
    the version as well, which was read before the check: a writer that got the lock since and changed the object also changed the
    version. Other writes are `exposed`.
    """

    def __init__(self, store: object, grant: Grant) -> None:
        super().__init__(store)
        self.grant = grant

    def _over(self, store: object) -> Self:
        return type(self)(store, self.grant)

    def _writer(self, method: str, key: str, parts: Sequence[Part] | None = None) -> Store:
        self.grant.check()  # safety: lease check
        return self._inside

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        return self._replace(
            "put", key, lambda store, version: store.put_if(key, parts, version), lambda store: store.put(key, parts)
        )

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        self._replace("erase", key, lambda store, version: store.erase_if(key, version), lambda store: store.erase(key))

    def _replace(self, method: str, key: str, if_version: Callable[[Store, Version], T], always: Callable[[Store], T]) -> T:
        able = self.capabilities
        if able.version and able.put_if and able.erase_if:
            for _ in range(MAX_TRIES):  # who writes without the lock is not kept out by it, and may be faster
                version = self._inside.version(key)
                try:
                    return if_version(self._writer(method, key), version)
                except VersionChangedError:
                    continue
        store = self._writer(method, key)
        self.grant.exposed = True
        return always(store)

    def __reduce__(self) -> tuple[Any, ...]:
        raise CapabilityError("what is locked here cannot be locked by another process", store=self.url)


class Synchronized(ReadsTogether, Forwarding):
    """A store whose writers all take a synchronizer.

    Locked keys are written through the value of `lock`; a write of them through this store waits until they are unlocked.
    """

    own = ("lock",)
    lacks = ("async_calls", "is_unchanged", "is_locked_by_caller", "only_while")

    def __init__(self, store: object, synchronizer: Synchronizer, timeout: float) -> None:
        if not callable(getattr(synchronizer, "lock", None)):
            raise OptionError(
                "not a synchronizer",
                field="synchronizer",
                expected='"auto", None, or an object with lock(keys, timeout)',
                got=repr(synchronizer),
            )
        if not capabilities(store).blocks:
            raise CapabilityError(
                "a synchronizer blocks, and this store is async only", store=repr(store), expected='synchronizer="auto" or None'
            )
        super().__init__(store)
        self.synchronizer, self.timeout = synchronizer, timeout
        self.outer: Grant | None = None
        self.inner = as_store(check_before_write(store))

    @property
    def _inside(self) -> Store:
        return self.inner

    @cached_property
    def capabilities(self) -> Capabilities:
        """Those of the store, with locks, whose time-out is an option."""
        return replace(super().capabilities, with_options=True)

    def _over(self, store: object) -> Self:
        made = type(self)(store, self.synchronizer, self.timeout)
        made.outer = self.outer
        return made

    def under(self, grant: Grant | None) -> Self:
        """The same store inside of locks that can end by themselves: they are checked too, at each write."""
        if grant is None:
            return self
        made = self._over(self.store)
        made.outer = grant
        return made

    @property
    def guard(self) -> str:
        """What guards writes."""
        own = getattr(self.store, "guard", None)
        return f"synchronizer {self.synchronizer!r}" + (f", and {own}" if own else "")

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[Any]:
        """See `storage.Lock`."""
        names = sorted(set(keys))
        with self._granted(names) as (stack, grant):
            inner = self._checked(grant)
            locked = stack.enter_context(inner.lock(names)) if capabilities(inner).lock else inner
            yield stack.enter_context(LockedStore(self.under(grant), locked, names, self.timeout, grant=grant))

    def _writer(self, method: str, key: str, parts: Sequence[Part] | None = None) -> Store:
        """Only for what takes no guard."""
        if method == "erase_prefix":
            return self.inner
        raise CapabilityError("a synchronizer blocks: no coroutine of the store may write", store=self.url, key=key)

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        with self._granted((key,)) as (_, grant):
            return self._checked(grant).put(key, parts)

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        with self._granted((key,)) as (_, grant):
            return self._checked(grant).put_if(key, parts, if_version)

    def splice(self, key: str, parts: Sequence[Part], if_version: Version) -> Version:
        """See `storage.Splice`."""
        with self._granted((key,)) as (_, grant):
            return self._checked(grant).splice(key, parts, if_version)

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        with self._granted((key,)) as (_, grant):
            self._checked(grant).erase(key)

    def erase_if(self, key: str, if_version: Version) -> None:
        """See `storage.EraseIf`."""
        with self._granted((key,)) as (_, grant):
            self._checked(grant).erase_if(key, if_version)

    def _checked(self, grant: Grant | None) -> Store:
        """The store inside. Where it cannot compare versions itself, the locks are checked after that was done for it."""
        return self.inner if grant is None else as_store(check_before_write(Checked(self.store, grant)))

    @contextmanager
    def _granted(self, keys: Sequence[str]) -> Iterator[tuple[ExitStack, Grant | None]]:
        start = time.monotonic()
        with ExitStack() as stack:
            try:
                locks = stack.enter_context(self.synchronizer.lock(keys, self.timeout))
            except ReentrantLockError as error:  # of a synchronizer made of our queues
                raise error.annotate(store=self.url, key=keys[0] if keys else None) from None
            except TimeoutError as error:
                key = keys[0] if keys else None
                if isinstance(error, LockTimeout):
                    raise error.annotate(store=self.url, key=key) from error.__cause__
                waited = f"{time.monotonic() - start:.3f} s waited"
                raise LockTimeout("the synchronizer was not granted", store=self.url, key=key, got=waited) from error
            grant = Grant(locks, self.outer) if callable(getattr(locks, "check", None)) else None
            yield stack, grant
            if grant is not None:
                grant.check_afterwards()

    def with_options(self, **options: Any) -> Synchronized:
        """The same guard on the store under other options."""
        store = as_store(self.store).with_options(**options) if capabilities(self.store).with_options else self.store
        return Synchronized(store, self.synchronizer, options.get("lock_timeout", self.timeout)).under(self.outer)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self.synchronizer, self.timeout)
