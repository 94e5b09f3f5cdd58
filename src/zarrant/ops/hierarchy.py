"""Operations on nodes: their documents, their children, their ends.

A node is its `zarr.json`. Documents are replaced whole and atomically; changes of one (attributes) are read-modify-writes under
the same guard as data. Groups above a new node are made where they are missing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, TypeVar

from zarrant.codecs.sources import Stored
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
    UnknownExtensionError,
    VersionChangedError,
    ZarrantError,
)
from zarrant.limits import LIMITS
from zarrant.metadata.v3 import ArrayDocument, Document, GroupDocument, attributes_of, dump, parse
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.ops.guard import FIRST_PAUSE_S, MAX_TRIES, Guard, update_object
from zarrant.requests import (
    Op,
    ReadRequest,
    WriteRequest,
    erase_link,
    erase_prefix,
    fetch,
    fetch_one,
    gather_outcomes,
    list_dir,
    list_prefix,
    locked,
    pause,
    put,
    put_one,
)
from zarrant.storage import Blob, Part, Version

D = TypeVar("D", bound=Document)
DOCUMENT = "zarr.json"
V2_KINDS = {".zarray": "array", ".zgroup": "group"}
"""The objects that make a node of Zarr V2, and of which kind."""

RESERVED = (DOCUMENT, *V2_KINDS, ".zattrs", ".zmetadata")
"""Keys of metadata, of Zarr V3 and V2: a node of such a name would stand where its parent's metadata do."""

GROUP_GONE = "Open it again: this handle knows a group that is no longer there"

DOCUMENT_COST = 64 * 1024
"""Bytes to reckon with for one document in flight; most are a few KiB."""


class Child(NamedTuple):
    """A node below another: its name, its path and its metadata, or (then `document` is None) why that cannot be read."""

    name: str
    path: str
    document: Document | None
    error: ZarrantError | None = None


def document_key(path: str) -> str:
    """The key of a node's document."""
    return f"{path}/{DOCUMENT}" if path else DOCUMENT


@dataclass(frozen=True, slots=True)
class MustExist:
    """The node whose metadata is changed must be there: no directory is made for its lock."""

    path: str
    condition: ClassVar[None] = None

    @property
    def below(self) -> str:
        """The key of the metadata."""
        return document_key(self.path)

    def look_again(self) -> Op[bool]:
        """NodeNotFoundError where there is none."""
        if (yield from fetch_one(self.below, ())) is None:
            raise NodeNotFoundError("no array or group here", key=self.below, path=self.path or "/")
        return False


def check_path(path: str) -> str:
    """A node path without slashes at its ends; OptionError for parts that no node can have."""
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
        if part.startswith("__") or part in RESERVED:
            hint = f"A name does not start with '__', and is none of {', '.join(RESERVED)}"
            raise OptionError("not a name for a new node", field="path", got=ascii(path), hint=hint)
    return path


def read_document(path: str) -> Op[Document]:
    """The metadata of a node; NodeNotFoundError where there is none, MetadataError where it is broken.

    UnknownExtensionError for a node of Zarr V2, which is not read yet.
    """
    found = yield from find_node(path)
    if found is None:
        raise NodeNotFoundError("no array or group here", key=document_key(path), path=path or "/")
    return found


def find_node(path: str) -> Op[Document | None]:
    """The metadata of a node, None where there is none; UnknownExtensionError for a node of Zarr V2."""
    found = yield from find_document(path)
    if found is None:
        yield from _refuse_v2(path)
    return found


def _refuse_v2(path: str) -> Op[None]:
    """UnknownExtensionError where a node of Zarr V2 is: whoever does not read it must not take its place either."""
    key = yield from _v2_key(path)
    if key is not None:
        raise UnknownExtensionError(
            f"a Zarr V2 {V2_KINDS[key.rpartition('/')[2]]} is here, and V2 is not supported yet",
            key=key,
            path=path or "/",
            field="zarr_format",
            expected=3,
            got=2,
            hint="Read it with zarr-python; nothing was changed",
        )


def _v2_key(path: str) -> Op[str | None]:
    """The key of what makes a path a node of Zarr V2; None where there is no such node."""
    keys = [f"{path}/{name}" if path else name for name in V2_KINDS]
    for key, outcome in zip(keys, (yield from fetch([ReadRequest(key, ()) for key in keys])), strict=True):
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            return key
    return None


def open_node(path: str, kind: type[Document] | None = None, create: Callable[[], Op[Document]] | None = None) -> Op[Document]:
    """The document of a node, of one kind if that is given; where there is none, what `create` makes.

    NodeNotFoundError where there is none and none may be made, or where it is of the other kind.
    """
    found = yield from (read_document(path) if create is None else find_document(path))
    if found is None and create is not None:
        yield from _refuse_v2(path)  # safety: V2 opened
        found = yield from create()
    assert found is not None, "read_document raises where there is none"
    if kind is not None and not isinstance(found, kind):
        wanted, got = ("an array", "group") if kind is ArrayDocument else ("a group", "array")
        raise NodeNotFoundError(f"the node here is not {wanted}", key=document_key(path), path=path or "/", got=got)
    return found


