"""Stores under a guard from outside, or under none: what `synchronizer=` makes of a store.

In: a store, and a `storage.Synchronizer` or None. Out: `Synchronized`, a store whose `hold` and whose every write of an object
take the synchronizer, and then what the store itself has; or `LastLook`, a store that can be asked to replace one version
only, though it cannot compare and swap: the version is compared right before the write, so a lost update is seen where it
was under way for longer than that moment. Erasing below a prefix takes no guard: keys that are not there yet cannot be held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from zarrant.errors import CapabilityError, LockTimeout, OptionError, ReentrantLockError, StoreError, VersionChangedError
from zarrant.locking.local import KeyQueues, not_locked
from zarrant.requests import ANY
from zarrant.storage import Buffer, Synchronizer, Version, capabilities
from zarrant.stores.adapters import View

_READS = ("get", "get_within", "get_ranges", "list_prefix", "list_dir", "sync", "settle", "version")
_WRITES = ("put", "put_if", "splice", "erase", "erase_if")
_ASYNC = ("get", "get_ranges", "list_prefix", "list_dir", "put", "erase", "erase_prefix")


class LastLook(View):
    """A store that cannot compare and swap, with `put_if` and `erase_if` that look before they write."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        for name in (*_READS, *_WRITES, "erase_prefix", *(f"{name}_async" for name in _ASYNC)):
            if hasattr(store, name):
                setattr(self, name, getattr(store, name))
        for name in ("put_if", "erase_if"):
            plain = name.removesuffix("_if")
            if hasattr(store, plain) and not hasattr(self, name):
                setattr(self, name, getattr(self, f"_{name}"))
            if hasattr(store, f"{plain}_async") and not hasattr(self, f"{name}_async"):
                setattr(self, f"{name}_async", getattr(self, f"_{name}_async"))

    def _put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        _expect(key, self.store.get(key), if_version)
        version: Version = self.store.put(key, parts)
        return version

    def _erase_if(self, key: str, if_version: Version) -> None:
        _expect(key, self.store.get(key), if_version)
        self.store.erase(key)

    async def _put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        _expect(key, await self.store.get_async(key), if_version)
        version: Version = await self.store.put_async(key, parts)
        return version

    async def _erase_if_async(self, key: str, if_version: Version) -> None:
        _expect(key, await self.store.get_async(key), if_version)
        await self.store.erase_async(key)


def last_look(store: Any) -> Any:
    """The store, able to replace one version only where it can read and write."""
    able = capabilities(store)
    return LastLook(store) if able.get and able.put and able.erase and not able.put_if else store


class Synchronized(View):
    """A store whose writers all take a synchronizer.

    Keys that are held are written through the value of `hold`; writing them through this store waits for the end of it.
    """

    def __init__(self, store: Any, synchronizer: Synchronizer, timeout: float) -> None:
        if not callable(getattr(synchronizer, "hold", None)):
            raise OptionError(
                "not a synchronizer",
                field="synchronizer",
                expected='"auto", None, or an object with hold(keys, timeout)',
                got=repr(synchronizer),
            )
        if capabilities(store).native_async:
            raise CapabilityError(
                "a synchronizer blocks, and this store is async only", store=repr(store), expected='synchronizer="auto" or None'
            )
        super().__init__(store)
        self.synchronizer, self.timeout = synchronizer, timeout
        self.inner = last_look(store)
        for name in (*_READS, "erase_prefix", "erase_link"):
            if hasattr(self.inner, name):
                setattr(self, name, getattr(self.inner, name))
        for name in _WRITES:
            if hasattr(self.inner, name):
                setattr(self, name, self._guarding(name))

    @property
    def guard(self) -> str:
        """What guards writes."""
        own = getattr(self.store, "guard", None)
        return f"synchronizer {self.synchronizer!r}" + (f", and {own}" if own else "")

    @contextmanager
    def hold(self, keys: Sequence[str]) -> Iterator[HeldKeys]:
        """See `storage.Hold`."""
        names = sorted(set(keys))
        with self._granted(names) as stack:
            held = stack.enter_context(self.inner.hold(names)) if hasattr(self.inner, "hold") else self.inner
            inside = HeldKeys(self, held, frozenset(names))
            stack.callback(inside.end)
            yield inside

    @contextmanager
    def grouped(self) -> Iterator[Synchronized]:
        """See `storage.Grouped`; without effect where the store inside has no say in it."""
        with grouped(self.inner) as inner:
            yield self if inner is self.inner else Synchronized(inner, self.synchronizer, self.timeout)

    @contextmanager
    def _granted(self, keys: Sequence[str]) -> Iterator[ExitStack]:
        start = time.monotonic()
        with ExitStack() as stack:
            try:
                stack.enter_context(self.synchronizer.hold(keys, self.timeout))
            except ReentrantLockError as error:  # of a synchronizer made of our queues
                raise error.annotate(store=self.url, key=keys[0] if keys else None) from None
            except TimeoutError as error:
                key = keys[0] if keys else None
                if isinstance(error, LockTimeout):
                    raise error.annotate(store=self.url, key=key) from error.__cause__
                waited = f"{time.monotonic() - start:.3f} s waited"
                raise LockTimeout("the synchronizer was not granted", store=self.url, key=key, got=waited) from error
            yield stack

    def _guarding(self, name: str) -> Callable[..., Any]:
        write = getattr(self.inner, name)

        def call(key: str, *args: Any) -> Any:
            with self._granted((key,)):
                return write(key, *args)

        return call

    def with_options(self, **options: Any) -> Synchronized:
        """The same guard on the store under other options."""
        store = self.store.with_options(**options) if hasattr(self.store, "with_options") else self.store
        return Synchronized(store, self.synchronizer, options.get("lock_timeout", self.timeout))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self.synchronizer, self.timeout)


