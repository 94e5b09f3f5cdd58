"""A task that is cancelled at a chosen moment: at its k-th suspension, or before or after the k-th call of its store.

In: a coroutine function and the moment. Out: whether the moment came, and whether the task was cancelled. Suspensions are those of
the task itself; what its subtasks await are calls of the store.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from zarrant.stores.wrappers.each_call import Call, EachCall

T = TypeVar("T")


class Moment:
    """When to cancel: `kind` is "suspension", "before" or "after" (a call), and `number` counts them from 0."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind, self.number, self.came = kind, number, False
        self.task: asyncio.Task[Any] | None = None
        self._seen = 0
        self._gate = threading.Lock()

    def __repr__(self) -> str:
        return f"{self.kind} {self.number}"

    def now(self, kind: str) -> None:
        """It is a moment of this kind: cancel the task where it is the one, and let the loop act on it."""
        with self._gate:
            if self.task is None or self.came or kind != self.kind:
                return
            self._seen += 1
            self.came = self._seen > self.number
        if self.came:
            self._cancel(self.task)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            done = threading.Event()
            task.get_loop().call_soon_threadsafe(lambda: (task.cancel(), done.set()))
            done.wait(10)
        else:
            task.cancel()

    async def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
        """Run it as a task that is cancelled then; whether it ended with that."""
        self.task = asyncio.create_task(self._counted(work()))
        try:
            await self.task
        except asyncio.CancelledError:
            return True
        finally:
            self.task = None
        return False

    async def _counted(self, work: Coroutine[Any, Any, T]) -> T:
        return await _Suspensions(work, self)


class _Suspensions:
    """An awaitable that tells a moment of each suspension of a coroutine."""

    def __init__(self, work: Coroutine[Any, Any, Any], moment: Moment) -> None:
        self.work, self.moment = work, moment

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.work.__await__()
        step: Callable[[Any], Any] = steps.send
        value: Any = None
        while True:
            try:
                waited_for = step(value)
            except StopIteration as stop:
                return stop.value
            self.moment.now("suspension")
            try:
                step, value = steps.send, (yield waited_for)
            except BaseException as error:
                step, value = steps.throw, error


class Told(EachCall):
    """A store that tells a moment of each call, blocking or not."""

    def __init__(self, store: object, moment: Moment) -> None:
        super().__init__(store)
        self.moment = moment

    def _perform(self, call: Call, act: Callable[[], T]) -> T:
        self.moment.now("before")
        reply = act()
        self.moment.now("after")
        return reply

    async def _perform_async(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        self.moment.now("before")
        await asyncio.sleep(0)
        reply = await act()
        self.moment.now("after")
        await asyncio.sleep(0)
        return reply


@contextmanager
def nothing_left() -> Iterator[None]:
    """No warning (as of a coroutine that nobody awaited) and no error that nobody saw comes from the block."""
    found: list[object] = []
    before, sys.unraisablehook = sys.unraisablehook, found.append
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = before
    said = [str(each.message) for each in warned if "synchronizer" not in str(each.message)]
    assert not found and not said, (found, said)


async def expect_alone() -> None:
    """No other task is left on the loop."""
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, others
