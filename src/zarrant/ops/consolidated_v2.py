"""Consolidated metadata of Zarr V2: `.zmetadata`, the copies of all metadata at and below a group, kept in step.

The promises are those of `ops/consolidated.py`, and so are the steps. What differs is where things are: the copies are an
object of their own, whose lock is the one that is taken, and hold the group's own metadata as well. So the note that copies are
about to be made is an object of its own too, `__consolidating.json`: other libraries, which find no `.zmetadata`, look at the
nodes. One write of an object of metadata goes like this, under its lock and then, from the nearest group upwards, those of
the `.zmetadata` of the groups that keep copies: the note is stored and the copies are erased; the object is stored; the copies,
changed, are stored, and the note is erased.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

from zarrant.errors import (
    ConflictError,
    LimitError,
    MetadataChangedError,
    StorePermissionError,
    VersionChangedError,
    ZarrantError,
    ZarrantWarning,
)
from zarrant.limits import LIMITS
from zarrant.metadata.json_text import dump_json, parse_json
from zarrant.metadata.node import ARRAY_V2, ATTRIBUTES_V2, COPIES_V2, GROUP_V2, MAIN_V2, key_of
from zarrant.metadata.v2 import dump_attributes, parse_attributes
from zarrant.metadata.v3 import GroupMetadata, NodeMetadata
from zarrant.ops.consolidation_context import ConsolidationContext
from zarrant.ops.guard import FIRST_PAUSE_S, LAST_PAUSE_S, MAX_TRIES
from zarrant.ops.node import METADATA_BYTES, find_v2, paths_above, read_metadata, require_group, stored_metadata
from zarrant.requests import Op, Put, ReadRequest, WriteRequest, fetch, fetch_one, gather, list_dir, locked, pause, put_one
from zarrant.storage import Part

NOTE = "__consolidating.json"
"""A name that no node has, and that other libraries pass over."""

OBJECTS = (*MAIN_V2, ATTRIBUTES_V2)
"""What is copied."""


def store(request: Put, context: ConsolidationContext) -> Op[list[Any]]:
    """Store (or erase) an object of metadata, whose lock is ours, and change the copies; the outcome, in a list."""
    (item,) = request.items
    path, _, name = item.key.rpartition("/")
    own = (name, item.parts is None) != (GROUP_V2, True)
    groups = yield from _groups_with_copies(path, context, own)
    if groups and item.if_version is None and (yield from fetch_one(item.key, ())) is not None:
        return cast("list[Any]", (yield request))  # it is refused: nothing changes, and no copy need go for it
    outcomes = yield from _with_copies(groups, request, context)
    if not context.exclusive and not isinstance(outcomes[0], VersionChangedError):
        # Who has begun to consolidate meanwhile may have read what was there before. The note goes first: he looks for it last.
        for group in (yield from _groups_with_copies(path, context, own)):
            for gone in (NOTE, COPIES_V2):
                yield from put_one(key_of(group, gone), None)  # safety: V2 copies go afterwards
    return outcomes


def _groups_with_copies(path: str, context: ConsolidationContext, own: bool) -> Op[list[str]]:
    """The groups at and above a node that keep copies or are about to, the nearest first."""
    groups = []
    for group in ([path] if own else []) + paths_above(path)[::-1]:
        found = yield from fetch([ReadRequest(key_of(group, name), ()) for name in (COPIES_V2, NOTE)])
        for outcome in found:
            if isinstance(outcome, Exception) and not isinstance(outcome, StorePermissionError):
                raise outcome
        if any(blob for blob in found if not isinstance(blob, StorePermissionError)):  # else not ours to change
            groups.append(group)
    return groups


def _with_copies(groups: Sequence[str], request: Put, context: ConsolidationContext) -> Op[list[Any]]:
    if not groups:
        return cast("list[Any]", (yield request))
    change, key = _with_copies_of(groups[0], groups[1:], request, context), key_of(groups[0], COPIES_V2)
    if not context.exclusive:
        return (yield from change)
    below = key_of(groups[0], GROUP_V2)
    try:
        return (yield from locked((key,), change, nested=True, below=below))
    except MetadataChangedError as error:
        if error.key != below:
            raise
    return (yield from _with_copies(groups[1:], request, context))  # the group was removed meanwhile


def _with_copies_of(group: str, above: Sequence[str], request: Put, context: ConsolidationContext) -> Op[list[Any]]:
    entries = yield from _take_copies(group, context)
    outcomes = yield from _with_copies(above, request, context)
    if entries is None or not context.exclusive:
        return outcomes
    (item,) = request.items
    refused = isinstance(outcomes[0], VersionChangedError)
    if refused or not isinstance(outcomes[0], Exception):  # else nobody knows what is stored now
        if not refused:
            entries = yield from _changed(entries, item.key[len(group) + 1 :] if group else item.key, item)
        yield from _put_back(group, entries)
    return outcomes


def _take_copies(group: str, context: ConsolidationContext) -> Op[Mapping[str, Any] | None]:
    """Erase the copies of a group, and note that they are to come back. Returns them; None where it keeps none (any more)."""
    key = key_of(group, COPIES_V2)
    blob = yield from fetch_one(key)
    if blob is None:
        return None
    entries = _entries(bytes(blob.data[0]))
    if context.exclusive:
        yield from put_one(key_of(group, NOTE), [b"{}\n"])
    yield from put_one(key, None)  # safety: V2 copies go first
    return entries


def _entries(data: bytes) -> Mapping[str, Any] | None:
    """The copies in a `.zmetadata`; None where nobody can read it."""
    try:
        value = parse_json(data, words=True)
    except ZarrantError:
        return None
    entries = value.get("metadata") if isinstance(value, dict) else None
    return entries if isinstance(entries, dict) else None


def _changed(entries: Mapping[str, Any], below: str, item: WriteRequest) -> Op[Mapping[str, Any]]:
    """The copies after the object at `below` was stored, or (a main one with all below its node) erased.

    The attributes of a new node are stored before its main object, and copied with it.
    """
    node, _, name = below.rpartition("/")
    if item.parts is None:
        gone = f"{node}/" if node else ""
        return {key: value for key, value in entries.items() if key != below and not (name in MAIN_V2 and key.startswith(gone))}
    changed = dict(entries)
    if name in MAIN_V2:
        changed[below] = _value(item.parts)
        attributes = yield from fetch_one(f"{item.key.removesuffix(name)}{ATTRIBUTES_V2}")
        if attributes is not None:
            changed[key_of(node, ATTRIBUTES_V2)] = _value(attributes.data)
        for group in paths_above(node)[1:]:  # made by the same operation, after this
            changed.setdefault(key_of(group, GROUP_V2), {"zarr_format": 2})
    elif any(key_of(node, main) in entries for main in MAIN_V2):
        changed[below] = _value(item.parts)
    return dict(sorted(changed.items()))


def _value(parts: Sequence[Part]) -> Any:
    return parse_attributes(b"".join(part for part in parts if not isinstance(part, tuple)))


def _put_back(group: str, entries: Mapping[str, Any]) -> Op[None]:
    """Store the copies of a group. What they are of is stored already: it stays so where they cannot be."""
    key = key_of(group, COPIES_V2)
    try:
        yield from put_one(key, [_dumped(entries)])
        yield from put_one(key_of(group, NOTE), None)
    except ZarrantError as error:
        message = f"consolidated metadata were removed and could not be stored again (key {key}): {error}"
        warnings.warn(message, ZarrantWarning, stacklevel=2)


def _dumped(entries: Mapping[str, Any]) -> bytes:
    data = dump_json({"zarr_consolidated_format": 1, "metadata": dict(entries)}, words=True)
    if len(data) > LIMITS.document:
        raise LimitError("consolidated metadata that are too large", field="document", got=len(data), limit=LIMITS.document)
    return data


# Consolidating ----------------------------------------------------------------------------------------------------------


def consolidate(path: str, group: GroupMetadata, context: ConsolidationContext) -> Op[NodeMetadata]:
    """Store copies of all metadata at and below a group; returns the group's. See `consolidated.consolidate`."""
    for attempt in range(MAX_TRIES):
        note = f'{{"id": {random.getrandbits(64)}}}\n'.encode()
        yield from _alone(path, _announce(path, note), context)
        if context.exclusive:
            yield from _wait_for_objects(path)
        if (yield from _alone(path, _store_copies(path, group, note, context), context)):
            return (yield from read_metadata(path))
        yield from pause(random.uniform(0, min(LAST_PAUSE_S, FIRST_PAUSE_S * 2**attempt)))
    key = key_of(path, COPIES_V2)
    raise ConflictError("others changed the group in every try to consolidate it", key=key, limit=f"{MAX_TRIES} tries")


