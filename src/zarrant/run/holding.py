"""Exclusive hold on keys of any blocking store: its own `hold`, or else a queue in this process.

In: keys and a store. Out: a context manager whose value is a store on which those keys are read and written under the hold,
and which can be held again for some of them. A store without `hold` is guarded by a first-come, first-served queue for each
key, which all writers of this process take (`run/drivers.py`); other processes are kept off by compare-and-swap alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from zarrant.errors import LockTimeout, OptionError, StoreError
from zarrant.locking.local import KeyQueues
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


@contextmanager
def _queue(keys: Sequence[str], store: Any, timeout: float) -> Iterator[Queued]:
    url = str(getattr(store, "url", id(store)))
    with _in_turn(_queues, {f"{url} {key}": key for key in keys}, url, timeout), Queued(store, keys, timeout) as view:
        yield view


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
                raise OptionError("a hold inside a hold takes only its keys", store=url, key=key, expected="a held key")
        if self._turns is None:
            self._turns = KeyQueues()
        with _in_turn(self._turns, {key: key for key in keys}, url, self.timeout), Queued(self.store, keys, self.timeout) as view:
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


@contextmanager
def _in_turn(queues: KeyQueues, names: dict[str, str], store: str, timeout: float) -> Iterator[None]:
    """Own names of queues; a timeout names the key that stands behind its name."""
    with ExitStack() as stack:
        try:
            stack.enter_context(queues.hold(list(names), time.monotonic() + timeout))
        except LockTimeout as error:
            raise error.annotate(store=store, key=names.get(str(error.path))) from None
        yield
