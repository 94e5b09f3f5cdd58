"""What `Group` and `AsyncGroup` share: the properties of a group, and how its members are opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import NodeExistsError, OptionError, ZarrantError, shown
from zarrant.metadata.v3 import ArrayMetadata, GroupMetadata, NodeMetadata
from zarrant.nodes.base import READ, Frozen, Located, NodeContext, PendingNode, S, dask_token
from zarrant.nodes.create import ArrayOptions, GroupLayout, array_creation, group_creation, refuse_unknown
from zarrant.nodes.show import Info, group_info
from zarrant.nodes.unreadable import UnreadableNode
from zarrant.ops import group_changes
from zarrant.ops import node as node_ops
from zarrant.ops.members import Child
from zarrant.requests import Op


class GroupProperties(Frozen, Located[S]):
    """An open group: where it is and what its metadata say."""

    def __init__(self, context: NodeContext, metadata: GroupMetadata) -> None:
        super().__init__(context)
        self._metadata = metadata

    @property
    def metadata(self) -> GroupMetadata:
        """The metadata, as they were last read or written by this handle."""
        return self._metadata

    def _attributes(self) -> Mapping[str, Any]:
        return self._metadata.attributes

    def _moved(self, metadata: Any) -> None:
        self._metadata = metadata

    def _same_kind(self, metadata: NodeMetadata) -> NodeMetadata:
        return node_ops.same_kind(self.path, metadata)

    def _deletion(self) -> Op[None]:
        return node_ops.delete_group(self.path) if self._context.able.get else node_ops.delete_node(self.path)

    def _like(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a new node, which is of the version of the format that this group is of."""
        own = self._metadata.zarr_format
        if options.get("zarr_format", own) != own:
            message, got = "a group holds nodes of its own version of the format", options["zarr_format"]
            raise OptionError(message, field="zarr_format", expected=own, got=shown(got), path=self.path or "/")
        return {**options, "zarr_format": own}

    def _below(self, name: str) -> NodeContext:
        path = node_ops.check_path(name)
        if not path:  # the group itself is not below it: `del group[name]` would delete all that it holds
            raise OptionError("not the name of a node below the group", field="name", got=repr(name), path=self.path or "/")
        return self._at(path)

    def _at(self, path: str) -> NodeContext:
        return replace(self._context, path=f"{self.path}/{path}" if self.path else path)

    def _read_arrays(self, names: Mapping[str, Any]) -> Op[list[ArrayMetadata]]:
        return group_changes.read_arrays(group_changes.paths_of(self.path, names))

    @property
    def info(self) -> Info:
        """A summary of the group itself, which prints well; `info_complete` counts its members, too."""
        return group_info(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GroupProperties) or type(other) is not type(self):
            return NotImplemented
        return bool(self.store == other.store) and self.path == other.path and self.metadata == other.metadata

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._context, self._metadata)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return dask_token(self, self.metadata)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def member_handle(group: GroupProperties[Any], child: Child, handle: Callable[[NodeContext, NodeMetadata], Any]) -> Any:
    """The handle of a member, or what stands in for one that cannot be opened."""
    context, error = group._at(child.name), child.error
    if error is None and child.metadata is not None:
        try:
            return handle(context, child.metadata)
        except ZarrantError as found:
            error = found
    assert error is not None, "a child has metadata or an error"
    kind = "node" if child.metadata is None else "array" if isinstance(child.metadata, ArrayMetadata) else "group"
    return UnreadableNode(context, error.annotate(store=context.url), kind)


def array_required(context: NodeContext, options: Mapping[str, Any], within: str | None = None) -> PendingNode:
    """The array that is there, or else a new one; OptionError for an unknown option in either case."""
    refuse_unknown(options, ArrayOptions.__annotations__)
    create = lambda: array_creation(context, {**options, "if_exists": "match"}, within).where_none_is()  # noqa: E731
    return PendingNode(context, node_ops.open_node(context.path, ArrayMetadata, create), READ)


def group_required(context: NodeContext, options: Mapping[str, Any], within: str | None = None) -> PendingNode:
    """The group that is there, or else a new one; see `array_required`."""
    refuse_unknown(options, GroupLayout.__annotations__)
    create = lambda: group_creation(context, {**options, "if_exists": "match"}, within).where_none_is()  # noqa: E731
    return PendingNode(context, node_ops.open_node(context.path, GroupMetadata, create), READ)


def as_required(array: Any, options: ArrayOptions) -> Any:
    """The array, where it has the shape and data type that were asked for; NodeExistsError where not."""
    shape = options.get("shape")
    wanted = {
        "shape": None if shape is None else tuple(shape) if np.iterable(shape) else (shape,),
        "dtype": None if options.get("dtype") is None else from_numpy(options["dtype"]).numpy,
    }
    for name, value in wanted.items():
        if value is not None and getattr(array, name) != value:
            message = f"an array with another {name} is here"
            raise NodeExistsError(message, path=array.path, field=name, expected=value, got=getattr(array, name))
    return array
