"""Operations on nodes: create, open, change and delete them.

A node is there if its main object is (`metadata/node.py`): `zarr.json`, or `.zarray` or `.zgroup` of Zarr V2. Metadata are
replaced whole and atomically. A change of them (of attributes) is a read-modify-write under the same guard as a change of data.
Groups above a new node are made where they are missing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from zarrant.codecs.byte_sources import Stored
from zarrant.errors import (
    CapabilityError,
    ConflictError,
    DataError,
    LimitError,
    MetadataChangedError,
    NodeExistsError,
    NodeNotFoundError,
    NodeReplacedError,
    OptionError,
    StoreError,
    StorePermissionError,
    VersionChangedError,
    shown,
)
from zarrant.limits import LIMITS
from zarrant.metadata import node, v2
from zarrant.metadata.node import ATTRIBUTES_V2, COPIES_V2, GROUP_V2, MAIN, MAIN_V2, NAMES, V3, key_of, main_name
from zarrant.metadata.v3 import ArrayMetadata, GroupMetadata, NodeMetadata, attributes_of, of_version
from zarrant.ops.guard import FIRST_PAUSE_S, MAX_TRIES, Guard, update_object
from zarrant.requests import (
    Op,
    ReadRequest,
    WriteRequest,
    erase_link,
    erase_prefix,
    fetch,
    fetch_one,
    list_dir,
    list_prefix,
    locked,
    pause,
    put,
    put_first,
    put_one,
)
from zarrant.storage import Blob, Part, Version

GROUP_GONE = "Open it again: this handle knows a group that is no longer there"

METADATA_BYTES = 64 * 1024
"""Bytes to reckon with for one metadata in flight; most are a few KiB."""


def metadata_key(path: str, metadata: NodeMetadata | None = None) -> str:
    """The key of a node's main object: of V3, unless the node has metadata of another version."""
    return key_of(path, main_name(metadata))


@dataclass(frozen=True, slots=True)
class MustExist:
    """The node whose metadata is changed must be there: no directory is made for its lock."""

    path: str
    main: str = V3
    condition: ClassVar[None] = None

    @property
    def below(self) -> str:
        """The key of the metadata."""
        return key_of(self.path, self.main)

    def look_again(self) -> Op[bool]:
        """NodeNotFoundError where there is none."""
        if (yield from fetch_one(self.below, ())) is None:
            raise NodeNotFoundError("no array or group here", key=self.below, path=self.path or "/")
        return False


def check_path(path: str) -> str:
    """A node path without slashes at its ends; OptionError for parts that no node can have, and for what is no text."""
    if not isinstance(path, str):
        raise OptionError("not a node name", field="path", expected="text", got=shown(path))
    parts = [part for part in path.split("/") if part]
    for part in parts:
        if set(part) == {"."} or not _is_text(part):
            raise OptionError("not a node name", field="path", got=ascii(path), hint="A name is text, and not only dots")
    return "/".join(parts)


