"""Groups: `Group` for threads, `AsyncGroup` for event loops, side by side; one line a method.

What an operation does is said in `ops/hierarchy.py`.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from typing import Any, TypeAlias, Unpack

import numpy as np

from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import NodeExistsError, OptionError, ZarrantError, shown
from zarrant.metadata.v3 import ArrayDocument, Document, GroupDocument
from zarrant.nodes.array import Array
from zarrant.nodes.async_array import AsyncArray
from zarrant.nodes.attributes import Attributes, values_of
from zarrant.nodes.base import GROW, LIST, READ, UPDATE, WRITE, Frozen, Located, Place, S, Start
from zarrant.nodes.create import ArrayOptions, GroupLayout, array_creation, group_creation
from zarrant.nodes.locks import lock_together, lock_together_async
from zarrant.nodes.show import Info, group_html, group_info, tree_text
from zarrant.nodes.unreadable import UnreadableNode
from zarrant.ops import consolidated, group_changes, hierarchy
from zarrant.ops.hierarchy import Child
from zarrant.requests import Op


class GroupFacts(Frozen, Located[S]):
    """An open group: where it is and what its document says."""

    def __init__(self, place: Place, document: GroupDocument) -> None:
        super().__init__(place)
        self._document = document

    @property
    def metadata(self) -> GroupDocument:
        """The document, as it was last read or written by this handle."""
        return self._document

    def _attributes(self) -> Mapping[str, Any]:
        return self._document.attributes

    def _moved(self, document: Any) -> None:
        self._document = document

    def _same_kind(self, document: Document) -> Document:
        return hierarchy.same_kind(self.path, document)

    def _deletion(self) -> Op[None]:
        return hierarchy.delete_group(self.path) if self._place.able.get else hierarchy.delete_node(self.path)

    def _like(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a new node, which is of the version of the format that this group is of."""
        own = self._document.zarr_format
        if options.get("zarr_format", own) != own:
            message, got = "a group holds nodes of its own version of the format", options["zarr_format"]
            raise OptionError(message, field="zarr_format", expected=own, got=shown(got), path=self.path or "/")
        return {**options, "zarr_format": own}

    def _below(self, name: str) -> Place:
        return self._at(hierarchy.check_path(name))

    def _at(self, path: str) -> Place:
        return replace(self._place, path=f"{self.path}/{path}" if self.path else path)

    def _read_arrays(self, names: Mapping[str, Any]) -> Op[list[ArrayDocument]]:
        return group_changes.read_arrays(group_changes.paths_of(self.path, list(names)))

    @property
    def info(self) -> Info:
        """A summary of the group itself, which prints well; `info_complete` counts its members, too."""
        return group_info(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GroupFacts) or type(other) is not type(self):
            return NotImplemented
        return bool(self.store == other.store) and self.path == other.path and self.metadata == other.metadata

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._place, self._document)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def node(place: Place, document: Document) -> Array[Any] | Group[Any]:
    """The handle for a document."""
    return Array(place, document) if isinstance(document, ArrayDocument) else Group(place, document)


def async_node(place: Place, document: Document) -> AsyncArray[Any] | AsyncGroup[Any]:
    """The async handle for a document."""
    return AsyncArray(place, document) if isinstance(document, ArrayDocument) else AsyncGroup(place, document)


def _member(group: GroupFacts[Any], child: Child, handle: Callable[[Place, Document], Any]) -> Any:
    """The handle of a member, or what stands in for one that cannot be opened."""
    place, error = group._at(child.name), child.error
    if error is None and child.document is not None:
        try:
            return handle(place, child.document)
        except ZarrantError as found:
            error = found
    assert error is not None, "a child has metadata or an error"
    kind = "node" if child.document is None else "array" if isinstance(child.document, ArrayDocument) else "group"
    return UnreadableNode(place, error.annotate(store=place.url), kind)


def _array_required(place: Place, options: Mapping[str, Any], within: str) -> Start:
    """The array that is there, or else a new one."""
    create = lambda: array_creation(place, {**options, "if_exists": "match"}, within).op  # noqa: E731
    return Start(place, hierarchy.open_node(place.path, ArrayDocument, create), READ)


def _group_required(place: Place, options: Mapping[str, Any], within: str) -> Start:
    """The group that is there, or else a new one."""
    create = lambda: group_creation(place, {**options, "if_exists": "match"}, within).op  # noqa: E731
    return Start(place, hierarchy.open_node(place.path, GroupDocument, create), READ)


def _as_required(array: Any, options: ArrayOptions) -> Any:
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


