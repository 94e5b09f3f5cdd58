"""The stored objects of a node, and its metadata: 1..n objects in, one `ArrayMetadata` or `GroupMetadata` out, and back.

A node of Zarr V3 is one object, `zarr.json`. A node of V2 is `.zarray` or `.zgroup`, and `.zattrs` where it has
attributes. One of them is the *main* object, which makes the node: where it is absent there is no node, its version is the
node's version (the condition of every write of chunks), and its lock is the node's lock. Attributes of V2 change apart from
it. `.zmetadata` holds copies of V2 metadata (`ops/consolidated_v2.py`). Where both versions are in one directory, V3 counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from zarrant.errors import ZarrantError
from zarrant.limits import LIMITS
from zarrant.metadata import v2, v3
from zarrant.metadata.v3 import ArrayMetadata, NodeMetadata

V3 = "zarr.json"
ARRAY_V2, GROUP_V2, ATTRIBUTES_V2, COPIES_V2 = ".zarray", ".zgroup", ".zattrs", ".zmetadata"
MAIN_V2 = (ARRAY_V2, GROUP_V2)
MAIN = (V3, *MAIN_V2)
"""The objects that make a node, in the order in which they count."""

NAMES = (*MAIN, ATTRIBUTES_V2, COPIES_V2)
"""Every object of metadata."""


def key_of(path: str, name: str) -> str:
    """The key of an object of a node."""
    return f"{path}/{name}" if path else name


def main_name(document: NodeMetadata | None) -> str:
    """The name of the main object of a node with this metadata."""
    if document is None or document.v2 is None:
        return V3
    return ARRAY_V2 if isinstance(document, ArrayMetadata) else GROUP_V2


def parse(path: str, objects: Mapping[str, bytes], version: object = None) -> NodeMetadata:
    """The metadata in the objects of a node, by their names, a main one (of this version) among them; errors name the key."""
    name = V3 if V3 in objects else next(name for name in MAIN if name in objects)
    try:
        if name == V3:
            return v3.parse(objects[V3], LIMITS, version)
        attributes = _attributes(path, objects)
        return v3.of_version((v2.parse_array if name == ARRAY_V2 else v2.parse_group)(objects[name], attributes), version)
    except ZarrantError as error:
        raise error.annotate(key=key_of(path, name)) from error.__cause__


def _attributes(path: str, objects: Mapping[str, bytes]) -> dict[str, v3.Json]:
    if ATTRIBUTES_V2 not in objects:
        return {}
    try:
        return v2.parse_attributes(objects[ATTRIBUTES_V2])
    except ZarrantError as error:
        raise error.annotate(key=key_of(path, ATTRIBUTES_V2)) from error.__cause__


def dump(document: NodeMetadata) -> bytes:
    """The main object of a node. What could not be read again is refused."""
    if document.v2 is None:
        return v3.dump(document)
    return v2.dump_array(document) if isinstance(document, ArrayMetadata) else v2.dump_group(document)


def dump_all(document: NodeMetadata) -> dict[str, bytes | None]:
    """Every object of a node by its name, the main one last; None for one that there is not.

    >>> dump_all(v3.GroupMetadata({"a": 1}, v2={}))
    {'.zattrs': b'{\\n  "a": 1\\n}\\n', '.zgroup': b'{\\n  "zarr_format": 2\\n}\\n'}
    """
    if isinstance(document, ArrayMetadata) and document.turn is not None:  # it is that of the object that was read
        document = replace(document, turn=None)
    main = {main_name(document): dump(document)}
    if document.v2 is None:
        return dict(main)
    return {ATTRIBUTES_V2: v2.dump_attributes(document.attributes) if document.attributes else None, **main}


def placed(error: ZarrantError, document: ArrayMetadata) -> ZarrantError:
    """An error about metadata, whose path is where it is in what is stored."""
    if document.v2 is not None and error.path is not None:
        error.path = v2.place(document.v2, str(error.path))
    return error
