"""The front door: open and create nodes by path, URL, store or dict.

Each function exists twice, for threads and for event loops; both make a `Place` and run the same operation. Modes have
zarr-python's meanings: "r" read only, "r+" read and write what exists, "a" create what does not, "w" replace, "w-" create only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Any, TypeAlias, TypeVar, Unpack, overload

from zarrant.config import Config
from zarrant.config import config as defaults
from zarrant.errors import NodeNotFoundError, OptionError
from zarrant.metadata.v3 import ArrayDocument, GroupDocument
from zarrant.nodes.array import Array, AsyncArray
from zarrant.nodes.base import READ, Place
from zarrant.nodes.create import ArrayOptions, Creation, array_creation, group_creation
from zarrant.nodes.group import AsyncGroup, Group
from zarrant.ops import hierarchy
from zarrant.storage import ReadableWritable
from zarrant.stores.adapters import ReadOnly
from zarrant.stores.resolve import resolve_store

S = TypeVar("S")
Address: TypeAlias = str | os.PathLike[str] | MutableMapping[str, bytes]
MODES = ("r", "r+", "a", "w", "w-")


class CreateOptions(ArrayOptions, total=False):
    """Keywords of `create_array`: those of the array, and where and how it is opened."""

    name: str | None
    config: Config | Mapping[str, Any] | None
    synchronizer: Any
    storage_options: Mapping[str, Any] | None


def _place(
    store: Any,
    name: str | None = None,
    config: Config | Mapping[str, Any] | None = None,
    synchronizer: Any = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> Place:
    if synchronizer is not None and synchronizer != "auto":
        raise OptionError("not a synchronizer", field="synchronizer", expected='"auto" or None', got=repr(synchronizer))
    options = config if isinstance(config, Config) else defaults.config.with_options(**(config or {}))
    files = {"locking": options.locking, "lock_timeout": options.lock_timeout}
    resolved, prefix = resolve_store(store, storage_options, files)
    path = "/".join(part for part in (prefix.rstrip("/"), hierarchy.check_path(name or "")) if part)
    return Place(resolved, path, options, synchronizer is not None)


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise OptionError("unknown mode", field="mode", expected=" | ".join(MODES), got=repr(mode))


def _read_only(place: Place, mode: str) -> Place:
    if mode != "r":
        return place
    return Place(ReadOnly(place.store), place.path, place.config, place.guarded)


def _of_kind(document: Any, kind: type, place: Place) -> Any:
    if not isinstance(document, kind):
        wanted = "array" if kind is ArrayDocument else "group"
        raise NodeNotFoundError(
            f"the node here is not {'an' if wanted == 'array' else 'a'} {wanted}", path=place.path or "/", store=place.url
        )
    return document


def _creation(place: Place, mode: str, kind: type, options: Mapping[str, Any]) -> Creation:
    """How a mode makes a node that is wanted or missing."""
    if kind is GroupDocument:
        return group_creation(place, options.get("attributes"), overwrite=mode == "w")
    return array_creation(place, {**options, "overwrite": mode == "w"})


@overload
def create_array(store: Address, **options: Unpack[CreateOptions]) -> Array[ReadableWritable]: ...
@overload
def create_array(store: S, **options: Unpack[CreateOptions]) -> Array[S]: ...
def create_array(store: Any, **options: Any) -> Array[Any]:
    """Create an array and open it for reading and writing.

    Args:
        store: a path, `pathlib.Path`, `file://` or `memory://` URL, a dict, or a store.
        name: the path of the array within the store.
        config: run-time options (API.md §3). synchronizer: "auto" guards partial writes; None does not.
        storage_options: options of the store.
        options: `shape`, `dtype`, `data`, `chunks`, `shards`, `filters`, `serializer`, `compressors`, `fill_value`, `order`,
            `attributes`, `chunk_key_encoding`, `dimension_names`, `overwrite`, `if_exists` ("error", "match", "overwrite").

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


def create_group(
    store: Any,
    *,
    name: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **where: Any,
) -> Group[Any]:
    """Create a group and open it; `where` takes `config`, `synchronizer` and `storage_options`."""
    return group_creation(_place(store, name, **where), attributes, overwrite).run(Group)


async def create_group_async(
    store: Any,
    *,
    name: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **where: Any,
) -> AsyncGroup[Any]:
    """`create_group` as a coroutine; gives an `AsyncGroup`."""
    return await group_creation(_place(store, name, **where), attributes, overwrite).run_async(AsyncGroup)