def _is_text(name: str) -> bool:
    """Whether a name can be part of a key: no NUL, which ends it in a file system, and no lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def check_new_path(path: str) -> str:
    """`check_path` for a node to be created: OptionError also for names that the specification keeps for other uses.

    A node of such a name that others made is opened, listed and deleted like any other.
    """
    path = check_path(path)
    for part in path.split("/"):
        if part.startswith("__") or part in NAMES:
            hint = f"A name does not start with '__', and is none of {', '.join(NAMES)}"
            raise OptionError("not a name for a new node", field="path", got=ascii(path), hint=hint)
    return path


def read_metadata(path: str) -> Op[NodeMetadata]:
    """The metadata of a node; NodeNotFoundError where there is none, MetadataError where it is broken."""
    found = yield from find_metadata(path)
    if found is None:
        raise NodeNotFoundError("no array or group here", key=metadata_key(path), path=path or "/")
    return found


def find_metadata(path: str) -> Op[NodeMetadata | None]:
    """The metadata of a node, of either version of the format, or None."""
    found = yield from stored_metadata(path)
    return found if found is not None else (yield from find_v2(path))


def stored_metadata(path: str, like: NodeMetadata | None = None) -> Op[NodeMetadata | None]:
    """The metadata of a node whose main object is that of `like` (None: of V3), with its version; None where there is none.

    `like` itself where its main object is still of the version that it knows: nothing is parsed again.
    """
    main = main_name(like)
    blob = yield from _fetch_metadata(key_of(path, main))
    if blob is None:
        return None
    if isinstance(like, ArrayMetadata) and blob.version == like.version:
        return like
    if main == V3:
        return parsed(path, blob.data[0], blob.version)
    return (yield from _with_attributes(path, main, blob))


def find_v2(path: str) -> Op[NodeMetadata | None]:
    """The metadata of a node of V2."""
    keys = [key_of(path, name) for name in MAIN_V2]
    outcomes = yield from fetch([ReadRequest(key, limit=LIMITS.document) for key in keys])
    for name, key, outcome in zip(MAIN_V2, keys, outcomes, strict=True):
        if isinstance(outcome, LimitError):
            raise too_large(outcome, key)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            return (yield from _with_attributes(path, name, outcome))
    return None


def _with_attributes(path: str, main: str, blob: Blob) -> Op[NodeMetadata | None]:
    """The metadata of a node of V2 whose main object was read. Its attributes are those of the same node, not of a later one."""
    key, key_of_main = key_of(path, ATTRIBUTES_V2), key_of(path, main)
    for _ in range(MAX_TRIES):
        attributes, still = yield from fetch([ReadRequest(key, limit=LIMITS.document), ReadRequest(key_of_main, (), blob.version)])
        if isinstance(attributes, LimitError):
            raise too_large(attributes, key)
        if isinstance(attributes, Exception):
            raise attributes
        if isinstance(still, Exception) and not isinstance(still, VersionChangedError):
            raise still
        if still is None:
            return None
        if not isinstance(still, Exception):
            objects = {main: bytes(blob.data[0])} | ({} if attributes is None else {ATTRIBUTES_V2: bytes(attributes.data[0])})
            return node.parse(path, objects, blob.version)
        again = yield from _fetch_metadata(key_of_main)
        if again is None:
            return None
        blob = again
    raise ConflictError("the metadata changed in every try to read them", key=key_of_main, limit=f"{MAX_TRIES} tries")


def open_node(
    path: str, kind: type[NodeMetadata] | None = None, create: Callable[[], Op[NodeMetadata]] | None = None
) -> Op[NodeMetadata]:
    """The metadata of a node, of one kind if that is given; where there is none, what `create` makes.

    NodeNotFoundError where there is none and none may be made, or where it is of the other kind.
    """
    found = yield from (read_metadata(path) if create is None else find_metadata(path))
    if found is None and create is not None:
        found = yield from create()
    assert found is not None, "read_document raises where there is none"
    if kind is not None and not isinstance(found, kind):
        wanted, got = ("an array", "group") if kind is ArrayMetadata else ("a group", "array")
        raise NodeNotFoundError(f"the node here is not {wanted}", key=metadata_key(path, found), path=path or "/", got=got)
    return found


def node_exists(path: str) -> Op[bool]:
    """Whether there is an array or group, also one that cannot be opened."""
    return bool((yield from _main_objects(path)))


def _main_objects(path: str) -> Op[list[str]]:
    """The names of the main objects of a node that are there: one, or more where versions share a directory."""
    outcomes = yield from fetch([ReadRequest(key_of(path, name), ()) for name in MAIN])
    found = []
    for name, outcome in zip(MAIN, outcomes, strict=True):
        unreadable = isinstance(outcome, CapabilityError) or (isinstance(outcome, StoreError) and not outcome.retryable)
        if isinstance(outcome, Exception) and not unreadable:
            raise outcome
        if outcome is not None:  # also where it cannot be read: a link, no permission, a store that is only written
            found.append(name)
    return found


def _fetch_metadata(key: str) -> Op[Blob | None]:
    """The stored object of a metadata; one that is too large is not read where the store can tell."""
    try:
        return (yield from fetch_one(key, limit=LIMITS.document))
    except LimitError as error:
        raise too_large(error, key) from None


def too_large(error: LimitError, key: str) -> LimitError:
    """What the store says of an object, as `parse` says it of a metadata."""
    return LimitError("a document that is too large", key=key, path="$", field="document", got=error.got, limit=error.limit)


def require_group(path: str) -> Op[None]:
    """NodeNotFoundError where the group of a handle is gone, NodeReplacedError where an array is in its place."""
    metadata = yield from find_metadata(path)
    if metadata is None:
        key = metadata_key(path)
        raise NodeNotFoundError("the group was removed or moved", key=key, path=path or "/", hint=GROUP_GONE)
    same_kind(path, metadata)


def same_kind(path: str, metadata: NodeMetadata) -> GroupMetadata:
    """The metadata, if they are those of a group; else NodeReplacedError for the handle of one."""
    if isinstance(metadata, GroupMetadata):
        return metadata
    raise NodeReplacedError("an array was stored here", key=metadata_key(path, metadata), path=path or "/", hint=GROUP_GONE)


def parsed(path: str, data: memoryview, version: Version = None) -> NodeMetadata:
    """The metadata in these bytes of a `zarr.json`, of this version; its errors name the key."""
    return node.parse(path, {V3: bytes(data)}, version)


def create_node(
    path: str,
    metadata: NodeMetadata,
    *,
    overwrite: bool = False,
    match: bool = False,
    exclusive: bool = True,
    is_chunk: Callable[[str], bool] | None = None,
    fill: Callable[[], Op[None]] | None = None,
    within: str | None = None,
    top: str = "",
) -> Op[NodeMetadata]:
    """Store the metadata of a new node, and of the groups above it; returns the metadata that stands.

    `within`: the group of whose handle this is asked. Where it is gone, nothing is made in its place. `top`: the path that was
    part of the store's address. No group is made above it: a bucket does not become a group because an array is in it.

    One of several creators wins, the others get NodeExistsError; with `match` they succeed where theirs is equal, and change
    nothing. `overwrite` erases the node that was there and all below it. Where there was none, only what `is_chunk` names
    (keys below the node) is erased: it would show up in the new array; other files in the way are not ours. Without
    `overwrite`, and without data that take the place of them, such leftovers are a NodeExistsError. `is_chunk` None: there can
    be none, or the store cannot list.

    `fill` stores the data of the node, before its metadata: a reader that sees the node sees all of it, and `fill` replaces
    nothing that another writer stores in it afterwards. All that is done while the metadata is locked, so that of several creators
    one is over before the next begins, and their chunks never mix. A creator that is killed leaves chunks without metadata:
    creating the array again with `data` or `overwrite` replaces them. `exclusive` False is for stores that cannot be asked what
    they hold.
    """
    # What could not be opened again is refused before anything is erased or stored.
    objects = node.dump_all(metadata)  # safety: before overwrite
    if isinstance(metadata, ArrayMetadata) and metadata.turn is not None:  # who creates it has it
        objects[main_name(metadata)] = node.dump(metadata)
    creation = _Creation(path, metadata, objects, overwrite, match, exclusive, is_chunk, fill)
    if not exclusive:
        return (yield from _create(creation))
    missing = yield from _missing_above(path, metadata, within, top)
    below = None if within is None else metadata_key(within, _group_like(metadata))
    version = None
    if not overwrite and fill is None and tuple(objects) == (V3,):
        version = yield from put_first(key_of(path, V3), [_main(objects)], MAIN_V2, below)
    if version is None:
        metadata = yield from _create_locked(creation, within, below)
    # Not under the lock: a caller that overwrites a group above has locked that group's metadata, and waits for ours.
    yield from _make_parents(missing, _group_like(metadata))
    return metadata if version is None else of_version(metadata, version)


def _create_locked(creation: _Creation, within: str | None, below: str | None) -> Op[NodeMetadata]:
    """`_create`, while no other creator does it."""
    path, metadata = creation.path, creation.metadata
    if creation.overwrite and path:
        yield from erase_link(f"{path}/")  # before the lock, which would else be taken behind the link
    if creation.overwrite:
        yield from _erase_copies(path)
    # Creators of either version lock the main object of V3, so that of several one is over before the next begins.
    keys = sorted({metadata_key(path), metadata_key(path, metadata)})
    try:
        return (yield from locked(keys, _create(creation), below=below))
    except MetadataChangedError as error:
        if within is None or error.key != below:
            raise
        yield from require_group(within)  # it says what became of the group
        raise


def _group_like(metadata: NodeMetadata) -> GroupMetadata:
    """A group without attributes, of the same version of the format."""
    return GroupMetadata(v2=None if metadata.v2 is None else {})


def _erase_copies(path: str) -> Op[None]:
    """Erase a group that keeps copies of the metadata below it, and the nodes below, before its lock is taken for longer.

    A caller that changes one of those nodes has locked it, and locks the group to change the copies. A caller that overwrites
    the group has locked it, and waits for the locks of the nodes: the two would wait for each other. So the nodes are erased
    while the group is gone and its lock is free. Only nodes: chunks here may be those of another creator.
    """
    try:
        found = yield from find_metadata(path)
    except DataError:
        return  # nobody can read it, nor copies in it
    if not isinstance(found, GroupMetadata) or (found.consolidated is None and not found.about_to_consolidate):
        return
    yield from erase_metadata(path)
    try:
        _, directories = yield from list_dir(f"{path}/" if path else "")
    except CapabilityError:  # then nobody can have made copies here
        return
    for directory in directories:
        if (yield from node_exists(directory[:-1])):
            yield from delete_node(directory[:-1])


class _Creation(NamedTuple):
    """The arguments of `create_node`."""

    path: str
    metadata: NodeMetadata
    objects: Mapping[str, bytes | None]
    overwrite: bool
    match: bool
    exclusive: bool
    is_chunk: Callable[[str], bool] | None
    fill: Callable[[], Op[None]] | None


def _create(new: _Creation) -> Op[NodeMetadata]:
    if new.exclusive and not new.overwrite:
        there = yield from find_metadata(new.path)
        if there is not None:
            return existing(new.path, new.metadata, there, new.match)
    yield from _remove_what_is_there(new)
    if new.fill is not None:
        yield from _fill(new.fill, new)
    if not new.exclusive:
        yield from _put_all(new.path, new.objects)
        return new.metadata
    there, made = yield from _put_new(new.path, new.metadata, new.objects)
    return there if made else existing(new.path, new.metadata, there, new.match)


def _fill(fill: Callable[[], Op[None]], new: _Creation) -> Op[None]:
    """Store what the node holds; where that fails nothing of it stays."""
    try:
        yield from fill()
    except Exception:
        if new.exclusive and new.is_chunk is not None:
            yield from put([WriteRequest(key, None) for key in (yield from _leftovers(new.path, new.is_chunk))])
        raise


def existing(path: str, wanted: NodeMetadata, there: NodeMetadata, match: bool) -> NodeMetadata:
    """The metadata that another creator stored, if it is what was wanted; else NodeExistsError."""
    if match and _same(there, wanted):
        return there
    key, path = metadata_key(path, there), path or "/"
    what = "a node" if there.v2 is None else "a Zarr V2 node"
    raise NodeExistsError(f"{what} is here already", key=key, path=path, hint="overwrite=True replaces it")


def _put_all(path: str, objects: Mapping[str, bytes | None]) -> Op[Version]:
    """Store the objects of a node, the main one last; its version."""
    version: Version = None
    for name, data in objects.items():
        version = yield from put_one(key_of(path, name), None if data is None else [data])
    return version


def _put_new(path: str, metadata: NodeMetadata, objects: Mapping[str, bytes | None]) -> Op[tuple[NodeMetadata, bool]]:
    """Store the metadata of a node where there are none; returns those stored now, and whether they are ours.

    Some services refuse it although there are none: then it is repeated.
    """
    *others, (main, _) = objects.items()
    data = _main(objects)
    key = key_of(path, main)
    for name, other in others:
        yield from _put_attributes(key_of(path, name), other, key)
    for _ in range(MAX_TRIES):
        try:
            version = yield from put_one(key, [data], None)
            return of_version(metadata, version), True
        except VersionChangedError:
            there = yield from find_metadata(path)
            if there is not None:
                return there, False
            yield from pause(random.uniform(0, FIRST_PAUSE_S))
    raise ConflictError("the store refuses new metadata, and has none", key=key, limit=f"{MAX_TRIES} tries")


def _main(objects: Mapping[str, bytes | None]) -> bytes:
    """The main object of a node, which is the last one."""
    data = objects[next(reversed(list(objects)))]
    assert data is not None, "every node has a main object"
    return data


def _put_attributes(key: str, data: bytes | None, main: str) -> Op[None]:
    """Store the attributes of a node that is about to be made, or erase what lies there; not those of one that is there by now."""
    for _ in range(MAX_TRIES):
        found = yield from fetch_one(key)
        if (bytes(found.data[0]) if found else None) == data or (yield from fetch_one(main, ())) is not None:
            return
        version = found.version if found else None  # safety: attributes of another creator
        try:
            yield from put_one(key, None if data is None else [data], version)
            return
        except VersionChangedError:
            yield from pause(random.uniform(0, FIRST_PAUSE_S))
        except CapabilityError:
            if data is not None:
                raise
            data = v2.dump_attributes({})  # the store cannot erase on condition of a version
    raise ConflictError("others changed it in every try", key=key, limit=f"{MAX_TRIES} tries")


def _remove_what_is_there(new: _Creation) -> Op[None]:
    """Erase what an old node left under the keys of the new one, or refuse to."""
    path = new.path
    if not new.exclusive:
        if new.overwrite:
            yield from put_one(metadata_key(path, new.metadata), None)
        return
    # Whatever it holds: it need not be metadata that can be read.
    if new.overwrite and (yield from node_exists(path)):
        yield from delete_node(path)
        return
    leftovers = [] if new.is_chunk is None else (yield from _leftovers(path, new.is_chunk))
    if leftovers and not new.overwrite and new.fill is None:  # safety: leftovers
        raise NodeExistsError(
            "chunks of an array lie here, and no metadata",
            path=path or "/",
            got=f"{len(leftovers)} objects, the first {leftovers[0]}",
            hint="overwrite=True erases them; with the metadata that was lost, store_metadata() brings the array back",
        )
    for outcome in (yield from put([WriteRequest(key, None) for key in leftovers])) if leftovers else ():
        if isinstance(outcome, Exception):
            raise outcome


def _leftovers(path: str, is_chunk: Callable[[str], bool]) -> Op[list[str]]:
    """The keys below a node that would be chunks of it."""
    prefix = f"{path}/" if path else ""
    keys, prefixes = yield from list_dir(prefix)
    if not prefixes and not any(is_chunk(key[len(prefix) :]) for key in keys):
        return []
    return [key for key in (yield from list_prefix(prefix)) if is_chunk(key[len(prefix) :])]


def _same(left: NodeMetadata, right: NodeMetadata) -> bool:
    if isinstance(left, GroupMetadata) and isinstance(right, GroupMetadata):  # copies of others' metadata are not a difference
        left, right = left.with_consolidated(None), right.with_consolidated(None)
    return left.v2 == right.v2 and node.dump_all(left) == node.dump_all(right)


def _make_parents(missing: Sequence[str], group: GroupMetadata) -> Op[None]:
    objects = node.dump_all(group) if missing else {}
    for parent in missing:
        yield from _put_new(parent, group, objects)


def _missing_above(path: str, metadata: NodeMetadata, within: str | None, top: str) -> Op[list[str]]:
    """The groups above a new node that are still to be made, from `top` on.

    NodeExistsError for what the node would hide or could not lie in: an array, or a group of the other version of the format,
    in which other libraries would not find it.
    """
    missing: list[str] = []
    for parent in paths_above(path):
        if parent == within:
            yield from require_group(parent)
            missing = []
            continue
        outside = bool(top) and not f"{parent}/".startswith(f"{top}/")
        try:
            above = yield from find_metadata(parent)
        except StorePermissionError:
            if not outside:
                raise
            above = None  # credentials may be for what is below an address alone
        if above is None:
            missing += [] if outside else [parent]
        elif isinstance(above, ArrayMetadata):
            raise NodeExistsError("an array cannot hold other nodes", key=metadata_key(parent, above), path=path)
        else:
            _refuse_other_format(path, metadata, parent, above)  # safety: V2 above
    return missing


def _refuse_other_format(path: str, metadata: NodeMetadata, parent: str, above: NodeMetadata) -> None:
    if above.zarr_format != metadata.zarr_format:
        message = f"a Zarr V{above.zarr_format} group is here, which holds nodes of its own version only"
        hint = f"Choose another path, or zarr_format={above.zarr_format}"
        key = metadata_key(parent, above)
        expected, got = f"zarr_format {above.zarr_format}", f"zarr_format {metadata.zarr_format}"
        raise NodeExistsError(message, key=key, path=path or "/", expected=expected, got=got, hint=hint)


def paths_above(path: str) -> list[str]:
    """The paths of the groups above a node, the root first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(len(parts) + 1)] if path else []


