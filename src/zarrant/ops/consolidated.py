"""Consolidated metadata: the copies of all metadata below that a group keeps in its own `zarr.json`, kept in step.

Those of Zarr V2 are an object of their own: `ops/consolidated_v2.py` keeps them in step.

Readers that find copies look at nothing else: xarray and zarr-python open a whole hierarchy with one read. So a copy that is
not in step is wrong data: rows that were appended are not seen, and what was cut off or deleted reads as fill values. In: an
operation that changes metadata. Out: the same operation (`in_step`), in which each write of a node's metadata also changes the
copies in the groups above. Its other requests and its result stay the same.

One write of a node's metadata goes like this, under the lock of the node's metadata and then, from the nearest group upwards,
those of the groups that keep copies:

1. each such group is stored without its copies, but with a note that it is to have some (`"consolidated_metadata": null`,
   which zarr-python has written for "none"): a writer that changes another node sees it, and waits for the group's lock;
2. the node's metadata are stored;
3. each such group is stored with its copies, changed.

So a writer that is killed in between leaves a group without copies. That is correct: readers then look at the nodes. The group
never has wrong copies. All writers take these locks upwards, so that two never wait for each other. Where a store has no locks
(only compare-and-swap) the third step is left out: two writers could not know what the copies must be. There the groups above are
looked at once more afterwards: another process may have begun to consolidate between the first step and the second, and have read
the old metadata. Its copies, or its note, are removed, so that it cannot store them any more and reads again. An append need not
look twice: it looks while it has the turn of the array (`ops/turns.py`) and stores its data (`BeforeChange`), and who consolidates
takes no metadata with a turn. So what it reads is older than the turn, and its note is seen; or it is newer than the append.

A hierarchy without copies costs one look: the handle remembers the version of each group above that keeps none, and compares it
with the stored one.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from zarrant.errors import (
    ConflictError,
    LimitError,
    MetadataChangedError,
    NodeNotFoundError,
    StorePermissionError,
    VersionChangedError,
    ZarrantError,
    ZarrantWarning,
)
from zarrant.limits import LIMITS
from zarrant.metadata.node import COPIES_V2, V3, key_of
from zarrant.metadata.v3 import CONSOLIDATED, ArrayMetadata, GroupMetadata, NodeMetadata, dump, parse
from zarrant.ops import consolidated_v2
from zarrant.ops.consolidation_context import ConsolidationContext
from zarrant.ops.guard import FIRST_PAUSE_S, LAST_PAUSE_S, MAX_TRIES
from zarrant.ops.node import (
    GROUP_GONE,
    METADATA_BYTES,
    find_metadata,
    metadata_key,
    parsed,
    paths_above,
    require_group,
    same_kind,
)
from zarrant.ops.turns import wait_for_end
from zarrant.requests import (
    ANY,
    BeforeChange,
    Locked,
    Op,
    Put,
    PutFirst,
    Request,
    WriteRequest,
    fetch_one,
    gather,
    list_dir,
    locked,
    pause,
    put_one,
    unchanged,
)
from zarrant.storage import Version

T = TypeVar("T")
Entries = Mapping[str, Any]
"""The metadata of nodes as JSON values, by their paths below the group."""


def in_step(op: Op[T], context: ConsolidationContext, locked_keys: frozenset[str] = frozenset()) -> Op[T]:
    """The operation, in which copies of metadata are kept in step. `locked_keys` are the keys whose locks it has."""
    reply: Any = None
    error: Exception | None = None
    looked: dict[str, list[str]] = {}
    try:
        while True:
            try:
                request = op.send(reply) if error is None else op.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            try:
                if type(request) in _CHANGES:
                    reply, error = (yield from _answered(request, context, locked_keys, looked)), None
                else:
                    reply, error = (yield request), None
            except Exception as raised:
                reply, error = None, raised
    finally:
        op.close()


_CHANGES = {BeforeChange, Locked, Put, PutFirst}
"""Requests that may change metadata, or have others in them that do."""


def _answered(
    request: Request, context: ConsolidationContext, locked_keys: frozenset[str], looked: dict[str, list[str]]
) -> Op[Any]:
    """The reply to a request of the operation. `looked`: the groups that keep copies of metadata which it changes in a turn."""
    if isinstance(request, BeforeChange):
        return (yield from _looking(request, context, looked))
    if isinstance(request, Locked):
        return (yield request._replace(op=in_step(request.op, context, locked_keys | set(request.keys))))
    if isinstance(request, PutFirst):
        return (yield request) if request.key == V3 else (yield from _stored_first(request, context))
    if isinstance(request, Put) and len(request.items) == 1 and request.in_copies:
        (item,) = request.items
        if item.key in looked:
            return (yield from _with_copies(looked.pop(item.key), request, context))
        store = _STORE.get(item.key.rpartition("/")[2])
        if store is not None and item.key != V3:  # the root has no group above it, and in V3 no copy of itself
            if not context.exclusive or item.key in locked_keys:
                return (yield from store(request, context))
            # Else taking the lock would make a directory for a node that is to be erased, and is not there.
            if item.parts is not None or (yield from fetch_one(item.key)) is not None:
                return (yield from locked((item.key,), store(request, context), nested=bool(locked_keys)))
    return (yield request)


def _looking(request: BeforeChange, context: ConsolidationContext, looked: dict[str, list[str]]) -> Op[Any]:
    """Perform the operation of a request, and look meanwhile at the groups above."""
    path, _, name = request.key.rpartition("/")
    if name != V3 or not path or context.exclusive:
        return (yield request)
    result, groups = yield from gather(iter([request.op, _groups_with_copies(path, context)]), 0)
    looked[request.key] = groups
    return result


def _stored_first(request: PutFirst, context: ConsolidationContext) -> Op[Version]:
    """Store the metadata of a new node where no group above keeps copies, or is about to; else None, and nothing was stored."""
    path = request.key.removesuffix(f"/{V3}")
    if not context.exclusive or (yield from _groups_with_copies(path, context)):
        return None
    version: Version = yield request
    if version is not None and (groups := (yield from _groups_with_copies(path, context))):  # safety: copies begun meanwhile
        again = Put([WriteRequest(request.key, request.parts, context.condition(version))])
        (outcome,) = yield from locked((request.key,), _with_copies(groups, again, context))
        if not isinstance(outcome, VersionChangedError):  # else who has changed it already has changed the copies, too
            if isinstance(outcome, Exception):
                raise outcome
            version = outcome
    return version


def _stored(request: Put, context: ConsolidationContext) -> Op[list[Any]]:
    """Store (or erase) the metadata of a node, whose lock is ours, and change the copies; the outcome, in a list."""
    (item,) = request.items
    path = item.key.removesuffix(f"/{V3}")
    outcomes: list[Any]
    groups = yield from _groups_with_copies(path, context)
    if groups:
        if item.if_version is None and (yield from fetch_one(item.key)) is not None:
            return cast("list[Any]", (yield request))  # it is refused: nothing changes, and no copy need go for it
        outcomes = yield from _with_copies(groups, request, context)
        return outcomes if context.exclusive else (yield from _without_copies(path, outcomes, context))
    outcomes = yield request
    if not context.exclusive:
        return (yield from _without_copies(path, outcomes, context))
    if item.if_version in (None, ANY) and item.parts is not None and not isinstance(outcomes[0], Exception):
        # Where directories do not exist (memory, object stores) a new node is missed by who consolidates in this moment.
        groups = yield from _groups_with_copies(path, context)
        if groups:
            again = request._replace(items=[item._replace(if_version=context.condition(outcomes[0]))])
            return (yield from _with_copies(groups, again, context))
    return outcomes


def _without_copies(path: str, outcomes: list[Any], context: ConsolidationContext) -> Op[list[Any]]:
    """Remove copies (and notes) that others may have made from what the metadata of a node were before; the outcomes."""
    if not isinstance(outcomes[0], VersionChangedError):  # then nothing was stored
        for group in (yield from _groups_with_copies(path, context)):
            yield from _take_copies(group, context)  # safety: copies go afterwards
    return outcomes


_STORE = {V3: _stored, **dict.fromkeys(consolidated_v2.OBJECTS, consolidated_v2.store)}
"""How each object of metadata is stored, by its name."""


def _groups_with_copies(path: str, context: ConsolidationContext) -> Op[list[str]]:
    """The groups above a node that keep copies or are about to, the nearest first."""
    groups = paths_above(path)[::-1]
    if context.exclusive:  # most often files: one look after the other is the fastest
        found = []
        for group in groups:
            found.append((yield from _is_with_copies(group, context)))
    else:
        found = yield from gather([_is_with_copies(group, context) for group in groups], METADATA_BYTES)
    return [group for group, is_with_copies in zip(groups, found, strict=True) if is_with_copies]


def _is_with_copies(group: str, context: ConsolidationContext) -> Op[bool]:
    key, known = metadata_key(group), context.without.get(group)
    if known is not None and (yield from unchanged(key, known)):
        return False
    try:
        blob = yield from fetch_one(key)
    except StorePermissionError:
        return False  # credentials for what is below it alone: its copies are not ours to change
    if blob is None:
        return False
    if _may_keep_copies(group, bytes(blob.data[0])):
        return True
    context.without[group] = blob.version
    return False


def _may_keep_copies(group: str, data: bytes) -> bool:
    """Whether the metadata of a group have copies, or announce them. Copies may be large: they are not parsed for that."""
    if f'"{CONSOLIDATED}"'.encode() in data:
        return True
    if b"\\u00" not in data:  # the only other way to write those letters
        return False
    try:
        found = parsed(group, memoryview(data))
    except ZarrantError:
        return False  # nobody can read it, nor copies in it
    return isinstance(found, GroupMetadata) and CONSOLIDATED in found.extra


def _with_copies(groups: Sequence[str], request: Put, context: ConsolidationContext) -> Op[list[Any]]:
    """Store the metadata of a node, and change the copies in these groups."""
    if not groups:
        return cast("list[Any]", (yield request))
    change, key = _with_copies_of(groups[0], groups[1:], request, context), metadata_key(groups[0])
    if not context.exclusive:
        return (yield from change)
    try:
        return (yield from locked((key,), change, nested=True, below=key))
    except MetadataChangedError as error:
        if error.key != key:
            raise
    return (yield from _with_copies(groups[1:], request, context))  # the group was removed meanwhile


def _with_copies_of(group: str, above: Sequence[str], request: Put, context: ConsolidationContext) -> Op[list[Any]]:
    taken = yield from _take_copies(group, context)
    outcomes: list[Any] = yield from _with_copies(above, request, context)
    if taken is None or not context.exclusive:
        return outcomes
    metadata, version = taken
    entries, (item,) = metadata.consolidated or {}, request.items
    refused = isinstance(outcomes[0], VersionChangedError)
    if refused or not isinstance(outcomes[0], Exception):  # else nobody knows what is stored now
        below = item.key[len(group) + 1 :] if group else item.key
        changed = entries if refused else _changed(entries, below.removesuffix(f"/{V3}"), item)
        yield from _put_back(group, metadata.with_consolidated(changed), context.condition(version))
    return outcomes


def _take_copies(group: str, context: ConsolidationContext) -> Op[tuple[GroupMetadata, Version] | None]:
    """Store a group without its copies. Returns it with them, and the version it has now; None where it keeps none (any more)."""
    key = metadata_key(group)
    for _ in range(MAX_TRIES):
        blob = yield from fetch_one(key)
        try:
            metadata = None if blob is None else parsed(group, blob.data[0])
        except ZarrantError:
            return None  # nobody can read it, nor copies in it
        if blob is None or not isinstance(metadata, GroupMetadata):
            return None
        if metadata.consolidated is None and (context.exclusive or not metadata.about_to_consolidate):
            return None
        try:
            condition = context.condition(blob.version)
            without = metadata.with_announcement() if context.exclusive else metadata.with_consolidated(None)
            version = yield from put_one(key, [dump(without)], condition)  # safety: copies go first
        except VersionChangedError:  # by a writer that takes no lock
            yield from pause(random.uniform(0, FIRST_PAUSE_S))
        else:
            return metadata, version
    raise ConflictError("other writers won every race", key=key, limit=f"{MAX_TRIES} tries")


def _put_back(group: str, metadata: GroupMetadata, condition: Version) -> Op[None]:
    """Store a group with its copies. What the copies are of is stored already: it stays so where they cannot be."""
    key = metadata_key(group)
    try:
        yield from put_one(key, [_dumped(metadata)], condition)
    except ZarrantError as error:
        message = f"consolidated metadata were removed and could not be stored again (key {key}): {error}"
        warnings.warn(message, ZarrantWarning, stacklevel=2)


def _dumped(metadata: GroupMetadata) -> bytes:
    data = dump(metadata)
    if len(data) > LIMITS.document:  # it could not be opened again
        raise LimitError("consolidated metadata that are too large", field="document", got=len(data), limit=LIMITS.document)
    return data


def _changed(entries: Entries, below: str, item: WriteRequest) -> Entries:
    """The copies after the metadata of the node at `below` were stored, or (with all below it) erased."""
    changed = {path: entry for path, entry in entries.items() if path != below and not path.startswith(f"{below}/")}
    if item.parts is None:
        return changed
    metadata = parse(b"".join(part for part in item.parts if not isinstance(part, tuple)))
    if isinstance(metadata, GroupMetadata):
        changed = {path: entry for path, entry in entries.items() if path != below}
    for group in paths_above(below)[1:]:  # made by the same operation, after this
        changed.setdefault(group, GroupMetadata().to_json())
    return dict(sorted([*changed.items(), (below, entry(metadata))]))


def entry(metadata: NodeMetadata) -> Any:
    """The copy of a node's metadata: without the copies that it may keep itself."""
    if isinstance(metadata, GroupMetadata):
        metadata = metadata.with_consolidated(None)
    return metadata.to_json()


