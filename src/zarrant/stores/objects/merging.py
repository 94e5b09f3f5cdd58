"""Reads of one object that several tasks of an event loop begin in the same turn of the loop: made as one.

In: ranges of an object, and the version they must be of. Out: the bytes of each, by fewer requests than the tasks would make each
by itself: the same range is asked for once, near ones together. Nobody waits for others: the first task gives way once, which lets
those that are ready to run come, and then reads for all. So the request is sent after each of these reads has begun, and what it
gives is no older than any of them may see.

Where the read fails each task reads again for itself, because the error may be that of another's range. Where the first task is
cancelled, the others begin again together.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable, Sequence
from enum import Enum
from typing import TypeAlias

from zarrant.errors import VersionChangedError
from zarrant.storage import Blob, ByteRange

Ranges: TypeAlias = Sequence[ByteRange]
Read: TypeAlias = Callable[[Ranges], Awaitable[Blob | None]]


class _Instead(Enum):
    """What a task does that was given no reply."""

    READ_ALONE = 1
    BEGIN_AGAIN = 2


_Reply: TypeAlias = Blob | Exception | _Instead | None
_Reader: TypeAlias = tuple[Ranges, "asyncio.Future[_Reply]"]


class MergedReads:
    """The reads that have begun in this turn, by what they have in common."""

    def __init__(self) -> None:
        self._open: dict[Hashable, list[_Reader]] = {}

    async def read(self, common: Hashable, ranges: Ranges, read: Read) -> Blob | None:
        """The ranges, by `read` of them or of more: with all that have the same in `common` (key, version and the like)."""
        loop = asyncio.get_running_loop()
        place = loop, common
        while (others := self._open.get(place)) is not None:
            waiting: asyncio.Future[_Reply] = loop.create_future()
            others.append((ranges, waiting))
            reply = await waiting
            if isinstance(reply, Exception):
                raise reply
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
            return await _read_for(others, ranges, read) if others else await read(ranges)
        finally:
            if not loop.is_closed():
                _answer(others, _Instead.BEGIN_AGAIN)


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
        if not waiting.done():
            waiting.set_result(reply)
