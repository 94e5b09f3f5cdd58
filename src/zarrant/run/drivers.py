"""THE twin: perform an operation, blocking or async. The only room that answers requests.

The blocking driver runs a generator step by step in the caller's thread and performs each request on the store; `All` goes to
the pool. The async driver has two ways. Over a blocking store (memory, file system) the whole operation runs under the
blocking driver in a worker thread, so that neither codecs nor system calls block the event loop. Over an async store the steps
between requests run in a worker thread and the requests are awaited. A cancelled operation is stopped between two requests,
closes what it holds, and only then lets go of the caller.

Traps, each under test:
- nested `All` on a bounded pool deadlocks unless whoever starts a group also works on it (`run/pool.py`);
- never `yield` in `finally`: hence `Locked` wraps an operation, and the lock is released here;
- a batched reply carries one outcome an item, or one bad key would fail its siblings;
- writes of one request are acknowledged together: a store that syncs does so once for all of them (`storage.Grouped`);
- after a fork nothing is inherited: pools are looked up when an operation starts.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

from zarrant.errors import VersionChangedError
from zarrant.locking.local import Asker, Taken, asker_of_parts, asking, give_back, given_up
from zarrant.requests import (
    ANY,
    Acknowledge,
    All,
    CheckUnchanged,
    ErasePrefix,
    Fetch,
    GroupCommit,
    ListDir,
    ListPrefix,
    Locked,
    OnlyWhile,
    Op,
    Pause,
    Put,
    ReadRequest,
    Request,
    WriteRequest,
)
from zarrant.run.group_commit import join, join_async
from zarrant.run.holding import hold, on_condition, settle, steady
from zarrant.run.items import (
    annotated,
    check_ranges,
    check_whole,
    get,
    kept_ranges,
    outcome,
    require,
    store_all,
    store_in_turn,
    with_kept,
)  # fmt: skip
from zarrant.run.lanes import lane_executor
from zarrant.run.pool import Pool, Threads
from zarrant.storage import NOTHING, Blob, Buffer, Calls, Capabilities, Store, Version, as_store, capabilities
from zarrant.stores.guarded import grouped
from zarrant.stores.locked import NestedLocks

T = TypeVar("T")


class Cancelled(BaseException):
    """Stops an operation from outside, past every `except Exception` on its way."""


class World(NamedTuple):
    """What an operation runs in: a store, a pool, and the event that cancels it."""

    store: Store
    pool: Pool
    concurrency: int
    cancelled: threading.Event | None = None
    gate: asyncio.Semaphore | None = None
    """Bounds the requests of one operation to an async store, however many one batch asks for."""
    outside: Store | None = None
    """The store outside of the hold in which the operation runs; None where it runs in none."""
    executor: ThreadPoolExecutor | None = None
    """Threads of an event loop's hold: its operations must not wait for a thread behind those that wait for the hold."""
    asker: Asker | None = None
    """For whom locks are taken; None: for whom they are taken already in this thread."""
    can: Capabilities = NOTHING
    """What the store can do: looked up where the store comes in, not for each request."""

    def on(self, store: object, outside: Store | None) -> World:
        """The same on another form of the store, under a lock."""
        return self._replace(store=as_store(store), outside=outside, can=capabilities(store))


def perform(op: Op[T], world: World) -> T:
    """Run an operation to its end in this thread."""
    start, token = Taken(), given_up.set(None if world.cancelled is None else world.cancelled.is_set)
    before = None if world.asker is None else asking.set(world.asker)
    if world.can is NOTHING:
        world = world._replace(can=capabilities(world.store))
    try:
        return _drive(op, world)
    except BaseException as error:
        if not isinstance(error, Exception):
            give_back(start)
        raise
    finally:
        given_up.reset(token)
        if before is not None:
            asking.reset(before)


def _drive(op: Op[T], world: World) -> T:
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            if world.cancelled is not None and world.cancelled.is_set():
                raise Cancelled
            try:
                request = op.send(reply) if error is None else op.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            try:
                reply, error = _ANSWERS[type(request)](request, world), None
            except Exception as raised:
                reply, error = None, raised
    finally:
        op.close()