def keeps_copies(path: str, group: GroupMetadata) -> Op[bool]:
    """Whether a group of this metadata keeps copies."""
    if group.v2 is None:
        return group.consolidated is not None
    return (yield from fetch_one(key_of(path, COPIES_V2), ())) is not None


# Consolidating ----------------------------------------------------------------------------------------------------------


def consolidate(path: str, context: ConsolidationContext) -> Op[NodeMetadata]:
    """Store copies of all metadata below a group in it; returns the group's metadata.

    They were all stored at one moment, and are kept in step from then on. MetadataError (or UnknownExtensionError) where a
    node below cannot be read; ConflictError where the group's own metadata never come to rest: then there are no copies.

    First the group says that copies are being made: from then on every change of a node is made under the group's lock. Then
    the lock of each node is waited for, one at a time, so that changes that began before have ended. Then all metadata are
    read and the copies are stored, under the group's lock, so that no node changes meanwhile.
    """
    group = yield from find_metadata(path)
    if isinstance(group, GroupMetadata) and group.v2 is not None:
        return (yield from consolidated_v2.consolidate(path, group, context))
    key = metadata_key(path)
    for attempt in range(MAX_TRIES):
        version = yield from _alone(path, _announce(path, context), context)
        if context.exclusive:
            yield from _wait_for_nodes(path)
        metadata = yield from _alone(path, _store_copies(path, version, context), context)
        if metadata is not None:
            return metadata
        yield from pause(random.uniform(0, min(LAST_PAUSE_S, FIRST_PAUSE_S * 2**attempt)))
    raise ConflictError("others changed the group in every try to consolidate it", key=key, limit=f"{MAX_TRIES} tries")


