"""The async driver: performs an operation for an event loop.

In: an operation and an `ExecutionContext`, as in the blocking driver (`run.blocking`). Out: the operation's result, or its error.
The event loop is never blocked, neither by codecs nor by system calls:

- Over a blocking store (memory, file system) the whole operation runs under the blocking driver, in a worker thread.
- Over an async store the requests are awaited. What is done between two of them runs in a worker thread, unless the first of
  them says that it is brief.

A cancelled operation is stopped between two requests. It gives back its locks, and only then the caller goes on.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar, cast

from zarrant.errors import VersionChangedError
from zarrant.locking.local import Caller
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
    ReadRequest,
    Request,
    Share,
    UpdateBox,
    WriteRequest,
)  # fmt: skip
from zarrant.run.blocking import MAX_LOOP_THREADS, Cancelled, ExecutionContext, perform
from zarrant.run.group_commit import join_commit_async
from zarrant.run.lock_threads import lock_executor
from zarrant.run.looks import Looks
from zarrant.run.loop_jobs import LoopJobs, Merged, loop_jobs
from zarrant.run.pool import WAKE_S, Budget, Stall
from zarrant.run.sharing import share_async
from zarrant.run.store_calls import annotated, check_ranges, check_whole, kept_ranges, require, typed, with_kept
from zarrant.run.store_locks import commit
from zarrant.run.threads import Threads
from zarrant.storage import NOTHING, Blob, Buffer, Calls, Store, Version, as_store, capabilities
from zarrant.stores.locked import NestedLocks

T = TypeVar("T")


class Together(NamedTuple):
    """That an operation can be done with others of the same kind, where several wait for a thread (`run.loop_jobs`)."""

    kind: Hashable
    item: Any
    nbytes: int
    op: Callable[[list[Any]], Op[list[Any]]]
    """Does what all the items ask for; one result each."""


async def perform_async(op: Op[T], context: ExecutionContext, brief: bool = False, together: Together | None = None) -> T:
    """Run an operation to its end without blocking the event loop; with `brief` its first step is taken here."""
    can = capabilities(context.store) if context.can is NOTHING else context.can
    if can.awaits:
        gate, looks = asyncio.Semaphore(max(1, context.concurrency)), _Looks()
        try:
            return await _perform_steps(op, context._replace(can=can, gate=gate, looks=looks), brief)
        finally:
            if looks.ahead:
                await looks.close()
    cancelled = threading.Event()
    context = context._replace(can=can, cancelled=cancelled, caller=Caller(asyncio.current_task()))
    merged = None
    if together is not None:
        for_all = context._replace(cancelled=None, concurrency=1)
        work = together.op
        merged = Merged(together.kind, together.item, together.nbytes, lambda items: perform(work(items), for_all))
    return await in_thread(lambda: perform(op, context), cancelled, context.executor, context.loop_threads, merged)


async def in_thread(
    work: Callable[[], T],
    cancelled: threading.Event | None = None,
    executor: ThreadPoolExecutor | None = None,
    threads: int = MAX_LOOP_THREADS,
    merged: Merged | None = None,
) -> T:
    """Run blocking work in a thread. A cancellation sets a flag for the work, waits until the work has ended, and is passed on.

    Without an executor it is one of those that all tasks share, with so many threads.
    """
    executor = executor or lock_executor()
    # What has threads of its own may not wait in one queue with others: they may be waiting for its lock.
    jobs = loop_jobs(_executor(threads), threads) if executor is None else LoopJobs(executor, 1)
    job = jobs.add(work, merged)
    try:
        await job.future
    except asyncio.CancelledError:
        if cancelled is not None:
            cancelled.set()
        while not job.ended:
            job.future = asyncio.get_running_loop().create_future()
            with suppress(asyncio.CancelledError):
                await job.future
        raise
    if job.error is None:
        return job.result  # type: ignore[no-any-return]
    try:
        raise job.error
    except Cancelled:
        raise asyncio.CancelledError from None
    finally:
        del job  # nor kept by this frame, which is in its traceback


async def _perform_steps(op: Op[T], context: ExecutionContext, brief: bool = False) -> T:
    """Run an operation; with `brief` the first step of it is taken here, not in a thread."""
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            step = _Step(op, reply, error)
            if not brief:
                step.look_ahead = partial(asyncio.get_running_loop().call_soon_threadsafe, partial(_look_ahead, context))
            if step() if brief else await in_thread(step, executor=context.executor):
                return step.value  # type: ignore[no-any-return]
            brief = getattr(step.value, "brief", False)
            try:
                reply, error = await _answer_async(step.value, context), None
            except Exception as raised:
                reply, error = None, typed(raised, step.value, context.store)
    finally:
        op.close()


class _Step:
    """One step of a generator, to be taken in a thread (StopIteration cannot pass through a future)."""

    def __init__(self, op: Op[Any], reply: Any, error: BaseException | None) -> None:
        self.op, self.reply, self.error = op, reply, error
        self.value: Any = None
        self.look_ahead: Callable[[OnlyWhile], object] | None = None
        """Begins a look on the event loop, of a step in a thread: what is done beside it is a part of the same step."""

    def __call__(self) -> bool:
        try:
            self.value = self.op.send(self.reply) if self.error is None else self.op.throw(self.error)
            while self.look_ahead is not None and type(self.value) is LookAhead:
                self.look_ahead(self.value.condition)
                self.value = self.op.send(None)
        except StopIteration as stop:
            self.value = stop.value
            return True
        return False


async def _answer_async(request: Request, context: ExecutionContext) -> Any:
    store, calls = context.store, context.can.async_calls
    match request:
        case Fetch(items):
            return await _each(_get_async, items, context)
        case Put(items, condition):
            return await _put_async(items, condition, context)
        case LookAhead(condition):
            return _look_ahead(context, condition)
        case UpdateBox():
            return False  # what is awaited has no such call
        case PutFirst():
            return None
        case All():
            return await _all_async(request, context)
        case Admitted():
            return await _admitted_async(request, context)
        case Locked():
            return await _locked_async(request, context)
        case BeforeChange(_, op):
            return await _perform_steps(op, context)
        case GroupCommit():
            return await join_commit_async(request, store, lambda op: _perform_steps(op, context, request.brief))
        case Share(brief=brief):
            return await share_async(request, lambda op: _perform_steps(op, context, brief))
        case Acknowledge():
            return await in_thread(lambda: commit(store), executor=context.executor)
        case CheckUnchanged(key, version):
            return await _is_unchanged_async(key, version, store, calls)
        case Pause(seconds):
            return await asyncio.sleep(seconds)
        case Clock():
            return time.monotonic()
        case ErasePrefix() | ListDir() | ListPrefix() | ListStored():
            return await _answer_below(request, store, calls)
    raise TypeError(f"not a request: {request!r}")


async def _answer_below(request: ErasePrefix | ListDir | ListPrefix | ListStored, store: Store, calls: Calls) -> Any:
    """The reply to a request about all that is below a prefix."""
    match request:
        case ErasePrefix(_, link_only=True):
            return False  # there are no links in an object store
        case ErasePrefix(prefix):
            require(calls, "erase", store)
            return await store.erase_prefix_async(prefix)
        case ListDir(prefix):
            require(calls, "list", store)
            return await store.list_dir_async(prefix)
        case ListPrefix(prefix):
            require(calls, "list", store)
            return await store.list_prefix_async(prefix)
        case ListStored():
            return None  # no store that is awaited is sure of it


async def _put_async(items: Sequence[WriteRequest], condition: OnlyWhile | None, context: ExecutionContext) -> list[Any]:
    replaces = all(item.if_version is ANY for item in items)
    if condition is not None and (error := await _changed_async(condition, replaces, context)) is not None:
        return [error] * len(items)
    return await _each(_store_async, items, context)


async def _locked_async(request: Locked, context: ExecutionContext) -> Any:
    if not context.can.async_calls.lock:
        return await _perform_steps(request.op, context)  # the operation compares and swaps
    outside = context.outside if request.nested else None
    async with (outside or context).store.lock_async(request.keys) as locked:
        inside = locked if outside is None else NestedLocks(context.store, locked, request.keys)
        return await _perform_steps(request.op, context.under_lock(as_store(inside)))


async def _is_unchanged_async(key: str, version: Version, store: Store, calls: Calls) -> bool:
    if calls.lock:
        return False  # it is not known who has locked it
    require(calls, "get", store)
    try:
        return await store.get_ranges_async(key, (), version) is not None
    except VersionChangedError:
        return False


async def _changed_async(condition: OnlyWhile, replaces: bool, context: ExecutionContext) -> Exception | None:
    """The error where a condition does not hold; looked at right before the write, or once for several (`run.looks`)."""

    def look() -> Coroutine[Any, Any, None]:
        return _look_async(condition, context)

    try:
        await (context.looks.take_async(condition, look) if replaces and isinstance(context.looks, _Looks) else look())
    except Exception as error:
        return annotated(error, condition.key, context.store)
    return None


def _look_ahead(context: ExecutionContext, condition: OnlyWhile) -> None:
    if isinstance(context.looks, _Looks):
        context.looks.begin_async(condition, lambda: _look_async(condition, context))


async def _look_async(condition: OnlyWhile, context: ExecutionContext) -> None:
    """MetadataChangedError where a condition does not hold now."""
    async with context.gate or nullcontext():
        require(context.can.async_calls, "get", context.store)
        blob = await context.store.get_ranges_async(condition.key, ())
    condition.check(None if blob is None else blob.version)


class _Looks(Looks):
    """The looks of one operation; its tasks wait for the one who looks."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks = asyncio.Lock()
        self.ahead: dict[OnlyWhile, tuple[float, asyncio.Task[None]]] = {}

    def begin_async(self, condition: OnlyWhile, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """See `Looks.begin`."""
        now = time.monotonic()
        if condition not in self.ahead and not self.serves(condition, now):
            self.ahead[condition] = now, asyncio.create_task(look())

    async def close(self) -> None:
        """Stop what nobody has waited for."""
        tasks = [task for _, task in self.ahead.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take_async(self, condition: OnlyWhile, look: Callable[[], Awaitable[None]]) -> None:
        """See `Looks.take`."""
        async with self._tasks:
            if condition in self.ahead:
                begun, task = self.ahead[condition]
                try:
                    await task
                    self.begun[condition] = begun
                finally:
                    self.ahead.pop(condition, None)
            now = time.monotonic()
            if not self.serves(condition, now):
                await look()
                self.begun[condition] = now


async def _admit_async(budget: Budget, cost: int, share: list[int]) -> None:
    """See `Budget.admit`."""
    loop, stall = asyncio.get_running_loop(), Stall(budget)
    while not stall.is_over():
        event = asyncio.Event()
        wake = partial(loop.call_soon_threadsafe, event.set)
        if budget.try_admit(cost, share, wake):
            return
        try:
            async with asyncio.timeout(WAKE_S):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            budget.forget(wake)
    budget.take(cost, share)


async def _admitted_async(request: Admitted, context: ExecutionContext) -> Any:
    budget, share = context.pool.budget, list[int]()
    try:
        if context.waits:
            await _admit_async(budget, request.cost, share)
        else:
            budget.take(request.cost, share)
        return await _perform_steps(request.op, context._replace(admitted=True, waits=False), request.brief)
    finally:
        budget.give_share(share)


@asynccontextmanager
async def _paid(budget: Budget, cost: int, waiting: set[asyncio.Task[None]]) -> AsyncIterator[None]:
    """With bytes of the budget; the task is among those that are `waiting` for as long as there are none."""
    share, task = list[int](), cast("asyncio.Task[None]", asyncio.current_task())
    try:
        if not budget.try_take(cost, share):
            waiting.add(task)
            try:
                await _admit_async(budget, cost, share)
            finally:
                waiting.discard(task)
        yield
    finally:
        budget.give_share(share)


async def _all_async(request: All, context: ExecutionContext) -> list[Any]:
    """Run operations side by side, at most `concurrency` at once and as their bytes allow; started in order.

    As in the blocking driver, the first one needs no permission; the others begin when their bytes are left.
    """
    results: list[Any] = []
    ops, budget, waiting = iter(request.ops), context.pool.budget, set[asyncio.Task[None]]()
    most = max(1, min(context.concurrency, context.pool.memory_limit // max(1, request.cost)))
    head = list(islice(ops, most))
    ops = chain(head, ops)
    inside = context._replace(admitted=False, waits=False)

    async def work() -> None:
        for op in ops:
            place = len(results)
            results.append(None)
            try:
                results[place] = await _perform_steps(op, inside, request.brief)
            except Exception as error:
                results[place] = error
        for task in list(waiting):  # there is nothing left for them to do
            task.cancel()

    async def helper() -> None:
        async with _paid(budget, request.cost, waiting):
            await work()

    share: list[int] = []
    try:
        budget.take(0 if context.admitted else request.cost, share)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work())
            for _ in head[1:]:
                tasks.create_task(helper())
    except BaseExceptionGroup as errors:  # of the iterator: each operation's own error is its outcome
        raise errors.exceptions[0] from None
    finally:
        budget.give_share(share)
    return results


async def _each(act: Callable[[Any, Store, Calls], Any], items: Sequence[Any], context: ExecutionContext) -> list[Any]:
    async def one(item: ReadRequest | WriteRequest) -> Any:
        try:
            async with context.gate or nullcontext():
                return await act(item, context.store, context.can.async_calls)
        except Exception as error:
            return annotated(error, item.key, context.store)

    if len(items) == 1:
        return [await one(items[0])]  # a task costs 20 µs
    return list(await asyncio.gather(*(one(item) for item in items)))


async def _get_async(request: ReadRequest, store: Store, calls: Calls) -> Blob | None:
    require(calls, "get", store)
    if request.ranges is not None:
        return check_ranges(request.ranges, await store.get_ranges_async(request.key, request.ranges, request.if_version))
    if request.limit is None or not calls.get_within:
        return check_whole(request, await store.get_async(request.key))
    return check_whole(request, await store.get_within_async(request.key, request.limit))


async def _store_async(item: WriteRequest, store: Store, calls: Calls) -> Version:
    swaps = item.if_version is not ANY
    if item.parts is None:
        require(calls, "erase_if" if swaps else "erase", store)
        await (store.erase_if_async(item.key, item.if_version) if swaps else store.erase_async(item.key))
        return None
    blob, kept = None, kept_ranges(item)
    if kept:
        require(calls, "get", store)
        blob = await store.get_ranges_async(item.key, kept, item.if_version if swaps else None)
    parts: Sequence[Buffer] = with_kept(item, kept, blob)
    require(calls, "put_if" if swaps else "put", store)
    return await (store.put_if_async(item.key, parts, item.if_version) if swaps else store.put_async(item.key, parts))


_executors: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _executor(threads: int = MAX_LOOP_THREADS) -> ThreadPoolExecutor:
    """So many threads that run operations for event loops; shared by a process, so that a forked child makes its own."""
    key = os.getpid(), threads
    if key not in _executors:
        for other in [each for each in list(_executors) if each[0] != key[0]]:
            _executors.pop(other, None)
        _executors.setdefault(key, Threads(threads, "zarrant-async"))
    return _executors[key]