def _fetch(request: Fetch, world: World) -> list[Blob | Exception | None]:
    store, calls = world.store, world.can.sync_calls
    return [outcome(get, want, store, calls) for want in request.wants]


def _put(request: Put, world: World) -> list[Any]:
    try:
        store = on_condition(request.condition, world.store, world.can)
    except Exception as error:
        return [annotated(error, item.key, world.store) for item in request.items]
    if len(request.items) == 1:
        return [outcome(store_in_turn, request.items[0], store, world.can.sync_calls)]
    with grouped(store, world.can) as together:
        return store_all(request.items, together, world.can)


def _all(request: All, world: World) -> list[Any]:
    with grouped(world.store, world.can) as store:
        inside = world._replace(store=store, asker=asker_of_parts())
        return world.pool.run_all(request.ops, lambda op: perform(op, inside), request.cost, world.concurrency)


def _locked(request: Locked, world: World) -> Any:
    condition = None if request.below is None else OnlyWhile(request.below, ANY)
    if request.nested and world.outside is not None:
        with hold(request.keys, on_condition(condition, world.outside)) as more:
            return _drive(request.op, world.on(NestedLocks(world.store, more, request.keys), world.outside))
    with hold(request.keys, on_condition(condition, world.store, world.can)) as held:
        return _drive(request.op, world.on(held, world.outside or world.store))


def _group_commit(request: GroupCommit, world: World) -> None:
    join(request, world.store, lambda op: _drive(op, world))


def _erase_prefix(request: ErasePrefix, world: World) -> bool:
    if request.link_only:
        return world.can.erase_link and world.store.erase_link(request.prefix)
    require(world.can.sync_calls, "erase", world.store)
    world.store.erase_prefix(request.prefix)
    return False


def _list_dir(request: ListDir, world: World) -> tuple[list[str], list[str]]:
    require(world.can.sync_calls, "list", world.store)
    return world.store.list_dir(request.prefix)


def _list_prefix(request: ListPrefix, world: World) -> list[str]:
    require(world.can.sync_calls, "list", world.store)
    return list(world.store.list_prefix(request.prefix))


def _pause(request: Pause, world: World) -> None:
    if world.cancelled is None:
        time.sleep(request.seconds)
    else:
        world.cancelled.wait(request.seconds)


_ANSWERS: dict[type, Callable[[Any, World], Any]] = {
    Fetch: _fetch,
    Put: _put,
    All: _all,
    Locked: _locked,
    GroupCommit: _group_commit,
    Acknowledge: lambda request, world: settle(world.store),
    Pause: _pause,
    CheckUnchanged: lambda request, world: steady(request.key, request.version, world.store),
    ErasePrefix: _erase_prefix,
    ListDir: _list_dir,
    ListPrefix: _list_prefix,
}


# The async driver -------------------------------------------------------------------------------------------------------


async def perform_async(op: Op[T], world: World) -> T:
    """Run an operation to its end without blocking the event loop."""
    cancelled = threading.Event()
    world = world._replace(cancelled=cancelled, can=capabilities(world.store) if world.can is NOTHING else world.can)
    if world.can.awaits:
        return await _perform_steps(op, world._replace(gate=asyncio.Semaphore(max(1, world.concurrency))))
    world = world._replace(asker=Asker(asyncio.current_task()))
    return await in_thread(lambda: perform(op, world), cancelled, world.executor)


