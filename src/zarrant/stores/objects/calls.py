"""Calls of an object store, written once and performed in both kinds: blocking, and as coroutines.

In: a generator that yields calls (`Call`, `Collect`, `Together`, `Sleep`) and is sent what they give. Out: its result.
`perform` makes the calls in the caller's thread, several at once in threads of their own; `perform_async` awaits the methods
whose names end with `_async`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias, TypeVar

from zarrant.stores.steps import follow, follow_async

T = TypeVar("T")

MAX_IN_FLIGHT = 32
"""Requests that run at once for the ranges of objects: in a process where they block, for each call where they are awaited.
Object stores answer some 100 requests a second of one connection each; zarr-python and TensorStore choose 10 and 32."""
MAX_RANGES_IN_FLIGHT = 64
"""The same for ranges of an object. They are small, so that what counts is how often one waits: 64 random subchunks of 4 shards are
46 requests, which with 10 ms each took 27 ms in two rounds of at most 32, and 19 ms in one."""


class Call(NamedTuple):
    """Call a method, blocking or as a coroutine."""

    owner: Any
    method: str
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = {}


class Collect(NamedTuple):
    """The items of a listing: a method that gives an iterator of lists, or an asynchronous one."""

    call: Call


class Together(NamedTuple):
    """Run several at once; replied with their results in order. The first error is raised."""

    steps: Sequence[Steps[Any]]


class Sleep(NamedTuple):
    """Wait before the next try."""

    seconds: float


Steps: TypeAlias = Generator[Call | Collect | Together | Sleep, Any, T]


def perform(steps: Steps[T]) -> T:
    """Run to the end with blocking calls."""
    return follow(steps, _answer)


def _answer(step: Call | Collect | Together | Sleep) -> Any:
    match step:
        case Call(owner, method, args, options):
            return getattr(owner, method)(*args, **options)
        case Collect(Call(owner, method, args, options)):
            return [item for batch in getattr(owner, method)(*args, **options) for item in batch]
        case Together(parts):
            return _together(parts)
        case Sleep(seconds):
            return time.sleep(seconds)


def _together(parts: Sequence[Steps[Any]]) -> list[Any]:
    """The first runs in this thread. Threads of the pool run single requests only: none waits for another one."""
    others: list[Future[Any]] = [_pool().submit(perform, part) for part in parts[1:]]
    try:
        return [perform(part) for part in parts[:1]] + [other.result() for other in others]
    finally:
        for other in others:
            other.cancel()


async def perform_async(steps: Steps[T]) -> T:
    """Run to the end with coroutines."""
    return await follow_async(steps, _answer_async)


async def _answer_async(step: Call | Collect | Together | Sleep) -> Any:
    match step:
        case Call(owner, method, args, options):
            return await getattr(owner, f"{method}_async")(*args, **options)
        case Collect(Call(owner, method, args, options)):
            return [item async for batch in getattr(owner, f"{method}_async")(*args, **options) for item in batch]
        case Together(parts):
            return await _together_async(parts)
        case Sleep(seconds):
            return await asyncio.sleep(seconds)


async def _together_async(parts: Sequence[Steps[Any]]) -> list[Any]:
    results: list[Any] = [None] * len(parts)
    todo = iter(enumerate(parts))

    async def worker() -> None:
        for place, part in todo:
            results[place] = await perform_async(part)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(MAX_RANGES_IN_FLIGHT, len(parts))):
                tasks.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return results


_pools: dict[int, ThreadPoolExecutor] = {}


def _pool() -> ThreadPoolExecutor:
    """Threads for ranges; one set a process, so that a forked child makes its own."""
    pid = os.getpid()
    if pid not in _pools:
        _pools.clear()
        _pools[pid] = ThreadPoolExecutor(MAX_RANGES_IN_FLIGHT, "zarrant-ranges")
    return _pools[pid]
