"""Stores under a guard from outside, or under none: what `synchronizer=` makes of a store.

In: a store, and a `storage.Synchronizer` or None. Out: `Synchronized`, a store whose `lock` and whose every write of an object
take the synchronizer, and then what the store itself has; or `CheckBeforeWrite`, a store that can be asked to replace one version
only, though it cannot compare and swap: the version is compared right before the write, so a lost update is seen where it
was under way for longer than that moment. Erasing below a prefix takes no guard: keys that are not there yet cannot be held.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

from zarrant.errors import CapabilityError, LockTimeout, OptionError, ReentrantLockError
from zarrant.storage import (
    Buffer,
    Calls,
    Capabilities,
    Part,
    Store,
    Synchronizer,
    Version,
    as_store,
    capabilities,
    expect_version,
)  # fmt: skip
from zarrant.storage.wrapper import Forwarding
from zarrant.stores.locked import LockedStore


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


class Synchronized(Forwarding):
    """A store whose writers all take a synchronizer.

    Keys that are held are written through the value of `lock`; writing them through this store waits for the end of it.
    """

    own = ("lock",)
    lacks = ("async_calls", "is_unchanged", "is_held_by_caller", "only_while")

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
        self.inner = as_store(check_before_write(store))

    @property
    def _inside(self) -> Store:
        return self.inner

    def _over(self, store: object) -> Self:
        return type(self)(store, self.synchronizer, self.timeout)

    @property
    def guard(self) -> str:
        """What guards writes."""
        own = getattr(self.store, "guard", None)
        return f"synchronizer {self.synchronizer!r}" + (f", and {own}" if own else "")

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[Any]:
        """See `storage.Lock`."""
        names = sorted(set(keys))
        with self._granted(names) as stack:
            locked = stack.enter_context(self.inner.lock(names)) if capabilities(self.inner).lock else self.inner
            yield stack.enter_context(LockedStore(self, locked, names, self.timeout))

    def _writer(self, method: str, key: str, parts: Sequence[Part] | None = None) -> Store:
        """Only for what takes no guard."""
        if method == "erase_prefix":
            return self.inner
        raise CapabilityError("a synchronizer blocks: no coroutine of the store may write", store=self.url, key=key)

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        with self._granted((key,)):
            return self.inner.put(key, parts)

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        with self._granted((key,)):
            return self.inner.put_if(key, parts, if_version)

    def splice(self, key: str, parts: Sequence[Part], if_version: Version) -> Version:
        """See `storage.Splice`."""
        with self._granted((key,)):
            return self.inner.splice(key, parts, if_version)

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        with self._granted((key,)):
            self.inner.erase(key)

    def erase_if(self, key: str, if_version: Version) -> None:
        """See `storage.EraseIf`."""
        with self._granted((key,)):
            self.inner.erase_if(key, if_version)

    @contextmanager
    def _granted(self, keys: Sequence[str]) -> Iterator[ExitStack]:
        start = time.monotonic()
        with ExitStack() as stack:
            try:
                stack.enter_context(self.synchronizer.lock(keys, self.timeout))
            except ReentrantLockError as error:  # of a synchronizer made of our queues
                raise error.annotate(store=self.url, key=keys[0] if keys else None) from None
            except TimeoutError as error:
                key = keys[0] if keys else None
                if isinstance(error, LockTimeout):
                    raise error.annotate(store=self.url, key=key) from error.__cause__
                waited = f"{time.monotonic() - start:.3f} s waited"
                raise LockTimeout("the synchronizer was not granted", store=self.url, key=key, got=waited) from error
            yield stack

    def with_options(self, **options: Any) -> Synchronized:
        """The same guard on the store under other options."""
        store = as_store(self.store).with_options(**options) if capabilities(self.store).with_options else self.store
        return Synchronized(store, self.synchronizer, options.get("lock_timeout", self.timeout))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self.synchronizer, self.timeout)