class Group(GroupFacts[S]):
    """A Zarr group, from threads.

    >>> import zarrant
    >>> g = zarrant.open_group({}, mode="w")
    >>> _ = g.create_array("images/raw", shape=(8, 8), dtype="uint8")
    >>> list(g), list(g["images"])
    (['images'], ['raw'])
    """

    def create_array(self, name: str, **options: Unpack[ArrayOptions]) -> Array[S]:
        """A new array below the group; options as in `zarrant.create_array`."""
        return array_creation(self._below(name), self._like(options), self.path).run(Array)

    def create_group(self, name: str, **options: Unpack[GroupLayout]) -> Group[S]:
        """A new group below this one; options `attributes`, `overwrite` and `if_exists`."""
        return group_creation(self._below(name), self._like(options), self.path).run(Group)

    def require_array(self, name: str, **options: Unpack[ArrayOptions]) -> Array[S]:
        """The array of this name, made with these options where there is none.

        NodeExistsError where it has another shape or data type; NodeNotFoundError where the name is that of a group.
        """
        array: Array[S] = _as_required(_array_required(self._below(name), self._like(options), self.path).run(Array), options)
        return array

    def require_group(self, name: str, **options: Unpack[GroupLayout]) -> Group[S]:
        """The group of this name, made with these options where there is none."""
        return _group_required(self._below(name), self._like(options), self.path).run(Group)

    def __getitem__(self, name: str) -> Array[S] | Group[S]:
        """A node below the group, by name or path; NodeNotFoundError (which is a KeyError) where there is none."""
        place = self._below(name)
        return node(place, place.run(hierarchy.read_document(place.path), READ))

    def get(self, name: str, default: Any = None) -> Any:
        """The node of this name; `default` where there is none. One that cannot be opened raises its error."""
        place = self._below(name)
        document = place.run(hierarchy.find_document(place.path), READ)
        return default if document is None else node(place, document)

    def __delitem__(self, name: str) -> None:
        """Delete a node below the group, and all below it, also one that cannot be opened; NodeNotFoundError where none is."""
        place = self._below(name)
        place.run(place.in_step(hierarchy.delete_below(place.path)), UPDATE)

    def __contains__(self, name: object) -> bool:
        """Whether there is a node of this name below the group, also one that cannot be opened."""
        return isinstance(name, str) and self._place.run(hierarchy.node_exists(self._below(name).path), READ)

    def members(self) -> dict[str, Member[S]]:
        """The nodes directly below the group, by name; for each that cannot be opened an `UnreadableNode`, which says why.

        >>> import zarrant
        >>> g = zarrant.create_group({})
        >>> _ = g.create_array("a", shape=(2,), dtype="int8")
        >>> g.members()["a"].shape
        (2,)
        """
        children = self._place.run(hierarchy.list_children(self.path), LIST)
        return {child.name: _member(self, child, node) for child in children}

    def keys(self) -> KeysView[str]:
        """The names of the nodes directly below the group, as they are now."""
        return self.members().keys()

    def values(self) -> ValuesView[Member[S]]:
        """The nodes directly below the group; see `members`."""
        return self.members().values()

    def items(self) -> ItemsView[str, Member[S]]:
        """(name, node) for the nodes directly below the group; see `members`."""
        return self.members().items()

    def nmembers(self, max_depth: int | None = 0) -> int:
        """The number of nodes below the group: directly below it, or down to `max_depth` levels more (None: all)."""
        return self._place.run(hierarchy.count_nodes(self.path, max_depth), LIST)

    def info_complete(self) -> Info:
        """`info` with the number of members of each kind."""
        return group_info(self, self.members())

    def arrays(self) -> dict[str, Array[S]]:
        """The arrays directly below the group, by name."""
        return {name: node for name, node in self.members().items() if isinstance(node, Array)}

    def groups(self) -> dict[str, Group[S]]:
        """The groups directly below the group, by name."""
        return {name: node for name, node in self.members().items() if isinstance(node, Group)}

    def __iter__(self) -> Iterator[str]:
        """The names of the nodes directly below the group."""
        return iter([child.name for child in self._place.run(hierarchy.list_children(self.path), LIST)])

    def __len__(self) -> int:
        """The number of nodes directly below the group."""
        return self.nmembers()

    def tree(self) -> str:
        """The nodes below the group, drawn as a tree; one that cannot be opened says why."""
        return tree_text(self.name or "/", self.path, self._place.run(hierarchy.walk(self.path), LIST))

    def _repr_html_(self) -> str:
        return group_html(self.tree())

    def delete(self) -> None:
        """Delete the group and all below it."""
        self._place.run(self._place.in_step(self._deletion()), WRITE)

    @property
    def attrs(self) -> Attributes:
        """The attributes, as a mapping that reads this handle's copy and writes through, losing nothing."""
        return Attributes(self)

    def update_attributes(self, change: hierarchy.AttributeChange) -> None:
        """Change the attributes; see `Array.update_attributes`."""
        op = hierarchy.update_attributes(self.path, change, self._place.guarded, self._same_kind)
        self._moved(self._place.run(self._place.in_step(op), UPDATE))

    def append(self, arrays: Mapping[str, Any], axis: int = 0) -> slice:
        """Append to several arrays as one: their data, and the coordinates that belong to them.

        Args:
            arrays: {name: data}. The arrays have the same length along `axis`, and so have their data, which have the array's
                extents in every other dimension.
            axis: the dimension along which they grow.

        Returns the slice of `axis` that the data got, the same in every array. Many processes may append at once: every call
        gets rows of its own. Readers that come in the middle find one array longer than another: the rows that both have
        belong together. Whoever is killed in the middle leaves that as well, or the arrays as they were; the next append of the
        group completes it (`ops.group_changes` says how). So let arrays that grow as one grow by this method only.

        Raises ShapeError where lengths differ (it says which), with nothing stored; CapabilityError where the store has no
        locks.

        >>> import numpy as np, zarrant
        >>> g = zarrant.create_group({})
        >>> _ = g.create_array("tas", shape=(0, 2), dtype="float32", chunks=(10, 2))
        >>> _ = g.create_array("time", shape=(0,), dtype="int64", chunks=(100,))
        >>> g.append({"tas": np.ones((3, 2), "float32"), "time": [0, 1, 2]})
        slice(0, 3, None)
        >>> g["time"].shape, g["tas"].shape
        ((3,), (3, 2))
        """
        op = group_changes.append(self.path, arrays, axis, self._place.options)
        return self._place.run(self._place.in_step(op), GROW)

    def lock(self, subsets: Mapping[str, Any]) -> AbstractContextManager[dict[str, Array[S]]]:
        """Lock every stored object that regions of several arrays touch: `{name: subset}`, as for `Array.lock`.

        The value are the arrays to use inside, by name. All locks are taken in one order, the same for everybody, so that two
        never wait for each other; LockTimeout with none of them held. Shapes are those of the moment before.

        >>> import numpy as np, zarrant
        >>> g = zarrant.create_group({})
        >>> for name in ("a", "b"):
        ...     _ = g.create_array(name, shape=(8,), dtype="int32", chunks=(4,))
        >>> with g.lock({"a": np.s_[0:4], "b": np.s_[0:4]}) as held:
        ...     a, b = held["a"], held["b"]
        ...     a[0:4], b[0:4] = 1, 2
        >>> int(a[3]), int(b[3])
        (1, 2)
        """
        documents = self._place.run(self._read_arrays(subsets), READ)
        arrays: dict[str, Array[S]] = {
            name: Array(self._below(name), document) for name, document in zip(subsets, documents, strict=True)
        }
        return lock_together(self._place, self._document, arrays, subsets)

    def consolidate_metadata(self) -> None:
        """Keep copies of all metadata below in this group, so that xarray and zarr-python open it with one read.

        Every change that is made here keeps them in step: creation, deletion, attributes, `append` and `resize`. Whoever is
        killed in such a change leaves the group without copies, never with wrong ones; consolidate it again then. See
        `ops.consolidated`. MetadataError where a node below cannot be read.
        """
        self._moved(self._place.run(consolidated.consolidate(self.path, self._place.keeping), (*UPDATE, "list")))

    def sync(self) -> None:
        """Have all that was written before on disk; see `Array.sync`."""
        self._place.sync()

    def refresh(self) -> None:
        """Read the document again."""
        self._moved(self._place.run(hierarchy.read_document(self.path), READ))


