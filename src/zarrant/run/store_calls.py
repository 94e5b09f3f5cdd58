"""One item of a request on a blocking store: a fetch, a write, an erasure, each with its outcome.

In: a `ReadRequest` or a `WriteRequest`, and a store with whatever methods it has. Out: the reply, or one error that names key
and store; CapabilityError where the store has no such method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, cast

from zarrant.errors import CapabilityError, LimitError, StoreError, VersionChangedError, ZarrantError
from zarrant.requests import CheckUnchanged, ErasePrefix, ListDir, ListPrefix, ListStored, ReadRequest, Request, WriteRequest
from zarrant.run.looks import Looks
from zarrant.run.store_locks import QUEUE_TIMEOUT_S, queue_locks, version_of
from zarrant.storage import (
    ANY,
    Blob,
    Buffer,
    ByteRange,
    Calls,
    Capabilities,
    FileDecoder,
    Hole,
    OnlyWhile,
    Part,
    ShareWork,
    Store,
    Version,
    capabilities,
    expect_version,
    filled,
)

T = TypeVar("T")
Item = TypeVar("Item", ReadRequest, WriteRequest)


def outcome(act: Callable[[Item, Store, Calls], T], item: Item, store: Store, calls: Calls) -> T | Exception:
    """What an act on one item gives, or its error, which names the key."""
    try:
        return act(item, store, calls)
    except Exception as error:
        return annotated(error, item.key, store)


def annotated(error: Exception, key: str, store: Store) -> Exception:
    """Name key and store, once; what is not ours yet becomes a StoreError with its cause."""
    if not isinstance(error, ZarrantError):
        wrapped = StoreError(f"{type(error).__name__}: {error}")
        wrapped.__cause__ = error
        error = wrapped
    return error.annotate(key=key, store=repr(store))


def typed(error: Exception, request: Request, store: Store) -> Exception:
    """The error of a request that asks the store itself, with its key; that of an operation inside of one stays as it is."""
    match request:
        case ListDir(key) | ListPrefix(key) | ListStored(key) | ErasePrefix(key) | CheckUnchanged(key):
            return annotated(error, key, store)
    return error


def require(calls: Calls, name: str, store: Store) -> None:
    """CapabilityError where a store cannot do what is asked for."""
    if not getattr(calls, name):
        raise CapabilityError("the store cannot do this", store=repr(store), expected=name)


def get(request: ReadRequest, store: Store, calls: Calls) -> Blob | None:
    """Read one object or its ranges."""
    if not calls.get:
        require(calls, "get", store)
    if request.ranges is not None:
        return check_ranges(request.ranges, store.get_ranges(request.key, request.ranges, request.if_version))
    blob = store.get(request.key) if request.limit is None or not calls.get_within else store.get_within(request.key, request.limit)
    return check_whole(request, blob)


def get_into(request: ReadRequest, store: Store, calls: Calls) -> Blob | None:
    """Read one whole object to where its bytes are needed, if that can be done."""
    assert request.into is not None, "asked by the driver"
    blob = store.get_into(request.key, request.into, request.limit)
    return blob if blob is not None and not blob.data else check_whole(request, blob)


def get_all(
    requests: Sequence[ReadRequest], store: Store, decoded_by: tuple[FileDecoder, ShareWork] | None = None
) -> list[Blob | Exception | None] | None:
    """Read whole objects with one call, decoded where that is asked for; None where they are not wanted whole."""
    limit, keys = requests[0].limit, [each.key for each in requests]
    if decoded_by is not None and not decoded_by[0].whole:
        return store.get_decoded(keys, limit, *decoded_by)
    if not all([each.ranges is None and each.if_version is None and each.limit == limit for each in requests]):  # noqa: C419
        return None
    found: list[Blob | Exception | None] = (
        store.get_all(keys, limit) if decoded_by is None else store.get_decoded(keys, limit, *decoded_by)
    )
    for i, blob in enumerate(found):
        if decoded_by is not None and isinstance(blob, Blob) and not blob.data:
            continue
        if isinstance(blob, Exception):
            found[i] = annotated(blob, requests[i].key, store)
        elif blob is not None and not (
            len(blob.data) == 1 and blob.data[0].nbytes == blob.size and (limit is None or blob.size <= limit)
        ):
            found[i] = _refused(requests[i], blob, store)
    return found


def _refused(request: ReadRequest, blob: Blob, store: Store) -> Blob | Exception | None:
    """What `check_whole` says of a blob."""
    try:
        return check_whole(request, blob)
    except Exception as error:
        return annotated(error, request.key, store)


def check_ranges(ranges: Sequence[ByteRange], blob: Blob | None) -> Blob | None:
    """StoreError where a store gave fewer bytes than it was asked for: they would end up in the wrong places."""
    if blob is None:
        return None
    if len(blob.data) != len(ranges):
        raise StoreError("the store gave other ranges than it was asked for", expected=len(ranges), got=len(blob.data))
    for part, data in zip(ranges, blob.data, strict=True):
        start, stop = part.resolve(blob.size) if part.length is None or part.start < 0 else (0, part.length)
        if len(data) != stop - start:
            message = "the store gave other bytes than it was asked for"
            raise StoreError(message, expected=f"{stop - start} bytes", got=f"{len(data)} bytes")
    return blob


def check_whole(request: ReadRequest, blob: Blob | None) -> Blob | None:
    """The blob, if it is the whole object, of the version asked for, and within the limit of the request; else an error."""
    if request.if_version is not None:
        expect_version(None if blob is None else blob.version, request.if_version)
    if request.limit is not None and blob is not None and blob.size > request.limit:
        raise LimitError("a stored object that is too large", field="stored bytes", got=blob.size, limit=request.limit)
    if blob is not None and (got := sum([view.nbytes for view in blob.data])) != blob.size:
        expected = f"{blob.size} bytes"
        raise StoreError("the store gave another part of an object than all of it", expected=expected, got=f"{got} bytes")
    return blob


def lock_keys(
    keys: Sequence[str], store: Store, can: Capabilities, timeout: float = QUEUE_TIMEOUT_S
) -> AbstractContextManager[Store]:
    """Lock keys; LockTimeout with none of them locked. A store with a `lock` of its own knows how long to wait."""
    if can.sync_calls.lock:
        return cast("AbstractContextManager[Store]", store.lock(keys))
    return queue_locks(keys, store, timeout)


def write_batch(store: Store, can: Capabilities) -> AbstractContextManager[Store]:
    """The store, on which writes are acknowledged together where it can do that (`storage.WriteBatch`)."""
    return cast("AbstractContextManager[Store]", store.write_batch()) if can.batch else nullcontext(store)


def store_while(condition: OnlyWhile | None, store: Store, can: Capabilities | None = None, looks: Looks | None = None) -> Store:
    """The store, on which writes are made only while the condition holds; MetadataChangedError where it does not hold now.

    A store that cannot check it itself, under its own lock, is asked right before the write; with `looks`, once for several.
    """
    if condition is None:
        return store
    if (can or capabilities(store)).only_while:
        return store.only_while(condition)
    if looks is None:
        look(condition, store)
    else:
        looks.take(condition, lambda: look(condition, store))
    return store


def look(condition: OnlyWhile, store: Store) -> None:
    """MetadataChangedError where a condition does not hold now."""
    try:
        found = version_of(condition.key, store)
    except ZarrantError:
        raise
    except Exception as error:
        raise annotated(error, condition.key, store) from error
    condition.check(found)


def store_one(item: WriteRequest, store: Store, calls: Calls) -> Version:
    """Store or erase; returns the new version. A write without a condition waits while another thread has locked the object."""
    if item.if_version is not ANY or calls.lock:
        return _store(item, store, calls)
    with queue_locks((item.key,), store) as locked:
        return _store(item, locked, calls)


def store_all(items: Sequence[WriteRequest], store: Store, can: Capabilities) -> list[Version | Exception]:
    """Store or erase each; whole objects with one call, where the store has one for them."""
    whole = [i for i, item in enumerate(items) if _is_whole(item)] if can.put_all else []
    stored = _put_all([items[i] for i in whole], store) if len(whole) > 1 else []
    if len(stored) == len(items):
        return stored
    found = dict(zip(whole, stored, strict=False))
    return [found[i] if i in found else outcome(store_one, item, store, can.sync_calls) for i, item in enumerate(items)]


def _put_all(items: Sequence[WriteRequest], store: Store) -> list[Version | Exception]:
    """Store whole objects with one call."""
    whole = cast("list[tuple[str, Sequence[Buffer]]]", [(item.key, item.parts) for item in items])
    stored = zip(store.put_all(whole), items, strict=True)
    return [annotated(found, item.key, store) if isinstance(found, Exception) else found for found, item in stored]


def _is_whole(item: WriteRequest) -> bool:
    """Whether an item replaces whatever is there by bytes."""
    parts = item.parts
    if item.if_version is not ANY or parts is None:
        return False
    return not isinstance(parts[0], _NO_BYTES) if len(parts) == 1 else not has_kept(parts)


def _store(item: WriteRequest, store: Store, calls: Calls) -> Version:
    swaps = item.if_version is not ANY
    if item.parts is None:
        require(calls, "erase_if" if swaps else "erase", store)
        if swaps:
            store.erase_if(item.key, item.if_version)
        else:
            store.erase(item.key)
        return None
    parts = cast("Sequence[Buffer]", item.parts)
    if has_kept(item.parts):
        if swaps and calls.splice:
            return store.splice(item.key, item.parts, item.if_version)
        require(calls, "get", store)
        kept = kept_ranges(item)
        parts = with_kept(item, kept, store.get_ranges(item.key, kept, None if not swaps else item.if_version) if kept else None)
    if not (calls.put_if if swaps else calls.put):
        require(calls, "put_if" if swaps else "put", store)
    return store.put_if(item.key, parts, item.if_version) if swaps else store.put(item.key, parts)


def has_kept(parts: Sequence[Part]) -> bool:
    """Whether a new object takes over ranges of the old one, or has holes."""
    return any([isinstance(part, _NO_BYTES) for part in parts])  # noqa: C419 - half the time of a generator


_NO_BYTES = (ByteRange, Hole)


def kept_ranges(item: WriteRequest) -> list[ByteRange]:
    """The ranges of the old object that a new one takes over."""
    return [part for part in item.parts or () if isinstance(part, ByteRange)]


def with_kept(item: WriteRequest, ranges: Sequence[ByteRange], blob: Blob | None) -> list[Buffer]:
    """The parts of a new object where kept ranges were read back, and holes as zeros: for stores that cannot copy ranges."""
    if ranges and check_ranges(ranges, blob) is None:
        raise VersionChangedError("the object was erased meanwhile", key=item.key)
    kept = iter(() if blob is None else blob.data)
    return [next(kept) if isinstance(part, ByteRange) else filled(part) for part in item.parts or ()]
