"""Objects of S3, Google Cloud Storage, Azure and HTTP servers: a store over any object that has obspec's methods.

In and out: bytes under keys. `inner` is an object store of obstore, or anybody's object with the methods of obspec
(https://developmentseed.org/obspec), blocking ones or coroutines or both: `capabilities` says what follows. Every algorithm
is written once, as steps (`objects.calls`), and performed by both kinds of calls.

Strategy:

- Every read is a `get` of its own, several ranges at once, since only that can be made on condition of a version. Ranges with
  less than `coalesce_gap` bytes between them are one request, of no more than 16 MiB. All replies must be of one version and have
  the length asked for.
- Several parts are one PUT, without being joined.
- A conditional put is tried again by us alone, with an id of the write in the object's metadata (`objects.versions`). Before a
  conflict is reported the object is looked at: a reply may have been lost.
- There is no conditional delete in these services: `erase_if` is missing.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

from zarrant.errors import ByteRangeError, CapabilityError, LimitError, OptionError, StoreError, VersionChangedError, ZarrantError
from zarrant.storage import ANY, Blob, Buffer, ByteRange, Calls, Capabilities, Version
from zarrant.storage.capabilities import Described
from zarrant.stores.keys import check_key, check_prefix
from zarrant.stores.objects.calls import MAX_IN_FLIGHT, Call, Collect, Sleep, Steps, Together, perform, perform_async
from zarrant.stores.objects.failures import Failure, Kind
from zarrant.stores.objects.forks import is_cut_off
from zarrant.stores.objects.merging import MergedReads
from zarrant.stores.objects.ranges import HEAD, WHOLE, Reply, cut, is_answer, is_suffix, needs_size, options_of, requests_for
from zarrant.stores.objects.recognize import is_object_store
from zarrant.stores.objects.versions import WRITES, ObjectVersion, followed_by, name_all_since, new_write, writes_of
from zarrant.stores.probe import PROBES, known

COALESCE_GAP = 16 * 1024
"""Bytes that are read for nothing rather than by a request of their own. A request takes 0.1 ms of CPU here and about as much at
the server, in which 100 KB are moved on a fast network and 1 KB on a slow one; and it waits beside the others, not after them.
obstore and zarr-python take 1 MiB, TensorStore 4 KiB. 64 random subchunks of 39 KB each out of 20 MB took as much CPU with 64 KiB
as with 16 KiB, for a tenth more bytes."""
MAX_TRIES = 10
"""Tries of a conditional put, as many as obstore makes of any other request; the store of a URL takes it from `retry_config`."""
PUT_TIMEOUT_S = 180.0
"""After which a conditional put is not begun again; what obstore does with any other request."""
MAX_READS = 8
"""Tries of a read whose replies are of several versions."""
MAX_BODIES = 6
"""Tries of a reply that breaks off, which obstore does not begin again by itself: with one of 10 cut, 1 read of 10⁶ fails."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 5.0
"""Between tries, with full jitter: 10 tries take 9 s on average, which outlasts what a service calls "slow down"."""
MAX_PASSES = 3
"""Listings of what is to be erased: what others store meanwhile is found by the second one."""
MAX_BULK = 1000
"""Keys that one request of S3 can delete."""
_NOT_KNOWN = "Whether it was stored before that is not known: look at what is there before it is done again"
_WITHOUT_PUT_IF = ("LocalStore",)
"""Those of obstore that cannot replace an object on condition of its version."""
_DURABLE = ("S3Store", "GCSStore", "AzureStore")
"""Those of obstore whose services acknowledge a write when it will last."""


class Client(Protocol):
    """Makes the object with obspec's methods, in each process: `swaps` asks for one that never repeats a request by itself."""

    def __call__(self, swaps: bool) -> Any:
        """The object."""
        ...


class _MixedError(Exception):
    """Replies of several versions; `found` is one that was not expected."""

    def __init__(self, found: Version) -> None:
        self.found = found


