"""Operations on nodes: their documents, their children, their ends.

A node is its `zarr.json`. Documents are replaced whole and atomically; changes of one (attributes) are read-modify-writes under
the same guard as data. Groups above a new node are made where they are missing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from zarrant.codecs.sources import Stored
from zarrant.effects import (
    New,
    Op,
    Want,
    erase_link,
    erase_prefix,
    fetch,
    fetch_one,
    gather,
    list_dir,
    list_prefix,
    locked,
    pause,
    put,
    put_one,
    steady,
)
from zarrant.errors import ConflictError, NodeExistsError, NodeNotFoundError, OptionError, VersionChangedError, ZarrantError
from zarrant.metadata.v3 import ArrayDocument, Document, GroupDocument, dump, parse
from zarrant.ops.exclusive import FIRST_PAUSE, TRIES, exclusively
from zarrant.ops.state import ArrayState
from zarrant.storage import Part, Version

DOCUMENT = "zarr.json"
DOCUMENT_COST = 64 * 1024
"""Bytes to reckon with for one document in flight; most are a few KiB."""


class Child(NamedTuple):
    """A node below another: its name, its path and its document."""

    name: str
    path: str
    document: Document


def document_key(path: str) -> str:
    """The key of a node's document."""
    return f"{path}/{DOCUMENT}" if path else DOCUMENT


def check_path(path: str) -> str:
    """A node path without slashes at its ends; OptionError for parts that no node may have."""
    parts = [part for part in path.split("/") if part]
    for part in parts:
        if set(part) == {"."} or part.startswith("__") or "\0" in part:
            raise OptionError("not a node name", field="path", got=path, hint="Names may not be only dots nor start with __")
    return "/".join(parts)


def read_document(path: str) -> Op[Document]:
    """The document of a node; NodeNotFoundError where there is none, MetadataError where it is broken."""
    found = yield from find_document(path)
    if found is not None:
        return found
    other = yield from fetch([Want(f"{path}/{name}" if path else name) for name in (".zarray", ".zgroup")])
    hint = (
        "This is a Zarr V2 node; V2 is not read yet"
        if any(blob is not None and not isinstance(blob, Exception) for blob in other)
        else None
    )
    raise NodeNotFoundError("no array or group here", key=document_key(path), path=path or "/", hint=hint)


def open_node(path: str, kind: type[Document] | None = None, create: Callable[[], Op[Document]] | None = None) -> Op[Document]:
    """The document of a node, of one kind if that is given; where there is none, what `create` makes.

    NodeNotFoundError where there is none and none may be made, or where it is of the other kind.
    """
    found = yield from (read_document(path) if create is None else find_document(path))
    if found is None and create is not None:
        found = yield from create()
    assert found is not None, "read_document raises where there is none"
    if kind is not None and not isinstance(found, kind):
        wanted, got = ("an array", "group") if kind is ArrayDocument else ("a group", "array")
        raise NodeNotFoundError(f"the node here is not {wanted}", key=document_key(path), path=path or "/", got=got)
    return found


def node_exists(path: str) -> Op[bool]:
    """Whether there is an array or group."""
    return (yield from find_document(path)) is not None


def find_document(path: str) -> Op[Document | None]:
    """The document of a node, or None."""
    blob = yield from fetch_one(document_key(path))
    return None if blob is None else parsed(path, blob.data[0], blob.version)


def shape_stands(state: ArrayState) -> Op[bool]:
    """Whether the array still has the shape that this handle knows, and nobody is about to change it.

    The document is read where it is not of the version that was seen to say so. An array without a document is nobody's.
    """
    key = document_key(state.prefix)
    (known,) = state.standing
    if known is not None and (yield from steady(key, known)):
        return True
    blob = yield from fetch_one(key)
    if blob is None:
        return True
    try:
        document = parsed(state.prefix, blob.data[0])
    except ZarrantError:
        return False
    if not isinstance(document, ArrayDocument) or document.shape != state.shape:
        return False
    state.standing[:] = [blob.version]
    return (yield from steady(key, blob.version))


def parsed(path: str, data: memoryview, version: Version = None) -> Document:
    """The document in these bytes, of this version; its errors name the key."""
    try:
        return _of_version(parse(bytes(data)), version)
    except ZarrantError as error:
        raise error.annotate(key=document_key(path)) from error.__cause__


