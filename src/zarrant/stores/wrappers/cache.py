"""Stored bytes kept in memory: whole objects and ranges, such as the indexes of shards, each of one version.

In: any store whose objects have versions. Out: `Cache`, which does the same and moves fewer bytes. What is kept is used only
after the store said, during the call, that the object is still of that version: so a read sees every write, of any process, that
was acknowledged before it began. A hit costs that question (a look at a file, a HEAD request) in place of the bytes. Only where
the caller allows an age (`max_age`) is the store not asked. What part of the ranges asked for is kept, is not read again: the
others are read on condition of the version.

The writes made through any form of this store drop what is kept of their objects, before and after. A read that began before such
a write keeps nothing: each write changes a mark, which must be the same at the start and the end of a read.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from zarrant.errors import OptionError, VersionChangedError
from zarrant.locking.local import remake_after_fork
from zarrant.storage import Blob, Buffer, ByteRange, Version, capabilities
from zarrant.stores.steps import follow, follow_async
from zarrant.stores.wrappers.each_call import Call, EachCall

T = TypeVar("T")
Span = tuple[int, int]

WRITES = ("put", "put_if", "splice", "erase", "erase_if")
WRITES_BELOW = ("erase_prefix", "erase_link")
MARKS = 64
"""Keys share marks by their hash. A read keeps nothing, in one case of 64, because another key is written at the same time."""

PART_OVERHEAD = 200
"""Bytes of Python objects for each kept range: measured with `sys.getsizeof`, rounded up."""


class _Kept(NamedTuple):
    """What is kept of one version of an object: bytes by (start, stop). `asked`: when the store last gave this version."""

    version: Version
    size: int
    parts: dict[Span, memoryview]
    asked: float

    def find(self, spans: Sequence[Span]) -> list[memoryview | None]:
        """The bytes of each span, None where they are not kept."""
        whole = self.parts.get((0, self.size))
        return [whole[start:stop] if whole is not None else self.parts.get((start, stop)) for start, stop in spans]


class _Entries:
    """What is kept, the longest unused first; shared by all forms of one store."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Keep nothing: a thread of the parent may have been at work here when a child was forked."""
        self.lock = threading.Lock()
        self.kept: OrderedDict[str, _Kept] = OrderedDict()
        self.nbytes = self.hits = self.misses = 0
        self.marks = [0] * MARKS

    def look(self, key: str) -> tuple[_Kept | None, int]:
        """What is kept of an object, and its mark."""
        with self.lock:
            found = self.kept.get(key)
            if found is not None:
                self.kept.move_to_end(key)
            return found, self.marks[hash(key) % MARKS]

    def keep(self, key: str, blob: Blob, spans: Sequence[Span], mark: int, asked: float) -> None:
        """Keep what was read, unless the object was written through this store meanwhile."""
        lasts = blob.version is not None and getattr(blob.version, "lasting", True)  # safety: kept versions last
        if not lasts or sum(view.nbytes for view in blob.data) > self.max_bytes // 2:
            return
        parts = {span: _own(view) for span, view in zip(spans, blob.data, strict=True)}
        with self.lock:
            if self.marks[hash(key) % MARKS] != mark:
                return
            old = self._pop(key)
            if old is not None and old.version == blob.version and (0, blob.size) not in parts:
                parts = {**old.parts, **parts}
            self.kept[key] = _Kept(blob.version, blob.size, parts, asked)
            self.nbytes += _nbytes(parts)
            while self.nbytes > self.max_bytes:
                self._pop(next(iter(self.kept)))

    def drop(self, key: str) -> None:
        """Forget an object that is written."""
        with self.lock:
            self._pop(key)
            self.marks[hash(key) % MARKS] += 1

    def drop_below(self, prefix: str) -> None:
        """Forget all objects below a prefix."""
        with self.lock:
            for key in [key for key in self.kept if key.startswith(prefix)]:
                self._pop(key)
            self.marks = [mark + 1 for mark in self.marks]

    def count(self, hit: bool) -> None:
        """Count a read."""
        with self.lock:
            self.hits, self.misses = self.hits + hit, self.misses + (not hit)

    def _pop(self, key: str) -> _Kept | None:
        found = self.kept.pop(key, None)
        if found is not None:
            self.nbytes -= _nbytes(found.parts)
        return found


