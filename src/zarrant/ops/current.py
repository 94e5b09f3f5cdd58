"""Whether the metadata that a handle knows is still that of the stored array.

A handle binds the metadata once. Others may append, resize, change attributes, replace the array or remove it afterwards. So
every write is made on a condition: the metadata object still has the version that the handle knows. The store checks it under
the lock that the write takes anyway (on file systems one `lstat`, 2 to 3 µs). Where it does not hold nothing was stored; the
metadata is read again, and the write is repeated if it still describes the same array (its attributes or its shape changed),
or ends with NodeNotFoundError or NodeReplacedError.

Why that is enough against `overwrite=True` and deletion: those remove the metadata first, and then every object below it, each
under its lock, until a pass finds none. A writer that got its lock before the metadata was removed is waited for, and what it
stored is removed; one that gets its lock afterwards sees that the metadata is gone.

The shape needs more. An appender stores its data first and then the metadata (`ops/resize.py`), so for a moment an edge chunk
has elements outside of the stored shape. `shape_stands` therefore also asks whether another writer has locked the metadata.
Where there are no locks (`ops/turns.py`) its answer is always no: a chunk at the end of the array is always read and merged.

An index or a shape may lie beyond the bounds that a handle knows, because others have grown the array. Before it is refused, or
a slice is clipped, the stored shape is looked at once (`fresh`, `look`). Where it is another one the handle takes it over, and
the operation starts again; NodeReplacedError where another array is stored there by now. What lies within the known bounds costs
nothing more. Operations check their arguments before they store anything, so that one that ends with BoundsError or ShapeError
can be started again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeVar

from zarrant.errors import (
    BoundsError,
    ConflictError,
    MetadataChangedError,
    NodeNotFoundError,
    NodeReplacedError,
    ShapeError,
    ZarrantError,
)
from zarrant.metadata.v3 import ArrayMetadata, NodeMetadata
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.guard import MAX_TRIES
from zarrant.ops.node import find_metadata, metadata_key, stored_metadata
from zarrant.requests import LookAhead, OnlyWhile, Op, Outcome, Put, WriteRequest, fetch_one, put, unchanged
from zarrant.storage import Version

T = TypeVar("T")

HINT = "Open it again: this handle knows an array that is no longer there"


@dataclass(frozen=True, slots=True)
class Current:
    """The condition under which an array's objects are stored, and what to do where it does not hold."""

    array: BoundArray

    @property
    def below(self) -> str | None:
        """The key of the metadata: where it is gone, no directory is made for a chunk. None as for `condition`."""
        condition = self.condition
        return None if condition is None else condition.key

    @property
    def condition(self) -> OnlyWhile | None:
        """None where nothing is known of the stored metadata (it is about to be made), or where the store cannot be read."""
        turn = self.array.turn
        if turn is not None:
            return OnlyWhile(metadata_key(self.array.prefix, self.array.metadata), turn.metadata.version)
        known = self.array.known
        version, made = known.version, known.condition
        if version is None or not self.array.options.readable:
            return None
        if made is None or made.version is not version:
            made = known.condition = OnlyWhile(metadata_key(self.array.prefix, self.array.metadata), version)
        return made

    def look_again(self) -> Op[bool]:
        """Learn the version of the stored metadata; NodeNotFoundError or NodeReplacedError where it is not this array's.

        Returns whether the shape is the one that was last seen.
        """
        if self.array.turn is not None:
            yield from require_turn(self.array)
            return True
        array, key = self.array, metadata_key(self.array.prefix, self.array.metadata)
        seen = array.known.shape or array.shape
        found = yield from stored_metadata(array.prefix, array.metadata)
        if found is None:
            raise NodeNotFoundError("the array was removed or moved", key=key, path=array.prefix or "/", hint=HINT)
        metadata = same_array(array, found)
        array.known.learn(metadata.version, metadata.shape, metadata.shape == array.shape)
        return metadata.shape == seen


