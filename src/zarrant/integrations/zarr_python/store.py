"""A store for zarr-python in which changes of metadata are not lost either: attributes, shapes, consolidated metadata.

In: an address or a store of Zarrant. Out: a store for zarr-python. It remembers each metadata document that it gives out, with its
version. A document is stored on condition that this is still the stored one; where it is not, the changes of both writers are
merged (`documents`) and stored on condition of the newer version, or it is a LostUpdateError and nothing was stored.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from zarrant.errors import CapabilityError, ConflictError, LostUpdateError, VersionChangedError
from zarrant.integrations.zarr_python.arrays import our_store
from zarrant.integrations.zarr_python.documents import Seen, is_metadata, merge
from zarrant.nodes.open import open_array
from zarrant.ops.guard import MAX_TRIES
from zarrant.storage import capabilities
from zarrant.stores.resolve import resolve_store
from zarrant.stores.wrappers.prefix import Prefix
from zarrant.stores.zarr_store import ZarrantStore, as_buffer


class Store(ZarrantStore):
    """A place for zarr-python where `attrs`, `resize` and consolidated metadata of several writers are safe.

    Args:
        store: a path, a URL, or a store of Zarrant.
        storage_options: of the URL, as for `zarrant.open_array`.
        read_only: refuse writes.

    Attributes that two writers set are kept of both; of two values of one attribute the later one stays. Where two change the
    shape, the later one gets a LostUpdateError, and nothing of it is stored.

    >>> import tempfile, zarr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     a = zarr.create_array(Store(folder), shape=(4,), dtype="i4")
    ...     b = zarr.open_array(Store(folder))
    ...     a.attrs["one"] = 1
    ...     b.attrs["two"] = 2
    ...     sorted(zarr.open_array(folder).attrs)
    ['one', 'two']
    """

    def __init__(self, store: object, *, storage_options: Mapping[str, Any] | None = None, read_only: bool = False) -> None:
        found, prefix = resolve_store(store, storage_options)
        super().__init__(Prefix(found, prefix) if prefix else found, read_only=read_only)
        able = capabilities(self.store)
        if able.put and not able.put_if:
            raise CapabilityError("a store without conditional writes", store=str(self), expected="put_if")
        self._seen: dict[str, Seen] = {}
        self._mutex = threading.Lock()

    def with_read_only(self, read_only: bool = False) -> Store:
        """The same store, for reading only or not."""
        return type(self)(self.store, read_only=read_only)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.store, self.read_only)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """The bytes of an object, or a part of it; None where there is no object."""
        if byte_range is not None or not is_metadata(key):
            return await super().get(key, prototype, byte_range)
        blob = await self._call("get", key)
        document, version = (None, None) if blob is None else (b"".join(blob.data), blob.version)
        with self._mutex:
            seen = self._seen.setdefault(key, Seen())
        self._stored(seen, document, version, document)
        return as_buffer(blob, prototype)

    async def set(self, key: str, value: Any) -> None:
        """Store an object; a metadata document only where no change of another writer is lost."""
        if not is_metadata(key):
            await super().set(key, value)
            return
        mine = b"".join(self._parts(value))
        with self._mutex:
            seen = self._seen.setdefault(key, Seen())
            base, theirs, version, read = seen.base(mine), seen.stored, seen.version, seen.read
        if not read:  # nobody has read it here: it is made, whatever was there
            self._stored(seen, mine, await self._call("put", key, [mine]), mine)
            return
        for _ in range(MAX_TRIES):
            wanted = _merged(key, base, mine, theirs)
            try:
                self._stored(seen, wanted, await self._call("put_if", key, [wanted], version), mine)  # safety: metadata by version
                return
            except VersionChangedError:
                blob = await self._call("get", key)
                theirs, version = (None, None) if blob is None else (b"".join(blob.data), blob.version)
        raise ConflictError("other writers won every race", key=key, limit=f"{MAX_TRIES} tries")

    async def delete(self, key: str) -> None:
        """Remove an object; succeed where there is none."""
        await super().delete(key)
        self._seen.pop(key, None)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        await super().delete_dir(prefix)
        with self._mutex:
            below = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
            self._seen = {key: seen for key, seen in self._seen.items() if not key.startswith(below)}

    def _stored(self, seen: Seen, document: bytes | None, version: Any, known: bytes | None) -> None:
        """What is stored, and what a handle knows of it."""
        with self._mutex:
            seen.store(document, version)
            if known is not None:
                seen.add(known)


def _merged(key: str, base: bytes | None, mine: bytes, theirs: bytes | None) -> bytes:
    if theirs is None and base is not None:
        raise LostUpdateError("the node was removed meanwhile", key=key)
    if theirs is None or theirs == mine:
        return mine
    if base is None:
        raise LostUpdateError("another node was stored here meanwhile", key=key, hint="Open it")
    return merge(key, base, mine, theirs)


def _restored(store: Any, read_only: bool) -> Store:
    return Store(store, read_only=read_only)


def append(array: Any, data: Any, axis: int = 0) -> slice:
    """Append to an array of zarr-python as `zarrant.Array.append` does: from many processes at once none is lost.

    The data are stored before the metadata show the new shape. The handle keeps the shape that it knows: open the array again to
    see the new one. Returns the slice of `axis` that the data got. CapabilityError for a store that cannot keep writers apart.
    """
    place = array.store_path
    store = our_store(place.store)
    if store is None:
        raise CapabilityError("a store that cannot keep writers apart", store=repr(place.store), expected="lock or put_if")
    return open_array(store, mode="r+", name=place.path or None).append(data, axis=axis)
