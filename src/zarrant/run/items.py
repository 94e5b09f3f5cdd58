"""One item of a request on a blocking store: a fetch, a write, an erasure, each with its outcome.

In: a `ReadRequest` or a `WriteRequest`, and a store with whatever methods it has. Out: the reply, or one error that names key
and store; CapabilityError where the store has no such method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from zarrant.errors import CapabilityError, LimitError, StoreError, VersionChangedError, ZarrantError
from zarrant.requests import ANY, ReadRequest, WriteRequest
from zarrant.run.holding import hold
from zarrant.storage import Blob, ByteRange, Hole, Part, Version, filled

T = TypeVar("T")


def outcome(act: Callable[[Any, Any], T], item: ReadRequest | WriteRequest, store: Any) -> T | Exception:
    """What an act on one item gives, or its error, which names the key."""
    try:
        return act(item, store)
    except Exception as error:
        return annotated(error, item.key, store)


def annotated(error: Exception, key: str, store: Any) -> Exception:
    """Name key and store, once; what is not ours yet becomes a StoreError with its cause."""
    if not isinstance(error, ZarrantError):
        wrapped = StoreError(f"{type(error).__name__}: {error}")
        wrapped.__cause__ = error
        error = wrapped
    return error.annotate(key=key, store=repr(store))


def method(store: Any, name: str) -> Callable[..., Any]:
    """A method of a store; CapabilityError where it has none of that name."""
    found: Callable[..., Any] | None = getattr(store, name, None)
    if found is None:
        raise CapabilityError("the store cannot do this", store=repr(store), expected=name)
    return found


def get(want: ReadRequest, store: Any) -> Blob | None:
    """Read one object or its ranges."""
    if want.ranges is None:
        within = None if want.limit is None else getattr(store, "get_within", None)
        blob: Blob | None = method(store, "get")(want.key) if within is None else within(want.key, want.limit)
        check_version(want, blob)
        check_limit(want, blob)
        return blob
    return check_ranges(want.ranges, method(store, "get_ranges")(want.key, want.ranges, want.if_version))


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


def check_version(want: ReadRequest, blob: Blob | None) -> None:
    """VersionChangedError unless the blob is of the version wanted."""
    if want.if_version is not None and (blob is None or blob.version != want.if_version):
        raise VersionChangedError("the object was replaced meanwhile", expected=want.if_version, got=blob and blob.version)


def check_limit(want: ReadRequest, blob: Blob | None) -> None:
    """LimitError for an object that is larger than whoever wants it can use."""
    if want.limit is not None and blob is not None and blob.size > want.limit:
        raise LimitError("a stored object that is too large", field="stored bytes", got=blob.size, limit=want.limit)


def store_in_turn(item: WriteRequest, store: Any) -> Version:
    """Store or erase; returns the new version. What replaces an object whatever is there waits while another thread holds it."""
    if item.if_version is not ANY or hasattr(store, "hold"):
        return _store(item, store)
    with hold((item.key,), store) as held:
        return _store(item, held)


def store_all(items: Sequence[WriteRequest], store: Any) -> list[Version | Exception]:
    """Store or erase each; whole objects with one call, where the store has one for them."""
    whole = [i for i, item in enumerate(items) if _is_whole(item)] if hasattr(type(store), "put_all") else []
    found: dict[int, Version | Exception] = {}
    if len(whole) > 1:
        found = dict(zip(whole, store.put_all([(items[i].key, items[i].parts) for i in whole]), strict=True))
    for i, item in enumerate(items):
        if i not in found:
            found[i] = outcome(store_in_turn, item, store)
        elif isinstance(error := found[i], Exception):
            found[i] = annotated(error, item.key, store)
    return [found[i] for i in range(len(items))]


def _is_whole(item: WriteRequest) -> bool:
    """Whether an item replaces whatever is there by bytes."""
    parts = item.parts
    return item.if_version is ANY and parts is not None and not any(isinstance(part, ByteRange | Hole) for part in parts)


def _store(item: WriteRequest, store: Any) -> Version:
    if item.parts is None:
        _erase(item, store)
        return None
    version: Version
    if any(isinstance(part, ByteRange | Hole) for part in item.parts):
        if hasattr(store, "splice") and item.if_version is not ANY:
            version = store.splice(item.key, item.parts, item.if_version)
        else:
            version = _store(item._replace(parts=_fetched_parts(item, store)), store)
    elif item.if_version is ANY:
        version = method(store, "put")(item.key, item.parts)
    else:
        version = method(store, "put_if")(item.key, item.parts, item.if_version)
    return version


def _erase(item: WriteRequest, store: Any) -> None:
    if item.if_version is ANY:
        method(store, "erase")(item.key)
    else:
        method(store, "erase_if")(item.key, item.if_version)


def _fetched_parts(item: WriteRequest, store: Any) -> list[Part]:
    """Kept ranges read back, and holes as zeros, for stores that cannot copy ranges by themselves."""
    ranges = [part for part in item.parts or () if isinstance(part, ByteRange)]
    version = None if item.if_version is ANY else item.if_version
    blob = check_ranges(ranges, method(store, "get_ranges")(item.key, ranges, version))
    if blob is None:
        raise VersionChangedError("the object was erased meanwhile", key=item.key)
    kept = iter(blob.data)
    return [next(kept) if isinstance(part, ByteRange) else filled(part) for part in item.parts or ()]