class TurnLost(ConflictError):
    """Another writer has taken over the turn of an operation, which starts over."""


def require_turn(array: BoundArray) -> Op[ArrayMetadata]:
    """The stored metadata, if the turn of an operation is still there; else TurnLost."""
    own, key = array.turn, metadata_key(array.prefix, array.metadata)
    assert own is not None, "asked for in a turn only"
    found = yield from stored_metadata(array.prefix, own.metadata)  # not the array's: it may have the shape to come
    turn = found.turn if isinstance(found, ArrayMetadata) else None
    if turn is None or turn.token != own.turn.token:
        own.lost = True
        raise TurnLost("another writer has taken over the change of the shape", key=key)
    assert isinstance(found, ArrayMetadata), "has a turn"
    own.metadata = found
    return found


def current_array(array: BoundArray) -> Op[tuple[BoundArray, Version]]:
    """The array as it is stored now, and the version of its metadata."""
    key = metadata_key(array.prefix, array.metadata)
    found = yield from stored_metadata(array.prefix, array.metadata)
    if found is None:
        raise NodeNotFoundError("the array was removed or moved", key=key, path=array.prefix or "/", hint=HINT)
    if found is array.metadata:  # unchanged: this handle has parsed or written these bytes
        return array, array.metadata.version
    metadata = same_array(array, found)
    return BoundArray.from_metadata(array.prefix, metadata, array.options), metadata.version


def same_array(array: BoundArray, metadata: NodeMetadata) -> ArrayMetadata:
    """The stored metadata, if it is that of the array a handle knows, but for shape and attributes; else NodeReplacedError."""
    if isinstance(metadata, ArrayMetadata) and is_same_array(array, metadata):
        return metadata
    key = metadata_key(array.prefix, metadata)
    raise NodeReplacedError("another node was stored here", key=key, path=array.prefix or "/", hint=HINT)


def is_same_array(array: BoundArray, metadata: NodeMetadata | None) -> bool:
    """Whether metadata is that of the same array, but for shape and attributes: chunks that one writes are read by the other."""
    if not isinstance(metadata, ArrayMetadata) or len(metadata.shape) != len(array.shape):
        return False
    if metadata.with_attributes({}).with_shape(array.shape) == array.metadata.with_attributes({}):
        return True
    try:  # another program may have written the same in other words
        other = BoundArray.from_metadata(array.prefix, metadata, array.options)
    except ZarrantError:
        return False
    return other.grid.agrees(array.grid) and (other.data_type, other.fill, other.key_encoding, other.chain) == (
        array.data_type,
        array.fill,
        array.key_encoding,
        array.chain,
    )


def shape_stands(array: BoundArray, refused: bool = False) -> Op[bool]:
    """Whether the array still has the shape that this handle knows, and nobody is about to change it.

    The metadata is read where it is not of the version that was last seen, or where `refused` says that a write under
    `while_shape_stands` has just found that out. An array of which nothing was ever seen stored is its handle's alone.
    """
    if array.options.turns:  # safety: no locks
        return False
    key, known = metadata_key(array.prefix, array.metadata), array.known
    if known.version is None:
        if (yield from fetch_one(key, ())) is None:
            return True
    elif not refused and (yield from unchanged(key, known.version)):
        return known.same_shape
    yield from Current(array).look_again()
    return known.same_shape and (yield from unchanged(key, known.version))


def while_shape_stands(array: BoundArray) -> OnlyWhile | None:
    """The condition of a write that needs what `shape_stands` finds out; None where the store cannot check it, or it is false.

    The store checks it under the lock of what is written, without a lock around a read and a write: a write at the end of the
    array costs one `lstat` more than another one.
    """
    if not array.options.checks_conditions or not array.known.same_shape:
        return None
    condition = Current(array).condition
    return None if condition is None else condition._replace(unlocked=True)


def look_ahead(array: BoundArray) -> Op[None]:
    """Begin to look whether the array is still there, before `put_current`; nothing where the store checks that as it writes."""
    if not array.options.checks_conditions:
        condition = Current(array).condition
        if condition is not None:
            yield LookAhead(condition)


