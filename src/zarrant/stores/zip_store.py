"""Objects in a zip archive: read by ranges from a file or any store; written once, to a file.

In: a path, or a store and the key of an archive in it. Out: a store. Reading takes the directory of the archive once, then of
each object only the bytes that are asked for, where it is not compressed. A reader keeps to the archive of one version until it
notices that this was replaced; then it takes the directory of the new one.

Writing makes a new archive (`mode="w"`), or one that has all that is there and more (`mode="a"`), which takes the place of the old
one at the end of the block, in one step (`zip_writer`). What an archive has already cannot be replaced or erased.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

from zarrant.errors import (
    ArchiveError,
    ByteRangeError,
    CapabilityError,
    ConflictError,
    LimitError,
    OptionError,
    VersionChangedError,
    ZarrantError,
    ZarrantWarning,
)
from zarrant.limits import LIMITS
from zarrant.storage import Blob, Buffer, ByteRange, Calls, Capabilities, Version, as_store, capabilities, expect_version, url_of
from zarrant.storage.capabilities import Described
from zarrant.stores.keys import check_key, check_prefix
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.temp_files import annotate_errors
from zarrant.stores.off_loop import off_loop
from zarrant.stores.zip_format import (
    LOCAL_BYTES,
    MAX_TAIL,
    STORED,
    Entry,
    check_crc,
    inflate,
    is_metadata,
    parse_directory,
    parse_ending,
    parse_local,
    require_readable,
)
from zarrant.stores.zip_writer import ZipWriter

T = TypeVar("T")
Mode = Literal["r", "w", "a"]
MODES: tuple[Mode, ...] = get_args(Mode)
DUPLICATES = ("error", "last")
MAX_TRIES = 10
"""Times an archive is read again because it was replaced meanwhile."""

MAX_INFLATED = 16
"""Bytes that one of a deflated entry comes to, as a rule; the most is a thousand."""


class Ask(NamedTuple):
    """Ranges of the archive that are wanted next, of one version of it."""

    ranges: tuple[ByteRange, ...] = ()
    version: Version = None


Steps = Generator[Ask, Blob | None, T]


class _Replaced(Exception):
    """The archive is another one than that whose directory is known."""


@dataclass
class _Archive:
    """One version of an archive."""

    version: Version
    size: int
    start: int
    """Where its directory begins, behind all data."""
    comment: bytes
    entries: dict[str, Entry | None]
    data_at: dict[str, int] = field(default_factory=dict)
    """Where the bytes of an object begin, as far as known."""
    extra: int = 0
    """Bytes of the extra field in the local header that was met last: those of one archive are mostly of one length."""

    @cached_property
    def keys(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self.entries)


_NO_ARCHIVE = _Archive(None, 0, 0, b"", {})


class ZipStore(Described):
    """A zip archive as a store.

    `archive` is a path, or with `key` a store in which the archive is the object of that key; that can be read, by the kinds of
    calls that the store has. `mode`: "r" reads, "w" makes a new archive, "a" adds to one that is there, or makes it.
    With "w" and "a" the archive is published by `close()`, or at the end of a `with` block that ends without an error;
    before that nobody sees any of it, and if the process dies the old archive is as it was. All threads of one process may
    write. In a new archive objects may be replaced until it is published; those of an archive that is added to may not,
    nor be erased: CapabilityError.
    `duplicates`: what a name means that the archive has twice. Readers differ in that: "error" refuses it where it is read,
    "last" takes the one that was written last, as zarr-python does, which writes such archives.

    What is compressed by zip itself (zarr-python and we do not do that) is decompressed whole for each range that is read.

    >>> import numpy as np, tempfile, zarrant
    >>> path = tempfile.mkdtemp() + "/image.ozx"
    >>> with ZipStore(path, "w") as store:
    ...     a = zarrant.create_array(store, name="0", data=np.arange(6), chunks=2)
    >>> zarrant.open(path, mode="r")["0"][2:4].tolist()
    [2, 3]
    """

    one_process = True

    def __init__(
        self,
        archive: object,
        mode: Mode = "r",
        *,
        key: str | None = None,
        duplicates: str = "error",
    ) -> None:
        for name, value, known in (("mode", mode, MODES), ("duplicates", duplicates, DUPLICATES)):
            if value not in known:
                raise OptionError(f"unknown {name}", field=name, expected=" | ".join(known), got=repr(value))
        self.mode, self.duplicates = mode, duplicates
        self._archive: _Archive | None = None
        self._writer: ZipWriter | None = None
        self._base: frozenset[str] = frozenset()
        self._path: str | None = None
        if isinstance(archive, str) and "://" in archive:
            hint = "zarrant.open reads an archive at a URL; one that is written is written to a path, and copied"
            raise OptionError("a URL is not the path of an archive", field="archive", expected="a path", got=archive, hint=hint)
        if isinstance(archive, str | os.PathLike):
            if key is not None:
                raise OptionError("a path has no keys", field="key", expected="a store", got=os.fspath(archive))
            self._path = os.path.abspath(os.fspath(archive))
            self.url = Path(self._path).as_uri()
            directory, self._key = os.path.split(self._path)
            self._source = as_store(FilesystemStore(directory, locking="none", follow_symlinks=True))
        else:
            self._source, self._key = as_store(archive), self._checked_source(archive, key)
            self.url = f"{url_of(archive).rstrip('/')}/{self._key}"
        if mode != "r":
            self._start_writing()

    def _checked_source(self, store: object, key: str | None) -> str:
        if key is None or not capabilities(store).get:
            expected = "a path, or a store that can be read and the key of an archive"
            raise OptionError("not an archive", field="archive", expected=expected, got=type(store).__name__)
        if self.mode != "r":
            hint = "Write it to a file, and copy that"
            raise OptionError("an archive is written to a path", field="mode", expected="r", got=self.mode, hint=hint)
        check_key(key, url_of(store))
        return key

    # ── what it can do ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def capabilities(self) -> Capabilities:
        """Reads by the calls of the store of the archive; writes while it is written."""
        inside, writes = capabilities(self._source), self._writer is not None
        reads = Calls(get=True, get_within=True, list=True)
        sync_calls = reads if inside.sync_calls.get else Calls()
        if writes:
            sync_calls = sync_calls._replace(put=True, put_if=True, erase=True, erase_if=True)
        return Capabilities(
            sync_calls=sync_calls,
            async_calls=reads if inside.async_calls.get and not writes else Calls(),
            version=inside.sync_calls.get,
            durability="fsync" if writes else None,
            one_process=writes,
        )

    @property
    def durability(self) -> str:
        """What `close` publishes is on disk when it returns."""
        return "fsync"

    @property
    def guard(self) -> str:
        """What guards writes."""
        if self._writer is None:
            return "read only"
        return "threads of this process; nobody else sees the archive before it is closed"

    @property
    def how_to_write(self) -> str:
        """What an error says to whom would write."""
        return "Archives are written as `with ZipStore(path, 'w') as store: create_array(store, ...)` (zarrant.stores)"

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return self._get(key, None)

    def get_within(self, key: str, limit: int) -> Blob | None:
        """See `storage.GetWithin`."""
        return self._get(key, None, limit=limit)

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        return self._get(key, tuple(ranges), if_version)

    def _get(
        self, key: str, ranges: tuple[ByteRange, ...] | None, if_version: Version = None, limit: int | None = None
    ) -> Blob | None:
        check_key(key, self.url)
        with _Annotated(self.url, key):
            if self._writer is not None:
                return self._get_written(self._writer, key, ranges, if_version, limit)
            return self._run(lambda: self._steps(key, ranges, if_version, limit))

    def version(self, key: str) -> Version:
        """See `storage.Versions`."""
        blob = self.get_ranges(key, ())
        return None if blob is None else blob.version

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """See `storage.List`."""
        check_prefix(prefix, self.url)
        return iter(_below(prefix, self._keys()))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        check_prefix(prefix, self.url)
        return _directly_below(prefix, self._keys())

    def _keys(self) -> list[str]:
        if self._writer is not None:
            return sorted(self._writer.versions)
        with _Annotated(self.url, None):
            return self._run(self._load).keys

    async def get_async(self, key: str) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await self._get_async(key, None)

    async def get_within_async(self, key: str, limit: int) -> Blob | None:
        """See `storage.AsyncGetWithin`."""
        return await self._get_async(key, None, limit=limit)

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await self._get_async(key, tuple(ranges), if_version)

    async def _get_async(
        self, key: str, ranges: tuple[ByteRange, ...] | None, if_version: Version = None, limit: int | None = None
    ) -> Blob | None:
        check_key(key, self.url)
        with _Annotated(self.url, key):
            return await self._run_async(lambda: self._steps(key, ranges, if_version, limit))

    async def list_prefix_async(self, prefix: str) -> list[str]:
        """See `storage.AsyncList`."""
        check_prefix(prefix, self.url)
        with _Annotated(self.url, None):
            return _below(prefix, (await self._run_async(self._load)).keys)

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.AsyncList`."""
        check_prefix(prefix, self.url)
        with _Annotated(self.url, None):
            return _directly_below(prefix, (await self._run_async(self._load)).keys)

    def _run(self, make: Callable[[], Steps[T]]) -> T:
        """Take steps by blocking calls; again where the archive was replaced."""
        for _ in range(MAX_TRIES):
            steps, reply = make(), None
            try:
                while True:
                    ask = steps.send(reply)
                    reply = self._source.get_ranges(self._key, ask.ranges, ask.version)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            except (_Replaced, VersionChangedError) as error:
                self._look_again(error)
        raise self._never_the_same()

    async def _run_async(self, make: Callable[[], Steps[T]]) -> T:
        """Take steps by coroutines."""
        for _ in range(MAX_TRIES):
            steps, reply = make(), None
            try:
                while True:
                    # Its entries are looked at, or its bytes are inflated: to many times as many.
                    size = 0 if reply is None else sum(len(data) for data in reply.data)
                    ask = await off_loop(MAX_INFLATED * size, _next_of, steps, reply)
                    if not isinstance(ask, Ask):
                        return ask.value  # type: ignore[no-any-return]
                    reply = await self._source.get_ranges_async(self._key, ask.ranges, ask.version)
            except (_Replaced, VersionChangedError) as error:
                self._look_again(error)
        raise self._never_the_same()

    def _look_again(self, error: Exception) -> None:
        """Forget the directory of an archive that was replaced; raise the error that is about an object in it."""
        if isinstance(error, VersionChangedError) and error.store == self.url:
            raise error
        self._archive = None

    def _never_the_same(self) -> ConflictError:
        return ConflictError("the archive was replaced in every try to read it", store=self.url, limit=f"{MAX_TRIES} tries")

    def _load(self) -> Steps[_Archive]:
        """The directory of the archive, read where it is not known yet; that of an empty one where there is none."""
        if self._archive is not None:
            return self._archive
        head = yield Ask()
        if head is None:
            return _NO_ARCHIVE
        start = max(0, head.size - MAX_TAIL)
        tail = yield Ask((ByteRange(start, head.size - start),), head.version)
        if tail is None:
            raise _Replaced
        ending = parse_ending(tail.data[0], head.size)
        data = tail.data[0][ending.start - start :] if ending.start >= start else None
        if data is None:
            more = yield Ask((ByteRange(ending.start, ending.length),), head.version)
            if more is None:
                raise _Replaced
            data = more.data[0]
        entries = parse_directory(data[: ending.length], ending, self.duplicates)
        self._archive = _Archive(head.version, head.size, ending.start, ending.comment, entries)
        return self._archive

    def _steps(self, key: str, ranges: tuple[ByteRange, ...] | None, if_version: Version, limit: int | None) -> Steps[Blob | None]:
        """Read an object or its ranges."""
        archive = yield from self._load()
        entry = archive.entries.get(key)
        if entry is None and key in archive.entries:
            hint = "A writer replaced it: ZipStore(..., duplicates='last') takes the one that was written last"
            raise ArchiveError("a name that the archive has twice", key=key, hint=hint)
        version = None if entry is None else (archive.version, entry.offset)
        if if_version is not None:
            expect_version(version, if_version, self.url, key)
        if entry is None:
            return None
        _check_size(entry, limit)
        require_readable(key, entry)
        if ranges == ():
            return Blob((), version, entry.size)
        plain = entry.method == STORED
        spans = [(0, entry.stored)] if ranges is None or not plain else _spans(ranges, entry.size)
        data = yield from self._stored_bytes(archive, key, entry, spans)
        return Blob(tuple(data) if plain and ranges is not None else _values(data[0], key, entry, ranges), version, entry.size)

    def _stored_bytes(self, archive: _Archive, key: str, entry: Entry, spans: Sequence[tuple[int, int]]) -> Steps[list[memoryview]]:
        """Spans of the bytes of an entry as they are in the archive.

        Where they begin is said by the local header. It is read together with them, from where they will be if it is as long
        as the last one.
        """
        at = archive.data_at.get(key)
        if at is None:
            head = ByteRange(entry.offset, LOCAL_BYTES + len(entry.name(key)))
            guess = entry.offset + head.length + archive.extra  # type: ignore[operator]
            fits = guess + entry.stored <= archive.start
            blob = yield Ask((head, *_placed(spans, guess)) if fits else (head,), archive.version)
            if blob is None:
                raise _Replaced
            at = entry.offset + parse_local(blob.data[0], key, entry)
            if at + entry.stored > archive.start:
                raise ArchiveError("an entry that reaches into the directory", key=key, field="local header")
            archive.extra, archive.data_at[key] = at - entry.offset - head.length, at  # type: ignore[operator]
            if fits and at == guess:
                return list(blob.data[1:])
        blob = yield Ask(_placed(spans, at), archive.version)
        if blob is None:
            raise _Replaced
        return list(blob.data)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_writing(self) -> None:
        assert self._path is not None
        writer = ZipWriter(self._path, self.url, self._source.files)  # type: ignore[attr-defined]
        try:
            if self.mode == "a":
                self._take_over(writer)
        except BaseException:
            writer.discard()
            raise
        self._writer, self._archive = writer, None

    def _take_over(self, writer: ZipWriter) -> None:
        """Put into a new archive what the old one has."""
        with _Annotated(self.url, None):
            archive = self._run(self._load)
        if archive is _NO_ARCHIVE:
            return
        assert self._path is not None
        with annotate_errors("read the archive", self.url, None):
            fd = writer.files.open(self._path, os.O_RDONLY)
        try:
            for key, entry in sorted(archive.entries.items(), key=lambda item: -1 if item[1] is None else item[1].offset):
                blob = self.get(key) if entry is None or is_metadata(key) else self.get_ranges(key, (ByteRange(0, 0),))
                assert blob is not None
                if entry is None or is_metadata(key):
                    writer.put(key, blob.data)
                else:
                    if key not in archive.data_at:
                        self._run(partial(self._stored_bytes, archive, key, entry, ()))
                    writer.copy_in(key, entry, fd, archive.data_at[key])
            if self._run(self._unchanged) != archive.version:
                raise VersionChangedError("the archive was replaced while it was copied", store=self.url)
        finally:
            writer.files.close(fd)
        self._base, writer.comment = frozenset(archive.entries), archive.comment

    def _unchanged(self) -> Steps[Version]:
        head = yield Ask()
        return None if head is None else head.version

    def _writing(self, key: str) -> ZipWriter:
        """What writes a key; CapabilityError where that cannot be."""
        check_key(key, self.url)
        if self._writer is None:
            raise CapabilityError("the archive is open for reading", store=self.url, key=key, expected='mode="w" or "a"', got="r")
        if key in self._base:
            raise CapabilityError(
                "what a zip archive has already cannot be replaced or erased",
                store=self.url,
                key=key,
                expected="a key that is not in the archive",
                hint='Write a new archive (mode="w"), or unpack it into a directory, change that, and zip it again',
            )
        return self._writer

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        with _Annotated(self.url, key):
            return self._writing(key).put(key, parts)

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        check_key(key, self.url)
        with _Annotated(self.url, key):
            if key in self._base:  # who is too late hears that first
                expect_version(self.version(key), if_version, self.url, key)
            return self._writing(key).put(key, parts, lambda found: expect_version(found, if_version, self.url, key))

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        self._writing(key).erase(key)

    def erase_if(self, key: str, if_version: Version) -> None:
        """See `storage.EraseIf`."""
        self._writing(key).erase(key, lambda found: expect_version(found, if_version, self.url, key))

    def erase_prefix(self, prefix: str) -> None:
        """See `storage.Erase`; nothing is erased where the archive has one of these objects already."""
        writers = [(key, self._writing(key)) for key in self.list_prefix(prefix)]
        for key, writer in writers:
            writer.erase(key)

    def _get_written(
        self, writer: ZipWriter, key: str, ranges: tuple[ByteRange, ...] | None, if_version: Version, limit: int | None
    ) -> Blob | None:
        """Read an object of an archive that is not published yet."""
        with writer.mutex:
            writer.require_open()
            version, value, entry = writer.versions.get(key), writer.metadata.get(key), writer.entries.get(key)
        if if_version is not None:
            expect_version(version, if_version, self.url, key)
        if value is not None:
            entry = Entry(0, len(value), len(value), 0)
        if entry is None:
            return None
        _check_size(entry, limit)
        require_readable(key, entry)
        if value is not None:
            data = (value,) if ranges is None else tuple(value[start:stop] for start, stop in _spans(ranges, entry.size))
        elif ranges is None or entry.method != STORED:
            data = _values(writer.read(entry, key, 0, entry.stored), key, entry, ranges)
        else:
            data = tuple(writer.read(entry, key, start, stop) for start, stop in _spans(ranges, entry.size))
        return Blob(data, version, entry.size)

    def close(self) -> None:
        """Publish the archive, if it is being written; the store can be read afterwards."""
        if self._writer is not None:
            self._writer.publish()
            self._end_writing()

    def discard(self) -> None:
        """Give up an archive that is being written; what was there before stays."""
        if self._writer is not None:
            self._writer.discard()
            self._end_writing()

    def _end_writing(self) -> None:
        self._writer, self._archive, self._base, self.mode = None, None, frozenset(), "r"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self.close()
        finally:
            self.discard()  # what is published by now is not touched

    def __del__(self) -> None:
        writer = getattr(self, "_writer", None)
        if writer is not None and writer.pid == os.getpid():
            warnings.warn(f"{self!r} was never closed: nothing of it was published", ZarrantWarning, stacklevel=2)
            self.discard()

    # ── as a value ───────────────────────────────────────────────────────────────────────────────────────────────────

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ZipStore) or self._writer is not None or other._writer is not None:
            return self is other
        return (self._source, self._key, self.duplicates) == (other._source, other._key, other.duplicates)

    def __hash__(self) -> int:
        return hash((self._source, self._key))

    def __repr__(self) -> str:
        return f"ZipStore({self.url!r}, {self.mode!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._writer is not None:
            hint = "Close it first, or write a directory and zip that"
            raise CapabilityError("an archive is written by one process", store=self.url, got="a pickle of it", hint=hint)
        return _restore, (self._path or self._source, None if self._path else self._key, self.duplicates)


