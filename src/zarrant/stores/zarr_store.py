"""Stores of zarr-python as ours, and ours as zarr-python's.

In: a `zarr.abc.store.Store`, or one of our stores. Out: the other kind. A store of zarr-python on files, fsspec, obstore or zip is
opened as ours on the same place (`from_zarr`): so writes are guarded as well as the place allows. Any other one (`ZarrStore`:
memory, Icechunk, wrappers) has neither versions nor conditions. It is for one writer; objects are read whole, and their version
is a hash of their bytes, unless the caller says that nothing changes while it is read.

The other way (`as_zarr_store`) zarr-python gets every method that it uses. It replaces objects unconditionally: its interface has
nothing that keeps partial writes of several writers apart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from zarrant.errors import (
    ByteRangeError,
    CapabilityError,
    OptionError,
    StoreError,
    VersionChangedError,
)
from zarrant.storage import Blob, Buffer, ByteRange, Calls, Capabilities, Version, as_store, capabilities, expect_version, url_of
from zarrant.storage.capabilities import Described
from zarrant.stores.foreign import hash_of, spans_within, typed_errors
from zarrant.stores.keys import check_key, check_prefix
from zarrant.stores.off_loop import off_loop
from zarrant.stores.wrappers import ReadOnly

try:
    import zarr.storage as theirs
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
    from zarr.core.buffer import Buffer as ZarrBuffer
    from zarr.core.buffer import cpu, default_buffer_prototype
    from zarr.core.sync import sync
except ImportError as cause:
    raise CapabilityError("zarr-python 3 is not installed", expected="zarr >= 3", hint="pip install 'zarrant[zarr]'") from cause

T = TypeVar("T")


class ZarrStore(Described):
    """A store of zarr-python, as a store for one writer.

    `immutable` says that no object is replaced while it is read (a read-only session of Icechunk, a finished archive): then
    only the ranges that are asked for are read. Else each object is read whole.

    >>> store = ZarrStore(theirs.MemoryStore())
    >>> version = store.put("c/0", [b"some ", b"bytes"])
    >>> bytes(store.get("c/0").data[0])
    b'some bytes'
    """

    def __init__(self, store: Any, *, immutable: bool = False) -> None:
        if not isinstance(store, Store):
            expected = "a zarr.abc.store.Store"
            raise OptionError("not a store of zarr-python", field="store", expected=expected, got=type(store).__name__)
        self.store, self.immutable = store, immutable
        self.url = str(store) if "://" in str(store) else repr(store)

    @property
    def capabilities(self) -> Capabilities:
        """What the store says that it supports; nothing that needs conditions or locks."""
        writes = not self.store.read_only and self.store.supports_writes
        calls = Calls(get=True, put=writes, erase=writes and self.store.supports_deletes, list=self.store.supports_listing)
        return Capabilities(calls, calls, version=True)

    @property
    def guard(self) -> str:
        """What guards writes."""
        if self.store.read_only:
            return "read only"
        why = "stores of zarr-python have no conditional writes and no locks"
        return f"none: for one writer, as {why} (synchronizer= takes a lock service)"

    @property
    def how_to_write(self) -> str:
        """What an error says to whom would change an object in part."""
        return (
            "Stores of zarr-python have no conditional writes and no locks. If nobody else writes, say so by synchronizer=None; "
            "else give a lock service as synchronizer="
        )

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return _blocking(self.get_async(key))

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        return _blocking(self.get_ranges_async(key, ranges, if_version))

    def version(self, key: str) -> Version:
        """See `storage.Versions`."""
        blob = self.get_ranges(key, ())
        return None if blob is None else blob.version

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        return _blocking(self.put_async(key, parts))

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        _blocking(self.erase_async(key))

    def erase_prefix(self, prefix: str) -> None:
        """See `storage.Erase`."""
        _blocking(self.erase_prefix_async(prefix))

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """See `storage.List`."""
        return iter(_blocking(self.list_prefix_async(prefix)))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        return _blocking(self.list_dir_async(prefix))

    async def get_async(self, key: str) -> Blob | None:
        """See `storage.AsyncGet`."""
        check_key(key, self.url)
        with typed_errors("read", self.url, key):
            data = await self._read(key)
            return None if data is None else Blob((data,), await self._version(data), len(data))

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.AsyncGet`."""
        check_key(key, self.url)
        with typed_errors("read", self.url, key):
            if self.immutable:
                return await self._ranges_of_immutable(key, ranges, if_version)
            whole = await self.get_async(key)
            if if_version is not None:
                expect_version(None if whole is None else whole.version, if_version, self.url, key)
            if whole is None:
                return None
            spans = spans_within(ranges, whole.size)
            return Blob(tuple(whole.data[0][start:stop] for start, stop in spans), whole.version, whole.size)

    async def _ranges_of_immutable(self, key: str, ranges: Sequence[ByteRange], if_version: Version) -> Blob | None:
        try:
            size = await self.store.getsize(key)
        except FileNotFoundError:
            size = None
        version = None if size is None else ("size", size)
        if if_version is not None:
            expect_version(version, if_version, self.url, key)
        if size is None:
            return None
        spans = spans_within(ranges, size)
        data = await asyncio.gather(*(self._read(key, span) for span in spans))
        for view, (start, stop) in zip(data, spans, strict=True):
            if view is None or len(view) != stop - start:
                message = "the store gave other bytes than it was asked for"
                raise StoreError(message, expected=f"{stop - start} bytes", got=view if view is None else f"{len(view)} bytes")
        return Blob(tuple(view for view in data if view is not None), version, size)

    async def _read(self, key: str, span: tuple[int, int] | None = None) -> memoryview | None:
        if span is not None and span[0] == span[1]:
            return memoryview(b"")
        wanted = None if span is None else RangeByteRequest(*span)
        try:
            found = await self.store.get(key, default_buffer_prototype(), wanted)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        return None if found is None else _view(found)

    async def _version(self, data: memoryview) -> Version:
        return ("size", len(data)) if self.immutable else await off_loop(len(data), hash_of, data)

    async def put_async(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.AsyncPut`."""
        check_key(key, self.url)
        with typed_errors("write", self.url, key):
            value = b"".join(parts)
            await self.store.set(key, cpu.Buffer.from_bytes(value))
            return await self._version(memoryview(value))

    async def erase_async(self, key: str) -> None:
        """See `storage.AsyncErase`."""
        check_key(key, self.url)
        with typed_errors("erase", self.url, key):
            try:
                await self.store.delete(key)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                pass

    async def erase_prefix_async(self, prefix: str) -> None:
        """See `storage.AsyncErase`."""
        for key in await self.list_prefix_async(prefix):
            await self.erase_async(key)

    async def list_prefix_async(self, prefix: str) -> list[str]:
        """See `storage.AsyncList`."""
        check_prefix(prefix, self.url)
        with typed_errors("list", self.url, prefix):
            keys = {key async for key in self.store.list_prefix(prefix)}
            return sorted(key for key in keys if key.startswith(prefix) and not key.endswith("/"))

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.AsyncList`."""
        check_prefix(prefix, self.url)
        with typed_errors("list", self.url, prefix):
            names = sorted({name.rstrip("/") async for name in self.store.list_dir(prefix.rstrip("/"))} - {""})
            are_keys = await asyncio.gather(*(self.store.exists(prefix + name) for name in names))
        keys = [prefix + name for name, is_key in zip(names, are_keys, strict=True) if is_key]
        return keys, sorted(f"{prefix}{name}/" for name, is_key in zip(names, are_keys, strict=True) if not is_key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZarrStore) and bool(self.store == other.store) and self.immutable == other.immutable

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"ZarrStore({self.store!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.store, self.immutable)


def _restore(store: Any, immutable: bool) -> ZarrStore:
    return ZarrStore(store, immutable=immutable)


def _blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the event loop of zarr-python, to which the connections of its stores belong."""
    return sync(coroutine)


def from_zarr(store: Any) -> object:
    """Our store for one of zarr-python: on the same place where that can be, else around it."""
    made: object = None
    if type(store) is theirs.LocalStore:
        from zarrant.stores.local.store import FilesystemStore

        made = FilesystemStore(store.root)
    elif type(store) is theirs.FsspecStore:
        from zarrant.stores.fsspec_store import from_filesystem

        made = from_filesystem(store.fs, store.path)
    elif type(store) is theirs.ObjectStore:
        from zarrant.stores.object_store import ObjectStore

        made = ObjectStore(store.store)
    elif type(store) is theirs.ZipStore and store.read_only and store.path is not None:
        from zarrant.stores.zip_store import ZipStore

        made = ZipStore(store.path, duplicates="last")
    elif isinstance(store, ZarrantStore):
        made = store.store
    if made is None:
        return ZarrStore(store)
    return ReadOnly(as_store(made)) if store.read_only else made


# ── ours as theirs ───────────────────────────────────────────────────────────────────────────────────────────────────


class ZarrantStore(Store):
    """One of our stores as a store of zarr-python; `as_zarr_store` makes it."""

    def __init__(self, store: object, *, read_only: bool = False) -> None:
        able = capabilities(store)
        if isinstance(store, str | os.PathLike | dict):
            hint = "zarrant.stores.resolve_store(...) gives the store of an address, and the prefix in it"
            raise OptionError("an address, not a store", field="store", expected="a store", got=repr(store)[:80], hint=hint)
        if not able.get:
            raise CapabilityError("a store that cannot be read", store=url_of(store), expected="get")
        super().__init__(read_only=read_only or not able.put)
        self.store = store

    @property
    def supports_writes(self) -> bool:
        """Whether objects can be stored."""
        return capabilities(self.store).put

    @property
    def supports_deletes(self) -> bool:
        """Whether objects can be erased."""
        return capabilities(self.store).erase

    @property
    def supports_listing(self) -> bool:
        """Whether keys can be listed."""
        return capabilities(self.store).list

    @property
    def supports_partial_writes(self) -> Literal[False]:
        """Not: objects are replaced whole. (zarr-python 3.1.0 and 3.1.1 ask.)"""
        return False

    async def set_partial_values(self, key_start_values: Iterable[tuple[str, int, Any]]) -> None:
        """CapabilityError: see `supports_partial_writes`."""
        raise CapabilityError("objects are replaced whole", store=url_of(self.store), expected="set")

    def with_read_only(self, read_only: bool = False) -> ZarrantStore:
        """The same store, for reading only or not."""
        return type(self)(self.store, read_only=read_only)

    async def _call(self, name: str, *args: Any) -> Any:
        """A call of the store: awaited where it has coroutines, else in a thread."""
        await self._ensure_open()
        if capabilities(self.store).awaits:
            return await getattr(self.store, f"{name}_async")(*args)
        return await asyncio.to_thread(getattr(as_store(self.store), name), *args)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """The bytes of an object, or the part of it that a byte request asks for; None where there is no object."""
        steps, reply = _reading(key, byte_range), None
        try:
            while True:
                name, *args = steps.send(reply)
                try:
                    reply = await self._call(name, *args)
                except ByteRangeError as error:
                    reply = error
        except StopIteration as stop:
            return as_buffer(stop.value, prototype)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        """Parts of several objects."""
        return list(await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is an object."""
        return await self._call("get_ranges", key, ()) is not None

    async def getsize(self, key: str) -> int:
        """The bytes of an object; FileNotFoundError where there is none."""
        blob = await self._call("get_ranges", key, ())
        if blob is None:
            raise FileNotFoundError(key)
        return int(blob.size)

    async def set(self, key: str, value: Any) -> None:
        """Store an object, whatever was there."""
        await self._call("put", key, self._parts(value))

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        """Store an object where there is none; of several callers one does, where the store can compare and swap."""
        if not capabilities(self.store).put_if:
            await super().set_if_not_exists(key, value)
            return
        try:
            await self._call("put_if", key, self._parts(value), None)
        except VersionChangedError:
            pass

    def _parts(self, value: Any) -> list[memoryview]:
        self._check_writable()
        if not isinstance(value, ZarrBuffer):
            raise TypeError(f"`value` must be a Buffer instance. Got an instance of {type(value)} instead.")
        return [_view(value)]

    async def delete(self, key: str) -> None:
        """Remove an object; succeed where there is none."""
        self._check_writable()
        await self._call("erase", key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        self._check_writable()
        await self._call("erase_prefix", f"{prefix.rstrip('/')}/" if prefix.strip("/") else "")

    async def list(self) -> AsyncIterator[str]:
        """Every key."""
        for key in await self._call("list_prefix", ""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Every key that begins with `prefix`, whether or not that ends where a name does."""
        above, slash, _ = prefix.rpartition("/")
        for key in await self._call("list_prefix", above + slash):
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names directly below a prefix, of objects and of prefixes."""
        below = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        keys, prefixes = await self._call("list_dir", below)
        for name in sorted({key[len(below) :] for key in keys} | {found[len(below) : -1] for found in prefixes}):
            yield name

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bool(self.store == other.store) and self.read_only == other.read_only

    def __hash__(self) -> int:
        return hash((type(self), self.store))

    def __str__(self) -> str:
        return url_of(self.store)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"


class BlockingZarrantStore(ZarrantStore):
    """The same with the blocking calls that zarr-python uses where there are some."""

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        """See `get`."""
        steps, reply = _reading(key, byte_range), None
        try:
            while True:
                name, *args = steps.send(reply)
                try:
                    reply = getattr(self.store, name)(*args)
                except ByteRangeError as error:
                    reply = error
        except StopIteration as stop:
            return as_buffer(stop.value, prototype)

    def set_sync(self, key: str, value: Any) -> None:
        """See `set`."""
        as_store(self.store).put(key, self._parts(value))

    def delete_sync(self, key: str) -> None:
        """See `delete`."""
        self._check_writable()
        as_store(self.store).erase(key)


def as_zarr_store(store: object, *, read_only: bool = False) -> ZarrantStore:
    """One of our stores as a store that zarr-python takes. A path, a URL or a dict is no store yet: `resolve_store` makes one.

    >>> import numpy as np, zarr
    >>> from zarrant.stores.memory import MemoryStore
    >>> a = zarr.create_array(as_zarr_store(MemoryStore()), data=np.arange(4))
    >>> a[1:3].tolist()
    [1, 2]
    """
    return (BlockingZarrantStore if capabilities(store).blocks else ZarrantStore)(store, read_only=read_only)


def _reading(key: str, wanted: Any) -> Generator[tuple[Any, ...], Any, Blob | None]:
    """The calls that answer a byte request, which may reach past the end of the object; a ByteRangeError is a reply."""
    if wanted is None:
        whole: Blob | None = yield "get", key
        return whole
    found = yield "get_ranges", key, (byte_range_of(wanted),)
    if not isinstance(found, ByteRangeError):
        blob: Blob | None = found
        return blob
    head = yield "get_ranges", key, ()
    if head is None:
        return None
    found = yield "get_ranges", key, (_within(wanted, head.size),)
    if isinstance(found, ByteRangeError):
        raise found
    return found  # type: ignore[no-any-return]


def byte_range_of(wanted: Any) -> ByteRange:
    """What a byte request of zarr-python asks for, if it fits the object."""
    if isinstance(wanted, RangeByteRequest):
        return ByteRange(wanted.start, wanted.end - wanted.start)
    if isinstance(wanted, OffsetByteRequest):
        return ByteRange(wanted.offset)
    if isinstance(wanted, SuffixByteRequest):
        return ByteRange.suffix(wanted.suffix) if wanted.suffix else ByteRange(0, 0)
    raise ValueError(f"Unexpected byte_range, got {wanted}.")


def _within(wanted: Any, size: int) -> ByteRange:
    """What of it an object of `size` bytes has."""
    if isinstance(wanted, SuffixByteRequest):
        return ByteRange(max(0, size - wanted.suffix))
    start = min(size, wanted.start if isinstance(wanted, RangeByteRequest) else wanted.offset)
    stop = min(size, wanted.end) if isinstance(wanted, RangeByteRequest) else size
    return ByteRange(start, max(0, stop - start))


def as_buffer(blob: Blob | None, prototype: Any) -> Any:
    """What was read as a buffer of zarr-python."""
    if blob is None:
        return None
    data = blob.data[0] if len(blob.data) == 1 else memoryview(b"".join(blob.data))
    return (prototype or default_buffer_prototype()).buffer.from_array_like(np.frombuffer(data, np.uint8))


def _view(buffer: Any) -> memoryview:
    """The bytes of a buffer of zarr-python."""
    return memoryview(np.ascontiguousarray(buffer.as_numpy_array()).reshape(-1).view(np.uint8)).toreadonly()
