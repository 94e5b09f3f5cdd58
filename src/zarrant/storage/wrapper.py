"""The base of stores around other stores: every method is written out once, and passed on to the store inside.

In: any store. Out: a store that can do what the one inside can do and what the wrapper's class has a method for; `capabilities`
says which. A class of what follows chooses what it passes on by its bases (`Reads`, `ReadsTogether`, `Writes`, `Forwarding`), and
changes it in two places: `_reader` and `_writer`, which are asked before each call of a key which store shall perform it (and may
look at the call, or refuse it), and `_over`, which puts the same wrapper around another form of the store inside: one under a
lock, in a write batch, or on a condition. So whatever the store inside hands out is wrapped again, and nothing passes the wrapper
by.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any, ClassVar, Self

from zarrant.storage.capabilities import (
    Capabilities,
    Described,
    access_of,
    capabilities,
    combined,
    guard_of,
    is_local,
    url_of,
)  # fmt: skip
from zarrant.storage.protocols import Blob, Buffer, ByteRange, FileDecoder, OnlyWhile, Part, ShareWork, Store, Version


class Wrapper(Described):
    """What every wrapper tells about the store inside."""

    store: Any
    misbehaves: ClassVar[bool] = False
    """Whether it may break what the store inside promises, so that it must be tried out by itself."""

    def __init__(self, store: object) -> None:
        self.store = store

    @property
    def _inside(self) -> Store:
        return self.store  # type: ignore[no-any-return] # not `cast`: asked at every call

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the wrapper can do."""
        return combined(type(self), capabilities(self._inside))

    def _over(self, store: object) -> Self:
        """The same wrapper around another form of the store inside."""
        return type(self)(store)

    @property
    def url(self) -> str:
        """The address of the store inside."""
        return url_of(self.store)

    @property
    def guard(self) -> str:
        """What guards writes of the store inside."""
        return guard_of(self.store)

    @property
    def is_local(self) -> bool:
        """Whether calls of the store inside take microseconds."""
        return is_local(self.store)

    @property
    def durability(self) -> str:
        """When the store inside has on disk what was written."""
        return self.capabilities.durability or "rename"

    @property
    def direct_io(self) -> bool:
        """Whether the store inside writes and reads around the page cache."""
        return self.capabilities.direct_io

    @property
    def access(self) -> str:
        """How the store inside writes and reads files."""
        return access_of(self.store)

    def sync(self) -> None:
        """See `storage.Sync`."""
        self._inside.sync()

    def with_options(self, **options: Any) -> Self:
        """The same wrapper around the store under other options."""
        return self._over(self._inside.with_options(**options)) if capabilities(self.store).with_options else self

    def with_coalesce_gap(self, gap: int) -> Self:
        """See `storage.Coalesce`."""
        return self._over(self._inside.with_coalesce_gap(gap))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Wrapper) and bool(self.store == other.store)

    def __hash__(self) -> int:
        return hash((type(self), self.store))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store,)