def _restore(archive: object, key: str | None, duplicates: str) -> ZipStore:
    return ZipStore(archive, key=key, duplicates=duplicates)


class _Annotated:
    """A block whose errors name the archive and the key."""

    def __init__(self, store: str, key: str | None) -> None:
        self.store, self.key = store, key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, ZarrantError):
            error.annotate(store=self.store, key=self.key)


class _End(NamedTuple):
    """What the steps came to."""

    value: Any


def _next_of(steps: Steps[Any], reply: Blob | None) -> Ask | _End:
    """The next step (StopIteration cannot pass through a future)."""
    try:
        return steps.send(reply)
    except StopIteration as stop:
        return _End(stop.value)


def _check_size(entry: Entry, limit: int | None) -> None:
    """LimitError for an object that is larger than who reads it can use."""
    if limit is not None and entry.size > limit:
        raise LimitError("a stored object that is too large", field="stored bytes", got=entry.size, limit=limit)
    if entry.method != STORED and entry.size > LIMITS.decoded:
        raise LimitError("an entry that is too large to be inflated", field="size", got=entry.size, limit=LIMITS.decoded)


def _spans(ranges: Sequence[ByteRange], size: int) -> list[tuple[int, int]]:
    try:
        return [wanted.resolve(size) for wanted in ranges]
    except ValueError as cause:
        raise ByteRangeError("range outside the object", expected=list(ranges), got=f"{size} bytes") from cause


def _placed(spans: Sequence[tuple[int, int]], at: int) -> tuple[ByteRange, ...]:
    return tuple(ByteRange(at + start, stop - start) for start, stop in spans)


def _values(data: memoryview, key: str, entry: Entry, ranges: tuple[ByteRange, ...] | None) -> tuple[memoryview, ...]:
    """What was asked for of an object that was read whole."""
    value = data if entry.method == STORED else inflate(data, key, entry)
    check_crc(value, key, entry)
    return (value,) if ranges is None else tuple(value[start:stop] for start, stop in _spans(ranges, entry.size))


def _below(prefix: str, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if key.startswith(prefix)]


def _directly_below(prefix: str, keys: Sequence[str]) -> tuple[list[str], list[str]]:
    tails = [key[len(prefix) :].partition("/") for key in _below(prefix, keys)]
    return [prefix + head for head, slash, _ in tails if not slash], sorted(
        {prefix + head + slash for head, slash, _ in tails if slash}
    )
