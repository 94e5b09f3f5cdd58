"""Arrays that change their shape: the part of `Array` and `AsyncArray` that resizes and appends.

The handle takes over the document that an operation stored (other handles see it when they refresh). What is done is said
in `ops/growth.py`; here is decided where it can be done: growing takes an exclusive hold on the array's document. Between the
threads of one process a queue is one; a store that several processes share must have a hold of its own.
"""

from __future__ import annotations

from typing import Any

from zarrant.nodes.base import GROW, Place, S, warn_caller
from zarrant.nodes.facts import ArrayFacts
from zarrant.ops import growth
from zarrant.storage import ReadableWritable


class Growing(ArrayFacts[S]):
    """Changes of shape, from threads."""

    def resize(self: Growing[ReadableWritable], shape: Any, *, shrink: bool | None = None) -> None:
        """See `ops.growth.resize`."""
        op = growth.resize(self._state, shape, _lists(self._place), self._moved, shrink)
        _warn_of(self._place.run(self._place.in_step(op), GROW))

    def append(self: Growing[ReadableWritable], data: Any, axis: int = 0) -> slice:
        """See `ops.growth.append`."""
        op = growth.append(self._state, data, axis, self._moved)
        return self._place.run(self._place.in_step(op), GROW)


class AsyncGrowing(ArrayFacts[S]):
    """Changes of shape, from an event loop."""

    async def resize(self, shape: Any, *, shrink: bool | None = None) -> None:
        """See `ops.growth.resize`."""
        op = growth.resize(self._state, shape, _lists(self._place), self._moved, shrink)
        _warn_of(await self._place.run_async(self._place.in_step(op), GROW))

    async def append(self, data: Any, axis: int = 0) -> slice:
        """See `ops.growth.append`."""
        op = growth.append(self._state, data, axis, self._moved)
        return await self._place.run_async(self._place.in_step(op), GROW)


def _warn_of(left: list[str]) -> None:
    """The array has its new shape; what was cut off could not be erased."""
    for problem in left:
        warn_caller(f"resized, but what was cut off was not erased: {problem}. Growing the array again erases it first")


def _lists(place: Place) -> bool:
    return place.able.list
