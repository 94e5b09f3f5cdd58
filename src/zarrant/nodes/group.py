"""Groups: `Group` for threads, `AsyncGroup` for event loops, side by side; one line a method.

What an operation does is said in `ops/hierarchy.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Unpack

from zarrant.metadata.v3 import ArrayDocument, Document, GroupDocument
from zarrant.nodes.array import Array, AsyncArray
from zarrant.nodes.attributes import Attributes
from zarrant.nodes.base import LIST, READ, UPDATE, WRITE, Frozen, Located, Place, S
from zarrant.nodes.create import ArrayOptions, GroupLayout, array_creation, group_creation
from zarrant.nodes.show import group_html, tree_text
from zarrant.ops import hierarchy


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

    def _below(self, name: str) -> Place:
        path = hierarchy.check_path(name)
        return Place(self._place.store, f"{self.path}/{path}" if self.path else path, self._place.config, self._place.guarded)

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
        return array_creation(self._below(name), options).run(Array)

    def create_group(self, name: str, **options: Unpack[GroupLayout]) -> Group[S]:
        """A new group below this one; options `attributes`, `overwrite` and `if_exists`."""
        return group_creation(self._below(name), options).run(Group)

    def __getitem__(self, name: str) -> Array[S] | Group[S]:
        """A node below the group, by name or path; NodeNotFoundError (a KeyError's cousin) where there is none."""
        place = self._below(name)
        return node(place, place.run(hierarchy.read_document(place.path), READ))

    def __delitem__(self, name: str) -> None:
        """Delete a node below the group, and all below it; NodeNotFoundError where there is none."""
        place = self._below(name)
        place.run(hierarchy.read_document(place.path), READ)
        place.run(hierarchy.delete_node(place.path), WRITE)

    def __contains__(self, name: object) -> bool:
        """Whether there is a node of this name below the group."""
        return isinstance(name, str) and self._place.run(hierarchy.node_exists(self._below(name).path), READ)

    def members(self) -> dict[str, Array[S] | Group[S]]:
        """The nodes directly below the group, by name."""
        children = self._place.run(hierarchy.list_children(self.path), LIST)
        return {child.name: node(self._below(child.name), child.document) for child in children}

    def arrays(self) -> dict[str, Array[S]]:
        """The arrays directly below the group, by name."""
        return {name: node for name, node in self.members().items() if isinstance(node, Array)}

    def groups(self) -> dict[str, Group[S]]:
        """The groups directly below the group, by name."""
        return {name: node for name, node in self.members().items() if isinstance(node, Group)}

    def __iter__(self) -> Iterator[str]:
        """The names of the nodes directly below the group."""
        return iter(self.members())

    def __len__(self) -> int:
        """The number of nodes directly below the group."""
        return len(self.members())

    def tree(self) -> str:
        """The nodes below the group, drawn as a tree."""
        return tree_text(self.name or "/", self.path, self._place.run(hierarchy.walk(self.path), LIST))

    def _repr_html_(self) -> str:
        return group_html(self.tree())

    def delete(self) -> None:
        """Delete the group and all below it."""
        self._place.run(hierarchy.delete_node(self.path), WRITE)

    @property
    def attrs(self) -> Attributes:
        """The attributes, as a mapping that reads this handle's copy and writes through, losing nothing."""
        return Attributes(self)

    def update_attributes(self, change: hierarchy.AttributeChange) -> None:
        """See `ops.hierarchy.update_attributes`."""
        self._moved(self._place.run(hierarchy.update_attributes(self.path, change, self._place.guarded), UPDATE))

    def refresh(self) -> None:
        """Read the document again."""
        self._moved(self._place.run(hierarchy.read_document(self.path), READ))


class AsyncGroup(GroupFacts[S]):
    """A Zarr group, from an event loop."""

    async def create_array(self, name: str, **options: Unpack[ArrayOptions]) -> AsyncArray[S]:
        """A new array below the group; options as in `zarrant.create_array`."""
        return await array_creation(self._below(name), options).run_async(AsyncArray)

    async def create_group(self, name: str, **options: Unpack[GroupLayout]) -> AsyncGroup[S]:
        """A new group below this one; options `attributes`, `overwrite` and `if_exists`."""
        return await group_creation(self._below(name), options).run_async(AsyncGroup)

    async def getitem(self, name: str) -> AsyncArray[S] | AsyncGroup[S]:
        """A node below the group, by name or path; NodeNotFoundError where there is none."""
        place = self._below(name)
        return async_node(place, await place.run_async(hierarchy.read_document(place.path), READ))

    async def delitem(self, name: str) -> None:
        """Delete a node below the group, and all below it; NodeNotFoundError where there is none."""
        place = self._below(name)
        await place.run_async(hierarchy.read_document(place.path), READ)
        await place.run_async(hierarchy.delete_node(place.path), WRITE)

    async def contains(self, name: str) -> bool:
        """Whether there is a node of this name below the group."""
        return await self._place.run_async(hierarchy.node_exists(self._below(name).path), READ)

    async def members(self) -> dict[str, AsyncArray[S] | AsyncGroup[S]]:
        """The nodes directly below the group, by name."""
        children = await self._place.run_async(hierarchy.list_children(self.path), LIST)
        return {child.name: async_node(self._below(child.name), child.document) for child in children}

    async def arrays(self) -> dict[str, AsyncArray[S]]:
        """The arrays directly below the group, by name."""
        return {name: node for name, node in (await self.members()).items() if isinstance(node, AsyncArray)}

    async def groups(self) -> dict[str, AsyncGroup[S]]:
        """The groups directly below the group, by name."""
        return {name: node for name, node in (await self.members()).items() if isinstance(node, AsyncGroup)}

    async def tree(self) -> str:
        """The nodes below the group, drawn as a tree."""
        return tree_text(self.name or "/", self.path, await self._place.run_async(hierarchy.walk(self.path), LIST))

    async def delete(self) -> None:
        """Delete the group and all below it."""
        await self._place.run_async(hierarchy.delete_node(self.path), WRITE)

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes as this handle last saw them; change them with `update_attributes`."""
        return dict(self._attributes())

    async def update_attributes(self, change: Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]) -> None:
        """See `ops.hierarchy.update_attributes`."""
        self._moved(await self._place.run_async(hierarchy.update_attributes(self.path, change, self._place.guarded), UPDATE))

    async def refresh(self) -> None:
        """Read the document again."""
        self._moved(await self._place.run_async(hierarchy.read_document(self.path), READ))
