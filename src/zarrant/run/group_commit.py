"""Waiting for a group commit, in a thread or in a task (what is done by its leader: `ops/group_commit.py`).

In: a `GroupCommit` request and the store. Out: None, or the error of this caller's item. A caller who waits longer than the
store waits for a lock gets LockTimeout, with nothing done. Once another caller acts for it, it waits for the end of that,
however it is interrupted: its data are in use until then. A caller who would wait for itself, because it leads or has the
lock, gets ReentrantLockError.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Hashable
from typing import TYPE_CHECKING, Any

from zarrant.errors import LockTimeout
from zarrant.locking.group_commit import CommitQueues, Entry, LedGroup
from zarrant.locking.local import reentrant, wait_cancelled, wait_for_turn
from zarrant.requests import GroupCommit, Op
from zarrant.run.store_locks import QUEUE_TIMEOUT_S, is_locked_by_caller
from zarrant.storage import Store, capabilities

if TYPE_CHECKING:
    import asyncio

commit_queues = CommitQueues()


def join_commit(request: GroupCommit, store: Store, perform: Callable[[Op[None]], None]) -> None:
    """Take part, or the lead, in this thread."""
    turn = threading.Lock()
    turn.acquire()
    entry = Entry(_name(request, store), request.item, turn.release)
    try:
        if commit_queues.join(entry):
            perform(request.lead(LedGroup(commit_queues, entry)))
        elif is_locked_by_caller(request.key, store):
            raise reentrant()  # who leads waits for us
        else:
            _follow(
                entry, turn, time.monotonic() + _lock_timeout(store), lambda: perform(request.lead(LedGroup(commit_queues, entry)))
            )
    finally:
        while not commit_queues.leave(entry):
            turn.acquire()
    _raise(entry)


def _follow(entry: Entry, turn: threading.Lock, deadline: float, lead: Callable[[], None]) -> None:
    """Wait until the entry is settled, or has to lead: then it waits for locks no longer than it would have for the others."""
    wait_for_turn(turn, deadline)
    if not entry.leads:
        return
    over = wait_cancelled.get()
    token = wait_cancelled.set(lambda: time.monotonic() >= deadline or (over is not None and over()))
    try:
        lead()
    finally:
        wait_cancelled.reset(token)


async def join_commit_async(request: GroupCommit, store: Store, perform: Callable[[Op[None]], Coroutine[Any, Any, None]]) -> None:
    """Take part, or the lead, in this task."""
    import asyncio  # takes 20 ms, which is there by now

    loop, turn = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(turn.set)
        except RuntimeError:
            pass  # its loop was closed: nobody waits there any more

    entry = Entry(_name(request, store), request.item, wake, asyncio.current_task())
    try:
        leads = commit_queues.join(entry)
        if not leads:
            await _event(turn, _lock_timeout(store))
        if entry.leads:
            await perform(request.lead(LedGroup(commit_queues, entry)))
    finally:
        await _leave_async(entry, turn)
    _raise(entry)


async def _leave_async(entry: Entry, turn: asyncio.Event) -> None:
    """Leave when nobody works with this caller's data any more, however often the task is cancelled meanwhile."""
    import asyncio

    cancelled: asyncio.CancelledError | None = None
    while not commit_queues.leave(entry):
        try:
            await turn.wait()
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def _event(turn: asyncio.Event, timeout: float) -> None:
    import asyncio

    try:
        async with asyncio.timeout(timeout):
            await turn.wait()
    except TimeoutError:
        pass


def _raise(entry: Entry) -> None:
    if entry.error is not None:
        raise entry.error
    if not entry.resolved:
        raise LockTimeout("another thread of this process kept the lock")


def _lock_timeout(store: Store) -> float:
    """Seconds to wait for others."""
    timeout = capabilities(store).lock_timeout
    return QUEUE_TIMEOUT_S if timeout is None else timeout


def _name(request: GroupCommit, store: Store) -> Hashable:
    place = store if isinstance(store, Hashable) else id(store)
    return place, request.key, request.kind
