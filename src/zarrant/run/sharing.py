"""Several callers that want the same at the same time: one runs the operation, the others wait for its result.

In: a `Share` request, and how an operation is performed. Out: a result, and whether it is the caller's own. Nothing is kept: who
comes after the end begins anew. An error is its caller's alone, the others run theirs. Where the caller that ran the operation was
interrupted or cancelled, one of the others takes over. A caller that waits holds nothing that the other needs: shared operations
read, without locks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Hashable
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from zarrant.requests import Op, Share
from zarrant.run.pool import WAKE_S

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future


class _Without(Enum):
    """How an operation ended without a result."""

    FAILED = 1
    STOPPED = 2


_Result: TypeAlias = "tuple[Any] | _Without"
_threads: dict[Hashable, Future[_Result]] = {}
_tasks: dict[Hashable, list[asyncio.Future[_Result]]] = {}
"""Those who wait, by what they wait for: each has a future of its own, so that a cancelled one does not end the wait of others."""


def share(request: Share, perform: Callable[[Op[Any]], Any]) -> tuple[Any, bool]:
    """Run the operation in this thread, or wait for the thread that runs it."""
    from concurrent.futures import Future  # takes 10 ms with what it imports; not all programs share reads

    place, own = (os.getpid(), request.place), Future[_Result]()  # a forked child has none of the threads that would answer
    ended: _Result = _Without.STOPPED
    try:
        while (other := _threads.setdefault(place, own)) is not own:
            found = _result_of(other)
            if isinstance(found, tuple):
                return found[0], False
            if found is _Without.FAILED:
                return perform(request.op()), True
        ended = (perform(request.op()),)
        return ended[0], True
    except Exception:
        ended = _Without.FAILED
        raise
    finally:
        # An interrupt can come before the first line of a function: then the second call does it.
        try:
            _end(place, own, ended)
        finally:
            _end(place, own, ended)


def _end(place: Hashable, own: Future[_Result], ended: _Result) -> None:
    """Nobody waits for this caller any more; nothing where nobody did."""
    if _threads.get(place) is own:
        del _threads[place]  # first: who comes from now on may know of newer writes
    if not own.done():
        own.set_result(ended)


def _result_of(other: Future[_Result]) -> _Result:
    """Wait; looked at by itself now and then, since an interrupt can come between a result and waking those who wait for it."""
    while True:
        try:
            return other.result(WAKE_S)
        except TimeoutError:
            pass


async def share_async(request: Share, perform: Callable[[Op[Any]], Coroutine[Any, Any, Any]]) -> tuple[Any, bool]:
    """Run the operation in this task, or wait for the task of this loop that runs it."""
    import asyncio  # takes 20 ms, which is there by now

    loop = asyncio.get_running_loop()
    place = loop, request.place
    while (others := _tasks.get(place)) is not None:
        others.append(loop.create_future())
        found = await others[-1]
        if isinstance(found, tuple):
            return found[0], False
        if found is _Without.FAILED:
            return await perform(request.op()), True
    others = _tasks[place] = []
    ended: _Result = _Without.STOPPED
    try:
        ended = (await perform(request.op()),)
    except Exception:
        ended = _Without.FAILED
        raise
    finally:
        del _tasks[place]
        for other in others:
            if not (other.done() or loop.is_closed()):
                other.set_result(ended)
    return ended[0], True
