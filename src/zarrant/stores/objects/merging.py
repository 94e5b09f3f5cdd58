"""Reads of one object that several tasks of an event loop begin in the same turn of the loop: near ones are made as one.

In: ranges of an object, and the version they must be of. Out: the bytes of each, by fewer requests than the tasks would make each
by itself: the same range is asked for once, near ones together. Nobody waits for others: the first task gives way once, which lets
those that are ready to run come. Then it sees which of the reads have a request in common (`ranges.sharing`): of each such group
one task reads for all, and no group waits for the reply to another. So a request is sent after each of the reads that it serves
has begun, and what it gives is no older than any of them may see.

Where the read fails each task reads again for itself, because the error may be that of another's range. Where the task that reads
is cancelled, the others begin again together. At most `MAX_READS_IN_FLIGHT` groups of a loop read at once.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable, Sequence
from enum import Enum
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from zarrant.errors import VersionChangedError
from zarrant.storage import Blob, ByteRange
from zarrant.stores.objects.ranges import sharing

Ranges: TypeAlias = Sequence[ByteRange]
Read: TypeAlias = Callable[[Ranges], Awaitable[Blob | None]]


class _Instead(Enum):
    """What a task does that was given no reply."""

    READ_ALONE = 1
    BEGIN_AGAIN = 2


class _ReadFor(NamedTuple):
    """That a task reads for others."""

    others: list[_Reader]


_Reply: TypeAlias = Blob | Exception | _Instead | _ReadFor | None
_Reader: TypeAlias = "tuple[Ranges, asyncio.Future[_Reply]]"
MAX_READS_IN_FLIGHT = 256
"""Each has a connection at least; a process may often have no more than 1024 files open."""


class MergedReads:
    """The reads that have begun in this turn, by what they have in common."""

    def __init__(self) -> None:
        self._open: dict[Hashable, list[_Reader]] = {}
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    async def read(self, common: Hashable, gap: int, ranges: Ranges, read: Read) -> Blob | None:
        """The ranges, by `read` of them or of more: with near ones of those that have the same in `common` (key and version)."""
        loop = asyncio.get_running_loop()
        place = loop, common, gap
        while (others := self._open.get(place)) is not None:
            waiting: asyncio.Future[_Reply] = loop.create_future()
            others.append((ranges, waiting))
            try:
                reply = await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled() and isinstance(came := waiting.result(), _ReadFor):
                    _answer(came.others, _Instead.BEGIN_AGAIN)
                raise
            if isinstance(reply, Exception):
                raise reply
            if isinstance(reply, _ReadFor):
                return await self._read(reply.others, ranges, read)
            if not isinstance(reply, _Instead):
                return reply
            if reply is _Instead.READ_ALONE:
                return await read(ranges)
        others = self._open[place] = []
        try:
            try:
                await asyncio.sleep(0)
            finally:
                del self._open[place]  # safety: merged reads
            with_own, *rest = _groups(others, ranges, gap)
        except asyncio.CancelledError:
            _answer(others, _Instead.BEGIN_AGAIN)
            raise
        for group in rest:
            _answer(group[:1], _ReadFor(group[1:]))
        return await self._read(with_own, ranges, read)

    async def _read(self, others: list[_Reader], ranges: Ranges, read: Read) -> Blob | None:
        """Read for a group; whoever has no answer at the end begins again."""
        loop = asyncio.get_running_loop()
        if (gate := self._gates.get(loop)) is None:
            gate = self._gates[loop] = asyncio.Semaphore(MAX_READS_IN_FLIGHT)
        try:
            async with gate:
                return await _read_for(others, ranges, read) if others else await read(ranges)
        finally:
            _answer(others, _Instead.BEGIN_AGAIN)


def _groups(others: list[_Reader], ranges: Ranges, gap: int) -> list[list[_Reader]]:
    """Those of the others who read together, without those who have been cancelled; first those who read with the first task."""
    others = [other for other in others if not other[1].done()]
    if not others:
        return [[]]
    found = sharing([ranges, *(theirs for theirs, _ in others)], gap)
    return [[others[number - 1] for number in group if number] for group in found]


async def _read_for(others: list[_Reader], ranges: Ranges, read: Read) -> Blob | None:
    """Read for all, and give each what is his."""
    wanted = list(ranges)
    for theirs, _ in others:
        wanted += theirs
    try:
        blob = await read(wanted)
    except VersionChangedError as error:  # all asked for the same version
        for other in others:
            _answer([other], copy.copy(error))
        raise
    except Exception:
        _answer(others, _Instead.READ_ALONE)
        return await read(ranges)
    at = len(ranges)
    for other in others:
        _answer([other], _some(blob, at, at + len(other[0])))
        at += len(other[0])
    return _some(blob, 0, len(ranges))


def _some(blob: Blob | None, lo: int, hi: int) -> Blob | None:
    """The reply for some of the ranges."""
    return None if blob is None else blob._replace(data=blob.data[lo:hi])


def _answer(readers: Sequence[_Reader], reply: _Reply) -> None:
    """Wake those who wait still."""
    for _, waiting in readers:
        if not (waiting.done() or waiting.get_loop().is_closed()):
            waiting.set_result(reply)
