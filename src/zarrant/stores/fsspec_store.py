"""Objects on any file system of fsspec (https://filesystem-spec.readthedocs.io): FTP, SFTP, SMB, HDFS, Hugging Face, GitHub ...

In: a file system and a path on it, a mapper, or a URL. Out: a store. fsspec has neither conditional writes nor locks, so this
store is for one writer: what must not lose an update is refused, unless a synchronizer is given, or `synchronizer=None` says that
there is no other writer. S3, GCS and Azure have a store of their own, which has no such limits (`object_store`).

Versions come from what the file system says of a file: an ETag or another mark of its content, or a time of change that is finer
than a second. Where it gives neither, objects are read whole and the version is a hash of their bytes. A read of some ranges is
compared with the version afterwards, since there is no way to make it depend on one.

Every method is written once, as a generator that yields calls of the file system; they are made as blocking calls, or as
coroutines where the file system has them (on one instance of it for each event loop, as its connections belong to the loop).
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from zarrant.errors import (
    ConflictError,
    OptionError,
    StoreError,
)
from zarrant.storage import Blob, Buffer, ByteRange, Calls, Capabilities, Version, expect_version
from zarrant.storage.capabilities import Described
from zarrant.stores.foreign import hash_of, spans_within, typed_errors
from zarrant.stores.keys import check_key, check_prefix
from zarrant.stores.off_loop import off_loop
from zarrant.stores.steps import follow, follow_async

T = TypeVar("T")
TEMP = ".__lock"
"""How the names of temp files end: other stores on directories hide such files, and so does this one."""

MAX_TRIES = 4
"""Times an object is read again because it was replaced meanwhile."""

_MARKS = ("ETag", "etag", "e_tag", "generation", "content_md5", "md5Hash", "sha", "blob_id", "checksum", "ukey")
"""What file systems call a mark of the content of a file: s3fs, HTTP, gcsfs, adlfs, GitHub, Hugging Face ..."""

_TIMES = ("mtime", "modified", "LastModified", "last_modified", "updated", "created")
_ATOMIC = {"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "http", "https"}
"""Protocols whose writes of a file are atomic: the new file is there at once and as a whole."""

OBJECT_STORES = {"s3", "gs", "az", "http", "https"}
"""Schemes of stores that are better served by a store of their own."""

_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_temp_names = itertools.count()


class Do(NamedTuple):
    """A call of the file system that is wanted next."""

    name: str
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = {}


class Hash(NamedTuple):
    """The version that is a hash of these bytes."""

    data: memoryview


Steps = Generator[Do | Hash, Any, T]


class FsspecStore(Described):
    """Files below a path of a file system of fsspec, as a store for one writer.

    `fs` is a file system, or None with a URL as `path`, which is connected to at the first call; `options` are those of the
    file system then. Blocking calls always; coroutines where the file system has them.

    >>> import fsspec
    >>> store = FsspecStore(fsspec.filesystem("memory"), "/example_of_fsspec")
    >>> version = store.put("c/0", [b"some ", b"bytes"])
    >>> bytes(store.get("c/0").data[0])
    b'some bytes'
    """

    def __init__(self, fs: Any, path: str, options: Mapping[str, Any] | None = None) -> None:
        self._given, self._path, self.options = fs, path, dict(options or {})
        if fs is None:
            self.url = path
        else:
            protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
            place = str(fs._strip_protocol(path))
            self.url = place if "://" in place else f"{protocol}://{place.lstrip('/')}"
        self._of_loop: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system for blocking calls (itself, where it has only coroutines), and the path on it without a last slash."""
        if self._given is not None:
            fs = getattr(self._given, "sync_fs", self._given)  # what zarr-python wraps around file systems without coroutines
            if getattr(fs, "asynchronous", False):
                fs = type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": False})
            return fs, str(fs._strip_protocol(self._path)).rstrip("/")
        from fsspec.core import url_to_fs

        with typed_errors("connect", self.url, None):
            fs, path = url_to_fs(self._path, **{"use_listings_cache": False, **self.options})
        return fs, str(path).rstrip("/")

    @property
    def fs(self) -> Any:
        """The file system."""
        return self._opened[0]

    @property
    def root(self) -> str:
        """The path of the store on it."""
        return self._opened[1]

    # ── what it can do ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def capabilities(self) -> Capabilities:
        """All but what needs conditions or locks."""
        calls = Calls(get=True, put=True, erase=True, list=True)
        sync_calls, async_calls = (Calls() if self._only_async else calls), (calls if self._has_async else Calls())
        return Capabilities(sync_calls, async_calls, version=not self._only_async)

    @cached_property
    def _only_async(self) -> bool:
        return self._given is not None and bool(getattr(self.fs, "asynchronous", False))

    @cached_property
    def _has_async(self) -> bool:
        """Whether the file system has coroutines; of one that is not connected to yet its class says so."""
        if self._given is not None:
            return bool(getattr(self.fs, "async_impl", False))
        from fsspec import get_filesystem_class

        with typed_errors("connect", self.url, None):
            return getattr(get_filesystem_class(self.url.partition(":")[0]), "async_impl", False) is True

    @property
    def guard(self) -> str:
        """What guards writes."""
        whole = "" if self._given is None or self._is_atomic() else "; a reader can see an object while it is written"
        return f"none: for one writer, as fsspec has no conditional writes and no locks (synchronizer= takes a lock service){whole}"

    @property
    def how_to_write(self) -> str:
        """What an error says to whom would change an object in part."""
        return (
            "fsspec has no conditional writes and no locks. If nobody else writes, say so by synchronizer=None; "
            "else give a lock service as synchronizer="
        )

    def _is_atomic(self) -> bool:
        protocols = self.fs.protocol
        return not _ATOMIC.isdisjoint((protocols,) if isinstance(protocols, str) else protocols) or self._renames()

    def _renames(self) -> bool:
        """Whether the file system can rename; where it has no `mv` of its own it would copy and remove."""
        from fsspec import AbstractFileSystem
        from fsspec.asyn import AsyncFileSystem

        own = getattr(type(self.fs), "mv", None)
        return own is not None and own is not AbstractFileSystem.mv and not isinstance(self.fs, AsyncFileSystem)

    # ── the two kinds of calls ───────────────────────────────────────────────────────────────────────────────────────

    def _run(self, action: str, key: str | None, steps: Steps[T]) -> T:
        with typed_errors(action, self.url, key):
            return follow(steps, lambda do: hash_of(do.data) if isinstance(do, Hash) else self._call(do))

    async def _run_async(self, action: str, key: str | None, steps: Steps[T]) -> T:
        with typed_errors(action, self.url, key):
            fs = self._fs_of_loop()

            async def answer(do: Do | Hash) -> Any:
                if isinstance(do, Hash):
                    return await off_loop(len(do.data), hash_of, do.data)
                found = self._call_async(fs, do)
                return await found if asyncio.iscoroutine(found) else found

            return await follow_async(steps, answer)

    def _call(self, do: Do) -> Any:
        return getattr(self.fs, do.name)(*do.args, **do.options)

    @staticmethod
    def _call_async(fs: Any, do: Do) -> Any:
        """The coroutine of a call, or its result where the file system has no coroutine of it."""
        name = f"_{do.name}" if hasattr(fs, f"_{do.name}") else do.name
        return getattr(fs, name)(*do.args, **do.options)

    def _fs_of_loop(self) -> Any:
        """The file system as one for this event loop."""
        if getattr(self._given, "asynchronous", False):
            return self._given
        loop = asyncio.get_running_loop()
        if loop not in self._of_loop:
            options = {**self.fs.storage_options, "asynchronous": True, "skip_instance_cache": True}
            self._of_loop[loop] = type(self.fs)(*self.fs.storage_args, **options)
        return self._of_loop[loop]

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return self._run("read", key, self._get(key))

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        return self._run("read", key, self._get_ranges(key, ranges, if_version))

    def version(self, key: str) -> Version:
        """See `storage.Versions`."""
        blob = self.get_ranges(key, ())
        return None if blob is None else blob.version

    async def get_async(self, key: str) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await self._run_async("read", key, self._get(key))

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await self._run_async("read", key, self._get_ranges(key, ranges, if_version))

    def _get(self, key: str) -> Steps[Blob | None]:
        path = self._path_of(key)
        for _ in range(MAX_TRIES):
            state = yield from self._state(path)
            if state is None:
                return None
            # The version is looked at first: bytes that are newer than it are found out by the write on condition of it.
            try:
                data = memoryview((yield Do("cat_file", (path,)))).toreadonly()
            except _ABSENT:
                continue
            if state.mark is not None and state.size not in (None, len(data)) and (yield from self._state(path)) == state:
                raise StoreError("the file system gave other bytes than the file has", expected=state.size, got=len(data))
            return Blob((data,), (yield Hash(data)) if state.mark is None else state, len(data))
        raise ConflictError("the object was replaced in every try to read it", limit=f"{MAX_TRIES} tries")

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version) -> Steps[Blob | None]:
        path = self._path_of(key)
        known = if_version if isinstance(if_version, _State) and ranges else None  # what it is compared with afterwards
        for _ in range(MAX_TRIES):
            state = known or (yield from self._state(path))
            if state is not None and (state.mark is None or state.size is None):
                return (yield from self._slices_of_whole(key, ranges, if_version))
            if if_version is not None:
                expect_version(state, if_version, self.url, key)
            if state is None:
                return None
            assert state.size is not None
            try:
                data = yield from self._read_spans(path, spans_within(ranges, state.size))
            except Exception:  # file systems have words of their own for a range of what has become shorter
                if (yield from self._state(path)) == state:
                    raise
                known = None
                continue
            if not data or (yield from self._state(path)) == state:
                return Blob(data, state, state.size)
            known = None
        return (yield from self._slices_of_whole(key, ranges, if_version))  # a writer that is always faster than two reads

    def _slices_of_whole(self, key: str, ranges: Sequence[ByteRange], if_version: Version) -> Steps[Blob | None]:
        """Ranges of an object whose version is a hash of all of it."""
        whole = yield from self._get(key)
        if if_version is not None:
            expect_version(None if whole is None else whole.version, if_version, self.url, key)
        if whole is None:
            return None
        data = tuple(whole.data[0][start:stop] for start, stop in spans_within(ranges, whole.size))
        return Blob(data, whole.version, whole.size)

    def _read_spans(self, path: str, spans: Sequence[tuple[int, int]]) -> Steps[tuple[memoryview, ...]]:
        wanted = [span for span in spans if span[0] < span[1]]
        if len(wanted) == 1:
            found = [(yield Do("cat_file", (path,), {"start": wanted[0][0], "end": wanted[0][1]}))]
        elif wanted:
            starts, stops = map(list, zip(*wanted, strict=True))
            found = yield Do("cat_ranges", ([path] * len(wanted), starts, stops), {"on_error": "raise"})
        else:
            found = []
        pieces = iter(found)
        data = tuple(memoryview(next(pieces) if start < stop else b"").toreadonly() for start, stop in spans)
        for view, (start, stop) in zip(data, spans, strict=True):
            if len(view) != stop - start:
                message = "the file system gave other bytes than it was asked for"
                raise _Short(message, expected=f"{stop - start} bytes", got=f"{len(view)} bytes")
        return data

    def _state(self, path: str) -> Steps[_State | None]:
        """Version and size of a file, as far as the file system tells; None where there is none."""
        if getattr(self.fs, "use_listings_cache", False) or getattr(self.fs, "dircache", None):
            yield Do("invalidate_cache")
        try:
            info = yield Do("info", (path,))
        except _ABSENT:
            return None
        return _State.of(info) if info.get("type", "file") in ("file", "link", "other") else None

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        return self._run("write", key, self._put(key, parts))

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        self._run("erase", key, self._erase(key))

    def erase_prefix(self, prefix: str) -> None:
        """See `storage.Erase`."""
        self._run("erase", prefix, self._erase_prefix(prefix))

    async def put_async(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.AsyncPut`."""
        return await self._run_async("write", key, self._put(key, parts))

    async def erase_async(self, key: str) -> None:
        """See `storage.AsyncErase`."""
        await self._run_async("erase", key, self._erase(key))

    async def erase_prefix_async(self, prefix: str) -> None:
        """See `storage.AsyncErase`."""
        await self._run_async("erase", prefix, self._erase_prefix(prefix))

    def _put(self, key: str, parts: Sequence[Buffer]) -> Steps[Version]:
        path, value = self._path_of(key), b"".join(parts)
        renames = self._renames() and not self._writes_at_once()
        target = f"{path}.{os.getpid()}-{next(_temp_names)}{TEMP}" if renames else path
        try:
            yield Do("pipe_file", (target, value))
        except FileNotFoundError:
            yield Do("makedirs", (path.rpartition("/")[0],), {"exist_ok": True})
            yield Do("pipe_file", (target, value))
        if renames:
            try:
                yield Do("mv", (target, path))
            except BaseException:
                try:
                    yield Do("rm_file", (target,))
                except Exception:
                    pass  # the failure that brought us here is the one to report
                raise
        state = yield from self._state(path)
        if state is None:
            raise StoreError("an object that was written is not there", hint="Another writer may have erased it")
        return (yield Hash(memoryview(value))) if state.mark is None else state

    def _writes_at_once(self) -> bool:
        protocols = self.fs.protocol
        return not _ATOMIC.isdisjoint((protocols,) if isinstance(protocols, str) else protocols)

    def _erase(self, key: str) -> Steps[None]:
        path = self._path_of(key)
        if (yield from self._state(path)) is not None:
            try:
                yield Do("rm_file", (path,))
            except _ABSENT:
                pass

    def _erase_prefix(self, prefix: str) -> Steps[None]:
        keys = yield from self._list_prefix(prefix, hidden=True)
        for key in keys:
            try:
                yield Do("rm_file", (f"{self.root}/{key}",))
            except _ABSENT:
                pass
        if prefix and keys:
            try:
                yield Do("rm", (f"{self.root}/{prefix}".rstrip("/"),), {"recursive": True})  # directories, where there are such
            except _ABSENT:
                pass

    # ── listing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """See `storage.List`."""
        return iter(self._run("list", prefix, self._list_prefix(prefix)))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        return self._run("list", prefix, self._list_dir(prefix))

    async def list_prefix_async(self, prefix: str) -> list[str]:
        """See `storage.AsyncList`."""
        return await self._run_async("list", prefix, self._list_prefix(prefix))

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.AsyncList`."""
        return await self._run_async("list", prefix, self._list_dir(prefix))

    def _list_prefix(self, prefix: str, hidden: bool = False) -> Steps[list[str]]:
        check_prefix(prefix, self.url)
        yield Do("invalidate_cache")
        try:
            found = yield Do("find", (f"{self.root}/{prefix}".rstrip("/"),))
        except _ABSENT:
            return []
        keys = [key for key in map(self._key_of, found) if key is not None and key.startswith(prefix)]
        return sorted(key for key in keys if hidden or not key.endswith(TEMP))

    def _list_dir(self, prefix: str) -> Steps[tuple[list[str], list[str]]]:
        check_prefix(prefix, self.url)
        yield Do("invalidate_cache")
        try:
            entries = yield Do("ls", (f"{self.root}/{prefix}".rstrip("/"),), {"detail": True})
        except _ABSENT:
            return [], []
        named = [(self._key_of(entry["name"]), entry.get("type")) for entry in entries]
        below = [(key, kind) for key, kind in named if key is not None and key.startswith(prefix) and key != prefix.rstrip("/")]
        keys = sorted(key for key, kind in below if kind != "directory" and not key.endswith(TEMP))
        return keys, sorted({f"{key.rstrip('/')}/" for key, kind in below if kind == "directory"})

    def _path_of(self, key: str) -> str:
        check_key(key, self.url)
        return f"{self.root}/{key}"

    def _key_of(self, path: str) -> str | None:
        """The key of a path below the root; None for any other."""
        path, root = "/" + path.lstrip("/"), "/" + self.root.lstrip("/")
        return path[len(root.rstrip("/")) + 1 :] if path.startswith(f"{root.rstrip('/')}/") else None

    # ── as a value ───────────────────────────────────────────────────────────────────────────────────────────────────

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FsspecStore) or (self._given is None) != (other._given is None):
            return False
        return (self._given, self.url, self.options) == (other._given, other.url, other.options)

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"FsspecStore({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._given, self._path, self.options)


class _State(NamedTuple):
    """What a file system tells of a file: what its content is known by (None: nothing), and its size. It serves as the version."""

    mark: object
    size: int | None

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> _State:
        size = info.get("size")
        size = int(size) if isinstance(size, int | float) else None
        mark = next((str(info[name]) for name in _MARKS if info.get(name)), None)
        if mark is not None and not mark.startswith("W/"):  # a weak ETag is that of all that mean the same
            return cls(mark, size)
        for name in _TIMES:
            time = info.get(name)
            if getattr(time, "microsecond", 0) or (isinstance(time, float) and time % 1):
                return cls((str(time), info.get("ino")), size)
        return cls(None, size)


class _Short(StoreError):
    """Fewer or more bytes than were asked for."""

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreError(self.message).__reduce__()


def knows(scheme: str) -> bool:
    """Whether fsspec is installed and has file systems of this scheme."""
    try:
        from fsspec import available_protocols
    except ImportError:
        return False
    return scheme not in OBJECT_STORES and scheme in available_protocols()


def from_mapper(mapper: Any) -> object:
    """The store of a mapper (`fsspec.get_mapper`); files of this machine get the store that is made for them."""
    return from_filesystem(mapper.fs, mapper.root)


def from_filesystem(fs: Any, path: str) -> object:
    """The store of a path on a file system."""
    from fsspec.implementations.local import LocalFileSystem

    if type(getattr(fs, "sync_fs", fs)) is LocalFileSystem:
        from zarrant.stores.local.store import FilesystemStore

        return FilesystemStore(LocalFileSystem._strip_protocol(path))
    return FsspecStore(fs, path)


def from_url(url: str, options: Mapping[str, Any]) -> FsspecStore:
    """The store of a URL, chained ones (`simplecache::ftp://...`) too."""
    if not all(isinstance(name, str) for name in options):
        raise OptionError("unknown storage option", store=url, field=repr(next(iter(options))), expected="names")
    return FsspecStore(None, url, options)
