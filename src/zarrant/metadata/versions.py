"""The same metadata in the other version of the format: what is stored in chunks stays as it is.

Out goes metadata of the version that was asked for, or a `MetadataError` that names what that version cannot say. Nothing is
left out but this: a V2 fill value of null (elements are not defined) becomes zero, as V3 has no such thing. Names of
dimensions are `dimension_names` in V3, and the attribute `_ARRAY_DIMENSIONS` in V2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from zarrant.errors import MetadataError
from zarrant.metadata import v2
from zarrant.metadata.json_text import member
from zarrant.metadata.v3 import CONSOLIDATED, DIMENSIONS_V2, ArrayMetadata, GroupMetadata, Json, NodeMetadata


def of_format(document: NodeMetadata, zarr_format: int) -> NodeMetadata:
    """The metadata in version 2 or 3 of the format.

    >>> of_format(GroupMetadata({"a": 1}, v2={}), 3).to_json()
    {'zarr_format': 3, 'node_type': 'group', 'attributes': {'a': 1}}
    """
    if document.zarr_format == zarr_format:
        return document
    if isinstance(document, ArrayMetadata):
        return v2.as_v2(document) if zarr_format == 2 else _array_v3(document)
    if zarr_format == 3:
        _refuse(document.v2 or {}, (), 3)
        return GroupMetadata(document.attributes)
    _refuse(document.extra, (CONSOLIDATED,), 2)
    return GroupMetadata(document.attributes, v2={})


def _array_v3(document: ArrayMetadata) -> ArrayMetadata:
    _refuse(document.v2 or {}, (*v2.ARRAY_MEMBERS, v2.SEPARATOR), 3)
    attributes = dict(document.attributes)
    if document.dimension_names is not None:
        attributes.pop(DIMENSIONS_V2)
    return replace(document, attributes=attributes, v2=None, version=None)


def _refuse(members: Mapping[str, Json], known: Collection[str], zarr_format: int) -> None:
    """MetadataError for members that have no place in the other version."""
    for name in members:
        if name not in known:
            message = f"Zarr V{zarr_format} has no place for this member"
            raise MetadataError(message, path=member("$", name), expected="what both versions have", got=name)
