"""Views of a store that can do less, or that watch.

In: any store. Out: `ReadOnly` and `WriteOnly`, which *have* only the methods they allow, so the type checker and
`storage.capabilities` see it alike; `Recording`, which has exactly the methods of the store inside and lists the calls.
Nothing is copied, cached or retried here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from zarrant.storage import Blob, Buffer, ByteRange, Get, Hole, Version, Writable

READS = ("get", "get_within", "get_ranges", "list_prefix", "list_dir")
WRITES = ("put", "put_if", "splice", "erase_if", "erase", "erase_prefix")


def _lend(view: object, store: object, names: Sequence[str]) -> None:
    """Give a view those methods of the store that are optional, as attributes of its own: a protocol check finds them."""
    for name in names:
        for method in (name, f"{name}_async"):
            if hasattr(store, method) and not hasattr(type(view), method):
                setattr(view, method, getattr(store, method))


class View:
    """What every view tells about the store inside."""

    def __init__(self, store: Any) -> None:
        self.store = store

    @property
    def url(self) -> str:
        """The address of the store inside."""
        return str(getattr(self.store, "url", repr(self.store)))

    @property
    def guard(self) -> str:
        """What guards writes of the store inside."""
        return str(getattr(self.store, "guard", "unknown"))

    @property
    def durability(self) -> str:
        """When the store inside has on disk what was written."""
        return str(getattr(self.store, "durability", "rename"))

    @property
    def direct_io(self) -> bool:
        """Whether the store inside writes and reads around the page cache."""
        return bool(getattr(self.store, "direct_io", False))

    @property
    def access(self) -> str:
        """How the store inside writes and reads files."""
        return str(getattr(self.store, "access", "unknown"))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, View) and self.store == other.store

    def __hash__(self) -> int:
        return hash((type(self), self.store))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store,)


class ReadOnly(View):
    """Reads (and lists, where the store does) and cannot write. It can `sync` what others of this process wrote.

    >>> from zarrant.storage import capabilities
    >>> from zarrant.stores.memory import MemoryStore
    >>> capabilities(ReadOnly(MemoryStore())).put
    False
    """

    store: Get

    def __init__(self, store: Get) -> None:
        super().__init__(store)
        _lend(self, store, (*READS, "sync"))

    @property
    def guard(self) -> str:
        """Nothing to guard."""
        return "read only"

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return self.store.get(key)

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        return self.store.get_ranges(key, ranges, if_version)


class WriteOnly(View):
    """Puts and erases; cannot read, list, or write on a condition (to have one, something must have been read)."""

    store: Writable

    def __init__(self, store: Writable) -> None:
        super().__init__(store)
        _lend(self, store, ("put", "erase", "erase_prefix", "sync"))

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        return self.store.put(key, parts)

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        self.store.erase(key)

    def erase_prefix(self, prefix: str) -> None:
        """See `storage.Erase`."""
        self.store.erase_prefix(prefix)


class Call(NamedTuple):
    """One call of a store: `ranges` that were read or kept (None: no ranges were given), `nbytes` that were handed over."""

    method: str
    key: str
    ranges: tuple[ByteRange, ...] | None = None
    nbytes: int = 0


class Recording(View):
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
        for name in READS + WRITES:
            for method in (name, f"{name}_async"):
                if hasattr(store, method):
                    setattr(self, method, self._recorded(name, getattr(store, method)))
        for name in ("sync", "steady", "version"):
            if hasattr(store, name):
                setattr(self, name, getattr(store, name))
        if hasattr(store, "hold"):
            self.hold = self._hold
        if hasattr(store, "hold_async"):
            self.hold_async = self._hold_async

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def _recorded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(key: str, *args: Any, **kwargs: Any) -> Any:
            self.calls.append(_call(name, key, *args, **kwargs))
            return method(key, *args, **kwargs)

        return call

    @contextmanager
    def _hold(self, keys: Sequence[str]) -> Iterator[Recording]:
        self.calls.extend(Call("hold", key) for key in keys)
        with self.store.hold(keys) as held:
            yield Recording(held, self.calls)

    @asynccontextmanager
    async def _hold_async(self, keys: Sequence[str]) -> AsyncIterator[Recording]:
        self.calls.extend(Call("hold", key) for key in keys)
        async with self.store.hold_async(keys) as held:
            yield Recording(held, self.calls)


def _call(method: str, key: str, items: Sequence[ByteRange | Buffer] | None = None, *_: Any, **named: Any) -> Call:
    """The record of a call; what else it was given (a version, a limit) is not kept."""
    if method == "get_within":
        return Call("get", key)
    given = items if items is not None else named.get("parts", named.get("ranges"))
    if method.startswith("erase") or given is None:
        return Call(method, key)
    ranges = tuple(item for item in given if isinstance(item, ByteRange))
    nbytes = sum(memoryview(item).nbytes for item in given if not isinstance(item, ByteRange | Hole))
    return Call(method, key, ranges or None, nbytes)
