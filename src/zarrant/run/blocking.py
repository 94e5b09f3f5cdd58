"""The blocking driver: performs an operation in the caller's thread.

In: an operation (a generator that yields requests, `zarrant.requests`) and the `ExecutionContext` in which it runs. Out: its
result, or its error. Each request is performed on the store, and the reply is sent back; `All` goes to the pool. The two drivers
(the other one is `run.asynchronous`) are the only modules that answer requests.

Traps, each under test:

- Nested `All` requests on a bounded pool deadlock, unless the thread that starts a group also works on it (`run.pool`).
- An operation may not `yield` in a `finally`. So `Locked` wraps an operation, and the driver gives the lock back.
- A batched reply carries one outcome an item. Else one bad key would fail all the others.
- The writes of one request are acknowledged together: a store that syncs does so once for all of them (`storage.WriteBatch`).
- A child process inherits nothing after a fork: pools are looked up when an operation starts.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

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
)
from zarrant.run.group_commit import join
from zarrant.run.pool import Pool
from zarrant.run.store_calls import (
    annotated,
    get,
    outcome,
    require,
    store_all,
    store_in_turn,
)  # fmt: skip
from zarrant.run.store_locks import hold, on_condition, settle, steady
from zarrant.storage import NOTHING, Blob, Capabilities, Store, as_store, capabilities
from zarrant.stores.locked import NestedLocks
from zarrant.stores.synchronizer import grouped

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
