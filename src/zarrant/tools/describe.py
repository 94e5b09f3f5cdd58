"""What is at an address: facts of an array or group, the tree below a group, the files that store it.

In: an address. Out: plain dicts that print as JSON. Only metadata are read, never chunks; `stored` looks at file sizes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from zarrant.errors import NodeNotFoundError, OptionError
from zarrant.metadata.json_text import plain
from zarrant.nodes.array import Array
from zarrant.nodes.group import Group
from zarrant.nodes.open import open as open_node
from zarrant.nodes.show import codec_names
from zarrant.nodes.unreadable import UnreadableNode
from zarrant.stores.local.direct_io import tried
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.temp_files import annotate_errors
from zarrant.stores.resolve import resolve_store


def info(address: Any, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The facts of the node at an address; NodeNotFoundError where there is none. The options are those of the store.

    >>> import zarrant
    >>> store = zarrant.MemoryStore()
    >>> _ = zarrant.create_array(store, shape=(4, 6), dtype="int32", chunks=(2, 3))
    >>> facts = info(store)
    >>> facts["shape"], facts["stored_objects"], facts["codecs"]
    ([4, 6], 4, ['bytes', 'zstd'])
    """
    node = _open(address, storage_options)
    return array_facts(node) if isinstance(node, Array) else _group_facts(node)


def array_facts(array: Array[Any]) -> dict[str, Any]:
    """What the document and the store of an array say."""
    document = array.metadata
    return {
        "kind": "array",
        "address": array.url,
        "data_type": document.data_type.to_json(),
        "shape": list(array.shape),
        "bytes": array.nbytes,
        "chunks": list(array.chunks),
        "shards": None if array.shards is None else list(array.shards),
        "stored_objects": array.nchunks,
        "grid": list(array.chunk_grid_shape),
        "codecs": codec_names(document),
        "fill_value": document.fill_value,
        "dimension_names": None if array.dimension_names is None else list(array.dimension_names),
        "attributes": plain(document.attributes),
        "guard": array.guard,
    }


def _group_facts(group: Group[Any]) -> dict[str, Any]:
    members = group.members()
    return {
        "kind": "group",
        "address": group.url,
        "members": {name: _kind(member) for name, member in members.items()},
        "unreadable": {name: member.reason for name, member in members.items() if isinstance(member, UnreadableNode)},
        "attributes": plain(group.metadata.attributes),
    }


def tree(address: Any, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The nodes below an address: each with `name`, `kind`, and `children` or `shape`, `data_type`, `chunks`, `shards`.

    One that cannot be opened has the `reason` instead.
    """
    node = _open(address, storage_options)
    path = local_path(address)
    return _branch(node, node.name or (path.name if path else "/"))


def _branch(node: Array[Any] | Group[Any] | UnreadableNode[Any], name: str) -> dict[str, Any]:
    if isinstance(node, Group):
        return {"name": name, "kind": "group", "children": [_branch(child, part) for part, child in node.members().items()]}
    if isinstance(node, UnreadableNode):
        return {"name": name, "kind": node.kind, "reason": node.reason}
    facts = array_facts(node)
    return {"name": name, "kind": "array", **{key: facts[key] for key in ("shape", "data_type", "chunks", "shards")}}


def _kind(member: Any) -> str:
    return str(member.kind) if isinstance(member, UnreadableNode) else "array" if isinstance(member, Array) else "group"


def _open(address: Any, storage_options: Mapping[str, Any] | None) -> Array[Any] | Group[Any]:
    """The node, without the means to create one; a path that is not there is said to be so."""
    check_there(address)
    return open_node(address, mode="r+", storage_options=storage_options)


def check_there(address: Any) -> None:
    """NodeNotFoundError where an address is a path and nothing is there."""
    path = local_path(address)
    if path is not None and not path.exists():
        raise NodeNotFoundError("no such directory", path=str(path))


def local_path(address: Any) -> Path | None:
    """The directory that an address means, None for what is not in the file system."""
    if isinstance(address, str) and address.lower().startswith("file://"):
        return Path(unquote(urlsplit(address).path))
    if isinstance(address, str) and "://" in address:
        return None
    return Path(address).expanduser() if isinstance(address, str | os.PathLike) else None


def stored(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(files, bytes) below a directory."""
    sizes = [os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names]
    return len(sizes), sum(sizes)


def guard(address: str | os.PathLike[str]) -> str:
    """What would guard writes at a path, in words; OptionError for what is not in the file system."""
    return _directory(address).guard


def direct_io(address: str | os.PathLike[str]) -> str:
    """What `direct_io` would do at a path, in words, as one file that is there shows; OptionError as `guard`."""
    store = _directory(address)
    with annotate_errors("try direct I/O", store.url, None):
        return tried(store.files, store.root)


def file_system(address: str | os.PathLike[str]) -> dict[str, Any]:
    """What a path lies on: see `FilesystemStore.file_system`; OptionError for what is not in the file system."""
    return _directory(address).file_system


def _directory(address: str | os.PathLike[str]) -> FilesystemStore:
    store = resolve_store(address).store
    if not isinstance(store, FilesystemStore):
        raise OptionError("not a path", field="path", expected="a directory", got=str(address))
    return store