def create_node(
    path: str,
    document: Document,
    *,
    overwrite: bool = False,
    match: bool = False,
    exclusive: bool = True,
    is_chunk: Callable[[str], bool] = lambda key: False,
    fill: Callable[[], Op[None]] | None = None,
) -> Op[Document]:
    """Store the document of a new node, and of the groups above it; returns the document that stands.

    One of several creators wins, the others get NodeExistsError; with `match` they succeed where theirs is equal. `overwrite`
    erases the node that was there and all below it. Where there was none, only what `is_chunk` names (keys below the node) is
    erased: it would show up in the new array; other files in the way are not ours. `fill` stores what the node holds. All
    that is done while the document is held, so that of several creators one is over before the next begins, and their chunks
    never mix. `exclusive` False is for stores that cannot be asked what they hold.
    """
    if not exclusive:
        return (yield from _create(path, document, overwrite, match, exclusive, is_chunk, fill))
    yield from _refuse_array_above(path)
    if overwrite and path:
        yield from erase_link(f"{path}/")  # before the lock, which would else be taken behind the link
    op = _create(path, document, overwrite, match, exclusive, is_chunk, fill)
    standing = yield from locked((document_key(path),), op)
    # Not under the hold: whoever overwrites a group above holds that one's document, and waits for ours.
    yield from _make_parents(path)
    return standing


def _create(
    path: str,
    document: Document,
    overwrite: bool,
    match: bool,
    exclusive: bool,
    is_chunk: Callable[[str], bool],
    fill: Callable[[], Op[None]] | None,
) -> Op[Document]:
    key = document_key(path)
    if overwrite:
        yield from _make_room(path, is_chunk, exclusive)
    if exclusive:
        there, made = yield from _put_new(path, document)
        if not made and not (match and _same(there, document)):
            raise NodeExistsError("a node is here already", key=key, path=path or "/", hint="overwrite=True replaces it")
        document = there
    else:
        yield from put_one(key, [dump(document)])
    if fill is not None:
        yield from fill()
    return document


def _of_version(document: Document, version: Version) -> Document:
    return replace(document, version=version) if isinstance(document, ArrayDocument) else document


def _put_new(path: str, document: Document) -> Op[tuple[Document, bool]]:
    """Store a document where there is none; returns what stands there now. Some services refuse it though nobody is in the way."""
    for _ in range(TRIES):
        try:
            version = yield from put_one(document_key(path), [dump(document)], None)
            return _of_version(document, version), True
        except VersionChangedError:
            there = yield from find_document(path)
            if there is not None:
                return there, False
            yield from pause(random.uniform(0, FIRST_PAUSE))
    raise ConflictError("the store refuses a new document, and has none", key=document_key(path), limit=f"{TRIES} tries")


def _make_room(path: str, is_chunk: Callable[[str], bool], readable: bool) -> Op[None]:
    if not readable:
        yield from erase_document(path)
        return
    if (yield from fetch_one(document_key(path))) is not None:
        yield from delete_node(path)
        return
    prefix = f"{path}/" if path else ""
    stale = [key for key in (yield from list_prefix(prefix)) if is_chunk(key[len(prefix) :])]
    for outcome in (yield from put([New(key, None) for key in stale])):
        if isinstance(outcome, Exception):
            raise outcome


def _same(left: Document, right: Document) -> bool:
    return dump(left) == dump(right)


def _make_parents(path: str) -> Op[None]:
    for parent in _above(path):
        yield from _put_new(parent, GroupDocument())


def _refuse_array_above(path: str) -> Op[None]:
    for parent in _above(path):
        if isinstance((yield from find_document(parent)), ArrayDocument):
            raise NodeExistsError("an array cannot hold other nodes", key=document_key(parent), path=path)


def _above(path: str) -> list[str]:
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
        data = yield from source.read_all()
        if data is None:
            raise NodeNotFoundError("no array or group here", key=source.key, path=path or "/")
        result[:] = [change(parsed(path, data))]
        return [dump(result[0])]

    yield from exclusively(document_key(path), apply, guarded)
    return result[0]


AttributeChange = Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]


def update_attributes(path: str, change: AttributeChange, guarded: bool = True) -> Op[Document]:
    """Replace a node's attributes by what `change` makes of the stored ones; a mapping is merged into them.

    Returns the new document. `change` may be called again where another writer was faster.
    """

    def apply(document: Document) -> Document:
        stored = dict(document.attributes)
        changed = {**stored, **change} if isinstance(change, Mapping) else change(stored)
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


def list_children(path: str) -> Op[list[Child]]:
    """The nodes directly below a group, sorted by name; other directories are passed over."""
    prefix = f"{path}/" if path else ""
    _, directories = yield from list_dir(prefix)
    names = [directory[len(prefix) : -1] for directory in directories]
    paths = [f"{prefix}{name}" for name in names if not name.startswith("__")]
    documents = yield from gather((find_document(child) for child in paths), DOCUMENT_COST)
    return [
        Child(child[len(prefix) :], child, document)
        for child, document in zip(paths, documents, strict=True)
        if document is not None
    ]


def walk(path: str) -> Op[list[Child]]:
    """Every node below a group, depth first."""
    found: list[Child] = []
    for child in (yield from list_children(path)):
        found.append(child)
        if isinstance(child.document, GroupDocument):
            found.extend((yield from walk(child.path)))
    return found
