"""Changes of several arrays of a group as one: data and the coordinates that belong to them grow together.

In: the path of a group, names of arrays, and data to append to them. Out: the slice that the data got, the same in every array.
Many processes may do so at once: each gets rows of its own, and the rows of one call have the same indices in all arrays.

The metadata of all arrays are locked (in one order, the same for all callers) from the first look at the shapes to the last
new shape. Everything is checked before anything is stored. Then all data are stored behind the ends, where no reader sees them,
and then the shapes are stored, one array after the other: there is no way to store two objects in one step. Readers that come
between two of these steps find one array longer than another; the rows that both have belong together.

What a kill leaves is decided by a *record*, an object `__append.json` in the group: it says which shapes are about to be
stored. It is stored when all data are, and erased when all shapes are.

- Killed before the record: the arrays are as they were.
- Killed after it: the next append of the group stores the shapes that are missing, before it begins. Nothing is lost, and the
  rows stay together. Until then the arrays have different lengths.
- What fails without a kill (a full disk) is undone: the arrays are as they were.

A record is valid only while the metadata of its arrays have the versions that it names: nothing has changed them since. Otherwise
it is dropped. Then the arrays have different lengths, and the next append is a ShapeError that says so: this module cannot know
which rows are wanted. So arrays that grow together should be appended to in this way only.

Where the shapes are changed in turns, `ops/group_turns.py` keeps the same promises in its own way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zarrant.errors import ConflictError, NodeNotFoundError, OptionError, ZarrantError, shown
from zarrant.metadata.json_text import dump_json, parse_json
from zarrant.metadata.node import dump
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.ops import group_turns, resize
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.ops.casting import as_values
from zarrant.ops.growing import Growing, check, read_array
from zarrant.ops.node import check_path, find_metadata, metadata_key
from zarrant.ops.resize import check_axis, commit, store_behind
from zarrant.requests import Op, fetch_one, locked, put_one

RECORD = "__append.json"
"""A name that no node has, and that other libraries pass over."""


def paths_of(group: str, arrays: Mapping[str, Any]) -> list[str]:
    """The paths of nodes below a group, in the order of their names; OptionError where two names mean one node."""
    if not isinstance(arrays, Mapping) or not arrays:
        raise OptionError("no array is named", field="arrays", expected="{name: ...}", got=shown(arrays))
    paths = [f"{group}/{path}" if group else path for path in map(check_path, arrays)]
    if len(set(paths)) < len(paths):
        raise OptionError("two names of one array", field="arrays", expected="different arrays", got=sorted(arrays))
    return paths


def read_arrays(paths: Sequence[str]) -> Op[list[ArrayMetadata]]:
    """The metadata of arrays; NodeNotFoundError where one of them is none."""
    metadata_by_path = []
    for path in paths:
        metadata = yield from find_metadata(path)
        if not isinstance(metadata, ArrayMetadata):
            raise NodeNotFoundError("no array here", key=metadata_key(path), path=path or "/")
        metadata_by_path.append(metadata)
    return metadata_by_path


def append(group: str, data: Mapping[str, Any], axis: int, options: OpOptions) -> Op[slice]:
    """Store data behind the ends of several arrays, then grow them all; returns the slice of `axis` that holds the data.

    ShapeError where the arrays, or the data, are not of one length along `axis`, or the data do not fit; nothing was stored then.
    """
    paths = paths_of(group, data)
    # Before any lock: taking one would make a directory for a name that is not there.
    metadata_by_path = yield from read_arrays(paths)
    record, by_path = f"{group}/{RECORD}" if group else RECORD, dict(zip(paths, data.values(), strict=True))
    if not options.turns:
        op = _append(group, record, by_path, axis, options)
    elif len(paths) > 1:
        op = group_turns.append(group, by_path, axis, options)
    else:
        return (yield from _append_to_one(paths[0], by_path, axis, options))
    if not options.guarded:
        return (yield from op)
    return (yield from locked([record, *map(metadata_key, paths, metadata_by_path)], op))


def _append_to_one(path: str, data: Mapping[str, Any], axis: int, options: OpOptions) -> Op[slice]:
    array, _ = yield from read_array(path, options)
    return (yield from resize.append(array, data[path], axis))


def _append(group: str, record: str, data: Mapping[str, Any], axis: int, options: OpOptions) -> Op[slice]:
    yield from _finish(record, frozenset(data), options)
    arrays = []
    for path, values in data.items():
        now, version = yield from read_array(path, options)
        arrays.append(Growing(now, version, as_values(now, values), check_axis(axis, len(now.shape))))
    check(arrays)
    start, added = arrays[0].length, arrays[0].added
    if added:
        grown = []
        for array in arrays:
            grown.append((yield from store_behind(array.now, [array.values], array.axis)))
        yield from _commit(record, arrays, grown)
    return slice(start, start + added)


def _commit(record: str, arrays: Sequence[Growing], grown: Sequence[BoundArray]) -> Op[None]:
    """Store the new shapes. All data are stored."""
    done: list[Growing] = []
    try:
        if len(arrays) > 1:
            yield from put_one(record, [_record(arrays, grown)])  # safety: record
        for array, new in zip(arrays, grown, strict=True):
            done.append(array)  # first: where storing fails nobody knows whether it was done
            yield from commit(array.now, new.metadata, array.version)
    except ZarrantError as error:
        yield from _undo(record, done, error)  # safety: undone
        raise
    if len(arrays) > 1:
        try:
            yield from put_one(record, None)
        except ZarrantError:
            pass  # the arrays have grown: the next append finds that nothing of the record is left to do


def _record(arrays: Sequence[Growing], grown: Sequence[BoundArray]) -> bytes:
    """Versions may be anything; what they look like is compared."""
    value = {
        array.now.prefix: {"version": repr(array.version), "shape": list(new.shape)}
        for array, new in zip(arrays, grown, strict=True)
    }
    return dump_json({"arrays": value})


def _undo(record: str, done: Sequence[Growing], cause: ZarrantError) -> Op[None]:
    """Give arrays the shapes back that they had; what is stored behind their ends has no meaning."""
    try:
        for array in done:
            now, version = yield from read_array(array.now.prefix, array.now.options)
            if now.shape != array.now.shape:
                yield from put_one(
                    metadata_key(now.prefix, now.metadata), [dump(now.metadata.with_shape(array.now.shape))], version
                )
        yield from put_one(record, None)
    except ZarrantError as error:
        message = "an append to several arrays failed, and could not be undone"
        hint = "Do not repeat it: the next append of the group completes it"
        raise ConflictError(f"{message} ({cause})", key=record, hint=hint) from error


def _finish(record: str, locked_paths: frozenset[str], options: OpOptions) -> Op[None]:
    """Store the shapes that a killed append had still to store. `locked_paths` are the arrays whose metadata are locked."""
    blob = yield from fetch_one(record)
    if blob is None:
        return
    found = []
    for path, entry in _entries(record, bytes(blob.data[0])):
        try:
            now, version = yield from read_array(path, options)
        except NodeNotFoundError:
            break
        if now.shape != entry[1] and repr(version) != entry[0]:
            break  # another writer changed it since
        found.append((now, version, entry[1]))
    else:
        for now, version, shape in found:
            if now.shape != shape:
                metadata = now.metadata.with_shape(shape)
                key = metadata_key(now.prefix, metadata)
                op = put_one(key, [dump(metadata)], version)
                if now.prefix in locked_paths or not options.guarded:
                    yield from op
                else:  # none of ours; nobody who has locked the metadata of one array waits for the record
                    yield from locked((key,), op, nested=True)
    yield from put_one(record, None)


def _entries(record: str, data: bytes) -> list[tuple[str, tuple[str, tuple[int, ...]]]]:
    """(path, (version, shape)) for the arrays of a record."""
    try:
        arrays = parse_json(data)["arrays"]
        return [(check_path(path), (str(entry["version"]), tuple(entry["shape"]))) for path, entry in arrays.items()]
    except (ZarrantError, KeyError, TypeError, AttributeError, json.JSONDecodeError):
        return []  # not ours, or torn by a power cut: nothing can be done for it
