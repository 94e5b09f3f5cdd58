"""Open and create nodes by path, URL, store or dict: `create_array`, `open_array`, `open_group` and the others.

Each function exists twice, for threads and for event loops; both make a `NodeContext` and run the same operation. Modes have
zarr-python's meanings: "r" read only, "r+" read and write what exists, "a" create what does not, "w" replace, "w-" create only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, get_args, overload

from zarrant.config import Config, ConfigOptions
from zarrant.config import config as defaults
from zarrant.errors import OptionError
from zarrant.metadata.v3 import ArrayMetadata, GroupMetadata
from zarrant.nodes.array import Array
from zarrant.nodes.async_array import AsyncArray
from zarrant.nodes.async_group import AsyncGroup, async_node
from zarrant.nodes.base import READ, STORE_OPTIONS, NodeContext, PendingNode, warn_caller
from zarrant.nodes.create import (
    ArrayOptions,
    GroupLayout,
    array_creation,
    check_format,
    check_mapping,
    group_creation,
    refuse_unknown,
)
from zarrant.nodes.group import Group, node
from zarrant.nodes.group_properties import array_required, as_required, group_required
from zarrant.nodes.signatures import spelled_out
from zarrant.ops import node as node_ops
from zarrant.storage import ReadableWritable, as_store
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.resolve import resolve_store
from zarrant.stores.synchronizer import Synchronized, check_before_write
from zarrant.stores.wrappers.read_only import ReadOnly

S = TypeVar("S")
Address: TypeAlias = str | os.PathLike[str] | MutableMapping[str, bytes]
Mode = Literal["r", "r+", "a", "w", "w-"]
MODES: tuple[Mode, ...] = get_args(Mode)


class Where(TypedDict, total=False):
    """Keywords that say where a node is and how it is opened."""

    name: str | None
    config: Config | ConfigOptions | Mapping[str, Any] | None
    synchronizer: Any
    storage_options: Mapping[str, Any] | None


class CreateOptions(Where, ArrayOptions, total=False):
    """Keywords of `create_array`."""


class GroupOptions(Where, GroupLayout, total=False):
    """Keywords of `create_group`."""


def _context(
    store: Any,
    name: str | None = None,
    config: Config | Mapping[str, Any] | None = None,
    synchronizer: Any = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> NodeContext:
    if not isinstance(name, str | None):
        raise OptionError("not a name", field="name", expected="a string", got=repr(name))
    check_mapping(None if isinstance(config, Config) else config, "config")
    check_mapping(storage_options, "storage_options")
    options = config if isinstance(config, Config) else defaults.config.with_options(**(config or {}))
    resolved, prefix = resolve_store(store, storage_options, {name: getattr(options, name) for name in STORE_OPTIONS})
    if isinstance(resolved, FilesystemStore):  # also where the caller made the store
        if options.durability == "fsync":
            resolved = resolved.with_options(durability="fsync")
        if options.direct_io and not resolved.direct_io:
            resolved = resolved.with_options(direct_io=True)
        if options.file_reuse and not resolved.file_reuse:
            resolved = resolved.with_options(file_reuse=True)
    if synchronizer is None:
        warn_caller("synchronizer=None: updates of one chunk by several writers can be lost")
        resolved = check_before_write(resolved)
    elif synchronizer != "auto":
        resolved = Synchronized(resolved, synchronizer, options.lock_timeout)
    top, below = prefix.rstrip("/"), node_ops.check_path(name) if name else ""
    return NodeContext(resolved, f"{top}/{below}" if top and below else top or below, options, synchronizer is not None, top=top)


@overload
def create_array(store: Address, **options: Unpack[CreateOptions]) -> Array[ReadableWritable]: ...
@overload
def create_array(store: S, **options: Unpack[CreateOptions]) -> Array[S]: ...
@spelled_out(CreateOptions)
def create_array(store: Any, **options: Unpack[CreateOptions]) -> Array[Any]:
    """Create an array and open it for reading and writing. Of two creators at the same time one gets NodeExistsError.

    Args:
        store: a path, `pathlib.Path`, `file://` or `memory://` URL, a dict, or a store.
        name: the path of the node within the store.
        config: runtime options, as `{"concurrency": 4}`: `zarrant.config` shows them, `docs/options.md` explains them.
        synchronizer: "auto" protects updates by the locks or the compare-and-swap of the store; a `storage.Synchronizer` (a
            lock service) serves as well; None protects nothing, and raises LostUpdateError where an update would undo
            another.
        storage_options: options of the store, as its class takes them.
        shape: the length, an integer for each dimension.
        dtype: what NumPy takes as a data type, or one of ours by name, as "bfloat16".
        data: gives shape and dtype where they are left out, and is stored in the new array. Data that are not in memory (a
            dataset of h5py, an array of Dask) are read block by block, unless something that is there is overwritten;
            masked elements become the fill value.
        chunks: the shape of what can be read alone; -1 is all of a dimension; "auto" makes about 1 MiB (64 KiB in shards).
            Lengths that differ are lists: `[[10, 20], [8, 8]]`. Another chunk grid is its metadata, `{"name": ...,
            "configuration": ...}`, or an object whose `to_json()` gives these.
        shards: the shape (or grid) of stored objects of several chunks, a multiple of `chunks`; "auto" makes about 32 MiB;
            None: no shards. `{"shape": ..., "index_location": "start"}` puts their index first.
        filters: codecs from array to array; codecs are objects of `zarrant.codecs`, `{"name": ..., "configuration": ...}`, or
            those of numcodecs.
        serializer: the codec from array to bytes. "auto" is little-endian bytes.
        compressors: codecs from bytes to bytes. "auto" is zstd with a crc32c checksum; None is none.
        fill_value: what elements are that were never written. None is zero.
        order: "C", or "F" to store chunks with their first dimension fastest.
        attributes: a mapping of what JSON knows, kept in the metadata.
        chunk_key_encoding: "default" (`c/0/1`) or "v2" (`0.1`), or `{"name": ..., "separator": ...}`.
        dimension_names: a name or None for each dimension.
        zarr_format: the version of the Zarr format, 2 or 3; left out it is 3.
        overwrite: replace what is there.
        if_exists: "error", "match" (an equal array will do, so that many workers may all create it) or "overwrite".

    Returns:
        The array.

    Raises:
        NodeExistsError: something is there already.
        ShapeError: a shape that cannot be, or `chunks` that do not divide `shards`.
        DataTypeError: an unknown data type, or a fill value or `data` that it cannot hold.
        UnknownExtensionError: a codec that is not known here.
        OptionError: an unknown option, or a value that it cannot have. Nothing is stored after any of these.

    >>> a = zarrant.create_array({}, shape=(100, 100), dtype="float32", chunks=(10, 10), shards=(50, 50))
    >>> a[:10, 5] = 1.5
    >>> float(a[3, 5])
    1.5
    """
    context, kwargs = _placed(store, options)
    return array_creation(context, kwargs).run(Array)


@spelled_out(CreateOptions)
async def create_array_async(store: Any, **options: Unpack[CreateOptions]) -> AsyncArray[Any]:
    """See `create_array`; gives an `AsyncArray`."""
    context, kwargs = _placed(store, options)
    return await array_creation(context, kwargs).run_async(AsyncArray)


@spelled_out(GroupOptions)
def create_group(store: Any, **options: Unpack[GroupOptions]) -> Group[Any]:
    """Create a group and open it for reading and writing.

    Args:
        store: a path, `pathlib.Path`, `file://` or `memory://` URL, a dict, or a store.
        name: the path of the node within the store.
        config: runtime options, as `{"concurrency": 4}`: `zarrant.config` shows them, `docs/options.md` explains them.
        synchronizer: "auto" protects updates by the locks or the compare-and-swap of the store; a `storage.Synchronizer` (a
            lock service) serves as well; None protects nothing, and raises LostUpdateError where an update would undo
            another.
        storage_options: options of the store, as its class takes them.
        attributes: a mapping of what JSON knows, kept in the metadata.
        zarr_format: the version of the Zarr format, 2 or 3; left out it is 3.
        overwrite: replace what is there.
        if_exists: "error", "match" (a group that is there will do) or "overwrite".

    Returns:
        The group.

    Raises:
        NodeExistsError: something is there already.
        OptionError: an unknown option, or a value that it cannot have.

    >>> g = zarrant.create_group("study.zarr", attributes={"subject": 7}, overwrite=True)
    >>> g.attrs["subject"]
    7
    """
    return _creating_group(store, options).run(Group)


@spelled_out(GroupOptions)
async def create_group_async(store: Any, **options: Unpack[GroupOptions]) -> AsyncGroup[Any]:
    """See `create_group`; gives an `AsyncGroup`."""
    return await _creating_group(store, options).run_async(AsyncGroup)


@spelled_out(CreateOptions)
def require_array(store: Any, **options: Unpack[CreateOptions]) -> Array[Any]:
    """The array that is there, as it is; or a new one with these options where there is none. Many workers may do so at once.

    Args:
        store: a path, `pathlib.Path`, `file://` or `memory://` URL, a dict, or a store.
        name: the path of the node within the store.
        options: the others of `create_array`.

    Returns:
        The array.

    Raises:
        NodeExistsError: the array that is there has another shape or data type.
        NodeNotFoundError: a group is there.
        OptionError: an unknown option, or one that means nothing.

    >>> a = zarrant.require_array("needed.zarr", shape=(4,), dtype="int32")
    >>> a == zarrant.require_array("needed.zarr", shape=(4,), dtype="int32")
    True
    """
    context, left = _placed(store, options)
    array: Array[Any] = as_required(array_required(context, left).run(Array), options)
    return array


@spelled_out(GroupOptions)
def require_group(store: Any, **options: Unpack[GroupOptions]) -> Group[Any]:
    """The group that is there, as it is; or a new one with these options where there is none. Many workers may do so at once.

    Args:
        store: a path, `pathlib.Path`, `file://` or `memory://` URL, a dict, or a store.
        name: the path of the node within the store.
        options: the others of `create_group`.

    Returns:
        The group.

    Raises:
        NodeNotFoundError: an array is there.
        OptionError: an unknown option, or one that means nothing.

    >>> zarrant.require_group("needed_too.zarr") == zarrant.require_group("needed_too.zarr")
    True
    """
    return group_required(*_placed(store, options)).run(Group)


@overload
def open_array(store: Address, *, mode: Mode = "a", **options: Unpack[CreateOptions]) -> Array[ReadableWritable]: ...
@overload
def open_array(store: S, *, mode: Mode = "a", **options: Unpack[CreateOptions]) -> Array[S]: ...
@spelled_out(CreateOptions)
def open_array(store: Any, *, mode: Mode = "a", **options: Unpack[CreateOptions]) -> Array[Any]:
    """Open an array, or create it as `mode` says.

    An array that is there is opened as it is, whatever the options for a new one say.

    Args:
        store: a path, `pathlib.Path`, `file://` or `memory://` URL, a dict, or a store.
        mode: "r" reads, "r+" also writes what exists, "a" also creates what does not, "w" replaces, "w-" only creates.
        name: the path of the node within the store.
        config: runtime options, as `{"concurrency": 4}`: `zarrant.config` shows them, `docs/options.md` explains them.
        synchronizer: "auto" protects updates by the locks or the compare-and-swap of the store; a `storage.Synchronizer` (a
            lock service) serves as well; None protects nothing, and raises LostUpdateError where an update would undo
            another.
        storage_options: options of the store, as its class takes them.
        options: the others of `create_array`, for an array that is created.

    Returns:
        The array. With mode "r" every write is refused.

    Raises:
        NodeNotFoundError: there is no array, and none may be created; or a group is there.
        NodeExistsError: with mode "w-", something is there.
        MetadataError: its metadata are broken.
        UnknownExtensionError: it uses a codec, data type or grid that is not known here.
        OptionError: an unknown option, also where nothing is created, or a value that it cannot have.

    >>> _ = zarrant.create_array("data.zarr", data=np.arange(6), chunks=2, overwrite=True)
    >>> a = zarrant.open_array("data.zarr", mode="r")
    >>> a[2:4].tolist()
    [2, 3]
    """
    return _opening_array(store, mode, options).run(Array)


@spelled_out(CreateOptions)
async def open_array_async(store: Any, *, mode: Mode = "a", **options: Unpack[CreateOptions]) -> AsyncArray[Any]:
    """See `open_array`; gives an `AsyncArray`."""
    return await _opening_array(store, mode, options).run_async(AsyncArray)


@spelled_out(GroupOptions)
def open_group(store: Any, *, mode: Mode = "a", **options: Unpack[GroupOptions]) -> Group[Any]:
    """Open a group, or create it as `mode` says.

    Args:
        store: a path, `pathlib.Path`, `file://` or `memory://` URL, a dict, or a store.
        mode: "r" reads, "r+" also writes what exists, "a" also creates what does not, "w" replaces, "w-" only creates.
        name: the path of the node within the store.
        config: runtime options, as `{"concurrency": 4}`: `zarrant.config` shows them, `docs/options.md` explains them.
        synchronizer: "auto" protects updates by the locks or the compare-and-swap of the store; a `storage.Synchronizer` (a
            lock service) serves as well; None protects nothing, and raises LostUpdateError where an update would undo
            another.
        storage_options: options of the store, as its class takes them.
        options: the others of `create_group`, for a group that is created.

    Returns:
        The group. With mode "r" every write is refused.

    Raises:
        NodeNotFoundError: there is no group, and none may be created; or an array is there.
        NodeExistsError: with mode "w-", something is there.
        MetadataError: its metadata are broken.
        OptionError: an unknown option, or a value that it cannot have.

    >>> g = zarrant.open_group("study.zarr", mode="w")
    >>> _ = g.create_array("images/raw", shape=(8, 8), dtype="uint8")
    >>> list(zarrant.open_group("study.zarr", mode="r"))
    ['images']
    """
    return _opening_group(store, mode, options).run(Group)


@spelled_out(GroupOptions)
async def open_group_async(store: Any, *, mode: Mode = "a", **options: Unpack[GroupOptions]) -> AsyncGroup[Any]:
    """See `open_group`; gives an `AsyncGroup`."""
    return await _opening_group(store, mode, options).run_async(AsyncGroup)


@spelled_out(Where)
def open(store: Any, *, mode: Mode = "a", **where: Unpack[Where]) -> Array[Any] | Group[Any]:
    """Open the array or group that is there.

    Args:
        store: a path, `pathlib.Path`, `file://` or `memory://` URL, a dict, or a store.
        mode: "r" reads, "r+" also writes what exists, "a" also creates what does not, "w" replaces, "w-" only creates.
        name: the path of the node within the store.
        config: runtime options, as `{"concurrency": 4}`: `zarrant.config` shows them, `docs/options.md` explains them.
        synchronizer: "auto" protects updates by the locks or the compare-and-swap of the store; a `storage.Synchronizer` (a
            lock service) serves as well; None protects nothing, and raises LostUpdateError where an update would undo
            another.
        storage_options: options of the store, as its class takes them.

    Returns:
        An `Array` or a `Group`.

    Raises:
        NodeNotFoundError: there is none.
        MetadataError: its metadata are broken.
        UnknownExtensionError: it uses a codec, data type or grid that is not known here.
        OptionError: an unknown option, or a value that it cannot have.

    >>> _ = zarrant.create_array("data.zarr", data=np.arange(6), overwrite=True)
    >>> zarrant.open("data.zarr", mode="r").shape
    (6,)
    """
    return _opening(store, mode, where).run(node)


@spelled_out(Where)
async def open_async(store: Any, *, mode: Mode = "a", **where: Unpack[Where]) -> AsyncArray[Any] | AsyncGroup[Any]:
    """See `open`; gives an `AsyncArray` or an `AsyncGroup`."""
    return await _opening(store, mode, where).run_async(async_node)


def _opening_array(store: Any, mode: str, options: Mapping[str, Any]) -> PendingNode:
    context, left = _entered(store, mode, options, ArrayOptions)
    if mode in ("w", "w-"):
        return array_creation(context, {**left, "overwrite": mode == "w"})
    may_create = mode == "a" and ("shape" in left or "data" in left)
    create = (lambda: array_creation(context, {**left, "if_exists": "match"}).where_none_is()) if may_create else None
    return PendingNode(context, node_ops.open_node(context.path, ArrayMetadata, create), READ)


def _opening_group(store: Any, mode: str, options: Mapping[str, Any]) -> PendingNode:
    context, left = _entered(store, mode, options, GroupLayout)
    if mode in ("w", "w-"):
        return group_creation(context, {**left, "overwrite": mode == "w"})
    create = (lambda: group_creation(context, {**left, "if_exists": "match"}).where_none_is()) if mode == "a" else None
    return PendingNode(context, node_ops.open_node(context.path, GroupMetadata, create), READ)


def _opening(store: Any, mode: str, options: Mapping[str, Any]) -> PendingNode:
    context, _ = _entered(store, mode, options, None)
    if mode in ("w", "w-"):
        hint = "Use create_array or create_group"
        raise OptionError("open does not know what to create", field="mode", expected="r | r+ | a", got=mode, hint=hint)
    return PendingNode(context, node_ops.open_node(context.path), READ)


def _creating_group(store: Any, options: Mapping[str, Any]) -> PendingNode:
    return group_creation(*_placed(store, options))


def _entered(store: Any, mode: str, options: Mapping[str, Any], kind: Any) -> tuple[NodeContext, dict[str, Any]]:
    """The context of the node that options name, as the mode allows, and the options that are left for a new node of this kind.

    An unknown option is refused in every mode, though only some create.
    """
    if mode not in MODES:
        hint = '"r" reads; "r+" also writes what exists; "a" also creates what does not; "w" replaces; "w-" only creates'
        raise OptionError("unknown mode", field="mode", expected=" | ".join(MODES), got=repr(mode), hint=hint)
    refuse_unknown(options, _keywords(kind))
    _refuse_ignored(mode, options)
    context, left = _placed(store, options)
    if mode == "r":
        context = NodeContext(as_store(ReadOnly(context.store)), context.path, context.config, context.guarded)
    return context, left


@lru_cache(maxsize=8)
def _keywords(kind: Any) -> frozenset[str]:
    """Those that say where a node is, and those of a new one of this kind."""
    return frozenset((*Where.__annotations__, *(kind.__annotations__ if kind else ())))


_MEANT: dict[str, tuple[tuple[str, object], ...]] = {
    "r": (("overwrite", False), ("if_exists", None)),
    "r+": (("overwrite", False), ("if_exists", None)),
    "a": (("overwrite", False), ("if_exists", "match")),
    "w": (("overwrite", True), ("if_exists", "overwrite")),
    "w-": (("overwrite", False), ("if_exists", "error")),
}
"""What each mode says of `overwrite` and `if_exists`."""


def _refuse_ignored(mode: str, options: Mapping[str, Any]) -> None:
    """OptionError for an option that the mode would leave without effect."""
    for name, meant in _MEANT[mode] if "overwrite" in options or "if_exists" in options else ():
        if name in options and options[name] != meant:
            hint = "Leave it out, or use another mode or create_array"
            message = "the mode says what becomes of a node that is there"
            raise OptionError(message, field=name, expected=f"{meant!r} with mode={mode!r}", got=repr(options[name]), hint=hint)
    if mode in ("r", "r+") and options.get("data") is not None:
        hint = 'Store them with a[...] = data, or use mode="a"'
        raise OptionError("data are stored in an array that is created", field="data", got=f"mode={mode!r}", hint=hint)
    check_format(options.get("zarr_format", 3))


def _placed(store: Any, options: Mapping[str, Any]) -> tuple[NodeContext, dict[str, Any]]:
    left = dict(options)
    where = {key: left.pop(key) for key in Where.__annotations__ if key in left}
    return _context(store, **where), left