class _AgainError(Exception):
    """Something was learnt of the server: ask in another way."""


class ObjectStore(Described):
    """A store over `inner`, an object store of obstore or an object with obspec's methods.

    `coalesce_gap`: ranges with fewer bytes between them are read by one request. `read_only`: nothing is written or listed.
    `probe`: how the service's compare-and-swap is tried out before the first write ("auto", "full" or "off", see `stores.probe`).
    `pickle_inner`: `inner` is pickled with the store, and may hold secrets. The store of a URL (`open_array("s3://bucket/a")`)
    needs none of this: it is pickled as its URL and options.

    >>> import obstore
    >>> store = ObjectStore(obstore.store.MemoryStore())
    >>> version = store.put("a", [b"by", b"tes"])
    >>> bytes(store.get("a").data[0])
    b'bytes'
    """

    def __init__(
        self,
        inner: Any,
        *,
        url: str | None = None,
        coalesce_gap: int = COALESCE_GAP,
        read_only: bool = False,
        pickle_inner: bool = False,
        probe: str = "auto",
    ) -> None:
        if not is_object_store(inner):
            message = "not an object store"
            raise OptionError(message, field="inner", expected="an object with the methods of obspec", got=type(inner).__name__)
        read_only = read_only or type(inner).__name__ == "HTTPStore"
        self._setup(lambda swaps: inner, url or _url_of(inner), coalesce_gap, read_only, probe)
        self._pickled = (inner, url, coalesce_gap, read_only, probe) if pickle_inner else None
        self._identity: Any = id(inner), self.read_only, probe

    def _setup(
        self, client: Client, url: str, coalesce_gap: int, read_only: bool, probe: str, secrets: tuple[str, ...] = ()
    ) -> None:
        if isinstance(coalesce_gap, bool) or not isinstance(coalesce_gap, int) or coalesce_gap < 0:
            raise OptionError("not a number of bytes", field="coalesce_gap", expected="0 or more", got=repr(coalesce_gap))
        if probe not in PROBES:
            raise OptionError("unknown probe", field="probe", expected=", ".join(PROBES), got=repr(probe))
        self.url, self.coalesce_gap, self.read_only, self.probe = url, coalesce_gap, read_only, probe
        self._client, self._secrets = client, secrets
        self._tries, self._put_timeout_s = MAX_TRIES, PUT_TIMEOUT_S
        self._clients: dict[tuple[int, bool], Any] = {}
        self._merged = MergedReads()
        self._has_attributes = self._has_ranges = self._has_suffixes = True
        self.forbidden_is_absent = False

    def _inner(self, swaps: bool = False) -> Any:
        """The client of this process: sockets do not outlive a fork."""
        name = os.getpid(), swaps
        if name not in self._clients:
            made = self._client(swaps)
            if type(made).__module__.startswith("obstore"):
                self._check_process()
            self._clients[name] = made
        return self._clients[name]

    def _check_process(self) -> None:
        """CapabilityError in a forked child: the threads of obstore are gone there, and calls may wait for ever."""
        if is_cut_off():
            raise CapabilityError(
                "obstore cannot be used in a process that was forked from one that uses it",
                store=self.url,
                expected="a process of its own",
                hint='Start processes by "spawn" or "forkserver" (multiprocessing.set_start_method)',
            )

    # ── what it is ───────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def capabilities(self) -> Capabilities:
        """What it can do, read off the methods of the inner object."""
        inner = self._described()
        kind = inner if isinstance(inner, type) else type(inner)
        here = kind.__name__ == "MemoryStore" and kind.__module__.startswith("obstore")
        blocking, awaited = (self._calls(inner, kind.__name__, ending) for ending in ("", "_async"))
        lasts = kind.__name__ in _DURABLE and kind.__module__.startswith("obstore")
        return Capabilities(
            blocking,
            awaited,
            sync=lasts,
            version=blocking.get,
            durability="fsync" if lasts else None,
            one_process=here,
            coalesces=True,
            probe=self.probe,
            requests_in_flight=0 if here else MAX_IN_FLIGHT,
        )

    def sync(self) -> None:
        """See `storage.Sync`; nothing is left to do: these services acknowledge a write when it will last."""

    def with_coalesce_gap(self, gap: int) -> ObjectStore:
        """See `storage.Coalesce`. Both use the same connections."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.coalesce_gap = gap
        return other

    @cached_property
    def _is_numbered(self) -> bool:
        """Whether versions have numbers, as those of Google Cloud Storage have (generations)."""
        return type(self._inner()).__name__ == "GCSStore"

    def _described(self) -> Any:
        """What has the methods: the inner object; or its class, where nothing need be made to know that."""
        return self._inner()

    def _calls(self, inner: Any, kind: str, ending: str) -> Calls:
        def has(*names: str) -> bool:
            return all(callable(getattr(inner, name + ending, None)) for name in names)

        reads, writes = has("get"), has("put") and not self.read_only
        return Calls(
            get=reads,
            get_within=reads,
            put=writes,
            put_if=writes and reads and kind not in _WITHOUT_PUT_IF,
            erase=has("delete") and not self.read_only,
            list=has("list", "list_with_delimiter") and kind != "HTTPStore",
        )

    @property
    def guard(self) -> str:
        """What guards writes."""
        if self.read_only:
            return "read only"
        if not self.capabilities.put_if:
            return "none"
        report = known(self)
        return f"compare-and-swap by e_tag ({'not probed' if report is None else f'probed: {report.words}'})"

    @property
    def how_to_write(self) -> str | None:
        """What an error says to whom would write."""
        http = self.url.startswith("http")
        return "HTTP servers are only read. To write, open it at its service: s3://, gs://, az://" if http else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectStore) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._pickled is None:
            raise CapabilityError(
                "an object store that was given as an object is not pickled: it may hold secrets",
                store=self.url,
                hint="Open the array by its URL and storage_options, or use ObjectStore(inner, pickle_inner=True)",
            )
        return _unpickled, self._pickled

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return perform(self._get(key))

    async def get_async(self, key: str) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await perform_async(self._get(key))

    def get_within(self, key: str, limit: int) -> Blob | None:
        """See `storage.GetWithin`."""
        return perform(self._get(key, limit))

    async def get_within_async(self, key: str, limit: int) -> Blob | None:
        """See `storage.AsyncGetWithin`."""
        return await perform_async(self._get(key, limit))

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        return perform(self._get_ranges(key, ranges, if_version))

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.AsyncGet`. Reads of one object that begin together are made together (`objects.merging`)."""
        if not (if_version is None or isinstance(if_version, ObjectVersion)):
            return await perform_async(self._get_ranges(key, ranges, if_version))
        common, gap = (key, if_version), self.coalesce_gap
        return await self._merged.read(common, gap, ranges, lambda wanted: perform_async(self._get_ranges(key, wanted, if_version)))

    def version(self, key: str) -> Version:
        """See `storage.Versions`."""
        return perform(self._version(key))

    async def version_async(self, key: str) -> Version:
        """See `storage.Versions`."""
        return await perform_async(self._version(key))

    def _get(self, key: str, limit: int | None = None) -> Steps[Blob | None]:
        check_key(key, self.url)
        reply = yield from self._fetch(key, None, None, limit)
        return None if reply is None else Blob((reply.data,), reply.version, reply.size)

    def _version(self, key: str) -> Steps[Version]:
        check_key(key, self.url)
        found = yield from self._fetch(key, HEAD, None)
        return None if found is None else found.version

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version) -> Steps[Blob | None]:
        check_key(key, self.url)
        for attempt in range(MAX_READS):
            try:
                blob = yield from self._try_ranges(key, ranges, if_version)
            except _MixedError as mixed:
                if if_version is not None:
                    raise self._changed(key, if_version, mixed.found) from None
                yield Sleep(_pause(attempt))
            except _AgainError:
                continue
            else:
                if blob is None and if_version is not None:
                    raise self._changed(key, if_version, None)
                return blob
        raise VersionChangedError("the object is replaced faster than it can be read", store=self.url, key=key)

    def _try_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version) -> Steps[Blob | None]:
        """One try; _MixedError where not all replies are of one version (the one asked for)."""
        wanted, version, replies = list(ranges), if_version, list[Reply]()
        requests = requests_for(wanted, self.coalesce_gap)
        if requests and not self._has_ranges:
            requests = [WHOLE]
        elif not requests or needs_size(wanted, self._has_suffixes):
            head = yield from self._fetch(key, HEAD, if_version)
            if head is None:
                return None
            replies, version = [head], self._same([head], if_version)
            wanted = self._resolved(key, ranges, head.size)
            requests = requests_for(wanted, self.coalesce_gap)
        for reply in (yield from self._fetch_all(key, requests, wanted, version)):
            if reply is not None:
                replies.append(reply)
        if len(replies) < len(requests):
            if replies:
                raise _MixedError(None)  # it was erased meanwhile
            return None
        found, size = self._same(replies, if_version), replies[0].size
        self._resolved(key, ranges, size)
        return Blob(cut(ranges, replies, size), found, size)

    def _fetch_all(self, key: str, requests: list[Any], wanted: Sequence[ByteRange], version: Version) -> Steps[list[Any]]:
        """The replies of several requests."""
        try:
            if len(requests) == 1:
                return [(yield from self._fetch(key, requests[0], version))]
            return (yield Together([self._fetch(key, request, version) for request in requests])) if requests else []
        except ByteRangeError as error:
            found = yield from self._fetch(key, HEAD, None)
            if found is None:
                return [None]
            self._same([found], version)  # a server that ignores the condition looks at the range alone
            self._resolved(key, wanted, found.size)
            self._has_suffixes = False  # the range does fit: the object has become longer, or ends are not served
            raise _AgainError from error

    def _same(self, replies: Sequence[Reply], version: Version) -> Version:
        """The version of all replies; _MixedError where they have several or another one."""
        for reply in replies:
            if version is not None and reply.version != version:
                raise _MixedError(reply.version)  # safety: one version
            version = reply.version
        return version

    def _resolved(self, key: str, ranges: Sequence[ByteRange], size: int) -> list[ByteRange]:
        """The ranges in an object of a known size; ByteRangeError where one does not fit."""
        found = []
        for wanted in ranges:
            try:
                start, stop = wanted.resolve(size)
            except ValueError as cause:
                message, got = "range outside the object", f"{size} bytes"
                raise ByteRangeError(message, store=self.url, key=key, expected=wanted, got=got) from cause
            found.append(ByteRange(start, stop - start))
        return found

    def _fetch(self, key: str, wanted: Any, version: Version, limit: int | None = None, swaps: bool = False) -> Steps[Reply | None]:
        """One request: for `wanted` see `objects.ranges`. The reply has the length that it says, and all that was asked for."""
        options = options_of(wanted)
        if isinstance(version, ObjectVersion) and version.if_match is not None:
            options["if_match"] = version.if_match
        failure: Exception | None = None
        for attempt in range(MAX_BODIES):
            try:
                result = yield Call(self._inner(swaps), "get", (key,), {"options": options} if options else {})
            except Exception as error:
                refusal = Failure.of(error)
                if not refusal.is_cut:
                    self._expect_absent(key, wanted, refusal)
                    return None
                failure = self._failed(key, refusal)  # the body of an answer such as 404
            else:
                reply = yield from self._received(result, key, wanted, limit)
                if isinstance(reply, Reply):
                    return reply
                failure = reply
            yield Sleep(_pause(attempt))
        assert failure is not None, "the last try failed"
        raise failure from failure.__cause__

    def _received(self, result: Any, key: str, wanted: Any, limit: int | None) -> Steps[Reply | ZarrantError]:
        """The reply that comes with a result; an error where it is not what was asked for."""
        meta = result.meta
        writes = writes_of(getattr(result, "attributes", None))
        found, size = ObjectVersion.of(meta, writes, self._is_numbered), int(meta["size"])
        if limit is not None and size > limit:
            message, where = "a stored object that is too large", {"store": self.url, "key": key}
            raise LimitError(message, field="stored bytes", got=size, limit=limit, **where)
        if wanted is HEAD:
            return Reply(0, memoryview(b""), found, size)
        try:
            data = memoryview((yield Call(result, "buffer"))).cast("B").toreadonly()
            start, stop = result.range
        except Exception as error:
            return self._failed(key, Failure.of(error))
        if len(data) == stop - start and is_answer(wanted, start, stop, size):  # safety: length of a reply
            return Reply(start, data, found, size)
        got = f"{len(data)} bytes, said to be those from {start} to {stop} of {size}"
        other = StoreError("a reply of another length", store=self.url, key=key, expected=wanted or "all", got=got)
        other.retryable = True
        return other

    def _expect_absent(self, key: str, wanted: Any, failure: Failure) -> None:
        """An error, unless a failure says that there is no object."""
        if failure.kind is Kind.ABSENT or (self.forbidden_is_absent and failure.is_forbidden):
            return
        if failure.kind is Kind.CONFLICT:
            raise _MixedError(None)
        if failure.kind is Kind.NO_RANGES and wanted not in (WHOLE, HEAD):  # others may have found it out meanwhile
            self._has_ranges = False
            raise _AgainError
        if failure.kind is Kind.UNSUPPORTED and is_suffix(wanted):
            self._has_suffixes = False
            raise _AgainError
        error = self._failed(key, failure)
        raise error from error.__cause__

    def _failed(self, key: str | None, failure: Failure) -> ZarrantError:
        return failure.as_ours(self.url, key, self._secrets)

    def _changed(self, key: str, expected: Version, got: Version) -> VersionChangedError:
        texts = ["no object" if version is None else version for version in (expected, got)]
        return VersionChangedError("the object was replaced", store=self.url, key=key, expected=texts[0], got=texts[1])

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        return perform(self._put(key, parts))

    async def put_async(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.AsyncPut`."""
        return await perform_async(self._put(key, parts))

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        return perform(self._put_if(key, parts, if_version))

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.AsyncPutIf`."""
        return await perform_async(self._put_if(key, parts, if_version))

    def _put(self, key: str, parts: Sequence[Buffer]) -> Steps[Version]:
        check_key(key, self.url)
        payload = self._payload(parts)
        try:
            put = Call(self._inner(), "put", (key, payload), {"use_multipart": False})
            return ObjectVersion.of((yield put), (), self._is_numbered)
        except Exception as cause:
            error = self._failed(key, Failure.of(cause))
        raise error from error.__cause__

    def _put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Steps[Version]:
        check_key(key, self.url)
        if if_version is ANY:
            return (yield from self._put(key, parts))
        if if_version is not None and (not isinstance(if_version, ObjectVersion) or if_version.replaced):
            raise self._changed(key, if_version, "another version")
        put = ConditionalPut(key, self._payload(parts), if_version)
        for attempt in range(self._tries):
            put.tries += 1
            attributes = self._has_attributes  # another thread may learn meanwhile that the store has none
            try:
                result = yield Call(self._inner(True), "put", (key, put.payload), put.options(attributes))
                return ObjectVersion.of(result, put.writes, self._is_numbered)
            except Exception as error:
                put.failure = Failure.of(error)
            if put.failure.kind is Kind.UNSUPPORTED and attributes:
                self._has_attributes = False
                continue
            if put.failure.kind not in (Kind.CONFLICT, Kind.PASSING, Kind.FAILED):
                break
            landed = yield from self._look_back(put)
            if landed is not None:
                return landed
            pause = _pause(attempt)
            if put.failure.kind is Kind.FAILED or put.seconds + pause > self._put_timeout_s:
                break
            yield Sleep(pause)
        refusal = self._not_put(put)
        raise refusal from refusal.__cause__

    def _look_back(self, put: ConditionalPut) -> Steps[ObjectVersion | None]:
        """The version that a put made, though it was reported to have failed; None where it may be tried again.

        VersionChangedError where another writer was faster: then the condition of this put will never hold again. StoreError
        where what is there does not tell whether the put was made before that.
        """
        put.in_doubt = put.in_doubt or put.failure.kind is not Kind.CONFLICT
        wanted = HEAD if self._has_attributes or not put.in_doubt else WHOLE
        try:
            reply = yield from self._fetch(put.key, wanted, None, swaps=True)
            other = reply is not None and reply.version != put.if_version and not reply.version.writes
            if other and put.in_doubt and wanted is HEAD:
                wanted = WHOLE  # there are services that take attributes and forget them: then the bytes tell
                reply = yield from self._fetch(put.key, wanted, None, swaps=True)
        except StoreError:
            put.in_doubt = True
            return None
        found: ObjectVersion | None = None if reply is None else reply.version
        if reply is not None and put.write in reply.version.writes:  # safety: own write
            return found if reply.version.writes[-1] == put.write else ObjectVersion.of_replaced(put.write)
        if reply is not None and wanted is WHOLE and found != put.if_version and put.is_of(reply.data):
            return found
        if found != put.if_version:
            if put.in_doubt and not name_all_since(put.if_version, found):  # safety: not known
                raise StoreError("replaced by others after a reply was lost", store=self.url, key=put.key, hint=_NOT_KNOWN)
            raise self._changed(put.key, put.if_version, found)  # safety: conflict
        put.expect(found)
        return None

    def _not_put(self, put: ConditionalPut) -> ZarrantError:
        error = self._failed(put.key, put.failure)
        if put.in_doubt and put.failure.kind is not Kind.FAILED:
            tried = f"{put.tries} {'try' if put.tries == 1 else 'tries'} in {put.seconds:.1f} s"
            error.hint = f"Whether it was stored is not known, after {tried}. {error.hint or ''}".strip()
        return error

    def _payload(self, parts: Sequence[Buffer]) -> Any:
        """What obspec's `put` takes: bytes, or a list of buffers of bytes."""
        if self.capabilities.one_process:
            return b"".join(parts)  # what is kept in memory as it is must not be the caller's
        views = [memoryview(part) for part in parts]
        full = [view if view.ndim == 1 and view.format == "B" else view.cast("B") for view in views if view.nbytes]
        return full if len(full) > 1 else full[0] if full else b""

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        perform(self._erase(key))

    async def erase_async(self, key: str) -> None:
        """See `storage.AsyncErase`."""
        await perform_async(self._erase(key))

    def erase_prefix(self, prefix: str) -> None:
        """See `storage.Erase`."""
        perform(self._erase_prefix(prefix))

    async def erase_prefix_async(self, prefix: str) -> None:
        """See `storage.AsyncErase`."""
        await perform_async(self._erase_prefix(prefix))

    def _erase(self, key: str) -> Steps[None]:
        check_key(key, self.url)
        yield from self._delete(key, key)

    def _delete(self, keys: str | list[str], key: str) -> Steps[bool]:
        """Delete; False where one of them was not there, which ends the deletion of many."""
        try:
            yield Call(self._inner(), "delete", (keys,))
        except Exception as cause:
            failure = Failure.of(cause)
            if failure.kind is Kind.ABSENT:
                return False
            error = self._failed(key, failure)
        else:
            return True
        raise error from error.__cause__

    def _erase_prefix(self, prefix: str) -> Steps[None]:
        for _ in range(MAX_PASSES):
            keys = yield from self._list_prefix(prefix)
            if not keys:
                return
            for first in range(0, len(keys), MAX_BULK):
                bulk = keys[first : first + MAX_BULK]
                if not (yield from self._delete(bulk, prefix)):
                    yield Together([self._delete(key, key) for key in bulk])

    # ── listing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """See `storage.List`."""
        return iter(perform(self._list_prefix(prefix)))

    async def list_prefix_async(self, prefix: str) -> list[str]:
        """See `storage.AsyncList`."""
        return await perform_async(self._list_prefix(prefix))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        return perform(self._list_dir(prefix))

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.AsyncList`."""
        return await perform_async(self._list_dir(prefix))

    def _list_prefix(self, prefix: str) -> Steps[list[str]]:
        found = yield from self._listing(prefix, Collect(Call(self._inner(), "list", (prefix or None,))))
        return sorted(str(meta["path"]) for meta in found or ())

    def _list_dir(self, prefix: str) -> Steps[tuple[list[str], list[str]]]:
        found = yield from self._listing(prefix, Call(self._inner(), "list_with_delimiter", (prefix or None,)))
        if found is None:
            return [], []
        prefixes = sorted(f"{str(name).rstrip('/')}/" for name in found["common_prefixes"])
        return sorted(str(meta["path"]) for meta in found["objects"]), prefixes

    def _listing(self, prefix: str, call: Call | Collect) -> Steps[Any]:
        check_prefix(prefix, self.url)
        try:
            return (yield call)
        except Exception as cause:
            failure = Failure.of(cause)
            if failure.kind is Kind.ABSENT:
                return None
            error = self._failed(prefix, failure)
        raise error from error.__cause__


class ConditionalPut:
    """A put on condition of a version, through all its tries: they share one id, by which each of them is found again."""

    def __init__(self, key: str, payload: Any, if_version: ObjectVersion | None) -> None:
        self.key, self.payload, self.write = key, payload, new_write()
        self.expect(if_version)
        self.failure = Failure(Kind.FAILED, StoreError("not tried"), None)
        self.in_doubt = False
        """A try may have been made without our knowledge."""
        self.tries, self.begun = 0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the first try began."""
        return time.monotonic() - self.begun

    def expect(self, version: ObjectVersion | None) -> None:
        """What is there now, and is equal to what was: another generation, perhaps, or with more writes."""
        self.if_version = version
        self.writes = followed_by(() if version is None else version.writes, self.write)

    def options(self, attributes: bool) -> dict[str, Any]:
        """What `put` of obspec takes."""
        mode: Any = "create" if self.if_version is None else self.if_version.mode
        options = {"mode": mode, "use_multipart": False}
        return {**options, "attributes": {WRITES: ",".join(self.writes)}} if attributes else options

    def is_of(self, data: memoryview) -> bool:
        """Whether an object has just the bytes of this put."""
        parts = self.payload if isinstance(self.payload, list) else [self.payload]
        return data == b"".join(parts)


def _url_of(inner: Any) -> str:
    """An address to show and to queue by; objects in memory differ by identity."""
    schemes = {"S3Store": ("s3", "bucket"), "GCSStore": ("gs", "bucket"), "AzureStore": ("az", "container_name")}
    scheme, field = schemes.get(type(inner).__name__, ("", ""))
    config = getattr(inner, "config", None)
    name = config.get(field) if scheme and isinstance(config, dict) else None
    if name is None:
        return f"{type(inner).__name__.lower()}://{id(inner):x}"
    prefix = str(getattr(inner, "prefix", None) or "").strip("/")
    return f"{scheme}://{name}/{prefix}" if prefix else f"{scheme}://{name}"


def _unpickled(inner: Any, url: str | None, coalesce_gap: int, read_only: bool, probe: str) -> ObjectStore:
    return ObjectStore(inner, url=url, coalesce_gap=coalesce_gap, read_only=read_only, pickle_inner=True, probe=probe)


def _pause(attempt: int) -> float:
    return random.uniform(0, min(LAST_PAUSE_S, FIRST_PAUSE_S * 2**attempt))
