"""The front door: open and create nodes by path, URL, store or dict.

Each function exists twice, for threads and for event loops; both make a `Place` and run the same operation. Modes have
zarr-python's meanings: "r" read only, "r+" read and write what exists, "a" create what does not, "w" replace, "w-" create only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, get_args, overload

from zarrant.config import Config, ConfigOptions
from zarrant.config import config as defaults
from zarrant.errors import OptionError
from zarrant.metadata.v3 import ArrayDocument, GroupDocument
from zarrant.nodes.array import Array
from zarrant.nodes.async_array import AsyncArray
from zarrant.nodes.base import READ, STORE_OPTIONS, Place, Start, warn_caller
from zarrant.nodes.create import (
    ArrayOptions,
    GroupLayout,
    array_creation,
    check_format,
    check_mapping,
    group_creation,
    refuse_unknown,
)
from zarrant.nodes.group import AsyncGroup, Group, async_node, node
from zarrant.ops import hierarchy
from zarrant.storage import ReadableWritable
from zarrant.stores.adapters import ReadOnly
from zarrant.stores.filesystem import FilesystemStore
from zarrant.stores.guarded import Synchronized, last_look
from zarrant.stores.resolve import resolve_store

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


def _place(
    store: Any,
    name: str | None = None,
    config: Config | Mapping[str, Any] | None = None,
    synchronizer: Any = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> Place:
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
    if synchronizer is None:
        warn_caller("synchronizer=None: updates of one chunk by several writers can be lost")
        resolved = last_look(resolved)
    elif synchronizer != "auto":
        resolved = Synchronized(resolved, synchronizer, options.lock_timeout)
    path = "/".join(part for part in (prefix.rstrip("/"), hierarchy.check_path(name or "")) if part)
    return Place(resolved, path, options, synchronizer is not None)


@overload
def create_array(store: Address, **options: Unpack[CreateOptions]) -> Array[ReadableWritable]: ...
@overload
def create_array(store: S, **options: Unpack[CreateOptions]) -> Array[S]: ...
def create_array(store: Any, **options: Any) -> Array[Any]:
    """Create an array and open it for reading and writing.

    Args:
        store: a path, `pathlib.Path`, `file://` or `memory://` URL, a dict, or a store.
        name: the path of the array within the store.
        config: run-time options (API.md §3).
        synchronizer: "auto" guards updates by what the store has; a `storage.Synchronizer` (a lock service) is taken as well;
            None guards nothing, and raises LostUpdateError where an update would undo another that came in between.
        storage_options: options of the store.
        options: `shape`, `dtype`, `data`, `chunks`, `shards`, `filters`, `serializer`, `compressors`, `fill_value`, `order`,
            `attributes`, `chunk_key_encoding`, `dimension_names`, `overwrite`, `if_exists` ("error", "match", "overwrite").
            `data` that are not in memory (a dataset of h5py, an array of Dask) are read block by block unless something is
            overwritten; their masked elements become the fill value. `shards="auto"` makes shards of about 32 MiB.

    Raises NodeExistsError where something is, ShapeError, DataTypeError, OptionError or MetadataError for what cannot be; then
    nothing was stored.

    >>> a = create_array({}, shape=(100, 100), dtype="float32", chunks=(10, 10), shards=(50, 50))
    >>> a[:10, 5] = 1.5
    >>> float(a[3, 5])
    1.5
    """
    place, kwargs = _placed(store, options)
    return array_creation(place, kwargs).run(Array)


async def create_array_async(store: Any, **options: Unpack[CreateOptions]) -> AsyncArray[Any]:
    """`create_array` as a coroutine; gives an `AsyncArray`."""
    place, kwargs = _placed(store, options)
    return await array_creation(place, kwargs).run_async(AsyncArray)


def create_group(store: Any, **options: Unpack[GroupOptions]) -> Group[Any]:
    """Create a group and open it; NodeExistsError where something is, unless `overwrite`."""
    return _creating_group(store, options).run(Group)


async def create_group_async(store: Any, **options: Unpack[GroupOptions]) -> AsyncGroup[Any]:
    """`create_group` as a coroutine; gives an `AsyncGroup`."""
    return await _creating_group(store, options).run_async(AsyncGroup)


@overload
def open_array(store: Address, *, mode: Mode = "a", **options: Unpack[CreateOptions]) -> Array[ReadableWritable]: ...
@overload
def open_array(store: S, *, mode: Mode = "a", **options: Unpack[CreateOptions]) -> Array[S]: ...
def open_array(store: Any, *, mode: Mode = "a", **options: Any) -> Array[Any]:
    """Open an array, or create it as `mode` says; options as in `create_array`, for an array that is created.

    An array that is there is opened as it is, whatever they say; an unknown option is an OptionError in every mode.
    NodeNotFoundError where there is none and none may be created, or where a group is.
    """
    return _opening_array(store, mode, options).run(Array)


async def open_array_async(store: Any, *, mode: Mode = "a", **options: Unpack[CreateOptions]) -> AsyncArray[Any]:
    """`open_array` as a coroutine; gives an `AsyncArray`."""
    return await _opening_array(store, mode, options).run_async(AsyncArray)


def open_group(store: Any, *, mode: Mode = "a", **options: Unpack[GroupOptions]) -> Group[Any]:
    """Open a group, or create it as `mode` says."""
    return _opening_group(store, mode, options).run(Group)


async def open_group_async(store: Any, *, mode: Mode = "a", **options: Unpack[GroupOptions]) -> AsyncGroup[Any]:
    """`open_group` as a coroutine; gives an `AsyncGroup`."""
    return await _opening_group(store, mode, options).run_async(AsyncGroup)


def open(store: Any, *, mode: Mode = "a", **where: Unpack[Where]) -> Array[Any] | Group[Any]:
    """Open the array or group that is there; NodeNotFoundError where there is none."""
    return _opening(store, mode, where).run(node)


async def open_async(store: Any, *, mode: Mode = "a", **where: Unpack[Where]) -> AsyncArray[Any] | AsyncGroup[Any]:
    """`open` as a coroutine; gives an `AsyncArray` or an `AsyncGroup`."""
    return await _opening(store, mode, where).run_async(async_node)


def _opening_array(store: Any, mode: str, options: Mapping[str, Any]) -> Start:
    place, left = _entered(store, mode, options, ArrayOptions)
    if mode in ("w", "w-"):
        return array_creation(place, {**left, "overwrite": mode == "w"})
    may_create = mode == "a" and ("shape" in left or "data" in left)
    create = (lambda: array_creation(place, {**left, "if_exists": "match"}).op) if may_create else None
    return Start(place, hierarchy.open_node(place.path, ArrayDocument, create), READ)


def _opening_group(store: Any, mode: str, options: Mapping[str, Any]) -> Start:
    place, left = _entered(store, mode, options, GroupLayout)
    if mode in ("w", "w-"):
        return group_creation(place, {**left, "overwrite": mode == "w"})
    create = (lambda: group_creation(place, {**left, "if_exists": "match"}).op) if mode == "a" else None
    return Start(place, hierarchy.open_node(place.path, GroupDocument, create), READ)


def _opening(store: Any, mode: str, options: Mapping[str, Any]) -> Start:
    place, _ = _entered(store, mode, options, None)
    if mode in ("w", "w-"):
        hint = "Use create_array or create_group"
        raise OptionError("open cannot tell what to create", field="mode", expected="r | r+ | a", got=mode, hint=hint)
    return Start(place, hierarchy.open_node(place.path), READ)


def _creating_group(store: Any, options: Mapping[str, Any]) -> Start:
    return group_creation(*_placed(store, options))


def _entered(store: Any, mode: str, options: Mapping[str, Any], kind: Any) -> tuple[Place, dict[str, Any]]:
    """The place that options speak of, as the mode allows, and the options that are left for a new node of this kind.

    An unknown option is refused in every mode, though only some create.
    """
    if mode not in MODES:
        hint = '"r" reads; "r+" also writes what exists; "a" also creates what does not; "w" replaces; "w-" only creates'
        raise OptionError("unknown mode", field="mode", expected=" | ".join(MODES), got=repr(mode), hint=hint)
    refuse_unknown(options, {**Where.__annotations__, **(kind.__annotations__ if kind else {})})
    _refuse_ignored(mode, options)
    place, left = _placed(store, options)
    if mode == "r":
        place = Place(ReadOnly(place.store), place.path, place.config, place.guarded)
    return place, left


_MEANT: dict[str, tuple[bool, str | None]] = {
    "r": (False, None),
    "r+": (False, None),
    "a": (False, "match"),
    "w": (True, "overwrite"),
    "w-": (False, "error"),
}
"""What each mode says of `overwrite` and `if_exists`."""


def _refuse_ignored(mode: str, options: Mapping[str, Any]) -> None:
    """OptionError for an option that the mode would leave without effect."""
    for name, meant in zip(("overwrite", "if_exists"), _MEANT[mode], strict=True):
        if name in options and options[name] != meant:
            hint = "Leave it out, or use another mode or create_array"
            message = "the mode says what becomes of a node that is there"
            raise OptionError(message, field=name, expected=f"{meant!r} with mode={mode!r}", got=repr(options[name]), hint=hint)
    if mode in ("r", "r+") and options.get("data") is not None:
        hint = 'Store them with a[...] = data, or use mode="a"'
        raise OptionError("data are stored in an array that is created", field="data", got=f"mode={mode!r}", hint=hint)
    check_format(options.get("zarr_format", 3))


def _placed(store: Any, options: Mapping[str, Any]) -> tuple[Place, dict[str, Any]]:
    left = dict(options)
    where = {key: left.pop(key) for key in Where.__annotations__ if key in left}
    return _place(store, **where), left