def store_metadata(path: str, metadata: NodeMetadata) -> Op[None]:
    """Replace the metadata of a node, atomically, whatever is there."""
    yield from _put_all(path, node.dump_all(metadata))


def erase_metadata(path: str) -> Op[None]:
    """Erase the metadata of a node; its chunks stay. Succeeds where there is none."""
    for name in (yield from _main_objects(path)) or [V3]:
        if name == GROUP_V2 and (yield from fetch_one(key_of(path, COPIES_V2), ())) is not None:
            yield from put_one(key_of(path, COPIES_V2), None)  # first: other libraries would read nothing else
        yield from put_one(key_of(path, name), None)


def change_metadata(path: str, change: Callable[[NodeMetadata], NodeMetadata], guarded: bool = True) -> Op[NodeMetadata]:
    """Read, change and replace the metadata of a node so that no other writer's change is lost; returns the new one.

    Of a node of V2 only the attributes can be changed.
    """
    try:
        return (yield from _change_v3(path, change, guarded))
    except NodeNotFoundError:
        found = yield from find_v2(path)
        if found is None:
            raise
    return (yield from _change_v2(path, found, change, guarded))


def _change_v3(path: str, change: Callable[[NodeMetadata], NodeMetadata], guarded: bool) -> Op[NodeMetadata]:
    result: list[NodeMetadata] = []

    def apply(source: Stored) -> Op[list[Part] | None]:
        data = yield from _read_all(source)
        if data is None:
            raise NodeNotFoundError("no array or group here", key=source.key, path=path or "/")
        result[:] = [change(parsed(path, data))]
        return [node.dump(result[0])]

    version = yield from update_object(metadata_key(path), apply, Guard.lock_if(guarded), node=MustExist(path))
    return of_version(result[0], version)