def _alone(path: str, op: Op[T], context: ConsolidationContext) -> Op[T]:
    if not context.exclusive:
        return (yield from op)
    key = metadata_key(path)
    try:
        return (yield from locked((key,), op, below=key))
    except MetadataChangedError as error:
        if error.key == key:
            yield from require_group(path)  # it says what became of the group
        raise


def _announce(path: str, context: ConsolidationContext) -> Op[Version]:
    """Say in a group that copies are being made; returns the version that says so. Copies that it has are removed."""
    key = metadata_key(path)
    for _ in range(MAX_TRIES):
        metadata, version = yield from _group(path)
        if metadata.about_to_consolidate:
            return version
        try:
            return (yield from put_one(key, [dump(metadata.with_announcement())], context.condition(version)))
        except VersionChangedError:
            yield from pause(random.uniform(0, FIRST_PAUSE_S))
    raise ConflictError("other writers won every race", key=key, limit=f"{MAX_TRIES} tries")


def _store_copies(path: str, announced: Version, context: ConsolidationContext) -> Op[GroupMetadata | None]:
    """Store copies in a group that is of the version in which they were announced; None where it is not."""
    metadata, version = yield from _group(path)
    if version != announced:
        return None
    nodes = yield from _nodes_below(path)
    if not context.exclusive and (yield from _waited(path, nodes)):
        return None
    metadata = metadata.with_consolidated({below: entry(nodes[below]) for below in sorted(nodes)})
    try:
        yield from put_one(metadata_key(path), [_dumped(metadata)], context.condition(version))
    except VersionChangedError:
        return None
    return metadata


