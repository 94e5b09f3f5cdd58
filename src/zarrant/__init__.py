"""Zarrant: Zarr arrays whose partial writes are safe by default.

>>> import numpy as np, zarrant
>>> a = zarrant.create_array({}, shape=(64, 64), dtype="uint16", chunks=(8, 8), shards=(32, 32))
>>> a[5:20, 3:9] = 7                                    # any region; stored objects are updated safely
>>> a.store_chunk((1, 1), np.ones((32, 32), "uint16"))  # a whole stored object; never reads
>>> int(a[...].sum())
1654
>>> a.retrieve_array_subset(np.s_[4:7, 8:10]).tolist()
[[0, 0], [7, 0], [7, 0]]

Open what exists with `open`, `open_array` and `open_group`; make new nodes with `create_array` and `create_group`; the names
ending in `_async` give `AsyncArray` and `AsyncGroup`. Errors are in `zarrant.errors`, codecs in `zarrant.codecs`. With
`zarrant.extensions` you add codecs, data types, chunk grids, chunk key encodings and stores of your own.

The documentation begins at `docs/index.md` of the source; `docs/tour.md` takes ten minutes.
"""

from zarrant import codecs, errors, extensions
from zarrant.codecs.buffer_pool import aligned_empty
from zarrant.config import Config, config
from zarrant.geometry.box import ArraySubset
from zarrant.nodes import async_shortcuts as asynchronous
from zarrant.nodes.array import Array
from zarrant.nodes.async_array import AsyncArray
from zarrant.nodes.async_group import AsyncGroup
from zarrant.nodes.group import Group
from zarrant.nodes.open import (
    create_array,
    create_array_async,
    create_group,
    create_group_async,
    open,
    open_array,
    open_array_async,
    open_async,
    open_group,
    open_group_async,
    require_array,
    require_group,
)
from zarrant.nodes.shortcuts import array, empty, empty_like, full, full_like, load, ones, ones_like, save, zeros, zeros_like
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore

__version__ = "0.1.0"

__all__ = [
    "Array",
    "ArraySubset",
    "AsyncArray",
    "AsyncGroup",
    "Config",
    "FilesystemStore",
    "Group",
    "MemoryStore",
    "__version__",
    "aligned_empty",
    "array",
    "asynchronous",
    "codecs",
    "config",
    "create_array",
    "create_array_async",
    "create_group",
    "create_group_async",
    "empty",
    "empty_like",
    "errors",
    "extensions",
    "full",
    "full_like",
    "load",
    "ones",
    "ones_like",
    "open",
    "open_array",
    "open_array_async",
    "open_async",
    "open_group",
    "open_group_async",
    "require_array",
    "require_group",
    "save",
    "zeros",
    "zeros_like",
]
