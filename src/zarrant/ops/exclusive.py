"""Read-modify-write of one stored object, so that no other writer's change is lost.

The new object is stored on condition that the old one is still there: stores with locks hold the key meanwhile (then the
condition never fails), the others compare and swap, and a lost race starts over from what the winner left. The number of
tries is bounded; a process-wide queue for each key (the driver's `Locked`) keeps one process from fighting itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from zarrant.codecs.sources import Stored
from zarrant.effects import Op, locked, pause, put_one
from zarrant.errors import ConflictError, LostUpdateError, VersionChangedError
from zarrant.storage import Part

Change = Callable[[Stored], Op[list[Part] | None]]
"""Given the old object as a source, the parts of the new one, or None to erase it."""

TRIES = 64
FIRST_PAUSE, LAST_PAUSE = 0.001, 0.5
"""Seconds; with full jitter the expected wait of 64 lost races stays under 15 s, and one race costs less than a disk seek."""


def exclusively(key: str, change: Change, guarded: bool = True, source: Callable[[str], Stored] = Stored) -> Op[None]:
    """Apply `change` to the object of `key`; ConflictError when the race is lost in every try.

    Every try makes a new `source`. With `guarded` False nobody is kept out: LostUpdateError where the object was replaced
    meanwhile, as far as the store sees it.
    """
    if guarded:
        yield from locked((key,), _attempts(key, change, source))
    else:
        yield from _unguarded(source(key), change)


def swapped(key: str, change: Change, guarded: bool = True) -> Op[None]:
    """`exclusively` inside of a hold on other keys: by compare-and-swap alone, since a second hold could wait for ever."""
    yield from (_attempts(key, change, Stored) if guarded else _unguarded(Stored(key), change))


def beside(key: str, change: Change, guarded: bool = True) -> Op[None]:
    """`exclusively` by who holds the document of the array: a busy chunk is waited for in turn, not raced for."""
    if guarded:
        yield from locked((key,), _attempts(key, change, Stored), beside=True)
    else:
        yield from _unguarded(Stored(key), change)


def _attempts(key: str, change: Change, source: Callable[[str], Stored]) -> Op[None]:
    for attempt in range(TRIES):
        try:
            yield from _attempt(source(key), change)
            return
        except VersionChangedError:
            yield from pause(random.uniform(0, min(LAST_PAUSE, FIRST_PAUSE * 2**attempt)))
    raise ConflictError("other writers won every race", key=key, limit=f"{TRIES} tries")


def _unguarded(source: Stored, change: Change) -> Op[None]:
    try:
        yield from _attempt(source, change)
    except VersionChangedError as error:
        hint = 'Do it again; with synchronizer="auto" that is done for you'
        message = "another writer replaced the object during this update, which was not stored"
        raise LostUpdateError(message, key=source.key, got=error.got, hint=hint) from error


def _attempt(source: Stored, change: Change) -> Op[None]:
    parts = yield from change(source)
    if not source.seen:
        yield from put_one(source.key, parts)  # nothing of the old object was needed
    elif parts is not None or source.version is not None:
        yield from put_one(source.key, parts, source.version)
