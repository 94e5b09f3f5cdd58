"""From the keywords of `create_array` and `create_group` to the operation that makes the node."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

import numpy as np

from zarrant.errors import OptionError, ShapeError, ZarrantError, did_you_mean, shown
from zarrant.geometry.grid import ChunkGrid
from zarrant.metadata.json_text import plain
from zarrant.metadata.v3 import GroupMetadata, attributes_of
from zarrant.nodes.array_metadata import ArrayDescription
from zarrant.nodes.base import UPDATE, WRITE, NodeContext, PendingNode
from zarrant.ops import create
from zarrant.ops import node as node_ops
from zarrant.ops.bound_array import BoundArray

Lengths: TypeAlias = int | Sequence[int | list[Any] | tuple[Any, ...]]
"""One length, or for each dimension a length or a list of them."""


class HasJson(Protocol):
    """A chunk grid in the form that a caller makes."""

    def to_json(self) -> Mapping[str, Any]:
        """The metadata of the grid: `{"name": ..., "configuration": ...}`."""
        ...


GridOption: TypeAlias = ChunkGrid | HasJson


class LayoutOptions(TypedDict, total=False):
    """Keywords of `create_array` that say how values are stored, with zarr-python's meanings."""

    chunks: Lengths | Mapping[str, Any] | GridOption | Literal["auto"]
    shards: Lengths | Mapping[str, Any] | GridOption | Literal["auto"] | None
    filters: Any
    serializer: Any
    compressors: Any
    order: Literal["C", "F"]
    attributes: Mapping[str, Any] | None
    chunk_key_encoding: Any
    dimension_names: Sequence[str | None] | None
    zarr_format: Literal[2, 3]
    overwrite: bool
    if_exists: Literal["error", "match", "overwrite"]


class ArrayOptions(LayoutOptions, total=False):
    """Keywords of `create_array`."""

    shape: int | Sequence[int]
    dtype: Any
    data: Any
    fill_value: Any


def array_creation(context: NodeContext, options: Mapping[str, Any], within: str | None = None) -> PendingNode:
    """A new array; every wrong option is refused before anything is stored. `within`: see `ops.node.create_node`."""
    node_ops.check_new_path(context.path)
    refuse_unknown(options, ArrayOptions.__annotations__)
    options = dict(options)
    overwrite, match = _existing(options.pop("overwrite", False), options.pop("if_exists", "error"))
    check_format(options.get("zarr_format", 3))
    data = options.pop("data", None)
    if data is not None:
        shape, dtype = _shape_and_type(data)
        options.setdefault("shape", shape)
        options.setdefault("dtype", dtype)
    for name in ("shape", "dtype"):
        if options.get(name) is None:
            raise OptionError("a new array needs it", field=name, expected=f"{name}=, or data=", got=None)
    metadata = ArrayDescription(**options).metadata()
    try:
        array = BoundArray.from_metadata(context.path, metadata, context.options)
    except ZarrantError as error:
        raise error.annotate(store=context.url) from error.__cause__
    listing, exclusive = context.able.list, _exclusive(context)
    op = create.create_array(
        array, data, overwrite=overwrite, match=match, exclusive=exclusive, listing=listing, within=within, top=context.top
    )
    return PendingNode(context, context.in_step(op), WRITE if data is None else UPDATE, (array,))


def _shape_and_type(data: Any) -> tuple[tuple[int, ...], Any]:
    """What an array of some data has. Python text and bytes may be of any length, also as NumPy objects."""
    if hasattr(data, "shape") and isinstance(getattr(data, "dtype", None), np.dtype):
        dtype = _of_objects(data) if isinstance(data, np.ndarray) and data.dtype == object else data.dtype
        return tuple(data.shape), dtype
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise ShapeError("the data is a ragged list", expected="lists of equal length", got=type(data).__name__) from error
    if array.dtype == object:
        return array.shape, _of_objects(array)
    # NumPy makes text as long as the longest that there is, and takes zeros at the end for padding.
    return array.shape, {"U": "string", "S": "bytes"}.get(array.dtype.kind, array.dtype)


def _of_objects(array: Any) -> Any:
    kinds = set(map(type, array.reshape(-1).tolist()))
    for kind, name in ((str, "string"), (bytes, "bytes")):
        if kinds and all(issubclass(each, kind) for each in kinds):
            return name
    return array.dtype


class GroupLayout(TypedDict, total=False):
    """Keywords of `create_group`."""

    attributes: Mapping[str, Any] | None
    zarr_format: Literal[2, 3]
    overwrite: bool
    if_exists: Literal["error", "match", "overwrite"]


def group_creation(context: NodeContext, options: Mapping[str, Any], within: str | None = None) -> PendingNode:
    """A new group; with `if_exists="match"` any group that is there will do. `within`: see `ops.node.create_node`."""
    node_ops.check_new_path(context.path)
    refuse_unknown(options, GroupLayout.__annotations__)
    overwrite, match = _existing(options.get("overwrite", False), options.get("if_exists", "error"))
    attributes = options.get("attributes")
    version = check_format(options.get("zarr_format", 3))
    metadata = GroupMetadata({} if attributes is None else plain(attributes_of(attributes)), v2={} if version == 2 else None)
    op = node_ops.create_node(
        context.path, metadata, overwrite=overwrite, match=match, exclusive=_exclusive(context), within=within, top=context.top
    )
    return PendingNode(context, context.in_step(op), WRITE)


def refuse_unknown(options: Iterable[str], known: Collection[str]) -> None:
    """OptionError for a keyword that would do nothing."""
    unknown = [] if all([name in known for name in options]) else sorted(set(options) - set(known))  # noqa: C419 - half the time
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise OptionError("unknown option", field=unknown[0], expected=sorted(known), got=unknown, hint=hint)


def check_mapping(value: object, field: str) -> None:
    """OptionError for what is neither a mapping nor None."""
    if value is not None and type(value) is not dict and not isinstance(value, Mapping):
        raise OptionError("not a mapping", field=field, expected="a mapping of names to values", got=repr(value))


def _exclusive(context: NodeContext) -> bool:
    return context.able.put_if and context.able.get


def _existing(overwrite: Any, if_exists: Any) -> tuple[bool, bool]:
    if not isinstance(overwrite, bool):
        raise OptionError("impossible value of an option", field="overwrite", expected="True | False", got=repr(overwrite))
    if if_exists not in ("error", "match", "overwrite"):
        known = ("error", "match", "overwrite")
        hint = did_you_mean(if_exists, known)
        raise OptionError(
            "impossible value of an option", field="if_exists", expected=" | ".join(known), got=repr(if_exists), hint=hint
        )
    return overwrite or if_exists == "overwrite", if_exists == "match"


def check_format(version: Any) -> int:
    """The version of the Zarr format; OptionError for another than 2 and 3."""
    if isinstance(version, bool) or version not in (2, 3):
        raise OptionError("no such version of the format", field="zarr_format", expected="2 | 3", got=shown(version))
    return int(version)
