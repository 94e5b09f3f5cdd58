"""The operation that makes an array: its metadata, and the data that it begins with, before anybody can see it.

Of several creators at the same time one succeeds, and only that one stores data. Where an equal array will do (`match`), the
error for another one says what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zarrant.errors import NodeExistsError
from zarrant.metadata.v3 import ArrayMetadata, NodeMetadata
from zarrant.ops import ingest, update
from zarrant.ops import node as node_ops
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.casting import as_values, broadcast
from zarrant.requests import Op


def create_array(
    array: BoundArray,
    data: Any = None,
    *,
    overwrite: bool = False,
    match: bool = False,
    exclusive: bool = True,
    listing: bool = False,
    within: str | None = None,
    top: str = "",
) -> Op[NodeMetadata]:
    """Make an array and store `data` in it; returns the metadata that are there now.

    `listing`: the store can list, so that chunks which a lost array left are found. The others: see `ops.node.create_node`.
    """
    # Wrong data are refused before there is an array.
    fill = None if data is None else _filling(array, data, overwrite)

    def is_chunk(key: str) -> bool:
        return array.key_encoding.parse(key, len(array.shape)) is not None

    found = is_chunk if listing else None
    op = node_ops.create_node(
        array.prefix,
        array.metadata,
        overwrite=overwrite,
        match=match,
        exclusive=exclusive,
        is_chunk=found,
        fill=fill,
        within=within,
        top=top,
    )
    return (yield from _compared(op, array) if match else op)


def _compared(op: Op[NodeMetadata], array: BoundArray) -> Op[NodeMetadata]:
    """Creating an array that may be there already; the error of one that is another says what differs."""
    try:
        return (yield from op)
    except NodeExistsError as error:
        there = yield from node_ops.find_metadata(array.prefix)
        if isinstance(there, ArrayMetadata):
            stored, asked = there.to_json(), array.metadata.to_json()
            names = [name for name in (*asked, *(stored.keys() - asked.keys())) if stored.get(name) != asked.get(name)]
            error.message = f"an array that differs in {', '.join(names)} is here already"
            error.annotate(expected={name: asked.get(name) for name in names}, got={name: stored.get(name) for name in names})
        raise


def _filling(array: BoundArray, data: Any, overwrite: bool) -> Callable[[], Op[None]]:
    """The operation that stores data in a new array."""
    # Safety: what is overwritten may be what the data are read from, so those are in memory before anything is erased.
    if ingest.is_lazy(data) and not overwrite:
        ingest.check_lazy(array, data)
        return lambda: ingest.store_lazy(array, data)
    values = broadcast(as_values(array, data), array.shape)
    return lambda: update.store_new_array(array, values)