class HeldKeys(View):
    """The store inside a hold; it can be held again for some of the keys, which keeps threads that share the hold apart."""

    def __init__(self, outer: Synchronized, held: Any, keys: frozenset[str]) -> None:
        super().__init__(outer)
        self.held, self.keys, self.ended = held, keys, False
        self._turns = KeyQueues()
        for name in (*_READS, "erase_prefix", "erase_link"):
            if hasattr(outer, name):
                setattr(self, name, getattr(outer, name))
        for name in _WRITES:
            if hasattr(outer, name):
                setattr(self, name, self._routed(name))
        if hasattr(held, "erase_prefix"):  # below a prefix may be keys whose locks this hold has
            self.erase_prefix = held.erase_prefix

    def end(self) -> None:
        """The hold is over."""
        self.ended = True

    @contextmanager
    def hold(self, keys: Sequence[str]) -> Iterator[HeldKeys]:
        """See `storage.Hold`; only keys that are held already: waiting for more could wait for one who waits for us."""
        for key in keys:
            if key not in self.keys:
                raise not_locked(self.url, key)
        with self._turns.hold(keys, time.monotonic() + self.store.timeout):
            inside = HeldKeys(self.store, self.held, frozenset(keys))
            try:
                yield inside
            finally:
                inside.end()

    @contextmanager
    def grouped(self) -> Iterator[HeldKeys]:
        """See `storage.Grouped`."""
        with self.store.grouped() as outer, grouped(self.held) as held:
            if held is self.held:
                yield self
                return
            inside = HeldKeys(outer, held, self.keys)
            inside._turns = self._turns
            try:
                yield inside
            finally:
                inside.end()

    def _routed(self, name: str) -> Callable[..., Any]:
        def call(key: str, *args: Any) -> Any:
            if key not in self.keys:
                return getattr(self.store, name)(key, *args)
            if self.ended:
                raise StoreError("the lock is not held here: it was released", key=key)
            return getattr(self.held, name)(key, *args)

        return call

    def __reduce__(self) -> tuple[Any, ...]:
        raise CapabilityError("what is held here cannot be held by another process", store=self.url)


def grouped(store: Any) -> AbstractContextManager[Any]:
    """The store, on which writes are acknowledged together where it can do that (`storage.Grouped`)."""
    # Asked of the class: a store that passes on what it does not have would be passed by.
    found: AbstractContextManager[Any] = store.grouped() if hasattr(type(store), "grouped") else nullcontext(store)
    return found


def _expect(key: str, blob: Any, if_version: Version) -> None:
    found = None if blob is None else blob.version
    if if_version is not ANY and found != if_version:
        raise VersionChangedError("the object was replaced", key=key, expected=if_version, got=found)
