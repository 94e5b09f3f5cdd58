"""`Group`: a Zarr group, from threads. Every method is one line: the operation that it runs (`zarrant/ops`)."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, Unpack

from zarrant.metadata.v3 import ArrayMetadata, NodeMetadata
from zarrant.nodes.array import Array
from zarrant.nodes.attributes import Attributes
from zarrant.nodes.base import GROW, MEMBERS, READ, UPDATE, WRITE, NodeContext, S
from zarrant.nodes.create import ArrayOptions, GroupLayout, array_creation, group_creation
from zarrant.nodes.group_properties import GroupProperties, array_required, as_required, group_required, member_handle
from zarrant.nodes.locks import lock_together
from zarrant.nodes.show import Info, group_html, group_info, tree_text
from zarrant.nodes.signatures import spelled_out
from zarrant.nodes.unreadable import UnreadableNode
from zarrant.ops import consolidated, group_changes, members
from zarrant.ops import node as node_ops


def node(context: NodeContext, metadata: NodeMetadata) -> Array[Any] | Group[Any]:
    """The handle for a metadata."""
    return Array(context, metadata) if isinstance(metadata, ArrayMetadata) else Group(context, metadata)


class Group(GroupProperties[S]):
    """A Zarr group, from threads.

    >>> import zarrant
    >>> g = zarrant.open_group({}, mode="w")
    >>> _ = g.create_array("images/raw", shape=(8, 8), dtype="uint8")
    >>> list(g), list(g["images"])
    (['images'], ['raw'])
    """

    @spelled_out(ArrayOptions)
    def create_array(self, name: str, **options: Unpack[ArrayOptions]) -> Array[S]:
        """Make a new array below the group, with the group's store and runtime options.

        Args:
            name: the name of the node below the group, or a path as `images/raw`; groups between that are missing are made.
            options: as in `zarrant.create_array`: `shape`, `dtype`, `data`, `chunks`, `shards`, `filters`, `serializer`,
                `compressors`, `fill_value`, `order`, `attributes`, `chunk_key_encoding`, `dimension_names`, `zarr_format`,
                `overwrite`, `if_exists`.

        Returns:
            The array.

        Raises:
            NodeExistsError: something is there already, unless `overwrite` or `if_exists` say otherwise.
            OptionError: an unknown option, or one that means nothing.
            ShapeError: a shape that cannot be, or `chunks` that do not divide `shards`.
            DataTypeError: an unknown data type, or a fill value or `data` that it cannot hold.

        >>> g = zarrant.create_group({})
        >>> raw = g.create_array("images/raw", shape=(8, 8), dtype="uint8", chunks=(4, 4))
        >>> list(g), list(g["images"])
        (['images'], ['raw'])
        """
        return array_creation(self._below(name), self._like(options), self.path).run(Array)

    @spelled_out(GroupLayout)
    def create_group(self, name: str, **options: Unpack[GroupLayout]) -> Group[S]:
        """Make a new group below this one.

        Args:
            name: the name of the node below the group, or a path as `images/raw`; groups between that are missing are made.
            options: as in `zarrant.create_group`: `attributes`, `overwrite`, `if_exists`.

        Returns:
            The group.

        Raises:
            NodeExistsError: something is there already, unless `overwrite` or `if_exists` say otherwise.
            OptionError: an unknown option, or one that means nothing.

        >>> g = zarrant.create_group({})
        >>> g.create_group("images", attributes={"scanner": 3}).attrs["scanner"]
        3
        """
        return group_creation(self._below(name), self._like(options), self.path).run(Group)

    @spelled_out(ArrayOptions)
    def require_array(self, name: str, **options: Unpack[ArrayOptions]) -> Array[S]:
        """The array of this name, as it is; or a new one with these options where there is none.

        Args:
            name: the name of the node below the group, or a path as `images/raw`; groups between that are missing are made.
            options: as in `zarrant.create_array`: `shape`, `dtype`, `data`, `chunks`, `shards`, `filters`, `serializer`,
                `compressors`, `fill_value`, `order`, `attributes`, `chunk_key_encoding`, `dimension_names`, `zarr_format`,
                `overwrite`, `if_exists`.

        Returns:
            The array.

        Raises:
            NodeExistsError: the array that is there has another shape or data type.
            NodeNotFoundError: a group of this name is there.
            OptionError: an unknown option, or one that means nothing.

        >>> g = zarrant.create_group({})
        >>> a = g.require_array("a", shape=(4,), dtype="int32")
        >>> a == g.require_array("a", shape=(4,), dtype="int32")
        True
        """
        array: Array[S] = as_required(array_required(self._below(name), self._like(options), self.path).run(Array), options)
        return array

    @spelled_out(GroupLayout)
    def require_group(self, name: str, **options: Unpack[GroupLayout]) -> Group[S]:
        """The group of this name, as it is; or a new one with these options where there is none.

        Args:
            name: the name of the node below the group, or a path as `images/raw`; groups between that are missing are made.
            options: as in `zarrant.create_group`: `attributes`, `overwrite`, `if_exists`.

        Returns:
            The group.

        Raises:
            NodeNotFoundError: an array of this name is there.
            OptionError: an unknown option, or one that means nothing.

        >>> g = zarrant.create_group({})
        >>> g.require_group("images") == g.require_group("images")
        True
        """
        return group_required(self._below(name), self._like(options), self.path).run(Group)

    def __getitem__(self, name: str) -> Array[S] | Group[S]:
        """A node below the group, by name or path; NodeNotFoundError (which is a KeyError) where there is none."""
        context = self._below(name)
        return node(context, context.run(node_ops.read_metadata(context.path), READ))

    def get(self, name: str, default: Any = None) -> Any:
        """The node of this name or path below the group.

        Args:
            name: its name or path.
            default: what is returned where there is none.

        Returns:
            An `Array` or a `Group`, or `default`.

        Raises:
            MetadataError: what is there cannot be read as a node.
            UnknownExtensionError: it uses a codec, data type or grid that is not known here.

        >>> g = zarrant.create_group({})
        >>> g.get("images") is None
        True
        """
        context = self._below(name)
        metadata = context.run(node_ops.find_metadata(context.path), READ)
        return default if metadata is None else node(context, metadata)

    def __delitem__(self, name: str) -> None:
        """Delete a node below the group, and all below it, also one that cannot be opened; NodeNotFoundError where none is."""
        context = self._below(name)
        context.run(context.in_step(node_ops.delete_below(context.path)), UPDATE)

    def __contains__(self, name: object) -> bool:
        """Whether there is a node of this name below the group, also one that cannot be opened."""
        return (
            isinstance(name, str)
            and bool(name.strip("/"))
            and self._context.run(node_ops.node_exists(self._below(name).path), READ)
        )

    def members(self) -> dict[str, Member[S]]:
        """The nodes directly below the group, by name; for each that cannot be opened an `UnreadableNode`, which says why.

        >>> g = zarrant.create_group({})
        >>> _ = g.create_array("a", shape=(2,), dtype="int8")
        >>> g.members()["a"].shape
        (2,)
        """
        children = self._context.run(members.list_children(self.path), MEMBERS)
        return {child.name: member_handle(self, child, node) for child in children}

    def keys(self) -> KeysView[str]:
        """The names of the nodes directly below the group, as they are now."""
        return dict.fromkeys(self).keys()

    def values(self) -> ValuesView[Member[S]]:
        """The nodes directly below the group; see `members`."""
        return self.members().values()

    def items(self) -> ItemsView[str, Member[S]]:
        """(name, node) for the nodes directly below the group; see `members`."""
        return self.members().items()

    def nmembers(self, max_depth: int | None = 0) -> int:
        """The number of nodes below the group.

        Args:
            max_depth: levels below the nodes directly in the group that are counted, too: 0 none, None all.

        Returns:
            The number, of arrays and groups together.

        Raises:
            CapabilityError: the store cannot list.

        >>> g = zarrant.create_group({})
        >>> _ = g.create_array("images/raw", shape=(8, 8), dtype="uint8")
        >>> g.nmembers(), g.nmembers(max_depth=None)
        (1, 2)
        """
        return self._context.run(members.count_nodes(self.path, max_depth), MEMBERS)

    def info_complete(self) -> Info:
        """`info` with the number of members of each kind.

        >>> g = zarrant.create_group({})
        >>> _ = g.create_array("a", shape=(2,), dtype="int8")
        >>> g.info_complete()["Arrays"]
        1
        """
        return group_info(self, self.members())

    def arrays(self) -> dict[str, Array[S]]:
        """The arrays directly below the group, by name."""
        return {name: node for name, node in self.members().items() if isinstance(node, Array)}

    def groups(self) -> dict[str, Group[S]]:
        """The groups directly below the group, by name."""
        return {name: node for name, node in self.members().items() if isinstance(node, Group)}

    def __iter__(self) -> Iterator[str]:
        """The names of the nodes directly below the group."""
        return iter(self._context.run(members.list_names(self.path), MEMBERS))

    def __len__(self) -> int:
        """The number of nodes directly below the group."""
        return self.nmembers()

    def tree(self) -> str:
        """The nodes below the group, drawn as a tree; one that cannot be opened says why.

        >>> g = zarrant.create_group({})
        >>> _ = g.create_array("images/raw", shape=(8, 8), dtype="uint8")
        >>> print(g.tree())
        /
        └── images
            └── raw (8, 8) uint8
        """
        return tree_text(self.name or "/", self.path, self._context.run(members.walk(self.path), MEMBERS))

    def _repr_html_(self) -> str:
        return group_html(self.name or "/", self.path, self._context.run(members.walk(self.path), MEMBERS))

    def delete(self) -> None:
        """Delete the group and all below it. Of a group that is a symbolic link only the link is removed.

        Raises:
            StoreError: the store could not erase something. What is left is no group any more, or a group with fewer nodes.

        >>> g = zarrant.create_group({})
        >>> g.create_group("old").delete()
        >>> list(g)
        []
        """
        self._context.run(self._context.in_step(self._deletion()), WRITE)

    @property
    def attrs(self) -> Attributes:
        """The attributes, as a mapping that reads this handle's copy and writes through, losing nothing that others change.

        >>> g = zarrant.create_group({})
        >>> g.attrs["subject"] = 7
        >>> dict(g.attrs)
        {'subject': 7}
        """
        return Attributes(self._attributes, self.update_attributes)

    def update_attributes(self, change: node_ops.AttributeChange) -> None:
        """Change the attributes: read, change and replace the stored ones, so that no change of another writer is lost.

        Args:
            change: a mapping, which is merged into the stored attributes, or a function that gets them as a dict and returns
                the new ones. It may be called again where another writer was faster, so it should have no side effects.

        Raises:
            MetadataError: an attribute that JSON does not know.
            NodeNotFoundError: the group is gone, or an array is there.

        >>> g = zarrant.create_group({})
        >>> g.update_attributes({"subject": 7})
        >>> dict(g.attrs)
        {'subject': 7}
        """
        op = node_ops.update_attributes(self.path, change, self._context.guarded, self._same_kind)
        self._moved(self._context.run(self._context.in_step(op), UPDATE))

    def append(self, arrays: Mapping[str, Any], axis: int = 0) -> slice:
        """Append to several arrays as one: data, and the coordinates that belong to them. From many processes at once none is
        lost.

        Readers that come in the middle find one array longer than another: the rows that both have belong together. Whoever
        is killed in the middle leaves that as well, or the arrays as they were; the next append of the group completes it. So
        let arrays that grow as one grow by this method only.

        Args:
            arrays: {name: data}. The arrays have the same length along `axis`, and so have their data, which have the array's
                lengths in every other dimension.
            axis: the dimension along which they grow.

        Returns:
            The slice of `axis` that the data got, the same in every array.

        Raises:
            ShapeError: lengths differ (it says which). Nothing is stored.
            NodeNotFoundError: there is no such array.
            DataTypeError: a data type cannot hold its values.
            CapabilityError: the store cannot keep other processes out.
            LockTimeout: another writer had the metadata locked for longer than the option `lock_timeout`.

        >>> g = zarrant.create_group({})
        >>> _ = g.create_array("tas", shape=(0, 2), dtype="float32", chunks=(10, 2))
        >>> _ = g.create_array("time", shape=(0,), dtype="int64", chunks=(100,))
        >>> g.append({"tas": np.ones((3, 2), "float32"), "time": [0, 1, 2]})
        slice(0, 3, None)
        >>> g["time"].shape, g["tas"].shape
        ((3,), (3, 2))
        """
        op = group_changes.append(self.path, arrays, axis, self._context.options)
        return self._context.run(self._context.in_step(op), GROW)

    def lock(self, subsets: Mapping[str, Any]) -> AbstractContextManager[dict[str, Array[S]]]:
        """Lock every stored object that regions of several arrays touch; see `Array.lock`.

        All locks are taken in one order, the same for everybody, so that two never wait for each other. Shapes are those of
        the moment before.

        Args:
            subsets: {name: subset}, each subset as for `Array.lock`.

        Returns:
            A context manager; its value are the arrays to use inside, by name.

        Raises:
            NodeNotFoundError: there is no such array.
            BoundsError: a region reaches beyond its array.
            LockTimeout: another writer had one of them locked for longer than the option `lock_timeout`; none is locked then.
            CapabilityError: the store has no locks, or the group was opened with `synchronizer=None`.

        >>> g = zarrant.create_group({})
        >>> for name in ("a", "b"):
        ...     _ = g.create_array(name, shape=(8,), dtype="int32", chunks=(4,))
        >>> with g.lock({"a": np.s_[0:4], "b": np.s_[0:4]}) as locked:
        ...     a, b = locked["a"], locked["b"]
        ...     a[0:4], b[0:4] = 1, 2
        >>> int(a[3]), int(b[3])
        (1, 2)
        """
        metadata_by_path = self._context.run(self._read_arrays(subsets), READ)
        arrays: dict[str, Array[S]] = {
            name: Array(self._below(name), metadata) for name, metadata in zip(subsets, metadata_by_path, strict=True)
        }
        return lock_together(self._context, self._metadata, arrays, subsets)

    def consolidate_metadata(self) -> None:
        """Keep copies of all metadata below in this group, so that xarray and zarr-python open it with one read.

        Every change that is made here keeps them in step: creation, deletion, attributes, `append` and `resize`. Whoever is
        killed in such a change leaves the group without copies, never with wrong ones; consolidate it again then.

        Raises:
            MetadataError: a node below cannot be read.
            CapabilityError: the store cannot list.

        >>> g = zarrant.create_group({})
        >>> _ = g.create_array("a", shape=(2,), dtype="int8")
        >>> g.consolidate_metadata()
        >>> g.info["Consolidated metadata"]
        'yes'
        """
        self._moved(self._context.run(consolidated.consolidate(self.path, self._context.consolidation), (*UPDATE, "list")))

    def sync(self) -> None:
        """Return when all that was written before is on disk; see `Array.sync`."""
        self._context.sync()

    def refresh(self) -> None:
        """Read the metadata again: the attributes that others have stored. NodeNotFoundError where the group is gone."""
        self._moved(self._context.run(node_ops.read_metadata(self.path), READ))


Member: TypeAlias = Array[S] | Group[S] | UnreadableNode[S]