def node_exists(path: str) -> Op[bool]:
    """Whether there is an array or group, also one that cannot be opened."""
    try:
        if (yield from fetch_one(document_key(path), ())) is not None:
            return True
    except StoreError as error:
        if error.retryable:
            raise
        return True  # something has the name of the metadata, and cannot be read: a link, no permission
    return (yield from _v2_key(path)) is not None


def fetch_document(key: str) -> Op[Blob | None]:
    """The stored object of a document; one that is too large is not read where the store can tell."""
    try:
        return (yield from fetch_one(key, limit=LIMITS.document))
    except LimitError as error:
        raise too_large(error, key) from None


def too_large(error: LimitError, key: str) -> LimitError:
    """What the store says of an object, as `parse` says it of a document."""
    return LimitError("a document that is too large", key=key, path="$", field="document", got=error.got, limit=error.limit)


def require_group(path: str) -> Op[None]:
    """NodeNotFoundError where the group of a handle is gone, NodeReplacedError where an array is in its place."""
    document = yield from find_document(path)
    if document is None:
        key = document_key(path)
        raise NodeNotFoundError("the group was removed or moved", key=key, path=path or "/", hint=GROUP_GONE)
    same_kind(path, document)


def same_kind(path: str, document: Document) -> GroupDocument:
    """The metadata, if they are those of a group; else NodeReplacedError for the handle of one."""
    if isinstance(document, GroupDocument):
        return document
    raise NodeReplacedError("an array was stored here", key=document_key(path), path=path or "/", hint=GROUP_GONE)


def find_document(path: str) -> Op[Document | None]:
    """The document of a node, or None."""
    blob = yield from fetch_document(document_key(path))
    return None if blob is None else parsed(path, blob.data[0], blob.version)


def parsed(path: str, data: memoryview, version: Version = None) -> Document:
    """The document in these bytes, of this version; its errors name the key."""
    try:
        return of_version(parse(bytes(data)), version)
    except ZarrantError as error:
        raise error.annotate(key=document_key(path)) from error.__cause__


def create_node(
    path: str,
    document: Document,
    *,
    overwrite: bool = False,
    match: bool = False,
    exclusive: bool = True,
    is_chunk: Callable[[str], bool] | None = None,
    fill: Callable[[], Op[None]] | None = None,
    within: str | None = None,
) -> Op[Document]:
    """Store the metadata of a new node, and of the groups above it; returns the metadata that stands.

    `within`: the group of whose handle this is asked. Where it is gone, nothing is made in its place.

    One of several creators wins, the others get NodeExistsError; with `match` they succeed where theirs is equal, and change
    nothing. `overwrite` erases the node that was there and all below it. Where there was none, only what `is_chunk` names
    (keys below the node) is erased: it would show up in the new array; other files in the way are not ours. Without
    `overwrite`, and without data that take the place of them, such leftovers are a NodeExistsError. `is_chunk` None: there can
    be none, or the store cannot list.

    `fill` stores what the node holds, before its metadata: whoever sees the node sees all of it, and nothing that another
    writer stores in it afterwards is replaced by it. All that is done while the metadata is locked, so that of several creators
    one is over before the next begins, and their chunks never mix. A creator that is killed leaves chunks without metadata:
    creating the array again with `data` or `overwrite` replaces them. `exclusive` False is for stores that cannot be asked what
    they hold.
    """
    # What could not be opened again is refused before anything is erased or stored.
    data = dump(document)  # safety: before overwrite
    creation = _Creation(path, document, data, overwrite, match, exclusive, is_chunk, fill)
    if not exclusive:
        return (yield from _create(creation))
    yield from _refuse_array_above(path, within)
    if overwrite and path:
        yield from erase_link(f"{path}/")  # before the lock, which would else be taken behind the link
    if overwrite:
        yield from _erase_copies(path)
    below = None if within is None else document_key(within)
    try:
        standing = yield from locked((document_key(path),), _create(creation), below=below)
    except MetadataChangedError as error:
        if within is None or error.key != below:
            raise
        yield from require_group(within)  # it says what became of the group
        raise
    # Not under the lock: whoever overwrites a group above has locked that one's metadata, and waits for ours.
    yield from _make_parents(path, within)
    return standing


