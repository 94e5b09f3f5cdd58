"""Keep copies of all metadata below a group in it (`zarrant consolidate`), for libraries that then open it with one read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zarrant.nodes.open import open_group
from zarrant.tools.describe import check_there


def consolidate(address: Any, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Make consolidated metadata of a group, or make them anew; from then on every change keeps them in step.

    Args:
        address: the group, of either version of the format.
        storage_options: options of the store, as `open` takes them.

    Returns:
        The `address`, the `zarr_format`, and how many `nodes` below the group were copied.

    Raises:
        NodeNotFoundError: there is no group.
        MetadataError: a node below cannot be read.

    >>> import zarrant
    >>> objects = {}
    >>> _ = zarrant.create_group(objects, zarr_format=2).create_array("images/raw", shape=(2,), dtype="int8")
    >>> consolidate(objects)["nodes"], ".zmetadata" in objects
    (2, True)
    """
    check_there(address)
    group = open_group(address, mode="r+", storage_options=storage_options)
    group.consolidate_metadata()
    return {"address": group.url, "zarr_format": group.metadata.zarr_format, "nodes": group.nmembers(max_depth=None)}
