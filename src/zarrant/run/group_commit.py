"""Waiting for a group commit, in a thread or in a task (what is done by its leader: `ops/group_commit.py`).

In: a `GroupCommit` request and the store. Out: None, or the error of this caller's item. A caller who waits longer than the
store waits for a lock gets LockTimeout, with nothing done. Once another caller acts for it, it waits for the end of that,
however it is interrupted: its data are in use until then. A caller who would wait for itself, because it leads or has the
lock, gets ReentrantLockError.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from zarrant.errors import LockTimeout
from zarrant.locking.group_commit import Entry, Groups, Led
from zarrant.locking.local import given_up, reentrant, turn_comes
from zarrant.requests import GroupCommit, Op
from zarrant.run.store_locks import QUEUE_TIMEOUT, is_callers
from zarrant.storage import Store, capabilities

groups = Groups()


def join(request: GroupCommit, store: Store, perform: Callable[[Op[None]], None]) -> None:
    """Take part, or the lead, in this thread."""
    turn = threading.Lock()
    turn.acquire()
    entry = Entry(_name(request, store), request.item, turn.release)
    try:
        if groups.join(entry):
            perform(request.lead(Led(groups, entry)))
        elif is_callers(request.key, store):
            raise reentrant()  # who leads waits for us
        else:
            _follow(entry, turn, time.monotonic() + _patience(store), lambda: perform(request.lead(Led(groups, entry))))
    finally:
        while not groups.leave(entry):
            turn.acquire()
    _raise(entry)


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
    try:
        leads = groups.join(entry)
        if not leads:
            await _event(turn, _patience(store))
        if entry.leads:
            await perform(request.lead(Led(groups, entry)))
    finally:
        while not groups.leave(entry):
            await turn.wait()
    _raise(entry)


async def _event(turn: asyncio.Event, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            await turn.wait()
    except TimeoutError:
        pass


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
