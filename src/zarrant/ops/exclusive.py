"""Read-modify-write of one stored object, so that no other writer's change is lost.

The new object is stored on condition that the old one is still there: stores with locks hold the key meanwhile (then the
condition never fails), the others compare and swap, and a lost race starts over from what the winner left. The number of
tries is bounded; a process-wide queue for each key (the driver's `Locked`) keeps one process from fighting itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from zarrant.codecs.sources import Stored
from zarrant.effects import ANY, Op, locked, pause, put_one
from zarrant.errors import ConflictError, VersionChangedError
from zarrant.storage import Part

Change = Callable[[Stored], Op[list[Part] | None]]
"""Given the old object as a source, the parts of the new one, or None to erase it."""

TRIES = 64
FIRST_PAUSE, LAST_PAUSE = 0.001, 0.5
"""Seconds; with full jitter the expected wait of 64 lost races stays under 15 s, and one race costs less than a disk seek."""


def exclusively(key: str, change: Change, guarded: bool = True) -> Op[None]:
    """Apply `change` to the object of `key`; ConflictError when the race is lost in every try.

    With `guarded` False the result is stored whatever happened meanwhile: other writers' changes can be lost.
    """
    if guarded:
        yield from locked((key,), _attempts(key, change))
    else:
        yield from _attempt(key, change, guarded=False)


def _attempts(key: str, change: Change) -> Op[None]:
    for attempt in range(TRIES):
        try:
            yield from _attempt(key, change, guarded=True)
            return
        except VersionChangedError:
            yield from pause(random.uniform(0, min(LAST_PAUSE, FIRST_PAUSE * 2**attempt)))
    raise ConflictError("other writers won every race", key=key, limit=f"{TRIES} tries")


def _attempt(key: str, change: Change, guarded: bool) -> Op[None]:
    source = Stored(key)
    parts = yield from change(source)
    if not source.seen:
        yield from put_one(key, parts)  # nothing of the old object was needed
    elif parts is not None or source.version is not None:
        yield from put_one(key, parts, source.version if guarded else ANY)