class Reads(Wrapper):
    """Passes on what reads."""

    def _reader(self, method: str, key: str, ranges: Sequence[ByteRange] | None = None) -> Store:
        """The store that performs a call that reads."""
        return self._inside

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return self._reader("get", key).get(key)

    def get_within(self, key: str, limit: int) -> Blob | None:
        """See `storage.GetWithin`."""
        return self._reader("get", key).get_within(key, limit)

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        return self._reader("get_ranges", key, ranges).get_ranges(key, ranges, if_version)

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """See `storage.List`."""
        return self._reader("list_prefix", prefix).list_prefix(prefix)

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        return self._reader("list_dir", prefix).list_dir(prefix)

    def version(self, key: str) -> Version:
        """See `storage.Versions`."""
        return self._inside.version(key)

    def is_unchanged(self, key: str, version: Version) -> bool:
        """See `storage.CheckUnlocked`."""
        return self._inside.is_unchanged(key, version)

    async def get_async(self, key: str) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await self._reader("get", key).get_async(key)

    async def get_within_async(self, key: str, limit: int) -> Blob | None:
        """See `storage.AsyncGetWithin`."""
        return await self._reader("get", key).get_within_async(key, limit)

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await self._reader("get_ranges", key, ranges).get_ranges_async(key, ranges, if_version)

    async def list_prefix_async(self, prefix: str) -> list[str]:
        """See `storage.AsyncList`."""
        return await self._reader("list_prefix", prefix).list_prefix_async(prefix)

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.AsyncList`."""
        return await self._reader("list_dir", prefix).list_dir_async(prefix)


class ReadsTogether(Reads):
    """Passes on what is not a read of one object into new memory, too: for wrappers that do not have to see each read."""

    def get_all(self, keys: Sequence[str], limit: int | None) -> list[Blob | Exception | None]:
        """See `storage.GetAll`."""
        return self._inside.get_all(keys, limit)

    def get_decoded(
        self, keys: Sequence[str], limit: int | None, decoder: FileDecoder, share: ShareWork
    ) -> list[Blob | Exception | None]:
        """See `storage.GetDecoded`."""
        return self._inside.get_decoded(keys, limit, decoder, share)

    def get_into(self, key: str, into: memoryview, limit: int | None) -> Blob | None:
        """See `storage.GetInto`."""
        return self._inside.get_into(key, into, limit)

    def list_stored(self, prefix: str, limit: int) -> list[str] | None:
        """See `storage.ListStored`."""
        return self._inside.list_stored(prefix, limit)


class Writes(Wrapper):
    """Passes on what stores and erases whatever is there."""

    def _writer(self, method: str, key: str, parts: Sequence[Part] | None = None) -> Store:
        """The store that performs a call that writes."""
        return self._inside

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        return self._writer("put", key, parts).put(key, parts)

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        self._writer("erase", key).erase(key)

    def erase_prefix(self, prefix: str) -> None:
        """See `storage.Erase`."""
        self._writer("erase_prefix", prefix).erase_prefix(prefix)

    async def put_async(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.AsyncPut`."""
        return await self._writer("put", key, parts).put_async(key, parts)

    async def erase_async(self, key: str) -> None:
        """See `storage.AsyncErase`."""
        await self._writer("erase", key).erase_async(key)

    async def erase_prefix_async(self, prefix: str) -> None:
        """See `storage.AsyncErase`."""
        await self._writer("erase_prefix", prefix).erase_prefix_async(prefix)


class Forwarding(Reads, Writes):
    """Passes on everything that is of one object: objects of one call may belong to several stores inside."""

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        return self._writer("put_if", key, parts).put_if(key, parts, if_version)

    def splice(self, key: str, parts: Sequence[Part], if_version: Version) -> Version:
        """See `storage.Splice`."""
        return self._writer("splice", key, parts).splice(key, parts, if_version)

    def erase_if(self, key: str, if_version: Version) -> None:
        """See `storage.EraseIf`."""
        self._writer("erase_if", key).erase_if(key, if_version)

    def erase_link(self, prefix: str) -> bool:
        """See `storage.EraseLink`."""
        return self._inside.erase_link(prefix)

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.AsyncPutIf`."""
        return await self._writer("put_if", key, parts).put_if_async(key, parts, if_version)

    async def erase_if_async(self, key: str, if_version: Version) -> None:
        """See `storage.AsyncEraseIf`."""
        await self._writer("erase_if", key).erase_if_async(key, if_version)

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[Self]:
        """See `storage.Lock`."""
        with self._inside.lock(keys) as locked:
            yield self._over(locked)

    @asynccontextmanager
    async def lock_async(self, keys: Sequence[str]) -> AsyncIterator[Self]:
        """See `storage.AsyncLock`."""
        async with self._inside.lock_async(keys) as locked:
            yield self._over(locked)

    def is_locked_by_caller(self, key: str) -> bool:
        """See `storage.LockOwner`."""
        return self._inside.is_locked_by_caller(key)

    @contextmanager
    def write_batch(self) -> Iterator[Self]:
        """See `storage.WriteBatch`; without effect where the store inside has no say in it."""
        if not capabilities(self._inside).batch:
            yield self
            return
        with self._inside.write_batch() as inside:
            yield self if inside is self._inside else self._over(inside)

    def commit(self) -> None:
        """See `storage.WriteBatch`."""
        if capabilities(self._inside).batch:
            self._inside.commit()

    def only_while(self, condition: OnlyWhile) -> Self:
        """See `storage.Conditional`."""
        return self._over(self._inside.only_while(condition))