def _erase_copies(path: str) -> Op[None]:
    """Erase a group that keeps copies of the metadata below it, and the nodes below, before its lock is taken for longer.

    Whoever changes one of those nodes has locked it, and locks the group to change the copies. Whoever overwrites the group has
    locked it, and waits for the locks of the nodes: the two would wait for each other. So the nodes are erased while the group
    is gone and its lock is free. Only nodes: chunks here may be those of another creator.
    """
    try:
        found = yield from find_document(path)
    except DataError:
        return  # nobody can read it, nor copies in it
    if not isinstance(found, GroupDocument) or (found.consolidated is None and not found.about_to_consolidate):
        return
    yield from erase_document(path)
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
    document: Document
    data: bytes
    overwrite: bool
    match: bool
    exclusive: bool
    is_chunk: Callable[[str], bool] | None
    fill: Callable[[], Op[None]] | None


def _create(new: _Creation) -> Op[Document]:
    if new.exclusive and not new.overwrite:
        there = yield from find_document(new.path)
        if there is not None:
            return _standing(new, there)
    yield from _make_room(new)
    if new.fill is not None:
        yield from _fill(new.fill, new)
    if not new.exclusive:
        yield from put_one(document_key(new.path), [new.data])
        return new.document
    there, made = yield from _put_new(new.path, new.document, new.data)
    return there if made else _standing(new, there)


def _fill(fill: Callable[[], Op[None]], new: _Creation) -> Op[None]:
    """Store what the node holds; where that fails nothing of it stays."""
    try:
        yield from fill()
    except Exception:
        if new.exclusive and new.is_chunk is not None:
            yield from put([WriteRequest(key, None) for key in (yield from _leftovers(new.path, new.is_chunk))])
        raise


def _standing(new: _Creation, there: Document) -> Document:
    """The metadata that another creator stored, if it is what was wanted; else NodeExistsError."""
    if new.match and _same(there, new.document):
        return there
    key, path = document_key(new.path), new.path or "/"
    raise NodeExistsError("a node is here already", key=key, path=path, hint="overwrite=True replaces it")


def of_version(document: D, version: Version) -> D:
    """The metadata, of this version."""
    return replace(document, version=version) if isinstance(document, ArrayDocument) else document


def _put_new(path: str, document: Document, data: bytes) -> Op[tuple[Document, bool]]:
    """Store a document where there is none; returns what stands there now. Some services refuse it though nobody is in the way."""
    for _ in range(MAX_TRIES):
        try:
            version = yield from put_one(document_key(path), [data], None)
            return of_version(document, version), True
        except VersionChangedError:
            there = yield from find_document(path)
            if there is not None:
                return there, False
            yield from pause(random.uniform(0, FIRST_PAUSE_S))
    raise ConflictError("the store refuses a new document, and has none", key=document_key(path), limit=f"{MAX_TRIES} tries")


def _make_room(new: _Creation) -> Op[None]:
    """See to it that a new node finds nothing of an old one."""
    path = new.path
    if not new.exclusive:
        if new.overwrite:
            yield from erase_document(path)
        return
    # Whatever it holds: it need not be metadata that can be read.
    if new.overwrite and (yield from fetch_one(document_key(path), ())) is not None:
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


def _same(left: Document, right: Document) -> bool:
    if isinstance(left, GroupDocument) and isinstance(right, GroupDocument):  # copies of others' metadata are not a difference
        left, right = left.with_consolidated(None), right.with_consolidated(None)
    return dump(left) == dump(right)


def _make_parents(path: str, within: str | None) -> Op[None]:
    above = [] if within is None else [*paths_above(within), within]
    parents, group = paths_above(path)[len(above) :], GroupDocument()
    data = dump(group) if parents else b""
    for parent in parents:
        yield from _put_new(parent, group, data)


def _refuse_array_above(path: str, within: str | None) -> Op[None]:
    """NodeExistsError for what a new node would hide or could not lie in: an array above it, a node of Zarr V2."""
    for parent in paths_above(path):
        if parent == within:
            yield from require_group(parent)
            continue
        above = yield from find_document(parent)
        if isinstance(above, ArrayDocument):
            raise NodeExistsError("an array cannot hold other nodes", key=document_key(parent), path=path)
        if above is None:
            yield from _refuse_to_hide_v2(parent)  # safety: V2 above
    yield from _refuse_to_hide_v2(path)  # safety: V2 here


def _refuse_to_hide_v2(path: str) -> Op[None]:
    key = yield from _v2_key(path)
    if key is not None and (yield from fetch_one(document_key(path))) is None:
        kind = V2_KINDS[key.rpartition("/")[2]]
        message = f"a Zarr V2 {kind} is here, which new metadata would hide"
        hint = "Choose another path. It is not replaced, not even with overwrite=True: remove it yourself if it is of no use"
        raise NodeExistsError(message, key=key, path=path or "/", expected="zarr_format 3", got="zarr_format 2", hint=hint)