def _alone(path: str, op: Op[bool], context: ConsolidationContext) -> Op[bool]:
    if not context.exclusive:
        return (yield from op)
    below = key_of(path, GROUP_V2)
    try:
        return (yield from locked((key_of(path, COPIES_V2),), op, below=below))
    except MetadataChangedError as error:
        if error.key == below:
            yield from require_group(path)  # it says what became of the group
        raise


def _announce(path: str, note: bytes) -> Op[bool]:
    yield from put_one(key_of(path, NOTE), [note])
    yield from put_one(key_of(path, COPIES_V2), None)
    return True


def _store_copies(path: str, group: GroupMetadata, note: bytes, context: ConsolidationContext) -> Op[bool]:
    """Store copies where they are still announced by this note; returns whether they were."""
    if not (yield from _is_announced(path, note)):
        return False
    yield from put_one(key_of(path, COPIES_V2), [_dumped(entries_of((yield from _nodes_from(path, group))))])
    if not context.exclusive and not (yield from _is_announced(path, note)):  # safety: V2 note
        yield from put_one(key_of(path, COPIES_V2), None)
        return False
    yield from put_one(key_of(path, NOTE), None)
    return True


def _is_announced(path: str, note: bytes) -> Op[bool]:
    blob = yield from fetch_one(key_of(path, NOTE))
    return blob is not None and bytes(blob.data[0]) == note


