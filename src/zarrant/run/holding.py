"""Exclusive hold on keys of any blocking store: its own `hold`, or else a queue in this process.

In: keys and a store. Out: a context manager whose value is a store on which those keys are read and written under the hold,
and which can be held again for some of them. A store without `hold` is guarded by a first-come, first-served queue for each
key, which all writers of this process take (`run/drivers.py`); other processes are kept off by compare-and-swap alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

from zarrant.errors import StoreError
from zarrant.locking.local import KeyQueues, in_turn, not_locked
from zarrant.requests import OnlyWhile
from zarrant.storage import Version

QUEUE_TIMEOUT = 60.0
"""Seconds to wait for other threads of this process; the default `lock_timeout` of file locks."""

_queues = KeyQueues()


def hold(keys: Sequence[str], store: Any, timeout: float = QUEUE_TIMEOUT) -> AbstractContextManager[Any]:
    """Hold keys; LockTimeout with none of them held. A store with a `hold` of its own knows how long to wait."""
    if hasattr(store, "hold"):
        held: AbstractContextManager[Any] = store.hold(keys)
        return held
    return _queue(keys, store, timeout)


def steady(key: str, version: Version, store: Any) -> bool:
    """Whether an object is of this version and nobody holds it; False where that cannot be known.

    Asked in this order: whoever takes hold afterwards has not begun yet, whoever let go before is seen by the version.
    """
    if hasattr(store, "steady"):
        known: bool = store.steady(key, version)
        return known
    inner = store.store if isinstance(store, Queued) else store
    if hasattr(inner, "hold") or _queue_name(key, inner) in _queues.held():
        return False
    return version_of(key, inner) == version


def on_condition(condition: OnlyWhile | None, store: Any) -> Any:
    """The store, on which writes are made only while the condition holds; MetadataChangedError where it does not hold now.

    A store that cannot check it itself, under its own lock, is asked right before the write.
    """
    if condition is None:
        return store
    # Asked of the class, as `grouped`: what wraps a store would pass by its own methods.
    if hasattr(type(store), "only_while"):
        return store.only_while(condition)
    condition.check(version_of(condition.key, store))
    return store


def version_of(key: str, store: Any) -> Version:
    """The version of an object, None where there is none."""
    inner = store.store if isinstance(store, Queued) else store
    if hasattr(inner, "version"):
        return cast("Version", inner.version(key))
    blob = inner.get_ranges(key, ())
    return None if blob is None else blob.version


def is_callers(key: str, store: Any) -> bool:
    """Whether who asks has the lock of a key, through another handle; False where that cannot be known."""
    if hasattr(store, "is_callers"):
        known: bool = store.is_callers(key)
        return known
    return not hasattr(store, "hold") and _queues.is_callers(_queue_name(key, store))


def settle(store: Any) -> None:
    """What was written in a group so far may be acknowledged."""
    if hasattr(store, "settle"):
        store.settle()


@contextmanager
def _queue(keys: Sequence[str], store: Any, timeout: float) -> Iterator[Queued]:
    url = str(getattr(store, "url", id(store)))
    with (
        in_turn(_queues, {_queue_name(key, store): key for key in keys}, time.monotonic() + timeout, url),
        Queued(store, keys, timeout) as view,
    ):
        yield view


def _queue_name(key: str, store: Any) -> str:
    return f"{getattr(store, 'url', id(store))} {key}"


class Queued:
    """The store inside a hold. Whoever shares the hold can hold its keys again, which keeps threads that share it apart."""

    def __init__(self, store: Any, keys: Sequence[str], timeout: float) -> None:
        self.store, self.keys, self.timeout, self.ended = store, frozenset(keys), timeout, False
        self._turns: KeyQueues | None = None

    @contextmanager
    def hold(self, keys: Sequence[str]) -> Iterator[Queued]:
        """See `storage.Hold`; only keys that are held already: waiting for more could wait for one who waits for us."""
        url = str(getattr(self.store, "url", repr(self.store)))
        for key in keys:
            self._check(key)
            if key not in self.keys:
                raise not_locked(url, key)
        if self._turns is None:
            self._turns = KeyQueues()
        with (
            in_turn(self._turns, {key: key for key in keys}, time.monotonic() + self.timeout, url),
            Queued(self.store, keys, self.timeout) as view,
        ):
            yield view

    def __enter__(self) -> Queued:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        return self._while_held(found) if name in ("put", "put_if", "splice", "erase", "erase_if") else found

    def _while_held(self, method: Callable[..., Version]) -> Callable[..., Version]:
        def call(key: str, *args: Any) -> Version:
            self._check(key)
            return method(key, *args)

        return call

    def _check(self, key: str) -> None:
        if self.ended and key in self.keys:
            raise StoreError("the lock is not held here: it was released", key=key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"


class Both:
    """A store inside of two holds: what belongs to the inner one's keys goes there, all else to the outer one."""

    def __init__(self, outer: Any, inner: Any, keys: Sequence[str]) -> None:
        self.outer, self.inner, self.keys = outer, inner, frozenset(keys)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.outer, name)
        plain = name.removesuffix("_async")
        if plain == "hold":
            return lambda keys: getattr(self.inner if self.keys.issuperset(keys) else self.outer, name)(keys)
        if plain in ("put", "put_if", "splice", "erase", "erase_if"):
            return lambda key, *args: getattr(self.inner if key in self.keys else self.outer, name)(key, *args)
        return found

    def __repr__(self) -> str:
        return repr(self.outer)
