"""Group commit, for both drivers: one caller performs what several have handed in, the others wait for their outcome.

In: a `GroupCommit` request and the store. Out: None, or the error of this caller's item. A caller who waits longer than the store
waits for a lock gets LockTimeout, with nothing done. Once somebody acts for him he waits for the end of it, however he is
interrupted: his data are in use until then. Where the work of several fails it is done again one by one, so that one
caller's bad data are not another's error. Who would wait for himself, because he leads or has the lock, gets ReentrantLockError.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from zarrant.errors import LockTimeout
from zarrant.locking.gathering import Entry, Gatherings
from zarrant.locking.local import given_up, reentrant, turn_comes
from zarrant.requests import GroupCommit, Op
from zarrant.run.holding import QUEUE_TIMEOUT, is_callers, settle
from zarrant.storage import Store, capabilities

_gatherings = Gatherings()


def join(request: GroupCommit, store: Store, perform: Callable[[Op[None]], None]) -> None:
    """Take part, or the lead, in this thread."""
    turn = threading.Lock()
    turn.acquire()
    entry = Entry(_name(request, store), request.item, turn.release)
    _refuse_own(entry)
    try:
        if _gatherings.join(entry):
            perform(_act(request, entry, store))
        elif is_callers(request.key, store):
            raise reentrant()  # who leads waits for us
        else:
            _follow(entry, turn, time.monotonic() + _patience(store), lambda: perform(_act(request, entry, store)))
    finally:
        while not _gatherings.leave(entry):
            turn.acquire()
    _raise(entry)


def _refuse_own(entry: Entry) -> None:
    if _gatherings.led_by(entry):
        raise reentrant()


def _follow(entry: Entry, turn: threading.Lock, deadline: float, lead: Callable[[], None]) -> None:
    """Wait until the entry is settled, or has to lead: then it waits for locks no longer than it would have for the others."""
    turn_comes(turn, deadline)
    if not entry.leads:
        return
    over = given_up.get()
    token = given_up.set(lambda: time.monotonic() >= deadline or (over is not None and over()))
    try:
        lead()
    finally:
        given_up.reset(token)


async def join_async(request: GroupCommit, store: Store, perform: Callable[[Op[None]], Coroutine[Any, Any, None]]) -> None:
    """Take part, or the lead, in this task."""
    loop, turn = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(turn.set)
        except RuntimeError:
            pass  # its loop was closed: nobody waits there any more

    entry = Entry(_name(request, store), request.item, wake, asyncio.current_task())
    _refuse_own(entry)
    try:
        leads = _gatherings.join(entry)
        if not leads:
            await _event(turn, _patience(store))
        if entry.leads:
            await perform(_act(request, entry, store))
    finally:
        while not _gatherings.leave(entry):
            await turn.wait()
    _raise(entry)


async def _event(turn: asyncio.Event, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            await turn.wait()
    except TimeoutError:
        pass


def _act(request: GroupCommit, entry: Entry, store: Store) -> Op[None]:
    """Do it for all who have come by the time it is done."""
    batch = [entry]

    def take() -> list[Any]:
        batch[:] = _gatherings.take(entry)
        return [each.item for each in batch]

    try:
        yield from request.lead(take)
        if len(batch) > 1:
            # The others are told now, not when the group of this caller ends.
            settle(store)  # safety: told
    except Exception as error:
        if len(batch) == 1:
            _gatherings.settle(entry, error)
            return
        yield from _one_by_one(request, batch, store)
        return
    for each in batch:
        _gatherings.settle(each, None)


def _one_by_one(request: GroupCommit, batch: list[Entry], store: Store) -> Op[None]:
    for each in batch:
        error: Exception | None = None
        try:
            yield from request.lead(lambda each=each: [each.item])  # type: ignore[misc]
            settle(store)
        except Exception as raised:
            error = raised
        _gatherings.settle(each, error)


def _raise(entry: Entry) -> None:
    if entry.error is not None:
        raise entry.error
    if not entry.settled:
        raise LockTimeout("another thread of this process kept the lock")


def _patience(store: Store) -> float:
    """Seconds to wait for others."""
    timeout = capabilities(store).lock_timeout
    return QUEUE_TIMEOUT if timeout is None else timeout


def _name(request: GroupCommit, store: Store) -> Hashable:
    place = store if isinstance(store, Hashable) else id(store)
    return place, request.key, request.kind