def _nbytes(parts: dict[Span, memoryview]) -> int:
    return sum(view.nbytes + PART_OVERHEAD for view in parts.values())


def _own(view: memoryview) -> memoryview:
    """The bytes in a buffer of their own size: a view of a larger one would keep all of that."""
    return view if isinstance(view.obj, bytes) and len(view.obj) == view.nbytes else memoryview(bytes(view))


class _Read(NamedTuple):
    """A request of the plan of a read: of the whole object (`ranges` None), or of ranges."""

    ranges: Sequence[ByteRange] | None
    if_version: Version = None


class _AskVersion(NamedTuple):
    """A request of the plan of a read: which version the object has now."""


_Plan = Generator[_Read | _AskVersion, Any, Blob | None]


class Cache(EachCall):
    """Keeps stored bytes in memory, never older than the store says.

    Decoded chunks are not kept, and absent objects neither.

    Args:
        store: Any store; what it tells no version of is not kept.
        max_bytes: How much is kept. Of a single read at most half of it.
        max_age: Seconds for which an object is used without asking the store. With 0 every read is right. With more, writes of
            other processes may be seen so much later; those of this store are seen at once.

    Raises:
        OptionError: A negative number.

    >>> from zarrant.stores.memory import MemoryStore
    >>> store = Cache(MemoryStore({"a": b"abc"}))
    >>> for _ in range(3):
    ...     blob = store.get("a")
    >>> store.hits, store.misses
    (2, 1)
    """

    def __init__(self, store: object, max_bytes: int = 256 << 20, max_age: float = 0.0) -> None:
        super().__init__(store)
        for name, value in (("max_bytes", max_bytes), ("max_age", max_age)):
            if not value >= 0:
                raise OptionError("impossible value of a cache", field=name, expected="0 or more", got=repr(value))
        self.max_bytes, self.max_age = max_bytes, max_age
        self._entries = _Entries(max_bytes)

    @property
    def _settings(self) -> tuple[Any, ...]:
        return self.max_bytes, self.max_age

    @property
    def hits(self) -> int:
        """Reads that needed no byte of the store."""
        return self._entries.hits

    @property
    def misses(self) -> int:
        """Reads that needed bytes of the store."""
        return self._entries.misses

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        return self._entries.nbytes

    def clear(self) -> None:
        """Keep nothing of what was read so far."""
        self._entries.drop_below("")

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return self._follow(key, self._plan(key, None, None), super().get)

    def get_within(self, key: str, limit: int) -> Blob | None:
        """See `storage.GetWithin`."""
        kept, _ = self._entries.look(key)
        if kept is not None and kept.size > limit:
            return super().get_within(key, limit)
        return self._follow(key, self._plan(key, None, None), lambda key: super(Cache, self).get_within(key, limit))

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        return self._follow(key, self._plan(key, ranges, if_version), super().get)

    async def get_async(self, key: str) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await self._follow_async(key, self._plan(key, None, None), super().get_async)

    async def get_within_async(self, key: str, limit: int) -> Blob | None:
        """See `storage.AsyncGetWithin`."""
        kept, _ = self._entries.look(key)
        if kept is not None and kept.size > limit:
            return await super().get_within_async(key, limit)
        whole = super().get_within_async
        return await self._follow_async(key, self._plan(key, None, None), lambda key: whole(key, limit))

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await self._follow_async(key, self._plan(key, ranges, if_version), super().get_async)

    def _plan(self, key: str, ranges: Sequence[ByteRange] | None, if_version: Version) -> _Plan:
        """The requests of one read."""
        kept, mark = self._entries.look(key)
        spans = _spans(kept, ranges) if kept is not None and (ranges is None or ranges) else None
        if kept is not None and spans is not None and if_version in (None, kept.version):
            found = kept.find(spans)
            wanted = ranges or (ByteRange(0),)
            blob = yield from self._use(kept, [*zip(wanted, spans, found, strict=True)], mark, key)
            if blob is not None:
                return blob
        began = time.monotonic()
        got: Blob | None = yield _Read(ranges, if_version)
        self._entries.count(False)
        if got is not None and (ranges is None or ranges):
            got_spans = [(0, got.size)] if ranges is None else [part.resolve(got.size) for part in ranges]
            if [stop - start for start, stop in got_spans] == [view.nbytes for view in got.data]:
                self._entries.keep(key, got, got_spans, mark, began)
        return got

    def _use(self, kept: _Kept, parts: list[tuple[ByteRange, Span, memoryview | None]], mark: int, key: str) -> _Plan:
        """What is kept, completed by what is not; None where the object is of another version by now."""
        missing = [(wanted, span) for wanted, span, found in parts if found is None]
        began = time.monotonic()
        more: tuple[memoryview, ...] = ()
        if not missing and began - kept.asked >= self.max_age:
            if (yield _AskVersion()) != kept.version:
                return None
            if self.max_age:
                self._entries.keep(key, Blob((), kept.version, kept.size), (), mark, began)
        elif missing:
            try:
                blob: Blob | None = yield _Read([wanted for wanted, _ in missing], kept.version)
            except VersionChangedError:
                return None
            if blob is None:
                return None
            more = blob.data
            self._entries.keep(key, blob, [span for _, span in missing], mark, began)
        self._entries.count(not missing)
        rest = iter(more)
        return Blob(tuple(next(rest) if found is None else found for _, _, found in parts), kept.version, kept.size)

    def _follow(self, key: str, plan: _Plan, whole: Callable[[str], Blob | None]) -> Blob | None:
        return follow(plan, lambda request: self._ask(key, request, whole))

    def _ask(self, key: str, request: _Read | _AskVersion, whole: Callable[[str], Blob | None]) -> object:
        if isinstance(request, _Read):
            return whole(key) if request.ranges is None else super().get_ranges(key, request.ranges, request.if_version)
        if capabilities(self.store).version:
            return super().version(key)
        blob = super().get_ranges(key, ())
        return None if blob is None else blob.version

    async def _follow_async(self, key: str, plan: _Plan, whole: Callable[[str], Awaitable[Blob | None]]) -> Blob | None:
        return await follow_async(plan, lambda request: self._ask_async(key, request, whole))

    async def _ask_async(self, key: str, request: _Read | _AskVersion, whole: Callable[[str], Awaitable[Blob | None]]) -> object:
        if isinstance(request, _Read):
            if request.ranges is None:
                return await whole(key)
            return await super().get_ranges_async(key, request.ranges, request.if_version)
        blob = await super().get_ranges_async(key, ())
        return None if blob is None else blob.version

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def put_all(self, items: Sequence[tuple[str, Sequence[Buffer]]]) -> list[Version | Exception]:
        """See `storage.PutAll`."""
        try:
            for key, _ in items:
                self._entries.drop(key)
            return super().put_all(items)
        finally:
            for key, _ in items:
                self._entries.drop(key)

    def _perform(self, call: Call, act: Callable[[], T]) -> T:
        if call.method not in WRITES and call.method not in WRITES_BELOW:
            return act()
        self._forget(call)
        try:
            return act()
        except Exception:
            self._doubt()
            raise
        finally:
            self._forget(call)

    async def _perform_async(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        if call.method not in WRITES and call.method not in WRITES_BELOW:
            return await act()
        self._forget(call)
        try:
            return await act()
        except Exception:
            self._doubt()
            raise
        finally:
            self._forget(call)

    def _forget(self, call: Call) -> None:
        if call.method in WRITES_BELOW:
            self._entries.drop_below(call.key)
        else:
            self._entries.drop(call.key)

    def _doubt(self) -> None:
        """A write was refused, perhaps because of what was used without asking: the next try must not use it again."""
        if self.max_age:
            self.clear()

    def __eq__(self, other: object) -> bool:
        """Whether what one writes is known to the other: callers who wait for an object are served by equal stores."""
        return isinstance(other, Cache) and self._entries is other._entries and bool(self.store == other.store)

    def __hash__(self) -> int:
        return hash((Cache, self.store))


def _spans(kept: _Kept, ranges: Sequence[ByteRange] | None) -> list[Span] | None:
    """The bytes that are asked for; None where some are outside of the kept version: the store says what that means."""
    try:
        return [(0, kept.size)] if ranges is None else [part.resolve(kept.size) for part in ranges]
    except ValueError:
        return None
