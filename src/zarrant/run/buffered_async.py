"""Buffered writing from an event loop: `run.buffered` with tasks instead of threads.

All that is in memory is changed by the loop's thread only, between two awaits, so that no lock is needed.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from zarrant.requests import Op, Outcome
from zarrant.run.buffered import Failure, Work

T = TypeVar("T")


class BackgroundTasks:
    """Callers and tasks around what is in memory; see `run.buffered.BackgroundWriter`."""

    def __init__(
        self,
        work: Work[Any],
        perform: Callable[[Op[list[Outcome[Any]]]], Awaitable[list[Outcome[Any]]]],
        tasks: int,
        unstored: Callable[[Work[Any], int], None],
    ) -> None:
        self.work, self.state = work, Failure()
        self.turn = asyncio.Lock()
        """For callers that are served in the order in which they came."""
        self._perform, self._most = perform, tasks
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        """Tasks that will look for more: one that has found nothing is in `_tasks` until the loop comes to it."""
        self._waiting: list[asyncio.Future[None]] = []
        self._finalizer = weakref.finalize(self, unstored, work, self.state.process)

    async def wait_for(self, step: Callable[[], T | None]) -> T:
        """What `step` gives, again until it gives something."""
        while True:
            self.state.check()
            found = step()
            if found is not None:
                return found
            self.changed()
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def changed(self) -> None:
        """What is in memory has changed: what was sealed is stored in the background."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
        if self.state.error is None:
            for _ in range(min(self.work.ready, self._most - self._running)):
                self._running += 1
                task = asyncio.get_running_loop().create_task(self._work())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def flush(self) -> None:
        """Wait until everything that was written before is stored; raises the first error."""
        self.state.check()
        mark = self.work.seal_all()
        self.changed()
        await self.wait_for(lambda: None if self.work.waits_for(mark) else True)

    async def close(self) -> None:
        """`flush`, and end; nothing where it is closed, and in a forked child. Raises the first error."""
        if self.state.closed or self.state.elsewhere:
            self.state.closed = True
            self._finalizer.detach()
            return
        try:
            await self.flush()
        finally:
            self.state.closed = True
            self._finalizer.detach()
            self.changed()
            while self._tasks:
                await asyncio.wait(set(self._tasks))

    async def _work(self) -> None:
        try:
            while self.state.error is None and (jobs := self.work.take()):
                await self._store(jobs)
        finally:
            self._running -= 1

    async def _store(self, jobs: list[Any]) -> None:
        outcomes: list[Outcome[Any]] = []
        try:
            outcomes = await self._perform(self.work.store(jobs))
        except BaseException as error:
            outcomes = [error] * len(jobs)
            if not isinstance(error, Exception):
                raise
        finally:
            self.work.done(jobs, outcomes)
            self.state.note(outcomes)
            self.changed()
