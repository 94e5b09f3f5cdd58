"""Stores: where objects are kept. Each has the methods of those protocols of `zarrant.storage` whose promises it can keep.

A path, a URL or a dict becomes a store by itself (`resolve_store`); these classes are for what a URL cannot say. What is put
around a store is in `zarrant.stores.wrappers`. Each class is imported when it is asked for.

>>> store = zarrant.stores.MemoryStore()
>>> int(zarrant.create_array(store, data=[1, 2, 3])[1])
2
"""

from typing import TYPE_CHECKING

from zarrant.lazy import lazy_names

if TYPE_CHECKING:
    from zarrant.stores.fsspec_store import FsspecStore
    from zarrant.stores.local.store import FilesystemStore
    from zarrant.stores.memory import MemoryStore
    from zarrant.stores.object_store import ObjectStore
    from zarrant.stores.resolve import resolve_store
    from zarrant.stores.zarr_store import ZarrStore, as_zarr_store
    from zarrant.stores.zip_store import ZipStore

__all__ = [
    "FilesystemStore",
    "FsspecStore",
    "MemoryStore",
    "ObjectStore",
    "ZarrStore",
    "ZipStore",
    "as_zarr_store",
    "resolve_store",
]

_MODULES = {
    "FilesystemStore": "local.store",
    "FsspecStore": "fsspec_store",
    "MemoryStore": "memory",
    "ObjectStore": "object_store",
    "ZarrStore": "zarr_store",
    "ZipStore": "zip_store",
    "as_zarr_store": "zarr_store",
    "resolve_store": "resolve",
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
