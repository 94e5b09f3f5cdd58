"""Read-modify-write of one stored object, so that no other writer's change is lost.

The new object is stored on condition that the old one is still there: stores with locks hold the key meanwhile (then the
condition never fails), the others compare and swap, and a lost race starts over from what the winner left. The number of
tries is bounded; a process-wide queue for each key (the driver's `Locked`) keeps one process from fighting itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol, TypeVar

from zarrant.codecs.sources import Stored
from zarrant.errors import ConflictError, DataError, LostUpdateError, MetadataChangedError, StoreError, VersionChangedError
from zarrant.requests import ANY, OnlyWhile, Op, locked, pause, put_one, unchanged
from zarrant.storage import Part, Version

T = TypeVar("T")
Change = Callable[[Stored], Op[list[Part] | None]]
"""Given the old object as a source, the parts of the new one, or None to erase it."""

TRIES = 64
FIRST_PAUSE, LAST_PAUSE = 0.001, 0.5
"""Seconds; with full jitter the expected wait of 64 lost races stays under 15 s, and one race costs less than a disk seek."""


class Node(Protocol):
    """The node that an object belongs to, as far as a write must know that it is still there (`ops/current.py`)."""

    @property
    def below(self) -> str | None:
        """The key of its metadata, None where that may be absent."""
        ...

    @property
    def condition(self) -> OnlyWhile | None:
        """The condition of every write."""
        ...

    def look_again(self) -> Op[bool]:
        """Read the metadata again, after the condition did not hold; an error where the node is no longer there.

        Returns whether the node has the shape that was last seen.
        """
        ...


def exclusively(
    key: str,
    change: Change,
    guarded: bool = True,
    source: Callable[[str], Stored] = Stored,
    *,
    node: Node | None = None,
    beside: bool = False,
) -> Op[Version]:
    """Apply `change` to the object of `key`, and return its version; ConflictError when the race is lost in every try.

    Every try makes a new `source`. With `guarded` False nobody is kept out: LostUpdateError where the object was replaced
    meanwhile, as far as the store sees it. Nothing is stored where `node` is no longer there. `beside`: the caller has locked
    the metadata of the array, and waits for a busy chunk in turn.
    """
    if guarded:
        return (yield from while_locked(key, lambda: _attempts(key, change, source, node), node, beside))
    return (yield from _while_there(key, lambda: _unguarded(source(key), change, node), node))


def while_locked(key: str, op: Callable[[], Op[T]], node: Node | None, beside: bool = False) -> Op[T]:
    """Run an operation while a key is locked; where `node` is gone nothing is made for the lock, and it says so."""
    below = None if node is None else node.below
    return (yield from _while_there(key, lambda: locked((key,), op(), beside, below), node))


def _while_there(key: str, op: Callable[[], Op[T]], node: Node | None) -> Op[T]:
    """Run an operation, again where the metadata of its node changed meanwhile; where the node is gone its error is that."""
    for _ in range(TRIES):
        try:
            return (yield from op())
        except MetadataChangedError:
            if node is None:
                raise
            yield from node.look_again()
        except (DataError, StoreError):
            if node is not None and node.condition is not None:  # what is stored there may be another array's
                yield from node.look_again()
            raise
    raise _lost_every_race(key)


def _attempts(key: str, change: Change, source: Callable[[str], Stored], node: Node | None) -> Op[Version]:
    for attempt in range(TRIES):
        try:
            return (yield from _attempt(source(key), change, node))
        except VersionChangedError:
            yield from pause(random.uniform(0, min(LAST_PAUSE, FIRST_PAUSE * 2**attempt)))
    raise _lost_every_race(key)


def _unguarded(source: Stored, change: Change, node: Node | None) -> Op[Version]:
    try:
        return (yield from _attempt(source, change, node))
    except VersionChangedError as error:
        hint = 'Do it again; with synchronizer="auto" that is done for you'
        message = "another writer replaced the object during this update, which was not stored"
        raise LostUpdateError(message, key=source.key, got=error.got, hint=hint) from error


def _lost_every_race(key: str) -> ConflictError:
    return ConflictError("other writers won every race", key=key, limit=f"{TRIES} tries")


def _attempt(source: Stored, change: Change, node: Node | None = None) -> Op[Version]:
    parts = yield from change(source)
    condition = None if node is None else node.condition  # safety: condition
    if parts is not None or source.version is not None or not source.seen:
        version = source.version if source.seen else ANY  # ANY: nothing of the old object was needed
        try:
            return (yield from put_one(source.key, parts, version, condition))
        except MetadataChangedError:
            # Not by doing `change` again: it may be what changed the metadata (an update whose function sets attributes, or
            # appends elsewhere). Whoever grows the array stores what is new in this object under its lock; where there is no
            # lock the object then has another version. Only what was made without a look at the object may be out of date.
            same = node is not None and (yield from node.look_again())
            if node is None or not (same or source.seen):
                raise
        return (yield from put_one(source.key, parts, version, node.condition))
    # Fill where nothing is stored: there is nothing to do, but in an array that is gone that would be said in vain.
    if node is not None and condition is not None and not (yield from unchanged(condition.key, condition.version)):
        yield from node.look_again()
    return None
