"""Convert nodes between Zarr V2 and V3 in place: their metadata are written anew, their chunks stay where and as they are.

While a node is converted the main objects of both versions are locked. The new objects are stored first, then the old ones
are erased: whoever is killed in between leaves both, which say the same, and the next conversion ends it. Until the old
metadata are erased V3 counts (`metadata/node.py`), so that readers see one or the other, of the same chunks. Where there are no
locks an array is converted in a turn (`ops/turns.py`), so that nobody changes its shape meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from zarrant.errors import MetadataError, NodeNotFoundError, ZarrantError
from zarrant.metadata import node
from zarrant.metadata.node import ATTRIBUTES_V2, COPIES_V2, GROUP_V2, V3, key_of, main_name
from zarrant.metadata.v2 import parse_attributes
from zarrant.metadata.v3 import ArrayMetadata, NodeMetadata
from zarrant.metadata.versions import of_format
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.ops.current import is_same_array, require_turn
from zarrant.ops.node import find_metadata, find_v2, metadata_key
from zarrant.ops.turns import in_turn
from zarrant.requests import Op, fetch_one, locked, put_one


def converted(path: str, metadata: NodeMetadata, zarr_format: int) -> NodeMetadata:
    """The metadata of a node in another version of the format; MetadataError where that does not have the same chunks."""
    new = of_format(metadata, zarr_format)
    if isinstance(metadata, ArrayMetadata) and not is_same_array(BoundArray.from_metadata(path, metadata, OpOptions()), new):
        key = metadata_key(path, metadata)
        raise MetadataError(f"Zarr V{zarr_format} cannot describe these chunks", key=key, path="$", expected="the same codecs")
    return new


def convert(path: str, zarr_format: int, options: OpOptions) -> Op[bool]:
    """Convert one node; returns whether anything had to be done. Copies of its metadata that it keeps are removed."""
    found = yield from find_metadata(path)
    if found is None:
        raise NodeNotFoundError("no array or group here", key=metadata_key(path), path=path or "/")
    other = yield from find_v2(path) if found.v2 is None else _nothing()
    keys = {metadata_key(path), metadata_key(path, found)}
    keys |= {metadata_key(path, metadata) for metadata in (other, converted(path, found, 2) if zarr_format == 2 else None)}
    if options.turns and isinstance(found, ArrayMetadata) and found.zarr_format != zarr_format:
        array = BoundArray.from_metadata(path, found, options)
        op = in_turn(array, lambda now: _convert(path, zarr_format, lambda: require_turn(now)), lambda now: None)
    else:
        op = _convert(path, zarr_format, _nothing)
    return (yield from locked(sorted(keys), op))


def _nothing() -> Op[None]:
    return
    yield


def _convert(path: str, zarr_format: int, require: Callable[[], Op[object]]) -> Op[bool]:
    """`require` raises where others may have changed the shape meanwhile."""
    found = yield from find_metadata(path)
    if found is None:
        raise NodeNotFoundError("the node was removed or moved", key=metadata_key(path), path=path or "/")
    if found.zarr_format == zarr_format:
        return (yield from _drop_leftovers(path, found))
    new = converted(path, found, zarr_format)
    for name, data in node.dump_all(new).items():
        yield from require()
        yield from put_one(key_of(path, name), None if data is None else [data])
    yield from require()
    yield from _erase(path, found)
    return True


def _erase(path: str, metadata: NodeMetadata) -> Op[None]:
    """Erase the objects of one version, the main one after copies of it, which other libraries would read alone."""
    if metadata.v2 is None:
        yield from put_one(key_of(path, V3), None)
        return
    main = main_name(metadata)
    for name in ((COPIES_V2,) if main == GROUP_V2 else ()) + (main, ATTRIBUTES_V2):
        if (yield from fetch_one(key_of(path, name), ())) is not None:
            yield from put_one(key_of(path, name), None)


def _drop_leftovers(path: str, found: NodeMetadata) -> Op[bool]:
    """Erase V2 metadata beside those of V3 that say the same: a conversion that was killed has left them."""
    if found.v2 is not None:
        return False
    old = yield from find_v2(path)
    if old is None:
        return (yield from _drop_attributes(path, found))
    try:
        if node.dump(converted(path, old, 3)) != node.dump(found):
            return False
    except ZarrantError:
        return False
    yield from _erase(path, old)
    return True


def _drop_attributes(path: str, found: NodeMetadata) -> Op[bool]:
    """Erase V2 attributes that belong to no V2 node, and are those of the V3 node."""
    key = key_of(path, ATTRIBUTES_V2)
    blob = yield from fetch_one(key)
    if blob is None:
        return False
    try:
        same = parse_attributes(bytes(blob.data[0])) == of_format(found, 2).attributes
    except ZarrantError:
        return False
    if same:
        yield from put_one(key, None)
    return same