def paths_above(path: str) -> list[str]:
    """The paths of the groups above a node, the root first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(len(parts) + 1)] if path else []


def store_document(path: str, document: Document) -> Op[None]:
    """Replace the document of a node, atomically, whatever is there."""
    yield from put_one(document_key(path), [dump(document)])


def erase_document(path: str) -> Op[None]:
    """Erase the document of a node; its chunks stay. Succeeds where there is none."""
    yield from put_one(document_key(path), None)


def change_document(path: str, change: Callable[[Document], Document], guarded: bool = True) -> Op[Document]:
    """Read, change and replace the document of a node so that no other writer's change is lost; returns the new one."""
    result: list[Document] = []

    def apply(source: Stored) -> Op[list[Part] | None]:
        try:
            data = yield from source.read_all(LIMITS.document)
        except LimitError as error:
            raise too_large(error, source.key) from None
        if data is None:
            raise NodeNotFoundError("no array or group here", key=source.key, path=path or "/")
        result[:] = [change(parsed(path, data))]
        return [dump(result[0])]

    version = yield from update_object(document_key(path), apply, Guard.lock_if(guarded), node=MustExist(path))
    return of_version(result[0], version)


AttributeChange = Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]


def update_attributes(
    path: str, change: AttributeChange, guarded: bool = True, check: Callable[[Document], Document] = lambda document: document
) -> Op[Document]:
    """Replace a node's attributes by what `change` makes of the stored ones; a mapping is merged into them.

    Returns the new document. `change` may be called again where another writer was faster. `check` raises where the node that
    is there is not the one that was meant.
    """

    def apply(document: Document) -> Document:
        document = check(document)
        stored = dict(document.attributes)
        changed = change(stored) if callable(change) else {**stored, **attributes_of(change)}
        return document.with_attributes(changed)

    return (yield from change_document(path, apply, guarded))


def delete_node(path: str) -> Op[None]:
    """Erase a node and all below it: the document first, so that what remains of a broken-off deletion is no array.

    Of a node that is a symbolic link, the link is removed and nothing behind it.
    """
    if path and (yield from erase_link(f"{path}/")):
        return
    yield from erase_document(path)
    yield from erase_prefix(f"{path}/" if path else "")


def delete_group(path: str) -> Op[None]:
    """`delete_node` of a group; NodeReplacedError where an array is in its place. Succeeds where nothing is."""
    try:
        found = yield from find_document(path)
    except DataError:
        found = None  # metadata that cannot be read are deleted all the same
    if found is not None:
        same_kind(path, found)
    yield from delete_node(path)


def delete_below(path: str) -> Op[None]:
    """`delete_node` where there is one, also one that cannot be opened; else NodeNotFoundError."""
    if not (yield from node_exists(path)):
        raise NodeNotFoundError("no array or group here", key=document_key(path), path=path)
    yield from delete_node(path)


def list_children(path: str) -> Op[list[Child]]:
    """The nodes directly below a group, sorted by name; other directories are passed over.

    A node whose metadata cannot be read is among them with its error, and so is one of Zarr V2.
    """
    prefix = f"{path}/" if path else ""
    _, directories = yield from list_dir(prefix)
    paths = [directory[:-1] for directory in directories]
    outcomes = yield from gather_outcomes((read_document(child) for child in paths), DOCUMENT_COST)
    children = []
    for child, outcome in zip(paths, outcomes, strict=True):
        name = child[len(prefix) :]
        if isinstance(outcome, ZarrantError):
            if not isinstance(outcome, NodeNotFoundError):
                children.append(Child(name, child, None, outcome))
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            children.append(Child(name, child, outcome))
    return children


def walk(path: str) -> Op[list[Child]]:
    """Every node below a group, depth first. A group that cannot be listed has its error with it."""
    found: list[Child] = []
    waiting = (yield from list_children(path))[::-1]
    while waiting:
        child = waiting.pop()
        if isinstance(child.document, GroupDocument):
            try:
                waiting += (yield from list_children(child.path))[::-1]
            except ZarrantError as error:
                child = child._replace(error=error)
        found.append(child)
    return found


def count_nodes(path: str, max_depth: int | None) -> Op[int]:
    """The number of nodes below a group, down to `max_depth` levels below its children (None: all)."""
    if max_depth == 0:
        return len((yield from list_children(path)))
    depth = path.count("/") + 1 if path else 0
    levels = [child.path.count("/") - depth for child in (yield from walk(path))]
    return sum(max_depth is None or level <= max_depth for level in levels)


def reason(child: Child) -> ZarrantError | None:
    """Why a node cannot be opened, without asking its store; None where it can be."""
    if child.error is None and isinstance(child.document, ArrayDocument):
        try:
            BoundArray.from_document(child.path, child.document, OpOptions())
        except ZarrantError as error:
            return error
    return child.error
