"""Convert arrays and groups between Zarr V2 and V3 in place (`zarrant convert`): metadata only, chunks stay as they are.

In: an address. Out: a dict that says what was converted. Everything is looked at before anything is changed: where
one node cannot be converted, none is. Of a group all nodes below are converted first, so that a group of V3 has nodes of V3.
Other libraries find no node of one version in a group of the other: convert the group at the top.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zarrant.errors import NodeNotFoundError, OptionError, ZarrantError, shown
from zarrant.metadata.v3 import ArrayMetadata, GroupMetadata, NodeMetadata
from zarrant.nodes.base import LIST, READ, UPDATE, NodeContext
from zarrant.ops import consolidated
from zarrant.ops.convert import convert, converted
from zarrant.ops.members import reason, walk
from zarrant.ops.node import find_metadata, metadata_key
from zarrant.tools.check import open_context


def convert_format(
    address: Any, zarr_format: int = 3, *, dry_run: bool = False, storage_options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Convert an array, or a group and all nodes below it, to a version of the format.

    Args:
        address: the node.
        zarr_format: 3 or 2.
        dry_run: only say what would be done.
        storage_options: options of the store, as `open` takes them.

    Returns:
        `converted`: the paths; `unchanged`: those that are of that version already; `cannot`: `{path: reason}`, and then nothing
        was changed; `notes`: what is said in other words than before.

    Raises:
        NodeNotFoundError: nothing is there.
        OptionError: another version.

    >>> import zarrant
    >>> objects = {}
    >>> _ = zarrant.create_array(objects, data=[1, 2, 3], zarr_format=2)
    >>> convert_format(objects)["converted"], sorted(objects)
    (['/'], ['0', 'zarr.json'])
    """
    if isinstance(zarr_format, bool) or zarr_format not in (2, 3):
        raise OptionError("no such version of the format", field="zarr_format", expected="2 | 3", got=shown(zarr_format))
    context = open_context(address, storage_options)
    nodes = _nodes(context)
    cannot, notes = _looked_at(nodes, zarr_format)
    done = [path for path, node in nodes.items() if isinstance(node, NodeMetadata) and node.zarr_format != zarr_format]
    facts = {
        "address": context.url,
        "zarr_format": zarr_format,
        "dry_run": dry_run,
        "converted": [] if cannot else [path or "/" for path in done],
        "unchanged": [path or "/" for path in nodes if cannot or path not in done],
        "cannot": cannot,
        "notes": notes,
    }
    if not dry_run and not cannot:
        _perform(context, nodes, zarr_format)
    return facts


def _nodes(context: NodeContext) -> dict[str, NodeMetadata | ZarrantError]:
    """The metadata of the node and of those below, which come before their groups, or why they cannot be read."""
    root = context.run(find_metadata(context.path), READ)
    if root is None:
        raise NodeNotFoundError("no array or group here", store=context.url, key=metadata_key(context.path))
    found: dict[str, NodeMetadata | ZarrantError] = {context.path: root}
    if isinstance(root, GroupMetadata):
        for child in context.run(walk(context.path), LIST):
            error = reason(child)
            assert child.metadata is not None or error is not None, "a child has metadata or an error"
            found[child.path] = error if child.metadata is None or error is not None else child.metadata  # type: ignore[assignment]
    return dict(reversed(found.items()))


def _looked_at(nodes: dict[str, NodeMetadata | ZarrantError], zarr_format: int) -> tuple[dict[str, str], dict[str, str]]:
    """Why nodes cannot be converted, and what is said of those that can."""
    cannot: dict[str, str] = {}
    notes: dict[str, str] = {}
    for path, node in nodes.items():
        try:
            if isinstance(node, ZarrantError):
                raise node
            converted(path, node, zarr_format)
        except ZarrantError as error:
            cannot[path or "/"] = str(error)
            continue
        if zarr_format == 3 and isinstance(node, ArrayMetadata) and node.v2 and node.v2.get("fill_value", 0) is None:
            notes[path or "/"] = f"the fill value, which was not defined (null), becomes {node.fill_value!r}"
    return cannot, notes


def _perform(context: NodeContext, nodes: dict[str, NodeMetadata | ZarrantError], zarr_format: int) -> None:
    again = []
    for path, node in nodes.items():
        if isinstance(node, GroupMetadata) and context.run(consolidated.keeps_copies(path, node), READ):
            again.append(path)
    for path in nodes:
        context.run(context.in_step(convert(path, zarr_format, context.options)), UPDATE)
    for path in again:
        context.run(consolidated.consolidate(path, context.consolidation), (*UPDATE, "list"))
