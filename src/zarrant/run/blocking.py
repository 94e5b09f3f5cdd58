"""The blocking driver: performs an operation in the caller's thread.

In: an operation (a generator that yields requests, `zarrant.requests`) and the `ExecutionContext` in which it runs. Out: its
result, or its error. Each request is performed on the store, and the reply is sent back; `All` goes to the pool. The two drivers
(the other one is `run.asynchronous`) are the only modules that answer requests.

Traps, each under test:

- Nested `All` requests on a bounded pool deadlock, unless the thread that starts a group also works on it (`run.pool`).
- An operation may not `yield` in a `finally`. So `Locked` wraps an operation, and the driver gives the lock back.
- A batched reply carries one outcome an item. Else one bad key would fail all the others.
- The writes of one request are acknowledged together: a store that syncs does so once for all of them (`storage.WriteBatch`).
- A child process inherits nothing after a fork: pools and queues are empty there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zarrant.locking.local import Acquired, Caller, caller_of_parts, current_caller, give_back, wait_cancelled
from zarrant.requests import (
    ANY,
    Acknowledge,
    Admitted,
    All,
    BeforeChange,
    CheckUnchanged,
    Clock,
    ErasePrefix,
    Fetch,
    GroupCommit,
    ListDir,
    ListPrefix,
    ListStored,
    Locked,
    LookAhead,
    OnlyWhile,
    Op,
    Pause,
    Put,
    PutFirst,
    Share,
    UpdateBox,
)
from zarrant.run.group_commit import join_commit
from zarrant.run.looks import Looks
from zarrant.run.pool import Pool
from zarrant.run.sharing import share
from zarrant.run.store_calls import (
    annotated,
    get,
    get_all,
    get_into,
    lock_keys,
    look,
    outcome,
    require,
    store_all,
    store_one,
    store_while,
    typed,
    write_batch,
)
from zarrant.run.store_locks import commit, is_unchanged
from zarrant.storage import NOTHING, Blob, Capabilities, Store, as_store, capabilities
from zarrant.stores.locked import NestedLocks, under_locks_of

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")


MAX_LOOP_THREADS = 32
"""Operations of an event loop that run in threads at once: most of them wait for a store, or for a lock."""


_working: ContextVar[bool] = ContextVar("working", default=False)
"""Whether this thread works for an operation that has bytes: what a function of the caller calls inside of it (that of `update`)
must not wait until those bytes are given back."""


class Cancelled(BaseException):
    """Stops an operation from outside, past every `except Exception` on its way."""


class ExecutionContext(NamedTuple):
    """What an operation runs in: a store, a pool, and the event that cancels it."""

    store: Store
    pool: Pool
    concurrency: int
    cancelled: threading.Event | None = None
    gate: asyncio.Semaphore | None = None
    """Bounds the requests of one operation to an async store, however many one batch asks for."""
    outside: ExecutionContext | None = None
    """The context outside of the lock inside of which the operation runs; None where there is none."""
    executor: ThreadPoolExecutor | None = None
    """Threads for a lock of an event loop: an operation inside of it must not queue behind those that wait for the lock."""
    caller: Caller | None = None
    """For whom locks are taken; None: for whom they are taken already in this thread."""
    loop_threads: int = MAX_LOOP_THREADS
    """Operations like this one that an event loop has running in threads at once."""
    can: Capabilities = NOTHING
    """What the store can do: looked up where the store comes in, not for each request."""
    admitted: bool = False
    """Whether bytes were taken for this operation that pay for one of those that it runs side by side."""
    waits: bool = True
    """Whether the operation may wait for bytes: not inside of another one that has some, nor inside of a lock."""
    looks: Looks | None = None
    """The looks that this operation has taken at conditions, on a store that cannot check them itself."""

    def under_lock(self, store: Store) -> ExecutionContext:
        """The same on another form of the store, under a lock."""
        return self._replace(store=store, outside=self.outside or self, can=capabilities(store), waits=False)


def perform(op: Op[T], context: ExecutionContext) -> T:
    """Run an operation to its end in this thread."""
    cancelled = None if context.cancelled is None else context.cancelled.is_set
    start, token = Acquired(), wait_cancelled.set(cancelled) if cancelled is not wait_cancelled.get() else None
    before = None if context.caller is None else current_caller.set(context.caller)
    working = None if context.waits else _working.set(True)
    if context.can is NOTHING:
        context = context._replace(can=capabilities(context.store))
    if context.looks is None and context.can.sync_calls.put and not context.can.only_while:
        context = context._replace(looks=Looks())
    try:
        return _drive(op, context)
    except BaseException as error:
        if not isinstance(error, Exception):
            give_back(start)
        raise
    finally:
        if token is not None:
            wait_cancelled.reset(token)
        if working is not None:
            _working.reset(working)
        if before is not None:
            current_caller.reset(before)


def _drive(op: Op[T], context: ExecutionContext) -> T:
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            if context.cancelled is not None and context.cancelled.is_set():
                raise Cancelled
            try:
                request = op.send(reply) if error is None else op.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            try:
                reply, error = _ANSWERS[type(request)](request, context), None
            except Exception as raised:
                reply, error = None, typed(raised, request, context.store)
    finally:
        op.close()


def _fetch(request: Fetch, context: ExecutionContext) -> list[Blob | Exception | None]:
    store, calls = context.store, context.can.sync_calls
    if request.decoder is not None and context.can.get_decoded and request.items:
        decoded = get_all(request.items, store, (request.decoder, partial(_share_work, context)))
        if decoded is not None:
            return decoded
    if len(request.items) == 1:
        into = context.can.get_into and request.items[0].into is not None
        return [outcome(get_into if into else get, request.items[0], store, calls)]
    together = get_all(request.items, store) if context.can.get_all and request.items else None
    if together is not None:
        return together
    return _each(lambda item: outcome(get, item, store, calls), request.items, context)


def _share_work(context: ExecutionContext, work: Callable[[], None], threads: int) -> None:
    """Call a function here, and at the same time in other threads that are free."""
    threads = min(threads, context.concurrency)
    if threads < 2:
        work()
    else:
        context.pool.run_all([work] * threads, _call, 0, threads)


def _call(work: Callable[[], None]) -> None:
    work()


def _put(request: Put, context: ExecutionContext) -> list[Any]:
    try:
        store = store_while(request.condition, context.store, context.can, context.looks and _looks(request, context))
    except Exception as error:
        return [annotated(error, item.key, context.store) for item in request.items]
    if len(request.items) == 1:
        return [outcome(store_one, request.items[0], store, context.can.sync_calls)]
    if context.can.requests_in_flight > 1 and not context.can.batch and not context.can.put_all:
        return _each(lambda item: outcome(store_one, item, store, context.can.sync_calls), request.items, context)
    with write_batch(store, context.can) as together:
        return store_all(request.items, together, context.can)


def _put_first(request: PutFirst, context: ExecutionContext) -> object:
    if not context.can.puts_first:
        return None
    condition = None if request.below is None else OnlyWhile(request.below, ANY)
    return store_while(condition, context.store, context.can).put_first(request.key, request.parts, request.absent)


def _update_box(request: UpdateBox, context: ExecutionContext) -> bool:
    if not context.can.updates_boxes:
        return False
    try:
        return context.store.update_box(*request)
    except Exception as error:
        raise annotated(error, request.key, context.store) from error.__cause__


def _look_ahead(request: LookAhead, context: ExecutionContext) -> None:
    if context.looks is not None and context.can.requests_in_flight > 1:
        context.looks.begin(request.condition, lambda: look(request.condition, context.store))


def _looks(request: Put, context: ExecutionContext) -> Looks | None:
    """Those that serve a request: where all its objects are stored whatever is there."""
    return context.looks if all(item.if_version is ANY for item in request.items) else None


def _each(act: Callable[[Any], T], items: Sequence[Any], context: ExecutionContext) -> list[T]:
    """Act on each item: side by side where the store is waited for."""
    if len(items) < 2 or context.can.requests_in_flight < 2:
        return [act(item) for item in items]
    caller = caller_of_parts()

    def one(item: Any) -> T:
        before = current_caller.set(caller)
        try:
            return act(item)
        finally:
            current_caller.reset(before)

    return context.pool.run_all(items, one, 0, context.concurrency)


def _all(request: All, context: ExecutionContext) -> list[Any]:
    limit = 1 if request.small and context.can.requests_in_flight < 2 else context.concurrency
    with write_batch(context.store, context.can) as store:
        inside = context._replace(store=store, caller=caller_of_parts(), admitted=False, waits=False)
        run = partial(perform, context=inside)
        return context.pool.run_all(request.ops, run, request.cost, limit, context.admitted)


def _admitted(request: Admitted, context: ExecutionContext) -> Any:
    budget, share = context.pool.budget, list[int]()
    waits = context.waits and not _working.get()
    working = _working.set(True)
    try:
        if waits:
            budget.admit(request.cost, share, None if context.cancelled is None else context.cancelled.is_set)
        else:
            budget.take(request.cost, share)
        return _drive(request.op, context._replace(admitted=True, waits=False))
    finally:
        _working.reset(working)
        try:
            budget.give_share(share)
        finally:
            budget.give_share(share)  # where an interrupt came before the first line of it


def _locked(request: Locked, context: ExecutionContext) -> Any:
    outside = context.outside if request.nested else None
    store, can = (outside or context).store, (outside or context).can
    # A queue of this process makes nothing below the node: the operation finds out by itself whether that is there.
    condition = OnlyWhile(request.below, ANY) if request.below is not None and can.sync_calls.lock else None
    if outside is not None:
        store = under_locks_of(context.store, store)
    with lock_keys(request.keys, store_while(condition, store, can), can) as locked:
        inside = locked if outside is None else as_store(NestedLocks(context.store, locked, request.keys))
        return _drive(request.op, context.under_lock(inside))


def _group_commit(request: GroupCommit, context: ExecutionContext) -> None:
    join_commit(request, context.store, lambda op: _drive(op, context))


def _share(request: Share, context: ExecutionContext) -> tuple[Any, bool]:
    if context.can.requests_in_flight < 2:
        return _drive(request.op(), context), True
    return share(request, lambda op: _drive(op, context))


def _erase_prefix(request: ErasePrefix, context: ExecutionContext) -> bool:
    if request.link_only:
        return context.can.erase_link and context.store.erase_link(request.prefix)
    require(context.can.sync_calls, "erase", context.store)
    context.store.erase_prefix(request.prefix)
    return False


def _list_dir(request: ListDir, context: ExecutionContext) -> tuple[list[str], list[str]]:
    require(context.can.sync_calls, "list", context.store)
    return context.store.list_dir(request.prefix)


def _list_prefix(request: ListPrefix, context: ExecutionContext) -> list[str]:
    require(context.can.sync_calls, "list", context.store)
    return list(context.store.list_prefix(request.prefix))


def _list_stored(request: ListStored, context: ExecutionContext) -> list[str] | None:
    if not context.can.list_stored:
        return None
    found: list[str] | None = context.store.list_stored(request.prefix, request.limit)
    return found


def _pause(request: Pause, context: ExecutionContext) -> None:
    if context.cancelled is None:
        time.sleep(request.seconds)
    else:
        context.cancelled.wait(request.seconds)


_ANSWERS: dict[type, Callable[[Any, ExecutionContext], Any]] = {
    Fetch: _fetch,
    Put: _put,
    PutFirst: _put_first,
    UpdateBox: _update_box,
    LookAhead: _look_ahead,
    All: _all,
    Admitted: _admitted,
    Locked: _locked,
    BeforeChange: lambda request, context: _drive(request.op, context),
    GroupCommit: _group_commit,
    Share: _share,
    Acknowledge: lambda request, context: commit(context.store),
    Pause: _pause,
    Clock: lambda request, context: time.monotonic(),
    CheckUnchanged: lambda request, context: is_unchanged(request.key, request.version, context.store),
    ErasePrefix: _erase_prefix,
    ListDir: _list_dir,
    ListPrefix: _list_prefix,
    ListStored: _list_stored,
}