class AsyncGroup(GroupFacts[S]):
    """A Zarr group, from an event loop."""

    async def create_array(self, name: str, **options: Unpack[ArrayOptions]) -> AsyncArray[S]:
        """A new array below the group; options as in `zarrant.create_array`."""
        return await array_creation(self._below(name), self._like(options), self.path).run_async(AsyncArray)

    async def create_group(self, name: str, **options: Unpack[GroupLayout]) -> AsyncGroup[S]:
        """A new group below this one; options `attributes`, `overwrite` and `if_exists`."""
        return await group_creation(self._below(name), self._like(options), self.path).run_async(AsyncGroup)

    async def require_array(self, name: str, **options: Unpack[ArrayOptions]) -> AsyncArray[S]:
        """See `Group.require_array`."""
        array: AsyncArray[S] = _as_required(
            await _array_required(self._below(name), self._like(options), self.path).run_async(AsyncArray), options
        )
        return array

    async def require_group(self, name: str, **options: Unpack[GroupLayout]) -> AsyncGroup[S]:
        """See `Group.require_group`."""
        return await _group_required(self._below(name), self._like(options), self.path).run_async(AsyncGroup)

    async def getitem(self, name: str) -> AsyncArray[S] | AsyncGroup[S]:
        """A node below the group, by name or path; NodeNotFoundError (which is a KeyError) where there is none."""
        place = self._below(name)
        return async_node(place, await place.run_async(hierarchy.read_document(place.path), READ))

    async def get(self, name: str, default: Any = None) -> Any:
        """See `Group.get`."""
        place = self._below(name)
        document = await place.run_async(hierarchy.find_document(place.path), READ)
        return default if document is None else async_node(place, document)

    async def delitem(self, name: str) -> None:
        """Delete a node below the group, and all below it, also one that cannot be opened; NodeNotFoundError where none is."""
        place = self._below(name)
        await place.run_async(place.in_step(hierarchy.delete_below(place.path)), UPDATE)

    async def contains(self, name: str) -> bool:
        """Whether there is a node of this name below the group, also one that cannot be opened."""
        return await self._place.run_async(hierarchy.node_exists(self._below(name).path), READ)

    async def members(self) -> dict[str, AsyncMember[S]]:
        """See `Group.members`."""
        children = await self._place.run_async(hierarchy.list_children(self.path), LIST)
        return {child.name: _member(self, child, async_node) for child in children}

    async def keys(self) -> KeysView[str]:
        """See `Group.keys`."""
        return (await self.members()).keys()

    async def values(self) -> ValuesView[AsyncMember[S]]:
        """See `Group.values`."""
        return (await self.members()).values()

    async def items(self) -> ItemsView[str, AsyncMember[S]]:
        """See `Group.items`."""
        return (await self.members()).items()

    async def nmembers(self, max_depth: int | None = 0) -> int:
        """See `Group.nmembers`."""
        return await self._place.run_async(hierarchy.count_nodes(self.path, max_depth), LIST)

    async def info_complete(self) -> Info:
        """See `Group.info_complete`."""
        return group_info(self, await self.members())

    async def arrays(self) -> dict[str, AsyncArray[S]]:
        """The arrays directly below the group, by name."""
        return {name: node for name, node in (await self.members()).items() if isinstance(node, AsyncArray)}

    async def groups(self) -> dict[str, AsyncGroup[S]]:
        """The groups directly below the group, by name."""
        return {name: node for name, node in (await self.members()).items() if isinstance(node, AsyncGroup)}

    async def tree(self) -> str:
        """The nodes below the group, drawn as a tree; one that cannot be opened says why."""
        return tree_text(self.name or "/", self.path, await self._place.run_async(hierarchy.walk(self.path), LIST))

    async def delete(self) -> None:
        """Delete the group and all below it."""
        await self._place.run_async(self._place.in_step(self._deletion()), WRITE)

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes as this handle last saw them; change them with `update_attributes`."""
        return values_of(self._attributes())

    async def update_attributes(self, change: Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]) -> None:
        """Change the attributes; see `Array.update_attributes`."""
        op = hierarchy.update_attributes(self.path, change, self._place.guarded, self._same_kind)
        self._moved(await self._place.run_async(self._place.in_step(op), UPDATE))

    async def append(self, arrays: Mapping[str, Any], axis: int = 0) -> slice:
        """See `Group.append`."""
        op = group_changes.append(self.path, arrays, axis, self._place.options)
        return await self._place.run_async(self._place.in_step(op), GROW)

    def lock(self, subsets: Mapping[str, Any]) -> AbstractAsyncContextManager[dict[str, AsyncArray[S]]]:
        """See `Group.lock`."""
        return lock_together_async(self._place, self._document, self._opened(subsets), subsets)

    async def _opened(self, names: Mapping[str, Any]) -> dict[str, AsyncArray[S]]:
        documents = await self._place.run_async(self._read_arrays(names), READ)
        return {name: AsyncArray(self._below(name), document) for name, document in zip(names, documents, strict=True)}

    async def consolidate_metadata(self) -> None:
        """See `Group.consolidate_metadata`."""
        self._moved(await self._place.run_async(consolidated.consolidate(self.path, self._place.keeping), (*UPDATE, "list")))

    async def sync(self) -> None:
        """See `Group.sync`."""
        await self._place.sync_async()

    async def refresh(self) -> None:
        """Read the document again."""
        self._moved(await self._place.run_async(hierarchy.read_document(self.path), READ))


Member: TypeAlias = Array[S] | Group[S] | UnreadableNode[S]
AsyncMember: TypeAlias = AsyncArray[S] | AsyncGroup[S] | UnreadableNode[S]
