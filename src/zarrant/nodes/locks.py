"""Locks on the stored objects of a region: several operations that are one for every other writer.

While objects are locked, other writers of them wait, or end with LockTimeout; readers go on and see the objects as they were
last published. Several objects are locked in one order that is the same for all; nothing more can be locked inside of that
(OptionError), because two could then wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

from zarrant.errors import CapabilityError, MetadataChangedError, NodeNotFoundError
from zarrant.locking.local import Caller, current_caller, wait_cancelled
from zarrant.metadata.v3 import NodeMetadata
from zarrant.nodes.array_properties import A, handle_of, with_context
from zarrant.nodes.base import READ, UPDATE, NodeContext, context_of
from zarrant.ops.atomic_update import touched_keys
from zarrant.ops.current import HINT, checked
from zarrant.ops.node import metadata_key
from zarrant.requests import ANY, OnlyWhile
from zarrant.run.store_calls import lock_keys, store_while
from zarrant.storage import Calls, Store, as_store


@contextmanager
def locked_array(array: A, keys: Sequence[str]) -> Iterator[A]:
    """Lock stored objects of an array; the value is the array to use inside."""
    with locked(context_of(array), array.metadata, keys) as context:
        yield with_context(array, context)


@asynccontextmanager
async def locked_array_async(array: A, subset: Any) -> AsyncIterator[A]:
    """Lock every stored object that a region of an array touches; the value is the array to use inside."""
    keys = await context_of(array).run_async(checked(handle_of(array), touched_keys, subset), READ)
    async with locked_async(context_of(array), array.metadata, keys) as context:
        yield with_context(array, context)


@contextmanager
def lock_together(
    context: NodeContext, group: NodeMetadata, arrays: Mapping[str, A], subsets: Mapping[str, Any]
) -> Iterator[dict[str, A]]:
    """Lock every stored object that regions of several arrays of one store touch; the value are the arrays to use inside."""
    keys = {key for name, array in arrays.items() for key in touched_keys(handle_of(array).array, subsets[name])}
    with locked(context, group, sorted(keys)) as inside:
        yield {
            name: with_context(array, replace(context_of(array), store=inside.store, in_lock=True))
            for name, array in arrays.items()
        }


@asynccontextmanager
async def lock_together_async(
    context: NodeContext, group: NodeMetadata, opened: Awaitable[Mapping[str, A]], subsets: Mapping[str, Any]
) -> AsyncIterator[dict[str, A]]:
    """`lock_together` of arrays that are still to be opened."""
    arrays = await opened
    keys = {key for name, array in arrays.items() for key in touched_keys(handle_of(array).array, subsets[name])}
    async with locked_async(context, group, sorted(keys)) as inside:
        yield {
            name: with_context(array, replace(context_of(array), store=inside.store, executor=inside.executor, in_lock=True))
            for name, array in arrays.items()
        }


def _check(context: NodeContext, needed: bool, calls: Calls) -> None:
    context.require(UPDATE, calls)
    if needed and not context.guarded:
        raise CapabilityError("nothing to lock with: the array was opened with synchronizer=None", store=context.url)
    if needed and not calls.lock and not context.able.one_process:
        raise CapabilityError(  # between two operations compare-and-swap keeps nobody out
            "the store cannot keep other writers out between several operations",
            store=repr(context.store),
            expected="lock",
            hint="Give a lock service as synchronizer=; update(subset, fn) and partial_encoder(chunk) need none",
        )


@contextmanager
def _locked_store(context: NodeContext, node: NodeMetadata, keys: Sequence[str]) -> Iterator[Store]:
    """The store while the keys are locked; NodeNotFoundError where the array is gone, and nothing is made for the locks."""
    key = metadata_key(context.path, node)
    with ExitStack() as stack:
        try:
            store = store_while(OnlyWhile(key, ANY), context.store)
            inside = stack.enter_context(lock_keys(keys, store, context.able, context.config.lock_timeout))
        except MetadataChangedError as error:
            raise NodeNotFoundError("the array was removed or moved", key=key, path=context.path or "/", hint=HINT) from error
        yield inside


@contextmanager
def locked(context: NodeContext, node: NodeMetadata, keys: Sequence[str], needed: bool = True) -> Iterator[NodeContext]:
    """The same node with these keys locked; as it is where no lock is needed and updates are unguarded."""
    context.require_blocking()
    _check(context, needed, context.able.sync_calls)
    if not context.guarded:
        yield context
        return
    with _locked_store(context, node, keys) as store:
        yield replace(context, store=store, in_lock=True)


@asynccontextmanager
async def locked_async(
    context: NodeContext, node: NodeMetadata, keys: Sequence[str], needed: bool = True
) -> AsyncIterator[NodeContext]:
    """`locked`, waiting in a thread of its own. A store that can only compare and swap is not locked where that will do."""
    able = context.able
    _check(context, needed, able.loop_calls)
    if context.guarded and able.awaits and able.async_calls.lock:
        async with context.store.lock_async(keys) as store:
            yield replace(context, store=as_store(store), in_lock=True)
    elif context.guarded and not able.awaits:
        async with _threaded(context, node, keys) as inside:
            yield inside
    elif needed:
        raise CapabilityError("the store cannot keep other writers out", store=repr(context.store), expected="lock_async")
    else:
        yield context


@asynccontextmanager
async def _threaded(context: NodeContext, node: NodeMetadata, keys: Sequence[str]) -> AsyncIterator[NodeContext]:
    import asyncio  # with these it takes 30 ms, which are there by now

    from zarrant.run.asynchronous import in_thread
    from zarrant.run.lock_threads import LockThreads

    cancelled, stack, caller = threading.Event(), ExitStack(), Caller(asyncio.current_task())

    def enter() -> Store:
        token, before = wait_cancelled.set(cancelled.is_set), current_caller.set(caller)
        try:
            return stack.enter_context(_locked_store(context, node, keys))
        finally:
            wait_cancelled.reset(token)
            current_caller.reset(before)

    with LockThreads() as lane:
        try:
            store = await in_thread(enter, cancelled, lane.executor)
            yield replace(context, store=store, executor=lane.executor, in_lock=True)
        finally:
            # Also where the wait was cancelled in the moment in which it ended.
            await in_thread(stack.close, None, lane.executor)