def _waited(path: str, nodes: Mapping[str, NodeMetadata]) -> Op[bool]:
    """Whether the shape of an array was about to be changed; that has ended now.

    Who changes it has looked at the groups while it had the turn: whoever finds no turn later than the look has been seen by it.
    """
    waited = False
    for below, found in nodes.items():
        if isinstance(found, ArrayMetadata) and found.turn is not None:  # safety: copied in no turn
            waited = (yield from wait_for_end(f"{path}/{below}".strip("/"), found.turn)) or waited
    return waited


def _group(path: str) -> Op[tuple[GroupMetadata, Version]]:
    key = metadata_key(path)
    blob = yield from fetch_one(key)
    if blob is None:
        raise NodeNotFoundError("the group was removed or moved", key=key, path=path or "/", hint=GROUP_GONE)
    return same_kind(path, parsed(path, blob.data[0])), blob.version


def _wait_for_nodes(path: str) -> Op[None]:
    """Take and give back the lock of every node below a group, also of one that is only about to be made."""
    waiting = [path]
    while waiting:
        group = waiting.pop()
        _, directories = yield from list_dir(f"{group}/" if group else "")
        for directory in directories:
            key = metadata_key(directory[:-1])
            if isinstance((yield from locked((key,), find_metadata(directory[:-1]))), GroupMetadata):
                waiting.append(directory[:-1])


def _nodes_below(path: str) -> Op[dict[str, NodeMetadata]]:
    """The metadata of every node below a group, by its path below it."""
    nodes: dict[str, NodeMetadata] = {}
    waiting, prefix = [path], f"{path}/" if path else ""
    while waiting:
        group = waiting.pop()
        _, directories = yield from list_dir(f"{group}/" if group else "")
        below = [directory[:-1] for directory in directories]
        for child, found in zip(below, (yield from gather(map(find_metadata, below), METADATA_BYTES)), strict=True):
            if found is not None and found.v2 is None:  # other libraries look for nodes of V3 only, below one of V3
                nodes[child[len(prefix) :]] = found
                waiting += [child] if isinstance(found, GroupMetadata) else []
    return nodes
