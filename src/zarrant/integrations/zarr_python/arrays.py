"""What an array of zarr-python is to Zarrant: a store, a path, and the bound array where Zarrant knows its codecs and data type.

In: a store and metadata of zarr-python, and the key of a chunk. Out: an `OurArray`; None for a store whose updates Zarrant cannot
guard. Found once for a pipeline: what is stored may change afterwards (attributes, shape), which the operations themselves notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from zarr import storage as theirs
from zarr.core.buffer import default_buffer_prototype

from zarrant.config import config as defaults
from zarrant.errors import NodeReplacedError, ZarrantError
from zarrant.geometry.box import Shape
from zarrant.metadata import node as documents
from zarrant.metadata.v3 import ArrayMetadata, NodeMetadata
from zarrant.nodes.base import STORE_OPTIONS, NodeContext
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.current import is_same_array
from zarrant.ops.node import MustExist, metadata_key, stored_metadata
from zarrant.requests import Op, fetch_one
from zarrant.storage import as_store, capabilities, is_local
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.zarr_store import ZarrantStore, from_zarr

KINDS = (theirs.LocalStore, theirs.ObjectStore, theirs.FsspecStore)
"""Stores of zarr-python of which Zarrant has the like on the same place."""


def our_store(store: Any) -> Any:
    """Our store on the place of one of zarr-python; None where there is none that keeps writers apart."""
    if type(store) is theirs.LocalStore:
        options = defaults.config
        return FilesystemStore(store.root, **{name: getattr(options, name) for name in STORE_OPTIONS})
    made = store.store if isinstance(store, ZarrantStore) else from_zarr(store) if type(store) in KINDS else None
    if made is None:
        return None
    able = capabilities(made)
    return made if able.get and (able.lock or able.put_if or not able.put) else None


@dataclass(frozen=True)
class OurArray:
    """An array of zarr-python as it is for us. `bound` None: its codecs or its data type are not known."""

    context: NodeContext
    main: str | None
    """The name of its main metadata object; None where that is not stored."""
    bound: BoundArray | None
    local: bool
    """Calls of the store take microseconds."""
    why: str = ""
    """Why it is not bound."""
    _contexts: dict[bool, NodeContext] = field(default_factory=dict, compare=False, repr=False)
    _variants: dict[tuple[bool, bool], tuple[NodeContext, BoundArray]] = field(default_factory=dict, compare=False, repr=False)

    def variant(self, write_empty_chunks: bool, required: bool) -> tuple[NodeContext, BoundArray]:
        """Context and array under the options of one call."""
        assert self.bound is not None, "asked for where the codecs are known"
        found = self._variants.get((write_empty_chunks, required))
        if found is None:
            missing: Any = "error" if required else "fill"
            context = self.context.with_config(write_empty_chunks=write_empty_chunks, missing_chunks=missing)
            array = self.bound.with_options(context.options)
            found = self._variants[write_empty_chunks, required] = context, array
        return found

    def at_once(self, write_empty_chunks: bool) -> NodeContext:
        """The context of a write that does not wait for a lock."""
        found = self._contexts.get(write_empty_chunks)
        if found is None:
            found = self._contexts[write_empty_chunks] = self.variant(write_empty_chunks, False)[0].with_config(lock_timeout=0)
        return found

    def grown(self, write_empty_chunks: bool, metadata: NodeMetadata | None) -> BoundArray | None:
        """The array of a variant with metadata that were read again; None where they are not those of this array."""
        context, array = self.variant(write_empty_chunks, False)
        if not is_same_array(array, metadata):
            return None
        assert isinstance(metadata, ArrayMetadata), "of an array"
        self._variants[write_empty_chunks, False] = context, array.with_metadata(metadata)
        return self._variants[write_empty_chunks, False][1]

    @property
    def node(self) -> MustExist | None:
        """What must be there for a write of an array that is not bound."""
        return None if self.main is None else MustExist(self.context.path, self.main)


def depth_of(metadata: Any) -> int:
    """The names that a chunk's key has below the path of its array."""
    key: str = metadata.encode_chunk_key((0,) * len(metadata.shape))
    return key.count("/") + 1


def path_of(key: str, depth: int) -> str:
    """The path of the array to which a chunk's key belongs."""
    parts = key.rsplit("/", depth)
    return parts[0] if len(parts) > depth else ""


def find_array(store: Any, path: str, metadata: Any) -> Op[OurArray]:
    """What an array of zarr-python is to us; NodeReplacedError where another one is stored by now."""
    context = NodeContext(as_store(store), path, defaults.config)
    main: str | None = documents.V3 if metadata.zarr_format == 3 else documents.ARRAY_V2
    if (yield from fetch_one(documents.key_of(path, str(main)), ())) is None:
        main = None
    try:
        bound = BoundArray.from_metadata(path, _parsed(path, metadata), context.options)
        why = _mismatch(bound, metadata)
        if main is not None and not why:
            bound = _as_stored(bound, (yield from stored_metadata(path, bound.metadata)))
    except NodeReplacedError:
        raise
    except (ZarrantError, TypeError, ValueError) as error:
        return OurArray(context, main, None, is_local(store), f"{type(error).__name__}: {error}")
    return OurArray(context, main, None if why else bound, is_local(store), why)


def _as_stored(array: BoundArray, stored: NodeMetadata | None) -> BoundArray:
    """The array with the metadata that were found, which have a version."""
    if stored is None:
        return array
    if not isinstance(stored, ArrayMetadata) or not is_same_array(array, stored):
        message = "another node was stored here after this array was opened"
        key = metadata_key(array.prefix, stored)
        raise NodeReplacedError(message, key=key, path=array.prefix or "/", hint="Open it again")
    return BoundArray.from_metadata(array.prefix, stored, array.options)


def _parsed(path: str, metadata: Any) -> ArrayMetadata:
    """Metadata of zarr-python as ours; an error for what we cannot read."""
    objects = metadata.to_buffer_dict(default_buffer_prototype())
    found = documents.parse(path, {name: buffer.to_bytes() for name, buffer in objects.items()})
    if not isinstance(found, ArrayMetadata):
        raise TypeError("not the metadata of an array")
    return found


def _mismatch(array: BoundArray, metadata: Any) -> str:
    """Why values of zarr-python are not those of the array; "" where they are."""
    dtype = metadata.dtype
    native = dtype.to_native_dtype() if hasattr(dtype, "to_native_dtype") else np.dtype(dtype)
    ours = array.data_type.numpy
    if ours.hasobject:
        return "elements of variable length"
    if native != ours:
        return f"values of {ours} here, of {native} in zarr-python"
    return ""


def bounds_for(array: BoundArray, stop: Sequence[int]) -> Shape:
    """Up to where elements exist: zarr-python may know a larger shape than was found."""
    return tuple([max(length, end) for length, end in zip(array.shape, stop, strict=True)])
