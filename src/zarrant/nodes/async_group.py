"""`AsyncGroup`: a Zarr group, from an event loop. Every method is the coroutine of that of `Group`."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, KeysView, Mapping, ValuesView
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, Unpack

from zarrant.metadata.v3 import ArrayMetadata, NodeMetadata
from zarrant.nodes.async_array import AsyncArray
from zarrant.nodes.attributes import frozen
from zarrant.nodes.base import GROW, MEMBERS, READ, UPDATE, WRITE, NodeContext, S
from zarrant.nodes.create import ArrayOptions, GroupLayout, array_creation, group_creation
from zarrant.nodes.group_properties import GroupProperties, array_required, as_required, group_required, member_handle
from zarrant.nodes.locks import lock_together_async
from zarrant.nodes.show import Info, group_info, tree_text
from zarrant.nodes.signatures import spelled_out
from zarrant.nodes.unreadable import UnreadableNode
from zarrant.ops import consolidated, group_changes, members
from zarrant.ops import node as node_ops


def async_node(context: NodeContext, metadata: NodeMetadata) -> AsyncArray[Any] | AsyncGroup[Any]:
    """The async handle for a metadata."""
    return AsyncArray(context, metadata) if isinstance(metadata, ArrayMetadata) else AsyncGroup(context, metadata)


class AsyncGroup(GroupProperties[S]):
    """A Zarr group, from an event loop."""

    @spelled_out(ArrayOptions)
    async def create_array(self, name: str, **options: Unpack[ArrayOptions]) -> AsyncArray[S]:
        """See `Group.create_array`."""
        return await array_creation(self._below(name), self._like(options), self.path).run_async(AsyncArray)

    @spelled_out(GroupLayout)
    async def create_group(self, name: str, **options: Unpack[GroupLayout]) -> AsyncGroup[S]:
        """See `Group.create_group`."""
        return await group_creation(self._below(name), self._like(options), self.path).run_async(AsyncGroup)

    @spelled_out(ArrayOptions)
    async def require_array(self, name: str, **options: Unpack[ArrayOptions]) -> AsyncArray[S]:
        """See `Group.require_array`."""
        array: AsyncArray[S] = as_required(
            await array_required(self._below(name), self._like(options), self.path).run_async(AsyncArray), options
        )
        return array

    @spelled_out(GroupLayout)
    async def require_group(self, name: str, **options: Unpack[GroupLayout]) -> AsyncGroup[S]:
        """See `Group.require_group`."""
        return await group_required(self._below(name), self._like(options), self.path).run_async(AsyncGroup)

    async def getitem(self, name: str) -> AsyncArray[S] | AsyncGroup[S]:
        """A node below the group: what `group[name]` is for `Group`.

        Args:
            name: its name or path.

        Returns:
            An `AsyncArray` or an `AsyncGroup`.

        Raises:
            NodeNotFoundError: there is none. It is a KeyError, too.
            MetadataError: what is there cannot be read as a node.

        >>> import asyncio
        >>> async def main():
        ...     g = await zarrant.create_group_async({})
        ...     await g.create_array("a", shape=(2,), dtype="int8")
        ...     print((await g.getitem("a")).shape, await g.contains("b"))
        ...     await g.delitem("a")
        >>> asyncio.run(main())
        (2,) False
        """
        context = self._below(name)
        return async_node(context, await context.run_async(node_ops.read_metadata(context.path), READ))

    async def get(self, name: str, default: Any = None) -> Any:
        """See `Group.get`."""
        context = self._below(name)
        metadata = await context.run_async(node_ops.find_metadata(context.path), READ)
        return default if metadata is None else async_node(context, metadata)

    async def delitem(self, name: str) -> None:
        """Delete a node below the group and all below it, also one that cannot be opened: what `del group[name]` does for
        `Group`.

        Args:
            name: its name or path.

        Raises:
            NodeNotFoundError: there is none. It is a KeyError, too.

        >>> import asyncio
        >>> async def main():
        ...     g = await zarrant.create_group_async({})
        ...     await g.create_array("a", shape=(2,), dtype="int8")
        ...     await g.delitem("a")
        ...     print(await g.nmembers())
        >>> asyncio.run(main())
        0
        """
        context = self._below(name)
        await context.run_async(context.in_step(node_ops.delete_below(context.path)), UPDATE)

    async def contains(self, name: str) -> bool:
        """Whether there is a node of this name below the group, also one that cannot be opened: what `name in group` is for
        `Group`.

        Args:
            name: its name or path.

        Raises:
            StoreError: the store could not be read.

        >>> import asyncio
        >>> async def main():
        ...     g = await zarrant.create_group_async({})
        ...     print(await g.contains("a"))
        >>> asyncio.run(main())
        False
        """
        return bool(name.strip("/")) and await self._context.run_async(node_ops.node_exists(self._below(name).path), READ)

    async def members(self) -> dict[str, AsyncMember[S]]:
        """See `Group.members`."""
        children = await self._context.run_async(members.list_children(self.path), MEMBERS)
        return {child.name: member_handle(self, child, async_node) for child in children}

    async def keys(self) -> KeysView[str]:
        """See `Group.keys`."""
        return dict.fromkeys(await self._context.run_async(members.list_names(self.path), MEMBERS)).keys()

    async def values(self) -> ValuesView[AsyncMember[S]]:
        """See `Group.values`."""
        return (await self.members()).values()

    async def items(self) -> ItemsView[str, AsyncMember[S]]:
        """See `Group.items`."""
        return (await self.members()).items()

    async def nmembers(self, max_depth: int | None = 0) -> int:
        """See `Group.nmembers`."""
        return await self._context.run_async(members.count_nodes(self.path, max_depth), MEMBERS)

    async def info_complete(self) -> Info:
        """See `Group.info_complete`."""
        return group_info(self, await self.members())

    async def arrays(self) -> dict[str, AsyncArray[S]]:
        """See `Group.arrays`."""
        return {name: node for name, node in (await self.members()).items() if isinstance(node, AsyncArray)}

    async def groups(self) -> dict[str, AsyncGroup[S]]:
        """See `Group.groups`."""
        return {name: node for name, node in (await self.members()).items() if isinstance(node, AsyncGroup)}

    async def tree(self) -> str:
        """See `Group.tree`."""
        return tree_text(self.name or "/", self.path, await self._context.run_async(members.walk(self.path), MEMBERS))

    async def delete(self) -> None:
        """See `Group.delete`."""
        await self._context.run_async(self._context.in_step(self._deletion()), WRITE)

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes as this handle last saw them; change them with `update_attributes`."""
        return frozen(self._attributes())

    async def update_attributes(self, change: Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]) -> None:
        """See `Group.update_attributes`."""
        op = node_ops.update_attributes(self.path, change, self._context.guarded, self._same_kind)
        self._moved(await self._context.run_async(self._context.in_step(op), UPDATE))

    async def append(self, arrays: Mapping[str, Any], axis: int = 0) -> slice:
        """See `Group.append`."""
        op = group_changes.append(self.path, arrays, axis, self._context.options)
        return await self._context.run_async(self._context.in_step(op), GROW)

    def lock(self, subsets: Mapping[str, Any]) -> AbstractAsyncContextManager[dict[str, AsyncArray[S]]]:
        """See `Group.lock`: `async with g.lock(subsets) as locked`."""
        return lock_together_async(self._context, self._metadata, self._opened(subsets), subsets)

    async def _opened(self, names: Mapping[str, Any]) -> dict[str, AsyncArray[S]]:
        metadata_by_path = await self._context.run_async(self._read_arrays(names), READ)
        return {name: AsyncArray(self._below(name), metadata) for name, metadata in zip(names, metadata_by_path, strict=True)}

    async def consolidate_metadata(self) -> None:
        """See `Group.consolidate_metadata`."""
        self._moved(
            await self._context.run_async(consolidated.consolidate(self.path, self._context.consolidation), (*UPDATE, "list"))
        )

    async def sync(self) -> None:
        """See `Group.sync`."""
        await self._context.sync_async()

    async def refresh(self) -> None:
        """See `Group.refresh`."""
        self._moved(await self._context.run_async(node_ops.read_metadata(self.path), READ))


AsyncMember: TypeAlias = AsyncArray[S] | AsyncGroup[S] | UnreadableNode[S]
