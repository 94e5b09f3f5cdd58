"""Read, change and replace one stored object, so that no other writer's change is lost.

In: a key, a change (from the old object to the parts of the new one) and a guard. Out: the version of the new object. The new
object is stored on condition that the old one still has the version that was read (compare-and-swap). The guard says what else
keeps other writers out, and what follows where one of them was faster (`Guard` is this table):

| guard | lock | where another writer was faster |
|---|---|---|
| none | none | LostUpdateError |
| lock | of the key | again from what the winner left; ConflictError after `MAX_TRIES` (with locks it does not happen) |
| lock inside a lock | of the key, by a caller that has locked the metadata of its array | as above |
| group commit | of the key, by one of the waiting callers for all of them (`ops/group_commit.py`) | as above |

Where a store has no locks (an object store), the driver queues the threads of this process instead, so that they do not race
against each other; writers of other processes, and tasks of an event loop, are kept out by compare-and-swap alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from zarrant.codecs.byte_sources import Stored
from zarrant.errors import ConflictError, DataError, LostUpdateError, MetadataChangedError, StoreError, VersionChangedError
from zarrant.ops.group_commit import commit_together
from zarrant.requests import ANY, OnlyWhile, Op, locked, pause, put_one, unchanged
from zarrant.storage import Part, Version

T = TypeVar("T")
Change = Callable[[Stored], Op[list[Part] | None]]
"""Given the old object as a source, the parts of the new one, or None to erase it."""

MAX_TRIES = 64
FIRST_PAUSE_S, LAST_PAUSE_S = 0.001, 0.5
"""With full jitter the expected wait of 64 lost races stays under 15 s, and one race costs less than a disk seek."""


class Guard(Enum):
    """What keeps other writers of an object out while it is changed."""

    NONE = ("none", False, False, False)
    LOCK = ("lock", True, False, True)
    NESTED_LOCK = ("lock inside a lock", True, True, True)
    GROUP_COMMIT = ("group commit", True, False, True)

    def __init__(self, label: str, lock: bool, nested: bool, again: bool) -> None:
        self.label, self.lock, self.nested, self.again = label, lock, nested, again

    @staticmethod
    def lock_if(guarded: bool) -> Guard:
        """A lock, or none where the options of the array say so."""
        return Guard.LOCK if guarded else Guard.NONE


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


class Mergeable(Protocol):
    """A change that can be merged with others of its `kind` into one, as a group commit does."""

    @property
    def kind(self) -> Any:
        """What changes must have in common."""
        ...

    def merged(self, changes: Sequence[Self]) -> Self:
        """Changes (this one may be among them) as one, later ones on top."""
        ...

    def __call__(self, source: Stored) -> Op[list[Part] | None]:
        """See `Change`."""
        ...


def update_object(
    key: str,
    change: Change | Mergeable,
    guard: Guard = Guard.LOCK,
    *,
    node: Node | None = None,
    source: Callable[[str], Stored] = Stored,
    swap_first: SwapFirst | None = None,
) -> Op[Version]:
    """Replace the object of `key` by what `change` makes of it, and return its version (None: erased, or merged with others).

    Every try makes a new `source`. Nothing is stored where `node` is no longer there: that is the error then. A change under
    `GROUP_COMMIT` is a `Mergeable`. `swap_first`: see `SwapFirst`.
    """
    if guard is Guard.GROUP_COMMIT:
        first: Any = change  # a Mergeable
        return commit_together(key, first.kind, first, partial(_update_merged, key, first, node, source, swap_first))
    tries = partial(_tries, key, change, source, node, guard.again)
    if swap_first is not None:
        return _while_there(key, partial(_swap_first, key, change, source, node, tries, swap_first), node)
    return with_lock(key, tries, node, guard.nested) if guard.lock else _while_there(key, tries, node)


class SwapFirst:
    """That an object is read while it is not locked, and replaced if it is still the one that was read; else under its lock.

    For small changes of objects in a store that compares under a lock of its own (`OpOptions.swaps_first`): to lock the key
    as well takes a quarter of the time of such a write. The version must be one that no other object ever has
    (`storage.is_unique`). One value serves all changes of an array: where it was in vain, others write there too, and the next
    changes lock at once.
    """

    __slots__ = ("pause",)
    PAUSE = 16
    """Changes that lock at once: with 4 processes that change the same chunks, trying each time took 7 % more CPU time."""

    def __init__(self) -> None:
        self.pause = 0

    def if_of_use(self) -> SwapFirst | None:
        """Itself, unless it was in vain a moment ago. Of threads that ask at the same time, some may be told so once too often."""
        if not self.pause:
            return self
        self.pause -= 1
        return None


def _swap_first(
    key: str, change: Change, source: Callable[[str], Stored], node: Node | None, tries: Callable[[], Op[Version]], first: SwapFirst
) -> Op[Version]:
    seen = source(key)
    seen.unlocked = True
    try:
        return (yield from _try(seen, change, node))
    except VersionChangedError:
        first.pause = SwapFirst.PAUSE
        return (yield from _locked(key, tries, node))


def with_lock(key: str, op: Callable[[], Op[T]], node: Node | None, nested: bool = False) -> Op[T]:
    """Run an operation while a key is locked; where `node` is gone nothing is made for the lock, and it says so."""
    return _while_there(key, partial(_locked, key, op, node, nested), node)


def _locked(key: str, op: Callable[[], Op[T]], node: Node | None, nested: bool = False) -> Op[T]:
    below = None if node is None else node.below
    return locked((key,), op(), nested, below, brief=True)


def _while_there(key: str, op: Callable[[], Op[T]], node: Node | None) -> Op[T]:
    """Run an operation, again where the metadata of its node changed meanwhile; where the node is gone its error is that."""
    for _ in range(MAX_TRIES):
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


def _update_merged(
    key: str,
    first: Mergeable,
    node: Node | None,
    source: Callable[[str], Stored],
    swap_first: SwapFirst | None,
    take: Callable[[], Sequence[Any]],
) -> Op[Version]:
    return update_object(key, partial(_apply_merged, first, take), node=node, source=source, swap_first=swap_first)


def _apply_merged(first: Mergeable, take: Callable[[], Sequence[Any]], source: Stored) -> Op[list[Part] | None]:
    """Commit the group. The key is locked now, so callers that came during the wait are included."""
    return first.merged(take())(source)


def _tries(key: str, change: Change, source: Callable[[str], Stored], node: Node | None, again: bool) -> Op[Version]:
    for attempt in range(MAX_TRIES if again else 1):
        try:
            return (yield from _try(source(key), change, node))
        except VersionChangedError as error:
            if not again:
                raise _lost_update(key, error) from error
            yield from pause(random.uniform(0, min(LAST_PAUSE_S, FIRST_PAUSE_S * 2**attempt)))
    raise _lost_every_race(key)


def _try(source: Stored, change: Change, node: Node | None) -> Op[Version]:
    parts = yield from change(source)
    condition = None if node is None else node.condition  # safety: condition
    if parts is not None or source.version is not None or not source.seen:
        version = source.version if source.seen else ANY  # ANY: nothing of the old object was needed
        try:
            return (yield from put_one(source.key, parts, version, condition, brief=True))
        except MetadataChangedError:
            # Not by doing `change` again: it may be what changed the metadata (an update whose function sets attributes, or
            # appends elsewhere). A writer that grows the array stores the new elements of this object under its lock. Where there
            # is no lock, the object then has another version. Only what was made without a look at the object may be out of date.
            same = node is not None and (yield from node.look_again())
            if node is None or not (same or source.seen):
                raise
        return (yield from put_one(source.key, parts, version, node.condition, brief=True))
    # Fill, and nothing is stored: nothing to do. But the node must still exist, else the caller would not learn that it is gone.
    if node is not None and condition is not None and not (yield from unchanged(condition.key, condition.version)):
        yield from node.look_again()
    return None


def _lost_update(key: str, error: VersionChangedError) -> LostUpdateError:
    hint = 'Do it again; with synchronizer="auto" that is done for you'
    message = "another writer replaced the object during this update, which was not stored"
    return LostUpdateError(message, key=key, got=error.got, hint=hint)


def _lost_every_race(key: str) -> ConflictError:
    return ConflictError("other writers won every race", key=key, limit=f"{MAX_TRIES} tries")