@overload
def open_array(store: Address, *, mode: str = "a", **options: Unpack[CreateOptions]) -> Array[ReadableWritable]: ...
@overload
def open_array(store: S, *, mode: str = "a", **options: Unpack[CreateOptions]) -> Array[S]: ...
def open_array(store: Any, *, mode: str = "a", **options: Any) -> Array[Any]:
    """Open an array, or create it as `mode` says; options as in `create_array`.

    NodeNotFoundError where there is none and none may be created, or where a group is.
    """
    place, mode, kwargs = _opening(store, mode, options)
    if mode in ("w", "w-"):
        return _creation(place, mode, ArrayDocument, kwargs).run(Array)
    try:
        document = place.run(hierarchy.read_document(place.path), READ)
    except NodeNotFoundError:
        if mode != "a" or not _may_create(kwargs):
            raise
        return array_creation(place, {**kwargs, "if_exists": "match"}).run(Array)
    return Array(place, _of_kind(document, ArrayDocument, place))


async def open_array_async(store: Any, *, mode: str = "a", **options: Any) -> AsyncArray[Any]:
    """`open_array` as a coroutine; gives an `AsyncArray`."""
    place, mode, kwargs = _opening(store, mode, options)
    if mode in ("w", "w-"):
        return await _creation(place, mode, ArrayDocument, kwargs).run_async(AsyncArray)
    try:
        document = await place.run_async(hierarchy.read_document(place.path), READ)
    except NodeNotFoundError:
        if mode != "a" or not _may_create(kwargs):
            raise
        return await array_creation(place, {**kwargs, "if_exists": "match"}).run_async(AsyncArray)
    return AsyncArray(place, _of_kind(document, ArrayDocument, place))


def open_group(store: Any, *, mode: str = "a", **options: Any) -> Group[Any]:
    """Open a group, or create it as `mode` says."""
    place, mode, kwargs = _opening(store, mode, options)
    if mode in ("w", "w-"):
        return _creation(place, mode, GroupDocument, kwargs).run(Group)
    try:
        document = place.run(hierarchy.read_document(place.path), READ)
    except NodeNotFoundError:
        if mode != "a":
            raise
        return group_creation(place, kwargs.get("attributes"), match=True).run(Group)
    return Group(place, _of_kind(document, GroupDocument, place))


async def open_group_async(store: Any, *, mode: str = "a", **options: Any) -> AsyncGroup[Any]:
    """`open_group` as a coroutine; gives an `AsyncGroup`."""
    place, mode, kwargs = _opening(store, mode, options)
    if mode in ("w", "w-"):
        return await _creation(place, mode, GroupDocument, kwargs).run_async(AsyncGroup)
    try:
        document = await place.run_async(hierarchy.read_document(place.path), READ)
    except NodeNotFoundError:
        if mode != "a":
            raise
        return await group_creation(place, kwargs.get("attributes"), match=True).run_async(AsyncGroup)
    return AsyncGroup(place, _of_kind(document, GroupDocument, place))


def open(store: Any, *, mode: str = "a", **where: Any) -> Array[Any] | Group[Any]:
    """Open the array or group that is there; NodeNotFoundError where there is none."""
    place, mode, _ = _opening(store, mode, where)
    _must_exist(mode)
    document = place.run(hierarchy.read_document(place.path), READ)
    return Array(place, document) if isinstance(document, ArrayDocument) else Group(place, document)


async def open_async(store: Any, *, mode: str = "a", **where: Any) -> AsyncArray[Any] | AsyncGroup[Any]:
    """`open` as a coroutine; gives an `AsyncArray` or an `AsyncGroup`."""
    place, mode, _ = _opening(store, mode, where)
    _must_exist(mode)
    document = await place.run_async(hierarchy.read_document(place.path), READ)
    return AsyncArray(place, document) if isinstance(document, ArrayDocument) else AsyncGroup(place, document)


def _opening(store: Any, mode: str, options: Mapping[str, Any]) -> tuple[Place, str, dict[str, Any]]:
    """The place that options speak of, and the options that are left."""
    _check_mode(mode)
    place, left = _placed(store, options)
    return _read_only(place, mode), mode, left


def _placed(store: Any, options: Mapping[str, Any]) -> tuple[Place, dict[str, Any]]:
    left = dict(options)
    where = {key: left.pop(key) for key in ("name", "config", "synchronizer", "storage_options") if key in left}
    return _place(store, **where), left


def _may_create(options: Mapping[str, Any]) -> bool:
    return "shape" in options or "data" in options


def _must_exist(mode: str) -> None:
    if mode in ("w", "w-"):
        raise OptionError(
            "open cannot tell what to create",
            field="mode",
            expected="r | r+ | a",
            got=mode,
            hint="Use create_array or create_group",
        )