def entries_of(nodes: Mapping[str, NodeMetadata]) -> dict[str, Any]:
    """The copies of the metadata of nodes, which are given by their paths below the group."""
    entries: dict[str, Any] = {}
    for below, node in nodes.items():
        value = node.to_json()
        attributes = value.pop("attributes")
        name = GROUP_V2 if isinstance(node, GroupMetadata) else ARRAY_V2
        entries[key_of(below, name)] = value
        if attributes:
            entries[key_of(below, ATTRIBUTES_V2)] = parse_attributes(dump_attributes(attributes))
    return dict(sorted(entries.items()))


def stored_entries(path: str) -> Op[Mapping[str, Any] | None]:
    """The copies that a group keeps; None where it keeps none, or nobody can read them."""
    blob = yield from fetch_one(key_of(path, COPIES_V2))
    return None if blob is None else _entries(bytes(blob.data[0]))


def _nodes_from(path: str, group: GroupMetadata) -> Op[dict[str, NodeMetadata]]:
    """The metadata of every node of V2 at and below a group, by its path below it."""
    own = yield from stored_metadata(path, group)
    nodes: dict[str, NodeMetadata] = {"": own or group}
    waiting = [path]
    while waiting:
        directory = waiting.pop()
        _, directories = yield from list_dir(f"{directory}/" if directory else "")
        below = [found[:-1] for found in directories]
        for child, node in zip(below, (yield from gather(map(find_v2, below), METADATA_BYTES)), strict=True):
            if node is not None:
                nodes[child[len(path) + 1 :] if path else child] = node
                waiting += [child] if isinstance(node, GroupMetadata) else []
    return nodes


def _wait_for_objects(path: str) -> Op[None]:
    """Take and give back the lock of every object of metadata at and below a group, also of one that is about to be made."""
    waiting = [path]
    while waiting:
        node = waiting.pop()
        for name in OBJECTS:
            yield from locked((key_of(node, name),), fetch_one(key_of(node, name), ()))
        if (yield from fetch_one(key_of(node, GROUP_V2), ())) is not None:
            _, directories = yield from list_dir(f"{node}/" if node else "")
            waiting += [directory[:-1] for directory in directories]