def put_current(array: BoundArray, items: Sequence[WriteRequest]) -> Op[list[Outcome[Version]]]:
    """Store or erase objects of an array, each on condition that the array is still there."""
    current = Current(array)
    outcomes: list[Outcome[Version]] = yield Put(items, current.condition, brief=True)
    for _ in range(MAX_TRIES):
        failed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, MetadataChangedError)]
        if not failed:
            break
        try:
            yield from current.look_again()
            again: Sequence[Outcome[Version]] = yield from put([items[i] for i in failed], current.condition)
        except ZarrantError as error:
            again = [copy(error) for _ in failed]  # each will be annotated with its chunk
        for i, outcome in zip(failed, again, strict=True):
            outcomes[i] = outcome
    return outcomes


def put_current_one(array: BoundArray, item: WriteRequest) -> Op[Version]:
    """`put_current` of one object; its error is raised."""
    (outcome,) = yield from put_current(array, (item,))
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


# Bounds that a handle knows and others have moved --------------------------------------------------------------------------


class ArrayHandle:
    """What an open `Array` knows of the stored one: `array`, which changes when newer metadata are read or written.

    The threads that share an `Array` share its handle. A BoundArray itself is frozen, so an operation that has begun goes on
    with the one that it took.
    """

    __slots__ = ("array", "url")

    def __init__(self, array: BoundArray, url: str) -> None:
        self.array, self.url = array, url

    def take_over(self, metadata: Any) -> None:
        """Go on with an array's metadata that were just read or written; MetadataError where they cannot be bound."""
        try:
            self.array = self.array.with_metadata(metadata)
        except ZarrantError as error:
            raise error.annotate(store=self.url, key=metadata_key(self.array.prefix, metadata)) from error.__cause__


def fresh(handle: ArrayHandle, op: Callable[..., Op[T]], *args: Any) -> Op[T]:
    """`op(array, *args)`, again with the stored shape where its arguments lie beyond the bounds that the handle knows."""
    try:
        return (yield from op(handle.array, *args))
    except (BoundsError, ShapeError):
        if not (yield from look(handle)):
            raise
    return (yield from op(handle.array, *args))


def look(handle: ArrayHandle) -> Op[bool]:
    """Read the stored shape; True where it is another one, which the handle has now taken over. None stored: False."""
    known = handle.array
    if not known.options.readable:
        return False
    found = yield from find_metadata(known.prefix)
    if found is None:
        return False
    metadata = same_array(known, found)
    if metadata.shape == known.shape:
        return False
    if handle.array is known:  # else another thread has already taken over newer metadata
        handle.take_over(metadata)
    return True


def checked(handle: ArrayHandle, check: Callable[[BoundArray, Any], T], argument: Any) -> Op[T]:
    """`check(array, argument)` as an operation that asks for nothing unless the argument lies beyond the known bounds."""
    return fresh(handle, _as_op, check, argument)


def checked_once(
    handle: ArrayHandle, check: Callable[[BoundArray, Any], T], argument: Any, op: Callable[..., Op[None]], *args: Any
) -> Op[None]:
    """`op(array, checked argument, *args)`. Only the check is done again with the stored shape: what `op` raises ends it."""
    found = yield from checked(handle, check, argument)
    yield from op(handle.array, found, *args)


def known(handle: ArrayHandle, check: Callable[[BoundArray, Any], T], argument: Any) -> T:
    """`check(array, argument)` by what the handle knows, where the store cannot be asked: in a method that is no coroutine."""
    try:
        return check(handle.array, argument)
    except BoundsError as error:
        raise error.annotate(hint="Where others grow the array, `await a.refresh()` comes first") from None


def _as_op(array: BoundArray, check: Callable[[BoundArray, Any], T], argument: Any) -> Op[T]:
    return check(array, argument)
    yield  # makes this a generator, as every operation is; it has no requests