async def in_thread(
    work: Callable[[], T], cancelled: threading.Event | None = None, executor: ThreadPoolExecutor | None = None
) -> T:
    """Run blocking work in a thread. When cancelled, tell the work, wait until it has let go, and pass the cancellation on."""
    future = asyncio.get_running_loop().run_in_executor(executor or lane_executor() or _executor(), work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if cancelled is not None:
            cancelled.set()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if not future.cancelled():
            future.exception()  # seen; the cancellation is what the caller learns
        raise
    except Cancelled:
        raise asyncio.CancelledError from None


async def _perform_steps(op: Op[T], world: World) -> T:
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            step = _Step(op, reply, error)
            if await in_thread(step, executor=world.executor):
                return step.value  # type: ignore[no-any-return]
            try:
                reply, error = await _answer_async(step.value, world), None
            except Exception as raised:
                reply, error = None, raised
    finally:
        op.close()


class _Step:
    """One step of a generator, to be taken in a thread (StopIteration cannot pass through a future)."""

    def __init__(self, op: Op[Any], reply: Any, error: BaseException | None) -> None:
        self.op, self.reply, self.error = op, reply, error
        self.value: Any = None

    def __call__(self) -> bool:
        try:
            self.value = self.op.send(self.reply) if self.error is None else self.op.throw(self.error)
        except StopIteration as stop:
            self.value = stop.value
            return True
        return False


async def _answer_async(request: Request, world: World) -> Any:
    store, calls = world.store, world.can.async_calls
    match request:
        case Fetch(wants):
            return await _each(_get_async, wants, world)
        case Put(items, condition):
            if condition is not None and (error := await _changed_async(condition, world)) is not None:
                return [error] * len(items)
            return await _each(_store_async, items, world)
        case All():
            return await _all_async(request, world)
        case Locked():
            return await _locked_async(request, world)
        case GroupCommit():
            return await join_async(request, store, lambda op: _perform_steps(op, world))
        case Acknowledge():
            return await in_thread(lambda: settle(store), executor=world.executor)
        case CheckUnchanged(key, version):
            return await _steady_async(key, version, store, calls)
        case Pause(seconds):
            return await asyncio.sleep(seconds)
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
    raise TypeError(f"not a request: {request!r}")


async def _locked_async(request: Locked, world: World) -> Any:
    store = world.store
    if not world.can.async_calls.hold:
        return await _perform_steps(request.op, world)  # the operation compares and swaps
    outer = world.outside if request.nested else None
    async with (store if outer is None else outer).hold_async(request.keys) as held:
        inside = held if outer is None else NestedLocks(store, held, request.keys)
        return await _perform_steps(request.op, world.on(inside, world.outside or store))


async def _steady_async(key: str, version: Version, store: Store, calls: Calls) -> bool:
    if calls.hold:
        return False  # who holds it is not known
    require(calls, "get", store)
    try:
        return await store.get_ranges_async(key, (), version) is not None
    except VersionChangedError:
        return False


async def _changed_async(condition: OnlyWhile, world: World) -> Exception | None:
    """The error where a condition does not hold; looked at right before the write."""
    try:
        async with world.gate or nullcontext():
            require(world.can.async_calls, "get", world.store)
            blob = await world.store.get_ranges_async(condition.key, ())
        condition.check(None if blob is None else blob.version)
    except Exception as error:
        return annotated(error, condition.key, world.store)
    return None


async def _all_async(request: All, world: World) -> list[Any]:
    """Run operations side by side, at most `concurrency` at once; started in order."""
    results: list[Any] = []
    ops = iter(request.ops)

    async def worker() -> None:
        for op in ops:
            place = len(results)
            results.append(None)
            try:
                results[place] = await _perform_steps(op, world)
            except Exception as error:
                results[place] = error

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(max(1, world.concurrency)):
                tasks.create_task(worker())
    except BaseExceptionGroup as errors:  # of the iterator: each operation's own error is its outcome
        raise errors.exceptions[0] from None
    return results


async def _each(act: Callable[[Any, Store, Calls], Any], items: Sequence[Any], world: World) -> list[Any]:
    async def one(item: ReadRequest | WriteRequest) -> Any:
        try:
            async with world.gate or nullcontext():
                return await act(item, world.store, world.can.async_calls)
        except Exception as error:
            return annotated(error, item.key, world.store)

    return list(await asyncio.gather(*(one(item) for item in items)))


async def _get_async(want: ReadRequest, store: Store, calls: Calls) -> Blob | None:
    require(calls, "get", store)
    if want.ranges is None:
        return check_whole(want, await store.get_async(want.key))
    return check_ranges(want.ranges, await store.get_ranges_async(want.key, want.ranges, want.if_version))


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


_executors: dict[int, ThreadPoolExecutor] = {}


def _executor() -> ThreadPoolExecutor:
    """Threads that run operations for event loops; one set a process, so that a forked child makes its own."""
    pid = os.getpid()
    if pid not in _executors:
        _executors.clear()
        _executors[pid] = Threads(32, "zarrant-async")
    return _executors[pid]
