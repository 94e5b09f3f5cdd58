"""Views of a store that can do less, or that watch.

In: any store. Out: `ReadOnly` and `WriteOnly`, which *have* only the methods they allow, so the type checker and
`storage.capabilities` see it alike; `Recording`, which can do what the store inside can do and lists the calls.
Nothing is copied, cached or retried here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple, Self

from zarrant.storage import AsyncGet, AsyncReadableWritable, Buffer, ByteRange, Get, Hole, Part, Store, Version, Writable
from zarrant.storage.wrapper import Forwarding, Reads, Writes

READS = ("get", "get_within", "get_ranges", "list_prefix", "list_dir")
WRITES = ("put", "put_if", "splice", "erase_if", "erase", "erase_prefix")


class ReadOnly(Reads):
    """Reads (and lists, where the store does) and cannot write. It can `sync` what others of this process wrote.

    >>> from zarrant.storage import capabilities
    >>> from zarrant.stores.memory import MemoryStore
    >>> capabilities(ReadOnly(MemoryStore())).put
    False
    """

    def __init__(self, store: Get | AsyncGet) -> None:
        super().__init__(store)

    @property
    def guard(self) -> str:
        """Nothing to guard."""
        return "read only"


class WriteOnly(Writes):
    """Puts and erases; cannot read, list, or write on a condition (to have one, something must have been read)."""

    def __init__(self, store: Writable | AsyncReadableWritable) -> None:
        super().__init__(store)


class Call(NamedTuple):
    """One call of a store: `ranges` that were read or kept (None: no ranges were given), `nbytes` that were handed over."""

    method: str
    key: str
    ranges: tuple[ByteRange, ...] | None = None
    nbytes: int = 0


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
        self.calls.append(_call(method, key, ranges))
        return self._inside

    def _writer(self, method: str, key: str, parts: Sequence[Part] | None = None) -> Store:
        self.calls.append(_call(method, key, parts))
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


def _call(method: str, key: str, items: Sequence[Part] | None) -> Call:
    """The record of a call; what else it was given (a version, a limit) is not kept."""
    if items is None:
        return Call(method, key)
    ranges = tuple(item for item in items if isinstance(item, ByteRange))
    nbytes = sum(memoryview(item).nbytes for item in items if not isinstance(item, ByteRange | Hole))
    return Call(method, key, ranges or None, nbytes)
