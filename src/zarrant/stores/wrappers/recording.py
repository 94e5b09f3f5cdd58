"""A list of the calls that pass: for tests that count requests.

In: any store. Out: `Recording`, which can do what the store inside can do and lists the calls. Nothing is copied, cached or
retried here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Self

from zarrant.storage import Buffer, ByteRange, Part, Store, Version
from zarrant.storage.wrapper import Forwarding
from zarrant.stores.wrappers.each_call import Call, call_of

READS = ("get", "get_within", "get_ranges", "list_prefix", "list_dir")
WRITES = ("put", "put_if", "splice", "erase_if", "erase", "erase_prefix")


class Recording(Forwarding):
    """Lists every call in `calls` before it is made; can do exactly what the store inside can.

    >>> from zarrant.stores.memory import MemoryStore
    >>> store = Recording(MemoryStore())
    >>> store.get("a")
    >>> store.calls
    [Call(method='get', key='a', ranges=None, nbytes=0)]
    """

    calls: list[Call]

    def __init__(self, store: object, calls: list[Call] | None = None) -> None:
        super().__init__(store)
        self.calls = [] if calls is None else calls

    def _over(self, store: object) -> Self:
        return type(self)(store, self.calls)

    def _reader(self, method: str, key: str, ranges: Sequence[ByteRange] | None = None) -> Store:
        self.calls.append(call_of(method, key, ranges))
        return self._inside

    def _writer(self, method: str, key: str, parts: Sequence[Part] | None = None) -> Store:
        self.calls.append(call_of(method, key, parts))
        return self._inside

    def put_all(self, items: Sequence[tuple[str, Sequence[Buffer]]]) -> list[Version | Exception]:
        """See `storage.PutAll`; recorded as a `put` of each object."""
        for key, parts in items:
            self._writer("put", key, parts)
        return self._inside.put_all(items)

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[Self]:
        """See `storage.Lock`."""
        self.calls.extend(Call("lock", key) for key in keys)
        with super().lock(keys) as locked:
            yield locked

    @asynccontextmanager
    async def lock_async(self, keys: Sequence[str]) -> AsyncIterator[Self]:
        """See `storage.AsyncLock`."""
        self.calls.extend(Call("lock", key) for key in keys)
        async with super().lock_async(keys) as locked:
            yield locked
