"""Stores: where bytes live. Each satisfies as many protocols of `zarrant.storage` as it honestly can.

A path, a URL or a dict becomes a store by itself (`resolve_store`); these classes are for what a URL cannot say. What is put
around a store is in `zarrant.stores.wrappers`. Each class is imported when it is asked for.

>>> store = zarrant.stores.MemoryStore()
>>> int(zarrant.create_array(store, data=[1, 2, 3])[1])
2
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