def _change_v2(path: str, like: NodeMetadata, change: Callable[[NodeMetadata], NodeMetadata], guarded: bool) -> Op[NodeMetadata]:
    """Change the attributes of a node of V2, which are an object of their own."""
    result: list[NodeMetadata] = []
    main = main_name(like)

    def apply(source: Stored) -> Op[list[Part] | None]:
        data = yield from _read_all(source)
        blob = yield from _fetch_metadata(key_of(path, main))
        if blob is None:
            raise NodeNotFoundError("no array or group here", key=key_of(path, main), path=path or "/")
        objects = {main: bytes(blob.data[0])} | ({} if data is None else {ATTRIBUTES_V2: bytes(data)})
        result[:] = [of_version(change(node.parse(path, objects)), blob.version)]
        return [v2.dump_attributes(result[0].attributes)]

    yield from update_object(key_of(path, ATTRIBUTES_V2), apply, Guard.lock_if(guarded), node=MustExist(path, main))
    return result[0]


def _read_all(source: Stored) -> Op[memoryview | None]:
    try:
        return (yield from source.read_all(LIMITS.document))
    except LimitError as error:
        raise too_large(error, source.key) from None


AttributeChange = Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]


def update_attributes(
    path: str,
    change: AttributeChange,
    guarded: bool = True,
    check: Callable[[NodeMetadata], NodeMetadata] = lambda metadata: metadata,
) -> Op[NodeMetadata]:
    """Replace a node's attributes by what `change` makes of the stored ones; a mapping is merged into them.

    Returns the new metadata. `change` may be called again where another writer was faster. `check` raises where the node that
    is there is not the one that was meant.
    """

    def apply(metadata: NodeMetadata) -> NodeMetadata:
        metadata = check(metadata)
        stored = dict(metadata.attributes)
        changed = change(stored) if callable(change) else {**stored, **attributes_of(change)}
        return metadata.with_attributes(changed)

    return (yield from change_metadata(path, apply, guarded))


def delete_node(path: str) -> Op[None]:
    """Erase a node and all below it: the metadata first, so that what remains of a broken-off deletion is no array.

    Of a node that is a symbolic link, the link is removed and nothing behind it.
    """
    if path and (yield from erase_link(f"{path}/")):
        return
    yield from erase_metadata(path)
    yield from erase_prefix(f"{path}/" if path else "")


def delete_group(path: str) -> Op[None]:
    """`delete_node` of a group; NodeReplacedError where an array is in its place. Succeeds where nothing is."""
    try:
        found = yield from find_metadata(path)
    except DataError:
        found = None  # metadata that cannot be read are deleted all the same
    if found is not None:
        same_kind(path, found)
    yield from delete_node(path)


def delete_below(path: str) -> Op[None]:
    """`delete_node` where there is one, also one that cannot be opened; else NodeNotFoundError."""
    if not (yield from node_exists(path)):
        raise NodeNotFoundError("no array or group here", key=metadata_key(path), path=path)
    yield from delete_node(path)
